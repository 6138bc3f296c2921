//! The format by known answers, and what a writer could sign that is still not an entry.

use std::time::Duration;

use peercache_api::{NodeId, Timestamp, Version};

use super::*;
use crate::Secret;
use crate::hex::{hex, unhex};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const NONCE: [u8; NONCE_BYTES] = *b"a fixed nonce for tests!";

/// The secret of the golden files, made of 32 bytes of 0x2a.
const GOLDEN_SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";

fn keys() -> Keys {
    Keys::new(&Secret::parse(GOLDEN_SECRET).unwrap())
}

fn key() -> Key {
    Key::from_parts(["repos", "acme/rocket"]).unwrap()
}

fn version() -> Version {
    Version { wall: NOW, counter: 7, node: NodeId::from_u64(0x0123_4567_89ab_cdef) }
}

fn entry(value: impl Into<Bytes>) -> Entry {
    Entry::builder(value, version(), NOW)
        .fresh_for(Duration::from_secs(300))
        .stale_for(Duration::from_secs(3600))
        .content_type("application/json")
        .etag("W/\"0a1b\"")
        .tag("repo:acme/rocket")
        .build()
        .unwrap()
}

fn public(value: impl Into<Bytes>) -> Entry {
    Entry::builder(value, version(), NOW)
        .fresh_for(Duration::from_secs(60))
        .class(Class::Public)
        .build()
        .unwrap()
}

/// The golden entries of values, as they are and compressed, and of a tombstone.
fn golden() -> [(&'static str, Entry, &'static str); 4] {
    let json = "{\"full_name\":\"acme/rocket\",\"private\":true}\n".repeat(40);
    [
        (
            "v1-stored",
            entry("{\"full_name\":\"acme/rocket\"}"),
            include_str!("../../tests/golden/v1-stored.hex"),
        ),
        ("v1-public", public("{\"tag_name\":\"v1\"}"), include_str!("../../tests/golden/v1-public.hex")),
        ("v1-compressed", entry(json), include_str!("../../tests/golden/v1-compressed.hex")),
        (
            "v2-tombstone",
            Entry::tombstone(version(), NOW),
            include_str!("../../tests/golden/v2-tombstone.hex"),
        ),
    ]
}

fn sealed_with(entry: &Entry, value: Vec<u8>) -> Entry {
    outer_entry(entry, value).unwrap()
}

#[test]
fn golden_entries_are_readable_for_ever() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    assert_eq!(place.key.as_str(), "1244c212bdacff16c48369fdffc599c30efba89a341456a47e2125a8268ddb1a");
    for (name, entry, file) in golden() {
        let outer = sealed_with(&entry, unhex(file));
        assert_eq!(open(&keys, &key, &place, outer), Ok(entry), "{name}");
    }
}

#[test]
fn a_tombstone_says_which_key_was_removed_to_who_has_the_secret() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    let tombstone = Entry::tombstone(version(), NOW);
    let outer = seal(&keys, &key, &place, &tombstone, true).unwrap().entry;
    let (stored_under, told) = (place.key.digest(), |outer: &Entry| outer.clone());
    assert_eq!(
        open_removal(&keys, stored_under, told(&outer)),
        Ok((*key.digest(), tombstone.clone())),
        "with nothing but the digest of the blinded key"
    );
    assert_eq!(
        open_removal(&keys, key.digest(), told(&outer)),
        Err(Rejection::Forged),
        "told under another key"
    );
    let stranger = Keys::new(&Secret::generate().unwrap());
    assert_eq!(open_removal(&stranger, stored_under, told(&outer)), Err(Rejection::Foreign));
    for at in 0..outer.value().len() {
        let mut damaged = outer.value().to_vec();
        damaged[at] ^= 1;
        let damaged = sealed_with(&tombstone, damaged);
        assert!(open_removal(&keys, stored_under, damaged.clone()).is_err(), "byte {at}");
        assert!(open(&keys, &key, &place, damaged).is_err(), "byte {at}");
    }
    let newer = Entry::tombstone(Version { counter: 8, ..version() }, NOW);
    let stretched = sealed_with(&newer, outer.value().to_vec());
    assert_eq!(open_removal(&keys, stored_under, stretched), Err(Rejection::Forged));
}

