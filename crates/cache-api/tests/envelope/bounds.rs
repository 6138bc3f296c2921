//! What a liar can make a reader do: nothing beyond the bounds, whatever lengths he declares.
//!
//! The checksum is no secret, so everything here carries a right one.

use allocation_counter::measure;
use peercache_api::{
    Bytes, Entry, ErrorKind, MAX_CONTENT_TYPE_BYTES, MAX_LIFETIME, MAX_PROOF_BYTES, MAX_TAG_BYTES, MAX_TAGS,
    MAX_VALIDATOR_BYTES, MAX_VALUE_BYTES, envelope,
};
use proptest::prelude::*;

use crate::{forge, samples};

/// Enough for an error with its texts, and far from any declared length.
const ERROR_BYTES: u64 = 4 * 1024;
/// What the longest metadata section may cost: a text header of 24 bytes and growth for each byte
/// of it.
const METADATA_BYTES: u64 = 64 * envelope::MAX_METADATA_BYTES as u64;

/// The result of reading, and the most bytes that were allocated at once meanwhile.
fn read(stored: Bytes) -> (Result<Entry, ErrorKind>, u64) {
    let key = samples::key();
    let mut result = None;
    let cost = measure(|| result = Some(envelope::decode(&key, stored)));
    (result.unwrap().map_err(|error| error.kind()), cost.bytes_max)
}

fn refused(stored: Bytes, most: u64, what: &str) {
    let (result, cost) = read(stored);
    assert_eq!(result, Err(ErrorKind::Corrupt), "{what}");
    assert!(cost <= most, "{what}: allocated {cost} bytes");
}

#[test]
fn the_measure_sees_allocations() {
    assert!(measure(|| drop(vec![0_u8; 100_000])).bytes_max >= 100_000);
}

#[test]
fn declared_lengths_allocate_nothing() {
    let stored = envelope::encode(&samples::key(), &samples::full());
    let most = u32::try_from(envelope::MAX_METADATA_BYTES).unwrap();
    let metadata = [most, most + 1, u32::MAX];
    let most = u32::try_from(MAX_VALUE_BYTES).unwrap();
    let values = [most, most + 1, u32::MAX];
    for (at, lengths) in [(forge::METADATA_LEN_AT, metadata), (forge::VALUE_LEN_AT, values)] {
        for length in lengths {
            let forged = forge::patched(&stored, at, &length.to_be_bytes());
            refused(forged.clone(), ERROR_BYTES, &format!("length {length} at {at}"));
            refused(forged.slice(..envelope::HEADER_BYTES), ERROR_BYTES, "a header alone");
        }
    }
}

#[test]
fn lengths_within_cbor_allocate_nothing() {
    let stored = envelope::encode(&samples::key(), &samples::full());
    // Arrays, texts and maps that declare more than there is, at their largest and at a plausible
    // size.
    let liars: [&[u8]; 7] = [
        &[0xa1, 0x03, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xa1, 0x03, 0x9a, 0x10, 0x00, 0x00, 0x00],
        &[0xa1, 0x00, 0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xa1, 0x00, 0x7a, 0x10, 0x00, 0x00, 0x00],
        &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xba, 0x10, 0x00, 0x00, 0x00],
        &[0xa1, 0x09, 0x9a, 0x10, 0x00, 0x00, 0x00],
    ];
    for liar in liars {
        refused(forge::with_metadata(&stored, liar), ERROR_BYTES, &format!("{liar:02x?}"));
    }
}

#[test]
fn nesting_does_not_exhaust_the_stack() {
    let stored = envelope::encode(&samples::key(), &samples::full());
    for open in [0x81, 0x9f, 0xc1] {
        let mut nested = vec![0xa1, 0x09];
        nested.resize(envelope::MAX_METADATA_BYTES, open);
        refused(forge::with_metadata(&stored, &nested), METADATA_BYTES, &format!("nested {open:#x}"));
    }
}

#[test]
fn the_largest_metadata_costs_little() {
    let stored = envelope::encode(&samples::key(), &samples::full());
    // As many empty tags as fit: each takes one byte here and 24 in memory.
    let mut tags = vec![0xa1, 0x03, 0x99, 0x3f, 0xfb];
    tags.resize(envelope::MAX_METADATA_BYTES, 0x60);
    refused(forge::with_metadata(&stored, &tags), METADATA_BYTES, "empty tags");
}

