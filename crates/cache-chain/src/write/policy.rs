//! When a write returns.

/// How many shared tiers must have acknowledged a write before it returns.
///
/// Local tiers are always written first. Whatever the policy, a write waits for a shared tier no
/// longer than its write deadline, and one whose breaker is open is not waited for. An entry that
/// no local tier stored is held back until one shared tier has acknowledged it, so that a write
/// does not return while only this process's memory has the entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WritePolicy {
    /// None: shared tiers are written in the background.
    #[default]
    Local,
    /// This many, or all if there are fewer.
    Quorum(usize),
    /// All of them.
    All,
}

impl WritePolicy {
    /// How many of `shared` tiers must acknowledge; `held` says whether a local tier has the entry.
    pub(crate) fn acknowledgements(self, shared: usize, held: bool) -> usize {
        let wanted = match self {
            Self::Local => 0,
            Self::Quorum(wanted) => wanted,
            Self::All => shared,
        };
        wanted.max(usize::from(!held)).min(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_never_asks_for_more_tiers_than_there_are() {
        for (policy, shared, held, expected) in [
            (WritePolicy::Local, 3, true, 0),
            (WritePolicy::Local, 3, false, 1),
            (WritePolicy::Local, 0, false, 0),
            (WritePolicy::Quorum(2), 3, true, 2),
            (WritePolicy::Quorum(2), 1, true, 1),
            (WritePolicy::Quorum(0), 2, false, 1),
            (WritePolicy::All, 3, true, 3),
            (WritePolicy::All, 0, true, 0),
        ] {
            assert_eq!(policy.acknowledgements(shared, held), expected, "{policy:?} {shared} {held}");
        }
    }
}
