//! What a store that lies makes of an entry: at the level of the stored bytes, or past it.

use std::time::Duration;

use bytes::Bytes;
use peercache_api::{
    Entry, Error, Key, MAX_CLOCK_SKEW, MAX_LIFETIME, TOMBSTONE_LIFETIME, Timestamp, Version, envelope,
};

use super::dice::Dice;

/// Where an envelope of format version 1 keeps the time for which the entry is fresh.
const FRESH_FOR_AT: usize = 24;

/// Further ahead than any entry can be old, so that what is shifted lies in the future for certain.
const FUTURE: Duration = Duration::from_secs(TOMBSTONE_LIFETIME.as_secs() + 2 * MAX_CLOCK_SKEW.as_secs());

/// `entry` as a reader of the stored bytes gets it when they end early.
pub(super) fn truncated(key: &Key, entry: &Entry, undetected: bool, dice: &mut Dice) -> Result<Entry, Error> {
    if undetected {
        let value = entry.value();
        return Facts::of(entry).entry(value.slice(..dice.below(value.len())));
    }
    let bytes = envelope::encode(key, entry);
    envelope::decode(key, bytes.slice(..dice.below(bytes.len())))
}

/// As [`truncated`], with one bit wrong. Without a value, nothing can go wrong undetected.
pub(super) fn flipped(key: &Key, entry: &Entry, undetected: bool, dice: &mut Dice) -> Result<Entry, Error> {
    let flip = |bytes: &Bytes, dice: &mut Dice| {
        let mut bytes = bytes.to_vec();
        if let Some(byte) = bytes.len().checked_sub(1).map(|last| dice.below(last + 1)) {
            bytes[byte] ^= 1 << dice.below(8);
        }
        Bytes::from(bytes)
    };
    if undetected {
        return Facts::of(entry).entry(flip(entry.value(), dice));
    }
    envelope::decode(key, flip(&envelope::encode(key, entry), dice))
}

/// As [`truncated`], with the entry of `other` in the place of this key's.
pub(super) fn swapped(key: &Key, other: &(Key, Entry), undetected: bool) -> Result<Entry, Error> {
    if undetected {
        return Ok(other.1.clone());
    }
    envelope::decode(key, envelope::encode(&other.0, &other.1))
}

/// As [`truncated`], fresh for the longest time that there is.
pub(super) fn stretched(key: &Key, entry: &Entry, undetected: bool) -> Result<Entry, Error> {
    if entry.is_tombstone() || entry.metadata().fresh_for == MAX_LIFETIME {
        return Ok(entry.clone());
    }
    if undetected {
        let facts = Facts { fresh_for: MAX_LIFETIME, stale_for: Duration::ZERO, ..Facts::of(entry) };
        return facts.entry(entry.value().clone());
    }
    let mut bytes = envelope::encode(key, entry).to_vec();
    let millis = u64::try_from(MAX_LIFETIME.as_millis()).unwrap_or(u64::MAX);
    bytes[FRESH_FOR_AT..FRESH_FOR_AT + 8].copy_from_slice(&millis.to_be_bytes());
    envelope::decode(key, bytes.into())
}

/// `entry` as written by a machine whose clock is far ahead: whole and valid.
pub(super) fn from_future(entry: &Entry) -> Result<Entry, Error> {
    let facts = Facts::of(entry);
    let version = Version { wall: facts.version.wall.saturating_add(FUTURE), ..facts.version };
    Facts { version, created: facts.created.saturating_add(FUTURE), ..facts }.entry(entry.value().clone())
}

/// What the lies change about an entry besides its value; the rest is taken over.
struct Facts<'a> {
    of: &'a Entry,
    version: Version,
    created: Timestamp,
    fresh_for: Duration,
    stale_for: Duration,
}

impl<'a> Facts<'a> {
    fn of(entry: &'a Entry) -> Self {
        let meta = entry.metadata();
        Self {
            of: entry,
            version: meta.version,
            created: meta.created,
            fresh_for: meta.fresh_for,
            stale_for: meta.stale_for,
        }
    }

