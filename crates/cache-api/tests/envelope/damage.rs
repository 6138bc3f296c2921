//! Damage of every kind is an error, never another entry.

use peercache_api::{Bytes, ErrorKind, Key, envelope};
use proptest::prelude::*;

use crate::{forge, samples};

fn flipped(envelope: &[u8], bit: usize) -> Bytes {
    let mut damaged = envelope.to_vec();
    damaged[bit / 8] ^= 1 << (bit % 8);
    damaged.into()
}

#[test]
fn every_single_bit_counts() {
    let key = samples::key();
    for entry in samples::all() {
        let stored = envelope::encode(&key, &entry);
        for bit in 0..stored.len() * 8 {
            let error = envelope::decode(&key, flipped(&stored, bit)).expect_err("a flipped bit went unseen");
            // Version, kind, flags and the reserved word mean "newer than this build".
            let at = bit / 8;
            let newer = (forge::FORMAT_VERSION_AT..forge::METADATA_LEN_AT).contains(&at)
                || (forge::RESERVED_AT..forge::RESERVED_AT + 4).contains(&at);
            // A value with its kind flipped is a tombstone with another checksum, and one with its
            // class flipped is a value with another checksum.
            let known = at == forge::KIND_AT || at == forge::FLAGS_AT + 1;
            let expected = match error.kind() {
                ErrorKind::Unsupported => newer,
                kind => kind == ErrorKind::Corrupt && (!newer || known),
            };
            assert!(expected, "bit {bit}: {error}");
        }
    }
}

#[test]
fn every_truncation_is_seen() {
    let key = samples::key();
    for entry in samples::all() {
        let stored = envelope::encode(&key, &entry);
        for len in 0..stored.len() {
            let error = envelope::decode(&key, stored.slice(..len)).expect_err("a truncation went unseen");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{len} bytes: {error}");
        }
    }
}

#[test]
fn every_extension_is_seen() {
    let key = samples::key();
    for entry in samples::all() {
        let mut longer = envelope::encode(&key, &entry).to_vec();
        for more in 1..=300_u32 {
            longer.push(more.to_le_bytes()[0]);
            let error =
                envelope::decode(&key, Bytes::from(longer.clone())).expect_err("an extension went unseen");
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{more} bytes more: {error}");
        }
    }
}

#[test]
fn an_envelope_of_another_key_is_corrupt() {
    let stored = envelope::encode(&samples::key(), &samples::full());
    for other in ["repos/octocat/hello-worlD", "x"] {
        let error = envelope::decode(&Key::new(other).unwrap(), stored.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn what_a_newer_build_writes_is_unsupported_and_not_corrupt() {
    let key = samples::key();
    let stored = envelope::encode(&key, &samples::full());
    let kind_of = |forged: Bytes| envelope::decode(&key, forged).unwrap_err().kind();
    for version in (0..=u8::MAX).filter(|version| *version != envelope::FORMAT_VERSION) {
        let forged = forge::patched(&stored, forge::FORMAT_VERSION_AT, &[version]);
        assert_eq!(envelope::peek_version(&forged).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(kind_of(forged.clone()), ErrorKind::Unsupported, "version {version}");
        // A later version may well have a header shorter than ours.
        assert_eq!(kind_of(forged.slice(..5)), ErrorKind::Unsupported, "version {version}, short");
    }
    for flag in (1..16).map(|bit| 1_u16 << bit) {
        let forged = forge::patched(&stored, forge::FLAGS_AT, &flag.to_be_bytes());
        assert_eq!(kind_of(forged), ErrorKind::Unsupported, "flag {flag:#x}");
    }
    for reserved in (0..32).map(|bit| 1_u32 << bit) {
        let forged = forge::patched(&stored, forge::RESERVED_AT, &reserved.to_be_bytes());
        assert_eq!(kind_of(forged), ErrorKind::Unsupported, "reserved {reserved:#x}");
    }
    for kind in 2..=u8::MAX {
        assert_eq!(
            kind_of(forge::patched(&stored, forge::KIND_AT, &[kind])),
            ErrorKind::Unsupported,
            "kind {kind}"
        );
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_in_any_entry_is_an_error(entry in samples::entries(), bit in any::<prop::sample::Index>()) {
        let key = samples::key();
        let stored = envelope::encode(&key, &entry);
        prop_assert!(envelope::decode(&key, flipped(&stored, bit.index(stored.len() * 8))).is_err());
    }

    #[test]
    fn one_entry_spliced_into_another_is_an_error(
        a in samples::entries(), b in samples::entries(), cut in any::<prop::sample::Index>(),
    ) {
        let key = samples::key();
        let (a, b) = (envelope::encode(&key, &a), envelope::encode(&key, &b));
        let cut = cut.index(a.len().min(b.len()));
        let spliced = [&a[..cut], &b[cut..]].concat();
        prop_assume!(spliced[..] != a[..] && spliced[..] != b[..]);
        prop_assert!(envelope::decode(&key, spliced.into()).is_err());
    }

    #[test]
    fn noise_is_never_an_entry(noise in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        let mut noise = noise;
        if magic {
            noise.splice(..0, [0x89, b'P', b'C', b'E', envelope::FORMAT_VERSION, 0, 0, 0]);
        }
        prop_assert!(envelope::decode(&samples::key(), noise.into()).is_err());
    }
}