#[test]
fn readers_keep_the_bounds_of_writers() {
    let stored = envelope::encode(&samples::key(), &samples::full());
    let metadata = |number: u8, value: &dyn Fn(&mut minicbor::Encoder<&mut Vec<u8>>)| {
        let mut bytes = vec![0xa1, number];
        value(&mut minicbor::Encoder::new(&mut bytes));
        forge::with_metadata(&stored, &bytes)
    };
    let text = |number: u8, len: usize| {
        metadata(number, &|cbor| {
            cbor.str(&"x".repeat(len)).unwrap();
        })
    };
    let tags = |count: usize, len: usize| {
        metadata(3, &|cbor| {
            cbor.array(count as u64).unwrap();
            for _ in 0..count {
                cbor.str(&"t".repeat(len)).unwrap();
            }
        })
    };
    let limits = [(0, MAX_CONTENT_TYPE_BYTES), (1, MAX_VALIDATOR_BYTES), (2, MAX_VALIDATOR_BYTES)];
    for (number, most) in limits {
        assert!(read(text(number, most)).0.is_ok(), "field {number} at its bound");
        assert_eq!(read(text(number, most + 1)).0, Err(ErrorKind::Corrupt), "field {number} beyond it");
    }
    assert!(read(tags(MAX_TAGS, MAX_TAG_BYTES)).0.is_ok());
    for (count, len) in [(MAX_TAGS + 1, 1), (1, MAX_TAG_BYTES + 1), (1, 0)] {
        assert_eq!(read(tags(count, len)).0, Err(ErrorKind::Corrupt), "{count} tags of {len} bytes");
    }
    // fresh_for and stale_for are neighbours: both at once, alone, and where their sum overflows.
    let longest = u64::try_from(MAX_LIFETIME.as_millis()).unwrap();
    let lives = |fresh: u64, stale: u64| {
        forge::patched(&stored, forge::FRESH_AT, &[fresh.to_be_bytes(), stale.to_be_bytes()].concat())
    };
    assert!(read(lives(longest, 0)).0.is_ok() && read(lives(0, longest)).0.is_ok());
    for (fresh, stale) in [(longest, 1), (longest + 1, 0), (u64::MAX, u64::MAX)] {
        assert_eq!(read(lives(fresh, stale)).0, Err(ErrorKind::Corrupt), "{fresh} + {stale} ms");
    }
    for (len, refused) in [(MAX_PROOF_BYTES, false), (MAX_PROOF_BYTES + 1, true)] {
        let value = Entry::builder(vec![7; len], samples::version(), samples::NOW).build().unwrap();
        let stored = envelope::encode(&samples::key(), &value);
        let as_tombstone = read(forge::patched(&stored, forge::KIND_AT, &[1])).0;
        assert_eq!(as_tombstone.err(), refused.then_some(ErrorKind::Corrupt), "a tombstone with {len} bytes");
    }
}

#[test]
fn the_largest_value_is_read_without_a_copy() {
    let key = samples::key();
    let entry = Entry::builder(vec![7; MAX_VALUE_BYTES], samples::version(), samples::NOW).build().unwrap();
    let (result, cost) = read(envelope::encode(&key, &entry));
    assert_eq!(result, Ok(entry));
    assert!(cost <= ERROR_BYTES, "allocated {cost} bytes");
}

proptest! {
    #[test]
    fn no_metadata_makes_a_reader_panic_or_allocate(metadata in prop::collection::vec(any::<u8>(), 0..600)) {
        let stored = envelope::encode(&samples::key(), &samples::full());
        let (result, cost) = read(forge::with_metadata(&stored, &metadata));
        prop_assert!(cost <= METADATA_BYTES, "allocated {} bytes", cost);
        prop_assert!(matches!(result, Ok(_) | Err(ErrorKind::Corrupt)));
    }

    #[test]
    fn no_header_makes_a_reader_panic_or_allocate(
        noise in prop::collection::vec(any::<u8>(), 56), honest in any::<bool>(),
    ) {
        let stored = envelope::encode(&samples::key(), &samples::full());
        // With honest lengths and form, the noise reaches the fields behind them.
        let forged = if honest {
            forge::patched(&stored, 16, &noise[16 - 8..52])
        } else {
            forge::patched(&stored, 8, &noise)
        };
        let (_, cost) = read(forged);
        prop_assert!(cost <= METADATA_BYTES, "allocated {} bytes", cost);
    }
}
