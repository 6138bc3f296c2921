//! What this process has seen of keys lately. It only decides which command is tried first: a wrong
//! guess costs one more round trip.

use std::sync::atomic::{AtomicU64, Ordering};

/// Blobs that are remembered as present: 128 KiB. Of two that share a place the later one stays.
const PRESENT: usize = 16 * 1024;
/// Leases that are remembered. One that is forgotten ends for those who wait within a second.
const LEASED: usize = 1024;

/// The keys.
#[derive(Debug)]
pub(crate) struct KnownKeys {
    /// Blobs that were there when they were last looked at.
    present: Table,
    /// Blobs that somebody in this process loads under a lease.
    leased: Table,
}

impl KnownKeys {
    pub(crate) fn new() -> Self {
        Self { present: Table::new(PRESENT), leased: Table::new(LEASED) }
    }

    /// Whether the blob is probably not there, and no lease of ours ends with it.
    pub(crate) fn is_new(&self, name: &str) -> bool {
        short(name).is_some_and(|short| !self.present.has(short) && !self.leased.has(short))
    }

    /// Notes whether the blob is there.
    pub(crate) fn note(&self, name: &str, present: bool) {
        self.present.set(name, present);
    }

    /// Notes whether somebody in this process loads the blob under a lease.
    pub(crate) fn note_lease(&self, name: &str, leased: bool) {
        self.leased.set(name, leased);
    }
}

/// A part of a blob's name that tells it from others: 64 bits of a digest. Zero stands for none.
fn short(name: &str) -> Option<u64> {
    let digits = name.as_bytes().first_chunk::<16>()?;
    // The value of a hexadecimal digit, and something for any other byte: names are digests.
    let value = |digit: u8| u64::from(digit & 15) + 9 * u64::from(digit >> 6);
    let short = digits.iter().fold(0_u64, |short, digit| (short << 4).wrapping_add(value(*digit)));
    (short != 0).then_some(short)
}

/// A set that forgets: each member has one place, which others may take.
#[derive(Debug)]
struct Table(Box<[AtomicU64]>);

impl Table {
    fn new(places: usize) -> Self {
        Self((0..places).map(|_| AtomicU64::new(0)).collect())
    }

    #[allow(clippy::cast_possible_truncation, reason = "the low bits are as good as any")]
    fn place(&self, short: u64) -> &AtomicU64 {
        &self.0[short as usize % self.0.len()]
    }

    fn has(&self, short: u64) -> bool {
        self.place(short).load(Ordering::Relaxed) == short
    }

    fn set(&self, name: &str, member: bool) {
        let Some(short) = short(name) else { return };
        if self.has(short) != member {
            self.place(short).store(if member { short } else { 0 }, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_new_until_it_is_seen_or_leased() {
        let (known, name) = (KnownKeys::new(), "0123456789abcdef00");
        assert!(known.is_new(name));
        known.note(name, true);
        assert!(!known.is_new(name));
        known.note(name, false);
        assert!(known.is_new(name));
        known.note_lease(name, true);
        assert!(!known.is_new(name));
        known.note_lease(name, false);
        assert!(known.is_new(name) && known.is_new("fedcba9876543210"));
        assert!(!known.is_new("peercache-probe"), "it has no digest");
    }

    #[test]
    fn key_that_shares_a_place_replaces_and_does_not_stand_for_the_other() {
        let known = KnownKeys::new();
        let (one, other) = ("0000000000000001", "0000000000004001");
        known.note(one, true);
        assert!(known.is_new(other));
        known.note(other, false);
        assert!(!known.is_new(one), "only its own place is cleared");
        known.note(other, true);
        assert!(known.is_new(one) && !known.is_new(other));
    }
}
