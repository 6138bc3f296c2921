//! What this process remembers about blobs, and which of its callers writes a key at the moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peercache_api::{Entry, Key, Timestamp, Version};

use crate::store::Revision;

type Digest = [u8; 32];

/// How many blobs are remembered: about 3 MiB at the most.
const CAPACITY: usize = 16 * 1024;
/// A longer revision is not remembered; S3's entity tags have 34 bytes, or 38 with a number of
/// parts.
const MAX_REVISION_BYTES: usize = 128;

/// What a blob held when it was last read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The store's revision of the blob.
    pub(crate) revision: Option<Revision>,
    /// Which write it holds. `None` for what cannot be read, which every write replaces.
    pub(crate) held: Option<(Version, Timestamp)>,
}

impl Known {
    /// A blob that holds `entry`.
    pub(crate) fn holding(entry: &Entry, revision: Option<Revision>) -> Self {
        Self { revision, held: Some((entry.version(), entry.metadata().created)) }
    }

    /// A blob that cannot be read.
    pub(crate) fn unreadable(revision: Option<Revision>) -> Self {
        Self { revision, held: None }
    }

    /// Whether a write of `entry` must replace it. The rule is [`Entry::supersedes`], which looks
    /// at nothing but the version and the time of creation.
    pub(crate) fn loses_to(&self, entry: &Entry, now: Timestamp) -> bool {
        let Some((version, created)) = self.held else { return true };
        // An empty value without metadata is within every bound, so this cannot fail.
        Entry::builder("", version, created).build().is_ok_and(|held| entry.supersedes(&held, now))
    }

    fn is_from_future(&self, now: Timestamp) -> bool {
        self.held.is_some_and(|(version, created)| {
            Entry::builder("", version, created).build().is_ok_and(|held| held.is_from_future(now))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers blobs, bounded: two generations, of which the older goes when the younger is half of
/// the whole.
#[derive(Debug, Default)]
pub(crate) struct ObjectCache {
    generations: Mutex<(HashMap<Digest, Known>, HashMap<Digest, Known>)>,
}

impl ObjectCache {
    /// What is known about the blob of `key`.
    pub(crate) fn get(&self, key: &Key) -> Option<Known> {
        let generations = lock(&self.generations);
        generations.0.get(key.digest()).or_else(|| generations.1.get(key.digest())).cloned()
    }

    /// Notes what the blob of `key` holds. An entry from the future is not remembered: an honest
    /// one that replaces it elsewhere would look older once the time has come.
    pub(crate) fn note(&self, key: &Key, known: Known, now: Timestamp) {
        let long =
            known.revision.as_ref().is_some_and(|revision| revision.as_str().len() > MAX_REVISION_BYTES);
        if long || known.is_from_future(now) {
            return self.forget(key);
        }
        let (young, old) = &mut *lock(&self.generations);
        if young.len() >= CAPACITY / 2 && !young.contains_key(key.digest()) {
            *old = std::mem::take(young);
        }
        young.insert(*key.digest(), known);
    }

    /// Forgets the blob of `key`.
    pub(crate) fn forget(&self, key: &Key) {
        let (young, old) = &mut *lock(&self.generations);
        // Usually both are empty where the store compares versions itself: then nothing is hashed.
        if !young.is_empty() {
            young.remove(key.digest());
        }
        if !old.is_empty() {
            old.remove(key.digest());
        }
    }
}

/// One writer per key at a time in this process: the next one then knows what the last one wrote,
/// and needs one request instead of three. Holds as many keys as there are callers.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    keys: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// The right to write a key, until it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    digest: Digest,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
    lock: Option<Arc<tokio::sync::Mutex<()>>>,
}

impl Turns {
    /// Waits for the turn to write `key`. First come, first served.
    pub(crate) async fn wait(&self, key: &Key) -> Turn<'_> {
        let digest = *key.digest();
        let mine = Arc::clone(lock(&self.keys).entry(digest).or_default());
        // Made before waiting: a caller that goes away while it waits cleans up as well.
        let mut turn = Turn { turns: self, digest, guard: None, lock: Some(Arc::clone(&mine)) };
        turn.guard = Some(mine.lock_owned().await);
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut keys = lock(&self.turns.keys);
        self.guard = None;
        self.lock = None;
        // Whoever waits holds a clone, and clones are made under the lock that is held here.
        if keys.get(&self.digest).is_some_and(|left| Arc::strong_count(left) == 1) {
            keys.remove(&self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::{MAX_CLOCK_SKEW, NodeId};
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn entry(millis: u64) -> Entry {
        let wall = NOW.saturating_add(Duration::from_millis(millis));
        let version = Version { wall, counter: 0, node: NodeId::from_u64(1) };
        Entry::builder("v", version, wall).build().unwrap()
    }

    fn key(n: usize) -> Key {
        Key::new(format!("k{n}")).unwrap()
    }

    #[test]
    fn newer_write_replaces_and_unreadable_blob_always_loses() {
        let known = Known::holding(&entry(5), None);
        assert!(known.loses_to(&entry(6), NOW));
        assert!(!known.loses_to(&entry(5), NOW), "the same write");
        assert!(!known.loses_to(&entry(4), NOW));
        assert!(Known::unreadable(None).loses_to(&entry(0), NOW));
    }

    #[test]
    fn object_cache_is_bounded_and_keeps_the_latest() {
        let memory = ObjectCache::default();
        for n in 0..3 * CAPACITY {
            memory.note(&key(n), Known::holding(&entry(0), Some(Revision::new(n.to_string()))), NOW);
            let generations = lock(&memory.generations);
            assert!(generations.0.len() + generations.1.len() <= CAPACITY);
        }
        let latest = 3 * CAPACITY - 1;
        for n in latest - CAPACITY / 2 + 1..=latest {
            assert!(memory.get(&key(n)).is_some(), "{n}");
        }
        memory.forget(&key(latest));
        assert_eq!(memory.get(&key(latest)), None);
    }

    #[test]
    fn entry_from_the_future_and_long_revision_are_not_remembered() {
        let memory = ObjectCache::default();
        let ahead = u64::try_from(MAX_CLOCK_SKEW.as_millis()).unwrap() + 1;
        memory.note(&key(1), Known::holding(&entry(0), None), NOW);
        memory.note(&key(1), Known::holding(&entry(ahead), None), NOW);
        assert_eq!(memory.get(&key(1)), None, "nor is what was known before");
        memory.note(&key(2), Known::unreadable(Some(Revision::new("x".repeat(129)))), NOW);
        assert_eq!(memory.get(&key(2)), None);
    }

    #[tokio::test]
    async fn turns_are_taken_in_order_and_leave_nothing_behind() {
        let turns = Turns::default();
        let (one, two) = (key(1), key(2));
        let first = turns.wait(&one).await;
        let other = turns.wait(&two).await;
        let mut second = Box::pin(turns.wait(&one));
        assert!(futures_util::poll!(&mut second).is_pending());
        let mut gone = Box::pin(turns.wait(&one));
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(gone);
        drop(first);
        drop(second.await);
        drop(other);
        assert!(lock(&turns.keys).is_empty());
    }
}
