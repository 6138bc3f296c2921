//! Marks: since when what is stored about a part of the API has to be revalidated.
//!
//! A mark is an entry that holds a **floor**: a version at or below which nothing is believed. A grant
//! carries the version that was minted when its request was *sent*, and is believed only above the floor. So
//! a read that was under way while a write happened is not believed, in whatever order they end.
//!
//! A write *removes* the mark. The tombstone reaches the other machines like every removal, at once where
//! tiers tell of removals, and its version is the next floor. Where there is no mark nothing is believed, so
//! an evicted mark costs a revalidation and never a stale answer. The first request that is sent for a part
//! without a mark puts one there.
//!
//! Versions are taken at the time of writing. A mark that lies below the horizon of an `invalidate --all` is
//! replaced by the next request, and a version from a clock that was ahead is not taken for a floor.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use futures_util::future::join_all;
use peercache::backend::{NodeId, Timestamp, Version};
use peercache::chain::Outcome;
use peercache::{Cache, Entry, Key};

/// For how long a mark is good without looking at the shared tiers again. A machine that is not told of
/// removals sees another's write after this at the latest.
const MARK_LIFETIME: Duration = Duration::from_secs(60);
/// For how long after that a mark whose tiers were all asked, and know of no write since, is renewed as it is.
const MARK_RENEWED_FOR: Duration = Duration::from_secs(600);
/// Wall clock, counter and node of a version.
const FLOOR_BYTES: usize = 20;

/// The moment a request is sent: what it fetches is stored as of then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) version: Version,
    pub(crate) at: Timestamp,
}

/// Marks over one cache.
#[derive(Debug)]
pub(crate) struct WriteMarks {
    cache: Cache,
    /// The version of the last write that this process noted, anywhere; at first, of its start. What is
    /// older is not believed where no mark says otherwise: a mark may have been evicted.
    last_write: Mutex<Version>,
}

impl WriteMarks {
    pub(crate) fn new(cache: Cache) -> Self {
        let last_write = Mutex::new(cache.next_version());
        Self { cache, last_write }
    }

    /// To be called just before a request is sent.
    pub(crate) fn sending(&self) -> Sent {
        // A clock that was set back is noticed first: what is fetched from now on counts.
        self.last_write(self.cache.now());
        Sent { version: self.cache.next_version(), at: self.cache.now() }
    }

    /// The floor under this mark; nothing if there is no mark. One that has to be looked for in the shared tiers
    /// again is renewed if every tier was asked and none has a write above it.
    pub(crate) async fn floor(&self, key: &Key) -> Option<Version> {
        // Before the look for a tombstone, as in `begin`.
        let version = self.cache.next_version();
        let lookup = self.cache.lookup(key).await;
        match lookup.outcome {
            Outcome::Hit => decode_version(lookup.entry?.value()),
            Outcome::Miss => None,
            Outcome::Stale => {
                let is_certain = lookup.unknown().next().is_none();
                let entry =
                    lookup.entry.filter(|mark| is_certain && lookup.newest <= Some(mark.version()))?;
                let floor = decode_version(entry.value())?;
                self.put(key, floor, version).await;
                Some(floor)
            }
        }
    }

    async fn put(&self, key: &Key, floor: Version, version: Version) {
        let entry = Entry::builder(encode_version(floor), version, self.cache.now())
            .fresh_for(MARK_LIFETIME)
            .stale_for(MARK_RENEWED_FOR)
            .build();
        if let Ok(entry) = entry {
            let _outcome = self.cache.put_entry(key, entry).await;
        }
    }

    /// Puts a mark where there is none.
    ///
    /// Its version is minted before the look for a tombstone: a write that happens after that look has a
    /// tombstone above it, which this mark cannot hide.
    pub(crate) async fn begin(&self, key: &Key) {
        let version = self.cache.next_version();
        let lookup = self.cache.lookup(key).await;
        if lookup.is_hit() {
            return;
        }
        let now = self.cache.now();
        let newest = lookup.newest.filter(|newest| !newest.is_from_future(now));
        let floor = newest.map_or_else(|| self.last_write(now), |newest| newest.max(self.last_write(now)));
        self.put(key, floor, version).await;
    }

    /// Notes a write: what is stored below these marks has to be revalidated, on every machine.
    pub(crate) async fn write(&self, keys: &[Key]) {
        let version = self.cache.next_version();
        let now = self.cache.now();
        {
            let mut last = self.last_write.lock().unwrap_or_else(PoisonError::into_inner);
            *last = if last.is_from_future(now) { version } else { version.max(*last) };
        }
        join_all(keys.iter().map(|key| self.cache.put_entry(key, Entry::tombstone(version, now)))).await;
    }