#[test]
fn golden_entries_are_what_this_build_writes() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    for (name, entry, file) in golden() {
        let sealing = seal_with_nonce(&keys, &key, &place, &entry, true, &NONCE).unwrap();
        assert_eq!(sealing.compressed, name == "v1-compressed");
        // Another version of zstd may compress otherwise; what it wrote before must stay readable.
        if !sealing.compressed {
            assert_eq!(hex(sealing.entry.value()), file.split_whitespace().collect::<String>(), "{name}");
        }
    }
}

#[test]
#[ignore = "writes new golden files: only for a new format version"]
fn write_golden_files() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    for (name, entry, _) in golden() {
        let sealing = seal_with_nonce(&keys, &key, &place, &entry, true, &NONCE).unwrap();
        let text = hex(sealing.entry.value());
        let lines: Vec<_> = text.as_bytes().chunks(96).map(|line| String::from_utf8_lossy(line)).collect();
        let path = format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
        if std::path::Path::new(&path).metadata().is_ok_and(|file| file.len() > 0) {
            continue;
        }
        std::fs::write(path, lines.join("\n") + "\n").unwrap();
    }
}

#[test]
fn the_store_sees_version_and_lifetime_and_nothing_else() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    let inside = entry("the value");
    let outer = seal(&keys, &key, &place, &inside, true).unwrap().entry;
    let (meta, original) = (outer.metadata(), inside.metadata());
    assert_eq!((meta.version, meta.created, meta.kind), (original.version, original.created, original.kind));
    assert_eq!((meta.fresh_for, meta.stale_for), (original.fresh_for, original.stale_for));
    assert_eq!(meta.content_type, None);
    assert_eq!(meta.validators, peercache_api::Validators::default());
    assert!(meta.tags.is_empty());
    let seen = String::from_utf8_lossy(outer.value()).into_owned() + place.key.as_str();
    for hidden in ["acme", "rocket", "value", "json", "0a1b", key.as_str()] {
        assert!(!seen.contains(hidden), "{hidden} is visible");
    }
    assert!(outer.value().len() - inside.value().len() < 400);
}

#[test]
fn sealing_twice_gives_different_bytes() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    let seal = || seal(&keys, &key, &place, &entry("same"), true).unwrap().entry;
    let (one, two) = (seal(), seal());
    assert_ne!(one.value()[HEADER_BYTES..HEADER_BYTES + 16], two.value()[HEADER_BYTES..HEADER_BYTES + 16]);
}

#[test]
fn the_declared_overhead_covers_the_largest_entry() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    let value = vec![0; peercache_api::MAX_VALUE_BYTES - MAX_OVERHEAD_BYTES];
    let mut largest = Entry::builder(value, version(), NOW)
        .content_type("c".repeat(peercache_api::MAX_CONTENT_TYPE_BYTES))
        .etag("e".repeat(peercache_api::MAX_VALIDATOR_BYTES))
        .last_modified("l".repeat(peercache_api::MAX_VALIDATOR_BYTES));
    for n in 0..peercache_api::MAX_TAGS {
        largest = largest.tag(format!("{n:0>width$}", width = peercache_api::MAX_TAG_BYTES));
    }
    let largest = largest.build().unwrap();
    let outer = seal(&keys, &key, &place, &largest, false).unwrap().entry;
    assert!(outer.value().len() <= peercache_api::MAX_VALUE_BYTES);
    assert_eq!(open(&keys, &key, &place, outer), Ok(largest));
}

