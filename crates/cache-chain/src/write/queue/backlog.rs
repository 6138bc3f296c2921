//! What waits to be written to one tier: by key, bounded, removals before values.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use peercache_api::{Entry, Error, Key, Timestamp, Version};
use tokio::sync::oneshot;

/// Told once: the tier has the write, or the first attempt failed.
pub(super) type Ack = oneshot::Sender<Result<(), Error>>;

/// One write that waits.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) entry: Entry,
    /// When it was queued, for the journal.
    pub(super) queued: Timestamp,
    /// The monotonic time at which it is given up.
    pub(super) give_up: Duration,
    /// Whether this version was tried before.
    pub(super) tried: bool,
    /// Whether an attempt is under way, perhaps of an older version.
    in_flight: bool,
    turn: u64,
    pub(super) waiting: Vec<Ack>,
}

/// What became of an offered write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// It waits.
    Queued,
    /// It waits in the place of an older write of the same key.
    Replaced,
    /// A write of this key that is as new waits already, and stands for it.
    Older,
    /// There is no room for it.
    Full,
}

/// A write that is not tried any more.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) key: Key,
    pub(super) slot: Slot,
}

/// The writes that wait for one tier. Knows no time and does no I/O.
#[derive(Debug)]
pub(super) struct Backlog {
    slots: HashMap<Key, Slot>,
    /// Keys whose removal waits for an attempt, in the order in which they came.
    removals: BTreeMap<u64, Key>,
    /// The same for values.
    values: BTreeMap<u64, Key>,
    bytes: usize,
    next_turn: u64,
    max_entries: usize,
    max_bytes: usize,
}

impl Backlog {
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            slots: HashMap::new(),
            removals: BTreeMap::new(),
            values: BTreeMap::new(),
            bytes: 0,
            next_turn: 0,
            max_entries,
            max_bytes,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many writes an attempt could begin with now, at most `most`.
    pub(super) fn ready(&self, most: usize) -> usize {
        (self.removals.len() + self.values.len()).min(most)
    }

