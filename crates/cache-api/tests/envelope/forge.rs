//! Envelopes that no honest writer makes, with a checksum that is right all the same: what is
//! behind the checksum must hold by itself.

use peercache_api::{Bytes, envelope};
use xxhash_rust::xxh3::Xxh3Default;

/// Offsets of `docs/reference/format.md`, written down a second time on purpose.
pub(crate) const FORMAT_VERSION_AT: usize = 4;
pub(crate) const KIND_AT: usize = 5;
pub(crate) const FLAGS_AT: usize = 6;
pub(crate) const METADATA_LEN_AT: usize = 8;
pub(crate) const VALUE_LEN_AT: usize = 12;
pub(crate) const FRESH_AT: usize = 24;
pub(crate) const RESERVED_AT: usize = 60;
pub(crate) const CHECKSUM_AT: usize = 96;
pub(crate) const METADATA_AT: usize = 104;

/// `envelope` with `bytes` written over it at `at`, and the checksum made right again.
pub(crate) fn patched(envelope: &[u8], at: usize, bytes: &[u8]) -> Bytes {
    let mut forged = envelope.to_vec();
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    resealed(forged)
}

/// `envelope` with another metadata section, its length and the checksum made right again.
pub(crate) fn with_metadata(envelope: &[u8], metadata: &[u8]) -> Bytes {
    let old = u32::from_be_bytes(envelope[METADATA_LEN_AT..VALUE_LEN_AT].try_into().unwrap()) as usize;
    let mut forged = envelope[..METADATA_AT].to_vec();
    forged[METADATA_LEN_AT..VALUE_LEN_AT]
        .copy_from_slice(&u32::try_from(metadata.len()).unwrap().to_be_bytes());
    forged.extend_from_slice(metadata);
    forged.extend_from_slice(&envelope[METADATA_AT + old..]);
    resealed(forged)
}

fn resealed(mut envelope: Vec<u8>) -> Bytes {
    let mut hash = Xxh3Default::new();
    hash.update(&envelope[..CHECKSUM_AT]);
    hash.update(&envelope[METADATA_AT..]);
    envelope[CHECKSUM_AT..METADATA_AT].copy_from_slice(&hash.digest().to_be_bytes());
    envelope.into()
}

#[test]
fn forging_nothing_changes_nothing() {
    let (key, entry) = (crate::samples::key(), crate::samples::full());
    let honest = envelope::encode(&key, &entry);
    assert_eq!(patched(&honest, 0, &[]), honest);
    assert_eq!(METADATA_AT, envelope::HEADER_BYTES);
}
