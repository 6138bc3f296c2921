//! Envelopes: what decodes is what was encoded, and belongs to this key.

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use peercache_api::envelope::{self, FORMAT_VERSION, HEADER_BYTES, MAGIC};
use peercache_api::{Entry, Key};
use xxhash_rust::xxh3::xxh3_64;

use crate::damage::Damage;
use crate::entry::Parts;

const CHECKSUM_AT: usize = 96;
const KEY_AT: usize = 64;

/// Any bytes as an envelope.
pub fn envelope(data: &[u8]) {
    // The key of the golden files.
    let key = Key::new("repos/octocat/hello-world").expect("a valid key");
    let other = Key::new("repos/octocat/hello").expect("a valid key");
    read(&key, &other, &Bytes::copy_from_slice(data));
    if let Some(repaired) = repaired(&key, data) {
        read(&key, &other, &repaired);
    }
    let mut recipe = Unstructured::new(data);
    if let (Ok(damage), Ok(parts)) = (Damage::arbitrary(&mut recipe), Parts::arbitrary(&mut recipe))
        && let Some(entry) = parts.build()
    {
        damaged(&key, &entry, &damage);
    }
}

fn read(key: &Key, other: &Key, bytes: &Bytes) {
    let peeked = envelope::peek_version(bytes);
    let entry = match envelope::decode(key, bytes.clone()) {
        Ok(entry) => entry,
        Err(error) => return assert!(!error.to_string().contains('\n'), "an error is one line"),
    };
    assert_eq!(peeked.expect("the header was read"), entry.version());
    // Panics unless the value lies in the envelope: it was not copied.
    assert_eq!(bytes.slice_ref(entry.value()), entry.value());
    assert!(envelope::decode(other, bytes.clone()).is_err(), "it belongs to one key");
    assert!(envelope::decode(key, bytes.slice(..bytes.len() - 1)).is_err(), "it has one end");
    assert!(envelope::decode(key, [&bytes[..], &[0]].concat().into()).is_err(), "it has one end");
    let written = envelope::encode(key, &entry);
    assert!(written.len() <= bytes.len(), "what is copied from tier to tier does not grow");
    assert_eq!(envelope::decode(key, written).expect("we read what we write"), entry);
}

/// `data` with a header that belongs to it: its key, its length, its checksum.
fn repaired(key: &Key, data: &[u8]) -> Option<Bytes> {
    let mut bytes = data.to_vec();
    let header = bytes.get_mut(..HEADER_BYTES)?;
    header[..4].copy_from_slice(&MAGIC);
    header[4] = FORMAT_VERSION;
    // A handful of kinds and metadata lengths, so that not nearly all of them are out of bounds.
    header[5] %= 3;
    header[6..8].fill(0);
    header[8..10].fill(0);
    let metadata = u32::from_be_bytes([0, 0, header[10], header[11]]) as usize;
    let value = (data.len() - HEADER_BYTES).checked_sub(metadata)?;
    header[12..16].copy_from_slice(&u32::try_from(value).ok()?.to_be_bytes());
    header[60..KEY_AT].fill(0);
    // Lifetimes below 50 days: most of them are within the bound.
    header[24..28].fill(0);
    header[32..36].fill(0);
    header[KEY_AT..CHECKSUM_AT].copy_from_slice(key.digest());
    let checksum = xxh3_64(&[&bytes[..CHECKSUM_AT], &bytes[HEADER_BYTES..]].concat());
    bytes[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_be_bytes());
    Some(bytes.into())
}

/// A valid envelope is read as it was, and with any change not at all.
///
/// The change is in what the checksum covers or in the checksum: in both at once it would be a
/// forgery, which an envelope does not claim to withstand.
fn damaged(key: &Key, entry: &Entry, damage: &Damage) {
    let whole = envelope::encode(key, entry);
    assert_eq!(&envelope::decode(key, whole.clone()).expect("we read what we write"), entry);
    for range in [0..CHECKSUM_AT, CHECKSUM_AT..HEADER_BYTES, HEADER_BYTES..whole.len()] {
        if range.is_empty() {
            continue;
        }
        let mut bytes = whole.to_vec();
        damage.inflict(&mut bytes, range);
        assert!(envelope::decode(key, bytes.into()).is_err(), "a damaged envelope was read");
    }
}