    /// What waits under `key`.
    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.slots.get(key).map(|slot| &slot.entry)
    }

    /// Takes in a write. Where there is no room the oldest values make it, never a removal for the
    /// sake of a value; they are the second part of the answer.
    pub(super) fn offer(
        &mut self,
        key: &Key,
        entry: Entry,
        queued: Timestamp,
        give_up: Duration,
        ack: Option<Ack>,
    ) -> (Offered, Vec<Removed>) {
        let held = self.slots.get_mut(key);
        if let Some(slot) = held {
            slot.waiting.retain(|ack| !ack.is_closed());
            if !entry.supersedes(&slot.entry, queued) {
                slot.waiting.extend(ack);
                return (Offered::Older, Vec::new());
            }
        }
        let (added, freed) = (cost(key, &entry), self.slots.get(key).map(|slot| cost(key, &slot.entry)));
        let more = usize::from(freed.is_none());
        let evicted = self.make_room(added, freed.unwrap_or(0), more, Some(key));
        if !self.fits(added, freed.unwrap_or(0), more) {
            return (Offered::Full, evicted);
        }
        self.bytes = self.bytes + added - freed.unwrap_or(0);
        if let Some(slot) = self.slots.get_mut(key) {
            let lane = if slot.entry.is_tombstone() { &mut self.removals } else { &mut self.values };
            lane.remove(&slot.turn);
            let was_in_flight = slot.in_flight;
            slot.entry = entry;
            slot.queued = queued;
            slot.give_up = give_up;
            slot.tried = false;
            slot.waiting.extend(ack);
            if !was_in_flight {
                let lane = if slot.entry.is_tombstone() { &mut self.removals } else { &mut self.values };
                lane.insert(slot.turn, key.clone());
            }
            return (Offered::Replaced, evicted);
        }
        let turn = self.next_turn;
        self.next_turn += 1;
        let lane = if entry.is_tombstone() { &mut self.removals } else { &mut self.values };
        lane.insert(turn, key.clone());
        let waiting = ack.into_iter().collect();
        let slot = Slot { entry, queued, give_up, tried: false, in_flight: false, turn, waiting };
        self.slots.insert(key.clone(), slot);
        (Offered::Queued, evicted)
    }

    /// Whether nothing waits under `key`, and `entry` fits without giving anything up.
    pub(super) fn has_room(&self, key: &Key, entry: &Entry) -> bool {
        !self.slots.contains_key(key) && self.fits(cost(key, entry), 0, 1)
    }

    fn fits(&self, added: usize, freed: usize, more: usize) -> bool {
        self.slots.len() + more <= self.max_entries
            && self.bytes.saturating_sub(freed).saturating_add(added) <= self.max_bytes
    }

    /// Lets go of the oldest values that are not being written until `added` bytes fit, but only if
    /// that can succeed: otherwise they would be lost for nothing.
    fn make_room(&mut self, added: usize, freed: usize, more: usize, keep: Option<&Key>) -> Vec<Removed> {
        let mut victims = Vec::new();
        let (mut gain, mut count) = (freed, 0);
        let enough = |gain: usize, count: usize| {
            self.slots.len() + more <= self.max_entries + count
                && self.bytes.saturating_sub(gain).saturating_add(added) <= self.max_bytes
        };
        for key in self.values.values() {
            if enough(gain, count) {
                break;
            }
            if keep == Some(key) {
                continue;
            }
            if let Some(slot) = self.slots.get(key) {
                gain += cost(key, &slot.entry);
                count += 1;
                victims.push(key.clone());
            }
        }
        if !enough(gain, count) {
            return Vec::new();
        }
        victims.into_iter().filter_map(|key| self.remove(&key)).collect()
    }

    /// The next write to try, removals first, and whether it was tried before. It stays here until
    /// [`Backlog::delivered`] or [`Backlog::remove`].
    pub(super) fn next(&self) -> Option<(&Key, &Slot)> {
        let key = self.removals.values().next().or_else(|| self.values.values().next())?;
        self.slots.get_key_value(key)
    }

    /// The next write that was not tried before, for when no retry may be made.
    pub(super) fn next_untried(&self) -> Option<(&Key, &Slot)> {
        let keys = self.removals.values().chain(self.values.values());
        keys.filter_map(|key| self.slots.get_key_value(key)).find(|(_, slot)| !slot.tried)
    }

    /// An attempt at `key` begins: no other attempt starts until it has ended.
    pub(super) fn begin(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.in_flight = true;
            slot.tried = true;
            self.removals.remove(&slot.turn);
            self.values.remove(&slot.turn);
        }
    }

    /// The attempt has ended without success, or did not end: `key` may be tried again.
    pub(super) fn again(&mut self, key: &Key) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key)?;
        slot.in_flight = false;
        let lane = if slot.entry.is_tombstone() { &mut self.removals } else { &mut self.values };
        lane.insert(slot.turn, key.clone());
        Some(slot)
    }

    /// The attempt at this version has succeeded. Nothing is removed if a newer one came meanwhile;
    /// that one is tried next.
    pub(super) fn delivered(&mut self, key: &Key, version: Version) -> Option<Removed> {
        if self.slots.get(key)?.entry.version() == version {
            return self.remove(key);
        }
        self.again(key);
        None
    }

    /// Takes `key` out, whatever state it is in.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Removed> {
        let slot = self.slots.remove(key)?;
        self.removals.remove(&slot.turn);
        self.values.remove(&slot.turn);
        self.bytes -= cost(key, &slot.entry);
        Some(Removed { key: key.clone(), slot })
    }

    /// Takes out what is to be given up by `now` (monotonic) or has expired at `wall`, except what
    /// is being written.
    pub(super) fn too_old(&mut self, now: Duration, wall: Timestamp) -> Vec<Removed> {
        let old = self.slots.iter().filter(|(_, slot)| !slot.in_flight && slot.is_too_old(now, wall));
        let keys: Vec<_> = old.map(|(key, _)| key.clone()).collect();
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Lets everybody go who waits for an answer; the writes stay.
    pub(super) fn dismiss(&mut self) {
        self.slots.values_mut().for_each(|slot| slot.waiting.clear());
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> Vec<Removed> {
        let keys: Vec<_> = self.slots.keys().cloned().collect();
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }
}

impl Slot {
    pub(super) fn is_too_old(&self, now: Duration, wall: Timestamp) -> bool {
        now >= self.give_up || wall >= self.entry.expires()
    }
}

/// What one waiting write occupies: the entry, the key text and the map nodes around them.
fn cost(key: &Key, entry: &Entry) -> usize {
    entry.memory_bytes() + key.as_str().len() + 256
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::NodeId;
    use proptest::prelude::*;

    const WALL: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn version(counter: u32) -> Version {
        Version { wall: WALL, counter, node: NodeId::from_u64(1) }
    }

    fn value(counter: u32, bytes: usize) -> Entry {
        Entry::builder(vec![0; bytes], version(counter), WALL)
            .fresh_for(Duration::from_secs(3600))
            .build()
            .unwrap()
    }

    fn key(n: usize) -> Key {
        Key::new(format!("key {n}")).unwrap()
    }

    fn offer(backlog: &mut Backlog, n: usize, entry: Entry) -> (Offered, Vec<Key>) {
        let (offered, evicted) = backlog.offer(&key(n), entry, WALL, Duration::from_secs(600), None);
        (offered, evicted.into_iter().map(|removed| removed.key).collect())
    }

    #[test]
    fn values_make_room_for_removals_and_not_the_other_way_round() {
        let mut backlog = Backlog::new(2, usize::MAX);
        assert_eq!(offer(&mut backlog, 0, value(0, 1)), (Offered::Queued, vec![]));
        assert_eq!(offer(&mut backlog, 1, value(0, 1)), (Offered::Queued, vec![]));
        assert_eq!(
            offer(&mut backlog, 2, Entry::tombstone(version(0), WALL)),
            (Offered::Queued, vec![key(0)])
        );
        assert_eq!(
            offer(&mut backlog, 3, Entry::tombstone(version(0), WALL)),
            (Offered::Queued, vec![key(1)])
        );
        assert_eq!(offer(&mut backlog, 4, value(0, 1)), (Offered::Full, vec![]));
        assert_eq!(offer(&mut backlog, 5, Entry::tombstone(version(0), WALL)), (Offered::Full, vec![]));
        assert_eq!(backlog.next().map(|(key, _)| key.clone()), Some(key(2)));
    }

    #[test]
    fn nothing_is_given_up_for_what_does_not_fit_anyway() {
        let mut backlog = Backlog::new(10, 5_000);
        assert_eq!(offer(&mut backlog, 0, value(0, 1000)).0, Offered::Queued);
        assert_eq!(offer(&mut backlog, 1, value(0, 10_000)), (Offered::Full, vec![]));
        assert_eq!(offer(&mut backlog, 0, value(1, 10_000)), (Offered::Full, vec![]));
        assert_eq!(backlog.get(&key(0)).map(Entry::version), Some(version(0)));
    }

    #[test]
    fn a_newer_write_waits_until_the_attempt_at_the_older_one_has_ended() {
        let mut backlog = Backlog::new(10, usize::MAX);
        let _ = offer(&mut backlog, 0, value(0, 1));
        backlog.begin(&key(0));
        assert_eq!(offer(&mut backlog, 0, value(1, 1)).0, Offered::Replaced);
        assert_eq!(offer(&mut backlog, 0, value(1, 1)).0, Offered::Older);
        assert!(backlog.next().is_none(), "two attempts at one key could arrive in the wrong order");
        assert!(backlog.delivered(&key(0), version(0)).is_none());
        let (next, slot) = backlog.next().unwrap();
        assert_eq!((next, slot.entry.version(), slot.tried), (&key(0), version(1), false));
        backlog.begin(&key(0));
        assert!(backlog.delivered(&key(0), version(1)).is_some());
        assert!(backlog.is_empty() && backlog.bytes() == 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Offer(usize, u32, usize, bool),
        Begin,
        Deliver,
        Fail,
        Age(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0_usize..8, 0_u32..6, 0_usize..2000, any::<bool>())
                .prop_map(|(key, version, bytes, removal)| Step::Offer(key, version, bytes, removal)),
            4 => Just(Step::Begin),
            2 => Just(Step::Deliver),
            2 => Just(Step::Fail),
            1 => (0_u64..20).prop_map(Step::Age),
        ]
    }

    proptest! {
        #[test]
        fn bounds_hold_every_write_is_accounted_for_and_the_newest_wins(
            steps in prop::collection::vec(step(), 1..80)
        ) {
            let (max_entries, max_bytes) = (4, 8_000);
            let mut backlog = Backlog::new(max_entries, max_bytes);
            let mut under_way: Vec<(Key, Version)> = Vec::new();
            let (mut offered, mut gone, mut now) = (0_usize, 0_usize, 0);
            for step in steps {
                match step {
                    Step::Offer(n, counter, bytes, removal) => {
                        let entry = match removal {
                            true => Entry::tombstone(version(counter), WALL),
                            false => value(counter, bytes),
                        };
                        let before = backlog.get(&key(n)).map(Entry::version);
                        let give_up = Duration::from_secs(now + 10);
                        let (answer, evicted) = backlog.offer(&key(n), entry, WALL, give_up, None);
                        offered += 1;
                        prop_assert!(evicted.iter().all(|removed| !removed.slot.entry.is_tombstone()));
                        gone += evicted.len() + usize::from(answer != Offered::Queued);
                        match answer {
                            Offered::Queued | Offered::Replaced => {
                                prop_assert_eq!(backlog.get(&key(n)).map(Entry::version), Some(version(counter)));
                                prop_assert!(before.is_none_or(|before| before < version(counter)));
                            }
                            Offered::Older => prop_assert!(before.is_some_and(|before| before >= version(counter))),
                            Offered::Full => prop_assert_eq!(backlog.get(&key(n)).map(Entry::version), before),
                        }
                    }
                    Step::Begin => if let Some((key, slot)) = backlog.next() {
                        let (key, version) = (key.clone(), slot.entry.version());
                        prop_assert!(under_way.iter().all(|(other, _)| *other != key), "one attempt at a time");
                        backlog.begin(&key);
                        under_way.push((key, version));
                    },
                    Step::Deliver => if let Some((key, version)) = under_way.pop() {
                        gone += usize::from(backlog.delivered(&key, version).is_some());
                    },
                    Step::Fail => if let Some((key, _)) = under_way.pop() {
                        prop_assert!(backlog.again(&key).is_some(), "what is being written is never let go");
                    },
                    Step::Age(seconds) => {
                        now += seconds;
                        gone += backlog.too_old(Duration::from_secs(now), WALL).len();
                    }
                }
                prop_assert!(backlog.len() <= max_entries && backlog.bytes() <= max_bytes);
                prop_assert_eq!(offered, gone + backlog.len());
            }
            gone += backlog.drain().len();
            prop_assert_eq!((offered, backlog.bytes()), (gone, 0));
            prop_assert!(backlog.next().is_none());
        }
    }
}
