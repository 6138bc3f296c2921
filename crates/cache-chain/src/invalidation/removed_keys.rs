//! Keys that other machines removed, and up to which version.
//!
//! Every read looks here, so it costs one load while no removal was ever received, and afterwards
//! two bits of a filter for a key that was not removed. Bounded: two generations, of which the
//! older is forgotten when the younger is full. By then its tombstones are in the local tiers.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use peercache_api::util::Generations;
use peercache_api::{Entry, Timestamp, Version};

/// The most keys in one generation: with both, about 3 MiB.
pub(crate) const GENERATION: usize = 16_384;
/// The bits of one generation's filter; one in sixteen is set when it is full.
const FILTER_BITS: usize = GENERATION * 16;

/// Up to which version something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) version: Version,
    pub(crate) created: Timestamp,
}

impl Removal {
    pub(crate) fn of(tombstone: &Entry) -> Self {
        Self { version: tombstone.version(), created: tombstone.metadata().created }
    }

    /// The tombstone, without what proved who made it.
    pub(crate) fn tombstone(self) -> Entry {
        Entry::tombstone(self.version, self.created)
    }
}

#[derive(Debug)]
pub(crate) struct RemovedKeys {
    any: AtomicBool,
    /// One for each generation; they take turns.
    filters: OnceLock<[Box<[AtomicU64]>; 2]>,
    /// Which filter is the younger generation's.
    young: AtomicUsize,
    removals: Mutex<Generations<[u8; 32], Removal>>,
}

impl Default for RemovedKeys {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            filters: OnceLock::new(),
            young: AtomicUsize::new(0),
            removals: Mutex::new(Generations::new(GENERATION)),
        }
    }
}

/// Where a digest's bit is.
fn bit(digest: &[u8; 32]) -> (usize, u64) {
    let at = usize::from(digest[0]) | usize::from(digest[1]) << 8 | usize::from(digest[2]) << 16;
    let at = at % FILTER_BITS;
    (at / 64, 1 << (at % 64))
}

impl RemovedKeys {
    /// Remembers that what is not newer than `removal` is removed. Whether that is news at `now`:
    /// what was learnt from a clock that was ahead does not stand in the way.
    pub(crate) fn learn(&self, digest: &[u8; 32], removal: Removal, now: Timestamp) -> bool {
        let empty = || (0..FILTER_BITS / 64).map(|_| AtomicU64::new(0)).collect();
        let filters = self.filters.get_or_init(|| [empty(), empty()]);
        let mut removals = self.removals();
        let stands = |known: &Removal| known.version >= removal.version && !known.version.is_from_future(now);
        if removals.get(digest).is_some_and(stands) {
            return false;
        }
        if removals.insert(*digest, removal) {
            // The filter of the generation that was forgotten. No reader can miss a key that stays.
            let turned = 1 - self.young.load(Ordering::Relaxed);
            filters[turned].iter().for_each(|word| word.store(0, Ordering::Relaxed));
            self.young.store(turned, Ordering::Relaxed);
        }
        let (word, mask) = bit(digest);
        filters[self.young.load(Ordering::Relaxed)][word].fetch_or(mask, Ordering::Release);
        self.any.store(true, Ordering::Release);
        true
    }

    /// Whether any removal was ever received.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// The removal of a key.
    #[inline]
    pub(crate) fn get(&self, digest: &[u8; 32]) -> Option<Removal> {
        if !self.any() {
            return None;
        }
        let (word, mask) = bit(digest);
        let [one, other] = self.filters.get()?;
        if (one[word].load(Ordering::Acquire) | other[word].load(Ordering::Acquire)) & mask == 0 {
            return None;
        }
        self.removals().get(digest).copied()
    }

    fn removals(&self) -> MutexGuard<'_, Generations<[u8; 32], Removal>> {
        self.removals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::Key;

    fn digest(n: usize) -> [u8; 32] {
        *Key::new(format!("key {n}")).unwrap().digest()
    }

    fn removal(counter: u32) -> Removal {
        Removal { version: Version { counter, ..Version::ZERO }, created: Timestamp::EPOCH }
    }

    #[test]
    fn the_newest_removal_of_a_key_is_kept() {
        let removed = RemovedKeys::default();
        assert_eq!(removed.get(&digest(1)), None);
        assert!(removed.learn(&digest(1), removal(5), Timestamp::EPOCH));
        assert!(
            !removed.learn(&digest(1), removal(5), Timestamp::EPOCH)
                && !removed.learn(&digest(1), removal(4), Timestamp::EPOCH)
        );
        assert_eq!((removed.get(&digest(1)), removed.get(&digest(2))), (Some(removal(5)), None));
        assert!(removed.learn(&digest(1), removal(6), Timestamp::EPOCH));
        assert_eq!(removed.get(&digest(1)), Some(removal(6)));
    }

    #[test]
    fn a_full_generation_is_remembered_and_everything_is_bounded() {
        let removed = RemovedKeys::default();
        let total = 5 * GENERATION + 7;
        for n in 0..total {
            assert!(removed.learn(&digest(n), removal(1), Timestamp::EPOCH));
        }
        assert!((total - GENERATION..total).all(|n| removed.get(&digest(n)).is_some()));
        assert_eq!(removed.get(&digest(0)), None);
        let (young, old) = removed.removals().sizes();
        assert!(young <= GENERATION && old <= GENERATION);
        let set = |filter: &[AtomicU64]| {
            filter.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum::<u32>()
        };
        let most = u32::try_from(GENERATION).unwrap();
        assert!(
            removed.filters.get().unwrap().iter().all(|filter| set(filter) <= most),
            "filters are emptied"
        );
    }
}
