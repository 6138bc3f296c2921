//! Keys that others were heard to have removed, and up to which version.
//!
//! Looked at by every read, so it costs one load while nothing was ever heard, and afterwards two bits of a
//! filter for a key that was not removed. Bounded: two generations, the older one is forgotten when the
//! younger is full. By then its tombstones have long been written to the local tiers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use peercache_api::{Entry, Timestamp, Version};

/// The most keys in one generation: with both, about 3 MiB.
pub(crate) const GENERATION: usize = 16_384;
/// The bits of one generation's filter; one in sixteen is set when it is full.
const FILTER_BITS: usize = GENERATION * 16;

/// A removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) version: Version,
    pub(crate) created: Timestamp,
}

impl Note {
    pub(crate) fn of(tombstone: &Entry) -> Self {
        Self { version: tombstone.version(), created: tombstone.metadata().created }
    }

    /// The tombstone, without what proved who made it.
    pub(crate) fn tombstone(self) -> Entry {
        Entry::tombstone(self.version, self.created)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Heard {
    any: AtomicBool,
    /// One for each generation; they take turns.
    filters: OnceLock<[Box<[AtomicU64]>; 2]>,
    /// Which filter is the younger generation's.
    young: AtomicUsize,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    young: HashMap<[u8; 32], Note>,
    old: HashMap<[u8; 32], Note>,
}

/// Where a digest's bit is.
fn bit(digest: &[u8; 32]) -> (usize, u64) {
    let at = usize::from(digest[0]) | usize::from(digest[1]) << 8 | usize::from(digest[2]) << 16;
    let at = at % FILTER_BITS;
    (at / 64, 1 << (at % 64))
}

impl Heard {
    /// Takes note that what is not newer than `note` is removed. Whether that is news.
    pub(crate) fn note(&self, digest: &[u8; 32], note: Note) -> bool {
        let empty = || (0..FILTER_BITS / 64).map(|_| AtomicU64::new(0)).collect();
        let filters = self.filters.get_or_init(|| [empty(), empty()]);
        let mut notes = self.notes();
        let known = notes.young.get(digest).or_else(|| notes.old.get(digest));
        if known.is_some_and(|known| known.version >= note.version) {
            return false;
        }
        if notes.young.len() >= GENERATION && !notes.young.contains_key(digest) {
            notes.old = std::mem::take(&mut notes.young);
            // Whose keys are forgotten with this. No reader can miss a key that stays.
            let turned = 1 - self.young.load(Ordering::Relaxed);
            filters[turned].iter().for_each(|word| word.store(0, Ordering::Relaxed));
            self.young.store(turned, Ordering::Relaxed);
        }
        notes.young.insert(*digest, note);
        let (word, mask) = bit(digest);
        filters[self.young.load(Ordering::Relaxed)][word].fetch_or(mask, Ordering::Release);
        self.any.store(true, Ordering::Release);
        true
    }

    /// Whether anything was ever heard of.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// What was heard about a key.
    #[inline]
    pub(crate) fn get(&self, digest: &[u8; 32]) -> Option<Note> {
        if !self.any() {
            return None;
        }
        let (word, mask) = bit(digest);
        let [one, other] = self.filters.get()?;
        if (one[word].load(Ordering::Acquire) | other[word].load(Ordering::Acquire)) & mask == 0 {
            return None;
        }
        let notes = self.notes();
        notes.young.get(digest).or_else(|| notes.old.get(digest)).copied()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::Key;

    fn digest(n: usize) -> [u8; 32] {
        *Key::new(format!("key {n}")).unwrap().digest()
    }

    fn note(counter: u32) -> Note {
        Note { version: Version { counter, ..Version::ZERO }, created: Timestamp::EPOCH }
    }

    #[test]
    fn the_newest_removal_of_a_key_is_kept() {
        let heard = Heard::default();
        assert_eq!(heard.get(&digest(1)), None);
        assert!(heard.note(&digest(1), note(5)));
        assert!(!heard.note(&digest(1), note(5)) && !heard.note(&digest(1), note(4)));
        assert_eq!((heard.get(&digest(1)), heard.get(&digest(2))), (Some(note(5)), None));
        assert!(heard.note(&digest(1), note(6)));
        assert_eq!(heard.get(&digest(1)), Some(note(6)));
    }

    #[test]
    fn a_full_generation_is_remembered_and_everything_is_bounded() {
        let heard = Heard::default();
        let total = 5 * GENERATION + 7;
        for n in 0..total {
            assert!(heard.note(&digest(n), note(1)));
        }
        assert!((total - GENERATION..total).all(|n| heard.get(&digest(n)).is_some()));
        assert_eq!(heard.get(&digest(0)), None);
        let notes = heard.notes();
        assert!(notes.young.len() <= GENERATION && notes.old.len() <= GENERATION);
        let set = |filter: &[AtomicU64]| {
            filter.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum::<u32>()
        };
        let most = u32::try_from(GENERATION).unwrap();
        assert!(heard.filters.get().unwrap().iter().all(|filter| set(filter) <= most), "filters are emptied");
    }
}
