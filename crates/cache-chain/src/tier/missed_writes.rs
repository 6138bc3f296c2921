//! Writes that a tier failed to take: what it holds under those keys may be what they replaced.
//!
//! A tier that was away while a key was written or removed still holds the value from before. When
//! it is back it would serve that value again, so the chain remembers what each tier missed and
//! takes nothing older from it, whatever the tier acknowledges later. While a write waits in the
//! tier's queue the queue does the same; what a queue gives up is remembered here. Kept for as long
//! as the process lives, and bounded: when there are too many keys the older half is forgotten, and
//! from then on nothing older than those is taken from the tier, under *any* key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use peercache_api::{Clock, Key, Version};

/// The most keys that are remembered for one tier: about 2 MiB.
const MAX_KEYS: usize = 16_384;

/// What one tier missed.
#[derive(Debug, Default)]
pub(crate) struct MissedWrites {
    /// Whether anything was ever missed. A tier that is well costs a read one look at this.
    any: AtomicBool,
    writes: Mutex<Writes>,
}

#[derive(Debug, Default)]
struct Writes {
    by_key: HashMap<[u8; 32], Version>,
    /// Entries older than this are ignored, whatever their key.
    below: Version,
}

impl Writes {
    fn forget_older_half(&mut self) {
        let mut versions: Vec<_> = self.by_key.values().copied().collect();
        let (_, median, _) = versions.select_nth_unstable(MAX_KEYS / 2);
        self.below = self.below.max(*median);
        let below = self.below;
        self.by_key.retain(|_, missed| *missed > below);
    }
}

impl MissedWrites {
    /// The tier failed to take this version, or may have.
    pub(crate) fn note(&self, key: &Key, version: Version) {
        let mut writes = self.writes();
        if writes.by_key.len() == MAX_KEYS && !writes.by_key.contains_key(key.digest()) {
            writes.forget_older_half();
        }
        let missed = writes.by_key.entry(*key.digest()).or_insert(version);
        *missed = version.max(*missed);
        self.any.store(true, Ordering::Release);
    }

    /// Whether the tier missed something newer than `version`. A write that claims to come from the
    /// future, because the clock was set back since, does not count.
    pub(crate) fn outdates(&self, key: &Key, version: Version, clock: &dyn Clock) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let writes = self.writes();
        let missed = writes.by_key.get(key.digest()).copied();
        let newer = [Some(writes.below), missed].into_iter().flatten().filter(|missed| version < *missed);
        let now = clock.now();
        newer.into_iter().any(|missed| !missed.is_from_future(now))
    }

    fn writes(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::{NodeId, Timestamp, VersionClock};
    use peercache_testkit::ManualClock;

    fn versions() -> impl Fn() -> Version {
        let clock = VersionClock::new(NodeId::from_u64(1));
        move || clock.next(Timestamp::from_millis(1_800_000_000_000))
    }

    fn key(name: impl ToString) -> Key {
        Key::new(name.to_string()).unwrap()
    }

    #[test]
    fn only_what_is_older_than_a_missed_write_is_outdated() {
        let (missed, next) = (MissedWrites::default(), versions());
        let (old, lost, new) = (next(), next(), next());
        assert!(!missed.outdates(&key("k"), old, &ManualClock::default()));
        missed.note(&key("k"), lost);
        missed.note(&key("k"), old);
        assert!(
            missed.outdates(&key("k"), old, &ManualClock::default())
                && !missed.outdates(&key("other"), old, &ManualClock::default())
        );
        assert!(
            !missed.outdates(&key("k"), lost, &ManualClock::default())
                && !missed.outdates(&key("k"), new, &ManualClock::default())
        );
    }

    #[test]
    fn memory_is_bounded_and_forgetting_errs_towards_misses() {
        let (missed, next) = (MissedWrites::default(), versions());
        let made: Vec<_> = (0..=MAX_KEYS).map(|_| next()).collect();
        made.iter().enumerate().for_each(|(n, version)| missed.note(&key(n), *version));
        assert!(missed.writes().by_key.len() <= MAX_KEYS / 2);
        for (n, version) in made.iter().enumerate().skip(1) {
            assert!(
                missed.outdates(&key(n), made[n - 1], &ManualClock::default()),
                "what was replaced stays outdated"
            );
            let forgotten = n < MAX_KEYS / 2;
            assert_eq!(missed.outdates(&key(n), *version, &ManualClock::default()), forgotten);
        }
        assert!(missed.outdates(&key("never missed"), made[0], &ManualClock::default()));
        assert!(!missed.outdates(&key("never missed"), made[MAX_KEYS], &ManualClock::default()));
    }
}
