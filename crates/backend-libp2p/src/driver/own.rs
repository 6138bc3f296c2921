//! Tells this node, which dialled itself, from another one that has its identity.

use std::time::Duration;

/// Both ends of a call to oneself are seen within this time.
const APART: Duration = Duration::from_secs(3);

/// Calls with this node's own identity that were not matched yet: of one to itself, both ends are
/// seen.
#[derive(Debug, Default)]
pub(crate) struct OwnCalls {
    made: Option<Duration>,
    received: Option<Duration>,
    told: bool,
}

impl OwnCalls {
    /// This node dialled, and found its own identity.
    pub(crate) fn called(&mut self, now: Duration) {
        if self.received.take().is_none() {
            self.made.get_or_insert(now);
        }
    }

    /// Somebody with this node's identity dialled it.
    pub(crate) fn was_called(&mut self, now: Duration) {
        if self.made.take().is_none() {
            self.received.get_or_insert(now);
        }
    }

    /// Whether it was somebody else. True once.
    pub(crate) fn somebody_else(&mut self, now: Duration) -> bool {
        let alone = |at: Option<Duration>| at.is_some_and(|at| now.saturating_sub(at) > APART);
        let found = alone(self.made) || alone(self.received);
        if found {
            (self.made, self.received) = (None, None);
        }
        found && !std::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(4);

    #[test]
    fn a_call_to_itself_is_nobody_else() {
        let mut own = OwnCalls::default();
        own.called(Duration::ZERO);
        own.was_called(Duration::ZERO);
        own.was_called(Duration::ZERO);
        own.called(Duration::ZERO);
        assert!(!own.somebody_else(LATER));
    }

    #[test]
    fn one_end_alone_is_another_node_and_is_told_once() {
        let mut own = OwnCalls::default();
        own.called(Duration::ZERO);
        assert!(!own.somebody_else(Duration::ZERO));
        assert!(own.somebody_else(LATER));
        own.was_called(LATER);
        assert!(!own.somebody_else(LATER * 2));
    }
}