#[test]
fn a_tombstone_that_carries_a_large_proof_already_is_refused() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    let small = Entry::tombstone_with_proof(version(), NOW, vec![1; 1000]).unwrap();
    let outer = seal(&keys, &key, &place, &small, true).unwrap().entry;
    assert_eq!(open(&keys, &key, &place, outer), Ok(small));
    let full = Entry::tombstone_with_proof(version(), NOW, vec![1; MAX_PROOF_BYTES]).unwrap();
    let error = seal(&keys, &key, &place, &full, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

/// Signs and encrypts any plaintext, as a writer with a defect or a grudge could.
fn signed(keys: &Keys, place: &Place, outer: &Entry, plaintext: &[u8]) -> Entry {
    let associated = associated_data(FORMAT_VERSION, keys.id(), place, outer);
    let mut sealed = [&[0; HEADER_BYTES][..], plaintext].concat();
    let tag = keys
        .cipher(Class::Private)
        .unwrap()
        .encrypt(&NONCE, &associated, &mut sealed[HEADER_BYTES..])
        .unwrap();
    sealed.extend_from_slice(&tag);
    resigned(keys, &associated, outer, sealed)
}

fn resigned(keys: &Keys, associated: &[u8; ASSOCIATED_BYTES], outer: &Entry, mut sealed: Vec<u8>) -> Entry {
    let signature = keys.sign(&statement(associated, &NONCE, &sealed[HEADER_BYTES..])).unwrap();
    let header = [&MAGIC[..], &[FORMAT_VERSION], keys.id().as_bytes(), &NONCE, &signature].concat();
    sealed[..HEADER_BYTES].copy_from_slice(&header);
    sealed_with(outer, sealed)
}

fn plaintext(how: u8, length: usize, body: &[u8]) -> Vec<u8> {
    [&[how, 0, 0, 0][..], &u32::try_from(length).unwrap().to_be_bytes(), body].concat()
}

#[test]
fn what_a_writer_signed_is_still_checked() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    let entry = entry("v");
    let envelope = envelope::encode(&key, &entry);
    let check = |plaintext: &[u8]| open(&keys, &key, &place, signed(&keys, &place, &entry, plaintext));
    assert_eq!(check(&plaintext(STORED, envelope.len(), &envelope)), Ok(entry.clone()));

    let other_key = envelope::encode(&Key::new("other").unwrap(), &entry);
    let older = Entry::builder("v", Version { counter: 6, ..version() }, NOW)
        .fresh_for(Duration::from_secs(300))
        .stale_for(Duration::from_secs(3600))
        .build()
        .unwrap();
    let older = envelope::encode(&key, &older);
    let tombstone = envelope::encode(&key, &Entry::tombstone(version(), NOW));
    let bomb = zstd::bulk::compress(&vec![0; 16 << 20], 19).unwrap();
    for (what, plaintext) in [
        ("another key's", plaintext(STORED, other_key.len(), &other_key)),
        ("another version's", plaintext(STORED, older.len(), &older)),
        ("another kind's", plaintext(STORED, tombstone.len(), &tombstone)),
        ("shorter than declared", plaintext(STORED, envelope.len() + 1, &envelope)),
        ("longer than declared", plaintext(STORED, envelope.len() - 1, &envelope)),
        ("unknown compression", plaintext(2, envelope.len(), &envelope)),
        ("not compressed", plaintext(ZSTD, envelope.len(), &envelope)),
        ("declared beyond every bound", plaintext(ZSTD, envelope::MAX_ENVELOPE_BYTES + 1, &bomb)),
        ("a bomb declared small", plaintext(ZSTD, envelope.len(), &bomb)),
        ("a bomb declared as large as can be", plaintext(ZSTD, envelope::MAX_ENVELOPE_BYTES, &bomb)),
        (
            "reserved bytes in use",
            [&[STORED, 1, 0, 0][..], &plaintext(STORED, envelope.len(), &envelope)[4..]].concat(),
        ),
        ("nothing", plaintext(STORED, 0, &[])),
    ] {
        assert_eq!(check(&plaintext), Err(Rejection::Malformed), "{what}");
    }
}

#[test]
fn a_signature_over_a_wrong_tag_does_not_decrypt() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    let entry = entry("v");
    let envelope = envelope::encode(&key, &entry);
    let good = signed(&keys, &place, &entry, &plaintext(STORED, envelope.len(), &envelope));
    let associated = associated_data(FORMAT_VERSION, keys.id(), &place, &entry);
    let mut sealed = good.value().to_vec();
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    let outer = resigned(&keys, &associated, &entry, sealed);
    assert_eq!(open(&keys, &key, &place, outer), Err(Rejection::Undecryptable));
}

#[test]
fn an_entry_moved_to_the_other_class_does_not_verify() {
    let (keys, key) = (keys(), key());
    let place = keys.place(&key).unwrap();
    let as_class = |outer: &Entry, class| {
        let meta = outer.metadata();
        Entry::builder(outer.value().clone(), meta.version, meta.created)
            .fresh_for(meta.fresh_for)
            .stale_for(meta.stale_for)
            .class(class)
            .build()
            .unwrap()
    };
    for (entry, other) in [(entry("v"), Class::Public), (public("v"), Class::Private)] {
        let outer = seal(&keys, &key, &place, &entry, true).unwrap().entry;
        assert_eq!(outer.class(), entry.class(), "a store can see the class");
        assert_eq!(open(&keys, &key, &place, as_class(&outer, other)), Err(Rejection::Forged));
    }
}

