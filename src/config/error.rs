//! What a wrong setting says: where it stands, its value, what is wrong, what to do.

use std::fmt;

use peercache_api::Error;

use super::source::{Given, Origin, Raw};

/// A setting that cannot be used, or a store that cannot be opened with it.
///
/// `Display` is one line: where the setting was made (the variable, or file and line), its value, what
/// is wrong, what to do. The value of a secret is never part of it.
#[derive(Clone, thiserror::Error)]
#[error("{place}: {problem}; {remedy}")]
pub struct ConfigError {
    variable: &'static str,
    place: String,
    problem: String,
    remedy: String,
    #[source]
    source: Option<Error>,
}

impl fmt::Debug for ConfigError {
    /// The same line: this is what a reader sees when `main` returns the error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ConfigError {
    /// Of a value that was given.
    pub(super) fn of(raw: &Raw, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (key, first) = (raw.name.key(), raw.name.variables()[0]);
        let value = (!raw.name.is_secret()).then(|| shown(&raw.given));
        let (variable, setting) = match (&raw.origin, value) {
            (Origin::Environment { variable }, Some(value)) => (*variable, format!("{variable}={value}")),
            (Origin::Environment { variable }, None) => (*variable, (*variable).to_owned()),
            (_, Some(value)) => (first, format!("{key} = {value}")),
            (_, None) => (first, key.to_owned()),
        };
        let place = match &raw.origin {
            // As compilers say it, so that editors jump there.
            Origin::File { path, line } => format!("{path}:{line}: {setting}"),
            Origin::Code => format!("{setting}, set in code"),
            Origin::Environment { .. } | Origin::Default => setting,
        };
        Self { variable, place, problem: problem.into(), remedy: remedy.into(), source: None }
    }

    /// Of a variable whose value is missing or cannot be shown.
    pub(super) fn of_variable(
        variable: &'static str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::at(variable, variable, problem, remedy)
    }

    /// Of something else: `place` says where it stands.
    pub(super) fn at(
        variable: &'static str,
        place: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (place, problem, remedy) = (place.into(), problem.into(), remedy.into());
        Self { variable, place, problem, remedy, source: None }
    }

    pub(super) fn with_source(self, source: Error) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The environment variable that is wrong; for a value given elsewhere, the one that would set it.
    #[must_use]
    pub fn variable(&self) -> &str {
        self.variable
    }
}

/// What went wrong, where the setting at fault has its own advice.
pub(super) fn without_help(error: &Error) -> String {
    let text = error.to_string();
    let advice = error.help().map(|help| format!("; {help}")).unwrap_or_default();
    text.strip_suffix(&advice).unwrap_or(&text).to_owned()
}

/// Enough of a value to recognise it by: an error is one line.
pub(super) fn shortened(value: &str) -> String {
    const MOST: usize = 80;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// What is shown without quotes, on one line.
pub(super) fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn shown(given: &Given) -> String {
    match given {
        Given::Number(number) => on_one_line(&shortened(number)),
        given => format!("{:?}", shortened(&given.text())),
    }
}
