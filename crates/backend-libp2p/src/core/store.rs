//! What a node holds: envelopes under the digests of their keys, bounded in bytes.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use peercache_api::{Entry, MAX_CLOCK_SKEW, Timestamp, Version, envelope};

use crate::wire::KeyId;

/// What a record costs beside its envelope, in bytes: about what the maps need for it.
const RECORD_BYTES: usize = 256;
/// The place of the first record, with room before it.
const FIRST_PLACE: u64 = 1 << 62;
/// The part of the capacity that tombstones may take before the oldest of them go: one in so many.
const TOMBSTONE_PART: usize = 4;

/// One stored entry.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) version: Version,
    pub(super) tombstone: bool,
    /// When it is of no use to anybody any more.
    pub(super) expires: Timestamp,
    pub(super) envelope: Bytes,
    /// Its place in the order of use, or of arrival for a tombstone.
    place: u64,
    /// Whether it was taken back after a restart, and not stored by this process.
    restored: bool,
    /// To which of its owners it was offered, by rank, and in which ring.
    offered: (u64, u8),
}

/// An entry that was looked at and found whole.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) key: KeyId,
    pub(super) version: Version,
    pub(super) tombstone: bool,
    pub(super) created: Timestamp,
    pub(super) expires: Timestamp,
    pub(super) envelope: Bytes,
}

impl Checked {
    /// Reads an envelope: `None` when it is damaged or of an unknown format.
    pub(super) fn read(envelope: Bytes) -> Option<Self> {
        let (key, entry): (_, Entry) = envelope::decode_unkeyed(envelope.clone()).ok()?;
        Some(Self {
            key: KeyId(key),
            version: entry.version(),
            tombstone: entry.is_tombstone(),
            created: entry.metadata().created,
            expires: entry.expires(),
            envelope,
        })
    }

    /// Whether it is not from the future. It may have expired, and still be the newest.
    pub(super) fn is_believed(&self, now: Timestamp) -> bool {
        let believed = now.saturating_add(MAX_CLOCK_SKEW);
        self.version.wall <= believed && self.created <= believed
    }

    /// Whether it can be served: neither from the future nor expired.
    pub(super) fn is_current(&self, now: Timestamp) -> bool {
        self.is_believed(now) && self.expires > now
    }
}

#[derive(Debug)]
pub(super) struct Store {
    capacity: usize,
    records: BTreeMap<KeyId, Record>,
    /// Values, the one that was not used for longest first.
    by_use: BTreeMap<u64, KeyId>,
    /// Tombstones, the oldest first.
    by_arrival: BTreeMap<u64, KeyId>,
    next_place: u64,
    /// Places of what is taken back: before all others, since it comes the latest first.
    restored_place: u64,
    value_bytes: usize,
    tombstone_bytes: usize,
    pub(super) evicted: u64,
}

impl Store {
    pub(super) const fn new(capacity: usize) -> Self {
        Self {
            capacity,
            records: BTreeMap::new(),
            by_use: BTreeMap::new(),
            by_arrival: BTreeMap::new(),
            next_place: FIRST_PLACE,
            restored_place: FIRST_PLACE,
            value_bytes: 0,
            tombstone_bytes: 0,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.value_bytes + self.tombstone_bytes
    }

    /// What is stored under `key`, unless it is over. Counts as use.
    pub(super) fn get(&mut self, key: KeyId, now: Timestamp) -> Option<&Record> {
        if self.records.get(&key)?.expires <= now {
            self.remove(key);
            return None;
        }
        let place = self.take_place();
        let record = self.records.get_mut(&key)?;
        if !record.tombstone {
            self.by_use.remove(&record.place);
            record.place = place;
            self.by_use.insert(place, key);
        }
        Some(record)
    }

    /// As [`Store::get`], without counting as use.
    pub(super) fn peek(&self, key: KeyId, now: Timestamp) -> Option<&Record> {
        self.records.get(&key).filter(|record| record.expires > now)
    }

    /// Stores what is newer than what is there. Says whether it did.
    pub(super) fn put(&mut self, entry: Checked) -> bool {
        let place = self.take_place();
        self.put_at(place, entry, false)
    }

    /// As [`Store::put`], for what was stored before a restart: used before everything else.
    pub(super) fn restore(&mut self, entry: Checked) -> bool {
        self.restored_place = self.restored_place.saturating_sub(1);
        self.put_at(self.restored_place, entry, true)
    }

    /// Whether nothing has to go for it.
    pub(super) fn has_room(&self, entry: &Checked) -> bool {
        let size = entry.envelope.len() + RECORD_BYTES;
        let fits = self.bytes() + size <= self.capacity;
        fits && (!entry.tombstone || self.tombstone_bytes + size <= self.capacity / TOMBSTONE_PART)
    }

    pub(super) fn is_restored(&self, key: KeyId) -> bool {
        self.records.get(&key).is_some_and(|record| record.restored)
    }

    fn put_at(&mut self, place: u64, entry: Checked, restored: bool) -> bool {
        if self.records.get(&entry.key).is_some_and(|known| known.version >= entry.version) {
            return false;
        }
        self.remove(entry.key);
        let size = entry.envelope.len() + RECORD_BYTES;
        if entry.tombstone {
            self.by_arrival.insert(place, entry.key);
            self.tombstone_bytes += size;
        } else {
            self.by_use.insert(place, entry.key);
            self.value_bytes += size;
        }
        let Checked { key, version, tombstone, expires, envelope, .. } = entry;
        let record = Record { version, tombstone, expires, envelope, place, restored, offered: (0, 0) };
        self.records.insert(key, record);
        self.make_room();
        true
    }

    /// Values first: a tombstone that goes can bring back what it buried.
    fn make_room(&mut self) {
        while self.tombstone_bytes > self.capacity / TOMBSTONE_PART {
            let Some((_, &oldest)) = self.by_arrival.first_key_value() else { break };
            self.evict(oldest);
        }
        while self.bytes() > self.capacity {
            let Some((_, &coldest)) = self.by_use.first_key_value() else { break };
            self.evict(coldest);
        }
    }

    fn evict(&mut self, key: KeyId) {
        self.remove(key);
        self.evicted += 1;
    }

    fn remove(&mut self, key: KeyId) {
        let Some(record) = self.records.remove(&key) else { return };
        let size = record.envelope.len() + RECORD_BYTES;
        if record.tombstone {
            self.by_arrival.remove(&record.place);
            self.tombstone_bytes -= size;
        } else {
            self.by_use.remove(&record.place);
            self.value_bytes -= size;
        }
    }

    fn take_place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    /// Up to `count` records after `key`, in order. Those that are over are dropped on the way and
    /// not given.
    pub(super) fn after(
        &mut self,
        key: Option<KeyId>,
        count: usize,
        now: Timestamp,
    ) -> Vec<(KeyId, Version)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let some: Vec<_> = self
            .records
            .range((from, Bound::Unbounded))
            .take(count)
            .map(|(key, record)| (*key, record.version, record.expires))
            .collect();
        // Also when all of these were over, the walk must go on after them: so they are given too.
        some.into_iter()
            .map(|(key, version, expires)| {
                if expires <= now {
                    self.remove(key);
                }
                (key, version)
            })
            .collect()
    }