#[test]
fn the_public_form_opens_public_entries_and_removals_alone() {
    let (keys, key) = (keys(), key());
    let guest = Keys::new(&Secret::parse(GOLDEN_SECRET).unwrap().public());
    let place = guest.place(&key).unwrap();
    let sealed = |entry: &Entry| seal(&keys, &key, &place, entry, true).unwrap().entry;
    let (shown, removal) = (public("v"), Entry::tombstone(version(), NOW));
    assert_eq!(open(&guest, &key, &place, sealed(&shown)), Ok(shown.clone()));
    assert_eq!(open(&guest, &key, &place, sealed(&removal)), Ok(removal.clone()));
    assert_eq!(open_removal(&guest, place.key.digest(), sealed(&removal)), Ok((*key.digest(), removal)));
    assert_eq!(open(&guest, &key, &place, sealed(&entry("v"))), Err(Rejection::Private));
    assert_eq!(seal(&guest, &key, &place, &shown, true).unwrap_err().kind(), ErrorKind::Denied);
}

/// The writer's key is what a reader lacks: with everything else it makes an entry that fits in all
/// but the signature.
#[test]
fn a_reader_cannot_make_an_entry() {
    let (writer, key) = (keys(), key());
    let reader = Keys::new(&Secret::parse(GOLDEN_SECRET).unwrap().read_only());
    let place = reader.place(&key).unwrap();
    let entry = entry("poison");
    assert_eq!(seal(&reader, &key, &place, &entry, true).unwrap_err().kind(), ErrorKind::Denied);

    let envelope = envelope::encode(&key, &entry);
    let associated = associated_data(FORMAT_VERSION, reader.id(), &place, &entry);
    let mut sealed = [&[0; HEADER_BYTES][..], &plaintext(STORED, envelope.len(), &envelope)].concat();
    let tag = reader
        .cipher(Class::Private)
        .unwrap()
        .encrypt(&NONCE, &associated, &mut sealed[HEADER_BYTES..])
        .unwrap();
    sealed.extend_from_slice(&tag);
    let stranger = Keys::new(&Secret::generate().unwrap());
    let statement = statement(&associated, &NONCE, &sealed[HEADER_BYTES..]);
    for signature in [[0; SIGNATURE_BYTES], stranger.sign(&statement).unwrap()] {
        let header = [&MAGIC[..], &[FORMAT_VERSION], reader.id().as_bytes(), &NONCE, &signature].concat();
        sealed[..HEADER_BYTES].copy_from_slice(&header);
        let outer = sealed_with(&entry, sealed.clone());
        assert_eq!(open(&writer, &key, &place, outer.clone()), Err(Rejection::Forged));
        assert_eq!(open(&reader, &key, &place, outer), Err(Rejection::Forged));
    }
}

#[test]
fn the_page_that_describes_the_format_has_these_numbers() {
    let page = include_str!("../../../../docs/reference/sealed-format.md");
    // Where lines break is no part of the format.
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let smallest = HEADER_BYTES + PREFIX_BYTES + TAG_BYTES;
    for text in [
        format!("| {HEADER_BYTES} | n | ciphertext |"),
        format!("| {SIGNATURE_AT} | {SIGNATURE_BYTES} | signature |"),
        format!("| {NONCE_AT} | {NONCE_BYTES} | nonce: random |"),
        format!("The associated data are these {ASSOCIATED_BYTES} bytes"),
        format!("and a line feed ({} bytes)", DOMAIN.len()),
        format!("length of the envelope, at most {} |", envelope::MAX_ENVELOPE_BYTES),
        format!(
            "at least {smallest} bytes, or {} for a tombstone of version 2 (`truncated`)",
            smallest + NAME_BYTES
        ),
        format!("by {} bytes and its metadata", smallest + envelope::HEADER_BYTES),
        format!("less {MAX_OVERHEAD_BYTES} bytes"),
        format!(
            "format version {REMOVAL_VERSION}, and {NAME_BYTES} bytes more behind the header, at offset {HEADER_BYTES}"
        ),
    ] {
        assert!(page.contains(&text), "docs/reference/sealed-format.md does not say: {text}");
    }
}
