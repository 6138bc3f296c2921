//! What the suite found: one line per case.

use std::fmt;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend did what its capabilities promise.
    Passed,
    /// It did not; the text says what was expected and what came.
    Failed(String),
    /// The case does not apply; the text says why.
    Skipped(String),
}

/// One case and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaseReport {
    /// The name of the case.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// The outcome of every case. `Display` prints one line per case and a summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    backend: Option<String>,
    cases: Vec<CaseReport>,
}

impl Report {
    /// Whether no case failed and at least one passed.
    #[must_use]
    pub fn conforms(&self) -> bool {
        self.failed().next().is_none() && self.passed().next().is_some()
    }

    /// Every case, in the order in which they ran.
    pub fn cases(&self) -> impl Iterator<Item = &CaseReport> {
        self.cases.iter()
    }

    /// The names of the cases that passed.
    pub fn passed(&self) -> impl Iterator<Item = &'static str> {
        self.cases.iter().filter(|case| case.outcome == Outcome::Passed).map(|case| case.name)
    }

    /// The cases that failed, and what was wrong.
    pub fn failed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Failed(reason) => Some((case.name, reason.as_str())),
            Outcome::Passed | Outcome::Skipped(_) => None,
        })
    }

    /// The cases that were left out, and why.
    pub fn skipped(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Skipped(reason) => Some((case.name, reason.as_str())),
            Outcome::Passed | Outcome::Failed(_) => None,
        })
    }

    pub(super) fn named(&mut self, backend: Option<String>) {
        if self.backend.is_none() {
            self.backend = backend;
        }
    }

    pub(super) fn push(&mut self, name: &'static str, outcome: Outcome) {
        self.cases.push(CaseReport { name, outcome });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "conformance of {}", self.backend.as_deref().unwrap_or("a backend that never opened"))?;
        for case in &self.cases {
            match &case.outcome {
                Outcome::Passed => writeln!(f, "  ok    {}", case.name)?,
                Outcome::Failed(reason) => writeln!(f, "  FAIL  {}: {reason}", case.name)?,
                Outcome::Skipped(reason) => writeln!(f, "  skip  {}: {reason}", case.name)?,
            }
        }
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed().count(),
            self.failed().count(),
            self.skipped().count()
        )
    }
}
