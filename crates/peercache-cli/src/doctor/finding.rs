//! What a check found.

use peercache::config::redacted;
use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Its subject works.
    Ok,
    /// It works, with something that users should know.
    Warning,
    /// It does not work.
    Failed,
    /// It could not be examined, and `found` says why.
    Skipped,
}

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// The name of the check.
    pub(super) check: String,
    pub(super) status: Status,
    /// What was found, in one line.
    pub(super) found: String,
    /// Why it is so, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<String>,
    /// One thing to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
    /// The same as a line for a shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) command: Option<String>,
    /// Whether nothing came back from another machine: if that is so of every one that was tried,
    /// this machine's network is the fault.
    #[serde(skip)]
    pub(super) outside: bool,
}

impl Finding {
    fn new(check: impl Into<String>, status: Status, found: impl Into<String>) -> Self {
        let (check, found) = (check.into(), found.into());
        Self { check, status, found, cause: None, remedy: None, command: None, outside: false }
    }

    pub(super) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, found)
    }

    pub(super) fn skipped(check: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(check, Status::Skipped, why)
    }

    pub(super) fn warning(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(check, Status::Warning, found) }
    }

    pub(super) fn failed(
        check: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(check, Status::Failed, found) }
    }

    pub(super) fn because(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// The line for a shell that does what the remedy says.
    pub(super) fn by(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }

    /// Says that another machine was asked, from which nothing came back.
    pub(super) fn outside(self, outside: bool) -> Self {
        Self { outside, ..self }
    }

    /// Takes credentials out of every text.
    pub(super) fn redact(&mut self) {
        self.found = redacted(&self.found);
        for text in [&mut self.cause, &mut self.remedy, &mut self.command].into_iter().flatten() {
            *text = redacted(text);
        }
    }
}