    /// Whether `key` was offered to its owner of this rank in the ring with this number.
    pub(super) fn was_offered(&self, key: KeyId, ring: u64, rank: usize) -> bool {
        let offered = self.records.get(&key).map_or((0, 0), |record| record.offered);
        offered.0 == ring && offered.1 & (1 << rank) != 0
    }

    /// Takes note that `version` was offered.
    pub(super) fn offered(&mut self, key: KeyId, version: Version, ring: u64, rank: usize) {
        if let Some(record) = self.records.get_mut(&key).filter(|record| record.version == version) {
            let before = if record.offered.0 == ring { record.offered.1 } else { 0 };
            record.offered = (ring, before | 1 << rank);
        }
    }

    /// The keys whose first byte is `bucket`, in order.
    pub(super) fn bucket(&self, bucket: u8) -> impl Iterator<Item = (KeyId, Version)> {
        let (mut first, mut last) = ([0; 32], [u8::MAX; 32]);
        (first[0], last[0]) = (bucket, bucket);
        self.records.range(KeyId(first)..=KeyId(last)).map(|(key, record)| (*key, record.version))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use peercache_api::{Key, NodeId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn entry(name: &str, wall: u64, size: usize) -> Checked {
        let version = Version { wall: Timestamp::from_millis(wall), counter: 0, node: NodeId::from_u64(1) };
        let built = Entry::builder(vec![1; size], version, NOW).fresh_for(Duration::from_secs(60)).build();
        Checked::read(envelope::encode(&Key::new(name).unwrap(), &built.unwrap())).unwrap()
    }

    fn tombstone(name: &str, wall: u64) -> Checked {
        let version = Version { wall: Timestamp::from_millis(wall), counter: 0, node: NodeId::from_u64(1) };
        Checked::read(envelope::encode(&Key::new(name).unwrap(), &Entry::tombstone(version, NOW))).unwrap()
    }

    #[test]
    fn newest_wins_and_tombstones_bury() {
        let mut store = Store::new(1 << 20);
        let (old, new) = (entry("k", 1, 10), entry("k", 3, 10));
        let key = old.key;
        assert!(store.put(new.clone()) && !store.put(old) && !store.put(new));
        assert!(!store.put(tombstone("k", 2)) && store.put(tombstone("k", 4)));
        assert!(store.get(key, NOW).unwrap().tombstone);
        assert!(!store.put(entry("k", 3, 10)));
    }

    #[test]
    fn capacity_bounds_the_bytes_and_the_least_used_goes() {
        let mut store = Store::new(10_000);
        for number in 0..100 {
            store.put(entry(&format!("k{number}"), 1, 1_000));
            store.get(entry("k0", 1, 0).key, NOW);
            assert!(store.bytes() <= 10_000);
        }
        assert!(store.get(entry("k0", 1, 0).key, NOW).is_some(), "used all the time");
        assert!(store.get(entry("k1", 1, 0).key, NOW).is_none());
        assert!(store.evicted > 80);
    }

    #[test]
    fn values_go_before_tombstones_and_tombstones_have_a_bound_too() {
        let mut store = Store::new(100_000);
        store.put(tombstone("dead", 1));
        for number in 0..500 {
            store.put(entry(&format!("k{number}"), 1, 1_000));
        }
        assert!(store.peek(tombstone("dead", 1).key, NOW).is_some());
        for number in 0..500 {
            store.put(tombstone(&format!("t{number}"), 1));
        }
        assert!(store.tombstone_bytes <= 25_000 && store.bytes() <= 100_000);
    }

    #[test]
    fn what_is_over_is_not_there() {
        let mut store = Store::new(1 << 20);
        let short = entry("k", 1, 10);
        let (key, later) = (short.key, NOW.saturating_add(Duration::from_secs(61)));
        store.put(short);
        assert!(store.peek(key, NOW).is_some() && store.peek(key, later).is_none());
        assert_eq!(store.after(None, 10, later).len(), 1);
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }
}
