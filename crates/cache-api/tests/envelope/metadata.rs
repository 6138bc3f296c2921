//! Which CBOR a reader accepts: every well-formed map with integer keys, whoever wrote it.

use peercache_api::{Entry, ErrorKind, envelope};

use crate::{forge, samples};

fn read(metadata: &[u8]) -> Result<Entry, ErrorKind> {
    let stored = envelope::encode(&samples::key(), &samples::minimal());
    envelope::decode(&samples::key(), forge::with_metadata(&stored, metadata)).map_err(|error| error.kind())
}

fn content_type(metadata: &[u8]) -> Option<String> {
    read(metadata).unwrap().metadata().content_type.clone()
}

#[test]
fn other_encodings_of_the_same_map_are_read_alike() {
    let expected = Some("ab".to_owned());
    assert_eq!(content_type(b"\xa1\x00\x62ab"), expected, "as we write it");
    assert_eq!(content_type(b"\xbf\x00\x62ab\xff"), expected, "a map without a length");
    assert_eq!(content_type(b"\xb8\x01\x18\x00\x78\x02ab"), expected, "longer numbers than needed");
    assert_eq!(content_type(b"\xa2\x01\x61e\x00\x62ab"), expected, "another order");
}

#[test]
fn absent_can_be_said_in_three_ways() {
    for metadata in [&b""[..], b"\xa0", b"\xa1\x00\xf6"] {
        assert_eq!(read(metadata), Ok(samples::minimal()), "{metadata:02x?}");
    }
}

#[test]
fn unknown_numbers_are_skipped_whatever_they_hold() {
    let unknown: [&[u8]; 6] = [
        b"\xa2\x09\xf5\x00\x62ab",
        b"\xa2\x09\xfb\x40\x09\x21\xfb\x54\x44\x2d\x18\x00\x62ab",
        b"\xa2\x09\x82\x01\xa1\x02\xf6\x00\x62ab",
        b"\xa2\x1a\xff\xff\xff\xff\x43\x01\x02\x03\x00\x62ab",
        b"\xa2\x20\x01\x00\x62ab",
        b"\xa2\x09\xc1\x00\x00\x62ab",
    ];
    for metadata in unknown {
        assert_eq!(content_type(metadata).as_deref(), Some("ab"), "{metadata:02x?}");
    }
}

#[test]
fn what_is_no_such_map_is_corrupt() {
    let broken: [&[u8]; 8] = [
        b"\x80",
        b"\xf6",
        b"\xa1\x61a\x62ab",
        b"\xa1\x00\x01",
        b"\xa1\x00\x62\xff\xfe",
        b"\xa1\x03\x62ab",
        b"\xa2\x00\x62ab",
        b"\xbf\x00\x62ab",
    ];
    for metadata in broken {
        assert_eq!(read(metadata), Err(ErrorKind::Corrupt), "{metadata:02x?}");
    }
}
