//! When a write returns, and how writes to shared tiers wait, are tried again and are given up.

use std::time::Duration;

use peercache_api::TOMBSTONE_LIFETIME;

/// How many shared tiers must have acknowledged a write before it returns.
///
/// Local tiers are always written first. Whatever the policy, a write waits for a shared tier no longer
/// than its write deadline, and one whose breaker is open is not waited for. An entry that no local tier
/// took is held back until one shared tier has acknowledged it: a caller is not told "done" about
/// something that only this process's memory knows.
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

/// The bounds of write-behind, for each shared tier of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBehind {
    /// The most entries that wait for one tier. Default: 10,000.
    pub max_entries: usize,
    /// The most bytes that wait for one tier, values and metadata. Default: 64 MiB.
    pub max_bytes: usize,
    /// How long a value is tried before it is given up. Default: 10 min.
    pub max_age: Duration,
    /// How long a removal is tried. Default: [`TOMBSTONE_LIFETIME`], as long as there can be something
    /// that it buries: a removal is a few hundred bytes, and a tier that was away for a day must not
    /// bring back what was removed meanwhile.
    pub max_removal_age: Duration,
    /// The most writes under way at one tier. Default: 8.
    pub concurrency: usize,
    /// The pause of a tier after its first failure; it doubles with each further one, and each pause is
    /// drawn from the upper half of that. Default: 200 ms.
    pub backoff: Duration,
    /// The longest pause, and the first one after the tier has asked for fewer requests is a quarter of
    /// it. Default: 60 s.
    pub max_backoff: Duration,
    /// How long [`Chain::close`](peercache_api::CacheBackend::close) goes on writing before it leaves
    /// the rest to the journal, or drops it where there is none. Default: 5 s.
    pub flush_deadline: Duration,
}

impl Default for WriteBehind {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
            max_bytes: 64 * 1024 * 1024,
            max_age: Duration::from_secs(600),
            max_removal_age: TOMBSTONE_LIFETIME,
            concurrency: 8,
            backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(60),
            flush_deadline: Duration::from_secs(5),
        }
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
