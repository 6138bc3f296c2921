//! What went wrong, and what the reader does next, in one line.

use std::fmt;

/// A failure that ends a command of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    next: String,
}

impl Failure {
    /// `what` happened; `next` says what to do about it.
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages of other programs may span lines; ours never does.
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{}; {}", line(&self.what), line(&self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_that_ends_with_what_to_do() {
        let failure = Failure::new("npm said:\n  no network\n", "connect and run it again");
        assert_eq!(failure.to_string(), "npm said: no network; connect and run it again");
    }
}
