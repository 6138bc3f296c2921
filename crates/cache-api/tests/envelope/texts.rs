//! What an operator reads when an envelope is refused.

use peercache_api::{Bytes, Key, envelope};

use crate::{forge, samples};

fn refusal(stored: Bytes) -> String {
    envelope::decode(&samples::key(), stored).unwrap_err().to_string()
}

fn stored() -> Bytes {
    envelope::encode(&samples::key(), &samples::full())
}

#[test]
fn a_foreign_file() {
    insta::assert_snapshot!(refusal(Bytes::from_static(b"<html>")), @"decode failed (corrupt): this is not a peercache envelope");
    insta::assert_snapshot!(refusal(Bytes::new()), @"decode failed (corrupt): this is not a peercache envelope");
}

#[test]
fn a_newer_build() {
    insta::assert_snapshot!(refusal(forge::patched(&stored(), forge::FORMAT_VERSION_AT, &[2])), @"decode failed (unsupported): the envelope has a format version that this build does not read [version=2, known=1]");
    insta::assert_snapshot!(refusal(forge::patched(&stored(), forge::FLAGS_AT, &[0, 2])), @"decode failed (unsupported): the envelope uses a feature that this build does not know");
    insta::assert_snapshot!(refusal(forge::patched(&stored(), forge::KIND_AT, &[2])), @"decode failed (unsupported): the envelope holds a kind of entry that this build does not know");
}

#[test]
fn lengths() {
    insta::assert_snapshot!(refusal(stored().slice(..50)), @"decode failed (corrupt): the envelope ends within its header [bytes=50]");
    insta::assert_snapshot!(refusal(stored().slice(..200)), @"decode failed (corrupt): the envelope is not as long as its header says [bytes=200, expected=259]");
    insta::assert_snapshot!(refusal(forge::patched(&stored(), forge::VALUE_LEN_AT, &[0xff; 4])), @"decode failed (corrupt): the envelope declares a length beyond its bound [metadata=120, value=4294967295]");
}

#[test]
fn damage() {
    let other = envelope::encode(&Key::new("another").unwrap(), &samples::full());
    insta::assert_snapshot!(refusal(other), @"decode failed (corrupt): the envelope belongs to another key");
    let mut flipped = stored().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    insta::assert_snapshot!(refusal(flipped.into()), @"decode failed (corrupt): the checksum does not match");
}

#[test]
fn metadata() {
    insta::assert_snapshot!(refusal(forge::with_metadata(&stored(), &[0x60])), @"decode failed (corrupt): the metadata is not valid CBOR: unexpected type string at position 0: expected map");
    insta::assert_snapshot!(refusal(forge::with_metadata(&stored(), &[0xa0, 0xa0])), @"decode failed (corrupt): there are bytes after the metadata");
    insta::assert_snapshot!(refusal(forge::with_metadata(&stored(), &[0xa1, 0x03, 0x81, 0x60])), @"decode failed (corrupt): the metadata is out of bounds: encode failed (configuration): the entry is not valid: a tag has 1 to 256 bytes, one of its tags has not");
}

#[test]
fn no_text_shows_the_key_the_value_or_a_tag() {
    let every = [
        refusal(stored().slice(..200)),
        refusal(forge::patched(&stored(), forge::KIND_AT, &[2])),
        refusal(forge::with_metadata(&stored(), b"\xa1\x03\x81\x60")),
        refusal(forge::with_metadata(&stored(), b"\xa1\x00\x81\x64hush")),
    ];
    for text in every {
        assert!(!text.contains("octocat") && !text.contains("hush"), "{text}");
    }
}