    fn entry(self, value: Bytes) -> Result<Entry, Error> {
        if self.of.is_tombstone() {
            return Entry::tombstone_with_proof(self.version, self.created, value);
        }
        let meta = self.of.metadata();
        let mut builder = Entry::builder(value, self.version, self.created)
            .fresh_for(self.fresh_for)
            .stale_for(self.stale_for);
        if let Some(content_type) = &meta.content_type {
            builder = builder.content_type(content_type);
        }
        if let Some(etag) = &meta.validators.etag {
            builder = builder.etag(etag);
        }
        if let Some(date) = &meta.validators.last_modified {
            builder = builder.last_modified(date);
        }
        meta.tags.iter().fold(builder, |builder, tag| builder.tag(tag)).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::{ErrorKind, NodeId, Operation};

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    fn full() -> Entry {
        let version = Version { wall: NOW, counter: 3, node: NodeId::from_u64(4) };
        Entry::builder("a value of some length", version, NOW)
            .fresh_for(Duration::from_secs(10))
            .stale_for(Duration::from_secs(20))
            .content_type("text/plain")
            .etag("\"e\"")
            .last_modified("Tue, 17 Nov 2026 10:00:00 GMT")
            .tag("one")
            .tag("two")
            .build()
            .unwrap()
    }

    #[test]
    fn what_is_not_lied_about_is_taken_over() {
        let entry = full();
        assert_eq!(Facts::of(&entry).entry(entry.value().clone()).unwrap(), entry);
        let tombstone = Entry::tombstone_with_proof(entry.version(), NOW, "proof").unwrap();
        assert_eq!(Facts::of(&tombstone).entry("proof".into()).unwrap(), tombstone);
    }

    #[test]
    fn damage_to_the_bytes_is_noticed_when_they_are_read() {
        let (here, there, entry) = (key("here"), key("there"), full());
        for number in 0..300 {
            let mut dice = Dice::new(1, Operation::Get, None, number);
            assert_eq!(truncated(&here, &entry, false, &mut dice).unwrap_err().kind(), ErrorKind::Corrupt);
            let kind = flipped(&here, &entry, false, &mut dice).unwrap_err().kind();
            // A flip in the format version or in the flags reads as a format of the future.
            assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported), "{kind}");
        }
        let other = (there, full());
        assert_eq!(swapped(&here, &other, false).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(stretched(&here, &entry, false).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn undetected_damage_is_a_well_formed_lie() {
        let (here, there, entry) = (key("here"), key("there"), full());
        let mut dice = Dice::new(1, Operation::Get, None, 0);
        let short = truncated(&here, &entry, true, &mut dice).unwrap();
        assert!(short.value().len() < entry.value().len() && entry.value().starts_with(short.value()));
        let wrong = flipped(&here, &entry, true, &mut dice).unwrap();
        let bits: u32 = wrong.value().iter().zip(entry.value()).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((bits, wrong.metadata()), (1, entry.metadata()));
        assert_eq!(swapped(&here, &(there, entry.clone()), true).unwrap(), entry);
        assert_eq!(stretched(&here, &entry, true).unwrap().metadata().fresh_for, MAX_LIFETIME);
        let empty = Entry::builder("", entry.version(), NOW).build().unwrap();
        assert_eq!(flipped(&here, &empty, true, &mut dice).unwrap(), empty);
        assert_eq!(truncated(&here, &empty, true, &mut dice).unwrap(), empty);
    }

    #[test]
    fn the_future_is_one_to_every_reader_for_as_long_as_the_entry_lives() {
        let oldest = NOW.saturating_sub(TOMBSTONE_LIFETIME);
        let tombstone = Entry::tombstone(Version { wall: oldest, ..Version::ZERO }, oldest);
        for entry in [full(), tombstone] {
            assert!(from_future(&entry).unwrap().is_from_future(NOW));
        }
    }
}
