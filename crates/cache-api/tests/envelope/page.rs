//! `docs/reference/format.md` is a contract with readers in other languages, so it is tested like
//! code.

use std::fs;

use peercache_api::{
    Bytes, MAX_CONTENT_TYPE_BYTES, MAX_PROOF_BYTES, MAX_TAG_BYTES, MAX_TAGS, MAX_VALIDATOR_BYTES,
    MAX_VALUE_BYTES, envelope,
};

use crate::samples;

/// The fence that opens the worked example.
const FENCE: &str = "```hexdump";

fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/format.md")).unwrap()
}

/// The bytes of the example: in each line an offset, bytes, and after a semicolon a remark.
fn example(page: &str) -> Vec<u8> {
    let mut lines = page.lines().skip_while(|line| *line != FENCE).skip(1);
    let mut bytes = Vec::new();
    for line in lines.by_ref().take_while(|line| *line != "```") {
        let mut words = line.split(';').next().unwrap().split_whitespace();
        let offset: usize = words.next().unwrap().parse().unwrap();
        assert_eq!(offset, bytes.len(), "the offset of this line is wrong: {line}");
        bytes.extend(words.map(|word| u8::from_str_radix(word, 16).unwrap()));
    }
    bytes
}

#[test]
fn the_worked_example_is_what_we_write_and_read() {
    let page = page();
    assert_eq!(page.lines().filter(|line| *line == FENCE).count(), 1, "the page has one example");
    let example = Bytes::from(example(&page));
    assert_eq!(example, envelope::encode(&samples::key(), &samples::full()), "{}", dump(&samples::key()));
    assert_eq!(envelope::decode(&samples::key(), example).unwrap(), samples::full());
}

#[test]
fn the_page_names_the_bounds_of_the_code() {
    let page = page();
    let bounds = [
        envelope::HEADER_BYTES,
        envelope::MAX_METADATA_BYTES,
        MAX_VALUE_BYTES,
        envelope::MAX_ENVELOPE_BYTES,
        MAX_CONTENT_TYPE_BYTES,
        MAX_VALIDATOR_BYTES,
        MAX_TAGS,
        MAX_TAG_BYTES,
        MAX_PROOF_BYTES,
    ];
    for bound in bounds {
        assert!(
            page.contains(&format!("{bound} ")),
            "docs/reference/format.md does not name the bound {bound}"
        );
    }
}

/// The example as it should be, to be pasted when the page is written anew.
fn dump(key: &peercache_api::Key) -> String {
    let stored = envelope::encode(key, &samples::full());
    let lines = stored.chunks(8).enumerate().map(|(index, chunk)| {
        let bytes: Vec<_> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{:>4}  {}\n", index * 8, bytes.join(" "))
    });
    lines.collect()
}

#[test]
fn the_checksum_is_the_published_xxh3() {
    // The sanity vector of the reference implementation for no input and seed 0.
    assert_eq!(xxhash_rust::xxh3::xxh3_64(b""), 0x2d06_8005_38d3_94c2);
    let full = envelope::encode(&samples::key(), &samples::full());
    let hashed = [&full[..96], &full[104..]].concat();
    assert_eq!(full[96..104], xxhash_rust::xxh3::xxh3_64(&hashed).to_be_bytes());
}
