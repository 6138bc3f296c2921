//! Envelopes as version 1 wrote them. The files are read for ever: a build that cannot read one of
//! them, or writes other bytes for the same entry, has changed the format.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use peercache_api::{Bytes, Entry, envelope};

use crate::{forge, samples};

struct Golden {
    file: &'static str,
    entry: Entry,
    /// The bytes, for the generator alone.
    bytes: Bytes,
    /// Whether this build writes the same bytes; it does not for what it skips while reading.
    written_alike: bool,
}

fn golden() -> Vec<Golden> {
    let honest = |file, entry| {
        let bytes = envelope::encode(&samples::key(), &entry);
        Golden { file, entry, bytes, written_alike: true }
    };
    // What some later minor release may add: field 9, a text, and field 10, an array with a map in
    // it.
    let full = envelope::encode(&samples::key(), &samples::full());
    let metadata = [
        &[0xa3, 0x00][..],
        &[0x6a],
        b"text/plain",
        &[0x09, 0x65],
        b"later",
        &[0x0a, 0x82, 0x01, 0xa1, 0x02, 0xf6],
    ]
    .concat();
    let plain = Entry::builder(samples::full().into_value(), samples::version(), samples::NOW)
        .fresh_for(samples::full().metadata().fresh_for)
        .stale_for(samples::full().metadata().stale_for)
        .content_type("text/plain")
        .build()
        .unwrap();
    let unknown = Golden {
        file: "unknown-fields.bin",
        entry: plain,
        bytes: forge::with_metadata(&full, &metadata),
        written_alike: false,
    };
    vec![
        honest("full.bin", samples::full()),
        honest("minimal.bin", samples::minimal()),
        honest("public.bin", samples::public()),
        honest("empty.bin", samples::empty()),
        honest("tombstone.bin", samples::tombstone()),
        honest("proven-tombstone.bin", samples::proven_tombstone()),
        unknown,
    ]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

#[test]
fn every_golden_file_is_read_as_what_was_written() {
    for Golden { file, entry, written_alike, .. } in golden() {
        let stored = Bytes::from(fs::read(folder().join(file)).unwrap());
        assert_eq!(stored[forge::FORMAT_VERSION_AT], 1, "{file}");
        let read = envelope::decode(&samples::key(), stored.clone()).unwrap();
        // Debug hides the metadata, so say which file it was.
        assert!(read == entry, "{file} is read as another entry: {read:?}, expected {entry:?}");
        assert_eq!(
            envelope::encode(&samples::key(), &entry) == stored,
            written_alike,
            "{file} is written otherwise"
        );
    }
}

#[test]
fn every_file_in_the_folder_is_tested() {
    let known: Vec<_> = golden().iter().map(|golden| golden.file).collect();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name.as_str()), "{name} is tested by nobody");
    }
}

/// Writes files that do not exist yet; an existing one is never touched. For a new sample:
/// `cargo test -p peercache-api --test envelope -- --ignored generate`
#[test]
#[ignore = "a generator: it makes missing golden files, once for each"]
fn generate_missing_golden_files() {
    fs::create_dir_all(folder()).unwrap();
    for Golden { file, bytes, .. } in golden() {
        let path = folder().join(file);
        if !path.exists() {
            fs::File::create_new(&path).unwrap().write_all(&bytes).unwrap();
        }
    }
}
