//! The manifest's format: what is written can be read, and nothing else.

use proptest::prelude::*;

use super::*;

fn digests(chunks: usize) -> Bytes {
    (0..chunks * DIGEST_BYTES).map(|n| u8::try_from(n % 251).unwrap()).collect::<Vec<_>>().into()
}

fn manifest(len: u64, chunk_bytes: usize) -> Manifest {
    let chunks = usize::try_from(len.div_ceil(chunk_bytes as u64)).unwrap();
    Manifest::new(len, chunk_bytes, 16, Some("application/zip".to_owned()), digests(chunks)).unwrap()
}

#[test]
fn the_bytes_are_as_documented() {
    let bytes = Manifest::new(3, 2, 16, Some("a/b".to_owned()), digests(2)).unwrap().encode().unwrap();
    let mut expected = b"\x89PCM\x02".to_vec();
    // A map of five: 3 bytes, chunks of 2, kept 16 minutes, a byte string of 64, a text of 3.
    expected.extend_from_slice(b"\xa5\x00\x03\x01\x02\x02\x10\x03\x58\x40");
    expected.extend_from_slice(&digests(2));
    expected.extend_from_slice(b"\x04\x63a/b");
    assert_eq!(bytes, expected);
    assert_eq!(Manifest::decode(&bytes).unwrap().encode().unwrap(), bytes);
}

#[test]
fn the_largest_manifest_is_within_an_entry() {
    let largest = manifest(MAX_LARGE_BYTES, super::super::CHUNK_BYTES);
    let bytes = largest.encode().unwrap();
    assert!((2 << 20..peercache_api::MAX_VALUE_BYTES).contains(&bytes.len()), "{}", bytes.len());
    assert_eq!(Manifest::decode(&bytes).unwrap(), largest);
}

#[test]
fn lengths_of_chunks_add_up() {
    let manifest = manifest(10, 4);
    let lens: Vec<_> = (0..manifest.chunks()).map(|index| manifest.chunk_len(index)).collect();
    assert_eq!(lens, [4, 4, 2]);
    assert_eq!(manifest.digest(2).unwrap(), &digests(3)[64..96]);
    assert_eq!(manifest.digest(3), None);
    assert_eq!(manifest.digest(u64::MAX), None);
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let text = |len: usize| Some("x".repeat(len));
    for (len, chunk_bytes, keep, content_type, chunks) in [
        (0, 4, 16, None, 0),
        (MAX_LARGE_BYTES + 1, MAX_CHUNK_BYTES, 16, None, 16_385),
        (8, 0, 16, None, 0),
        (8, MAX_CHUNK_BYTES + 1, 16, None, 1),
        (8, 4, 0, None, 2),
        (8, 4, MAX_KEEP_MINUTES + 1, None, 2),
        (8, 4, 16, None, 1),
        (8, 4, 16, None, 3),
        (8, 4, 16, text(MAX_CONTENT_TYPE_BYTES + 1), 2),
    ] {
        let made = Manifest::new(len, chunk_bytes, keep, content_type, digests(chunks));
        assert_eq!(made.unwrap_err().kind(), ErrorKind::Corrupt, "{len} {chunk_bytes} {keep} {chunks}");
    }
    assert!(Manifest::new(8, 4, 16, text(MAX_CONTENT_TYPE_BYTES), digests(2)).is_ok());
}

#[test]
fn another_version_is_unsupported_and_not_corrupt() {
    let mut bytes = manifest(9, 4).encode().unwrap().to_vec();
    bytes[4] = 3;
    assert_eq!(Manifest::decode(&bytes.into()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn every_truncation_and_every_addition_is_refused() {
    let bytes = manifest(9, 4).encode().unwrap();
    for end in 0..bytes.len() {
        assert!(Manifest::decode(&bytes.slice(..end)).is_err(), "cut at {end}");
    }
    let longer = [&bytes[..], b"\0"].concat();
    assert!(Manifest::decode(&longer.into()).is_err());
}

#[test]
fn a_claimed_length_allocates_nothing() {
    // A byte string that claims to have 2^62 bytes, and one that is 1 MiB short of its claim.
    for claim in [&b"\x5b\x40\0\0\0\0\0\0\0"[..], b"\x5a\x00\x10\x00\x00"] {
        let bytes = [b"\x89PCM\x02\xa4\x00\x03\x01\x02\x02\x10\x03", claim].concat();
        assert_eq!(Manifest::decode(&bytes.into()).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_newer_field_is_skipped() {
    let mut bytes = Manifest::new(3, 2, 16, None, digests(2)).unwrap().encode().unwrap().to_vec();
    let entries = bytes[5];
    bytes[5] = entries + 1;
    bytes.extend_from_slice(b"\x18\x63\x82\x01\x61x");
    assert_eq!(Manifest::decode(&bytes.into()).unwrap().len, 3);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        len in 1_u64..100_000,
        chunk_bytes in 1_usize..5_000,
        keep in 1_u32..=MAX_KEEP_MINUTES,
        content_type in prop::option::of("[ -~]{0,256}"),
    ) {
        let chunks = usize::try_from(len.div_ceil(chunk_bytes as u64)).unwrap();
        let made = Manifest::new(len, chunk_bytes, keep, content_type, digests(chunks)).unwrap();
        prop_assert_eq!(Manifest::decode(&made.encode().unwrap()).unwrap(), made);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), headed: bool) {
        let bytes = if headed { [b"\x89PCM\x02", &bytes[..]].concat() } else { bytes };
        let bytes = Bytes::from(bytes);
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert!(manifest.digests.len() <= bytes.len());
        }
    }

    #[test]
    fn a_damaged_manifest_is_refused_or_still_within_its_bounds(
        at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = manifest(5_000, 1_000).encode().unwrap().to_vec();
        for (index, value) in at {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if let Ok(manifest) = Manifest::decode(&bytes.into()) {
            prop_assert_eq!(manifest.chunks(), manifest.len.div_ceil(manifest.chunk_bytes as u64));
            prop_assert!(manifest.len <= MAX_LARGE_BYTES && manifest.chunk_bytes <= MAX_CHUNK_BYTES);
            let lens: u64 = (0..manifest.chunks()).map(|index| manifest.chunk_len(index) as u64).sum();
            prop_assert_eq!(lens, manifest.len);
        }
    }
}