    /// A version of a clock that was ahead would never be reached again: it is replaced by one of now.
    fn last_write(&self, now: Timestamp) -> Version {
        let mut last = self.last_write.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_from_future(now) {
            tracing::warn!("the clock was set back: stored answers from before are revalidated");
            *last = Version { wall: now, ..Version::ZERO };
        }
        *last
    }
}

/// A version as bytes.
pub(crate) fn encode_version(floor: Version) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(FLOOR_BYTES);
    bytes.put_u64(floor.wall.as_millis());
    bytes.put_u32(floor.counter);
    bytes.put_u64(floor.node.as_u64());
    bytes
}

/// A version from bytes. `None` if they are none.
pub(crate) fn decode_version(mut bytes: &[u8]) -> Option<Version> {
    if bytes.len() != FLOOR_BYTES {
        return None;
    }
    let wall = Timestamp::from_millis(bytes.get_u64());
    Some(Version { wall, counter: bytes.get_u32(), node: NodeId::from_u64(bytes.get_u64()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use peercache::Memory;
    use peercache_testkit::ManualClock;

    fn marks() -> (Arc<ManualClock>, WriteMarks) {
        let clock = Arc::new(ManualClock::default());
        let memory = Memory::builder().capacity(1 << 20).clock(clock.clone()).build();
        (clock.clone(), WriteMarks::new(Cache::builder().tier(memory).clock(clock).build().unwrap()))
    }

    #[test]
    fn a_floor_is_read_as_it_was_written() {
        let floor = Version {
            wall: Timestamp::from_millis(1_800_000_000_001),
            counter: 3,
            node: NodeId::from_u64(7),
        };
        assert_eq!(decode_version(&encode_version(floor)), Some(floor));
        assert_eq!(decode_version(b"short"), None);
    }

    #[tokio::test]
    async fn what_was_sent_before_a_write_is_below_the_floor_and_what_is_sent_after_it_above() {
        let (_, marks) = marks();
        let key = Key::new("scope").unwrap();
        assert_eq!(marks.floor(&key).await, None, "without a mark nothing is believed");
        let before = marks.sending();
        marks.begin(&key).await;
        assert!(before.version > marks.floor(&key).await.unwrap());
        marks.write(std::slice::from_ref(&key)).await;
        assert_eq!(marks.floor(&key).await, None);
        let after = marks.sending();
        marks.begin(&key).await;
        let floor = marks.floor(&key).await.unwrap();
        assert!(before.version < floor && floor < after.version, "{floor:?}");
    }

    #[tokio::test]
    async fn mark_without_a_write_keeps_its_floor_beyond_its_lifetime() {
        let (clock, marks) = marks();
        let key = Key::new("scope").unwrap();
        marks.begin(&key).await;
        let floor = marks.floor(&key).await.unwrap();
        let sent = marks.sending();
        for _ in 0..3 {
            clock.advance(MARK_LIFETIME + Duration::from_secs(500));
            assert_eq!(marks.floor(&key).await, Some(floor), "it is renewed");
        }
        assert!(sent.version > floor);
        clock.advance(MARK_LIFETIME);
        marks.write(std::slice::from_ref(&key)).await;
        assert_eq!(marks.floor(&key).await, None, "a write ends it, stale or not");
        marks.begin(&key).await;
        assert!(marks.floor(&key).await.unwrap() > sent.version);
        clock.advance(MARK_LIFETIME + MARK_RENEWED_FOR);
        assert_eq!(marks.floor(&key).await, None, "nobody asked for too long");
    }

    #[tokio::test]
    async fn what_is_sent_first_after_the_clock_was_set_back_is_above_the_floor() {
        let (clock, marks) = marks();
        let key = Key::new("scope").unwrap();
        marks.write(std::slice::from_ref(&key)).await;
        let earlier = marks.cache.now().as_millis() - 600_000;
        clock.set_wall(Timestamp::from_millis(earlier));
        let sent = marks.sending();
        clock.advance(Duration::from_millis(200));
        marks.begin(&key).await;
        assert!(marks.floor(&key).await.is_some_and(|floor| floor < sent.version));
    }

    #[tokio::test]
    async fn everything_is_believed_again_after_the_namespace_was_invalidated() {
        let (clock, marks) = marks();
        let key = Key::new("scope").unwrap();
        marks.begin(&key).await;
        clock.advance(Duration::from_secs(5));
        marks.cache.invalidate(peercache::By::All).await.unwrap();
        assert_eq!(marks.floor(&key).await, None);
        clock.advance(Duration::from_secs(1));
        let sent = marks.sending();
        marks.begin(&key).await;
        assert!(
            marks.floor(&key).await.is_some_and(|floor| sent.version > floor),
            "a running server has hits"
        );
    }
}
