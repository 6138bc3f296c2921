//! Entries to store: a handful that show every part of the format, and arbitrary ones.

use std::time::Duration;

use peercache_api::{
    Class, Entry, Key, MAX_CONTENT_TYPE_BYTES, MAX_LIFETIME, MAX_PROOF_BYTES, MAX_TAG_BYTES, MAX_TAGS,
    MAX_VALIDATOR_BYTES, NodeId, Timestamp, Version,
};
use proptest::prelude::*;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub(crate) fn key() -> Key {
    Key::new("repos/octocat/hello-world").unwrap()
}

pub(crate) fn version() -> Version {
    Version {
        wall: Timestamp::from_millis(1_800_000_000_123),
        counter: 7,
        node: NodeId::from_u64(0x0102_0304_0506_0708),
    }
}

/// Every optional field set.
pub(crate) fn full() -> Entry {
    Entry::builder(r#"{"full_name":"octocat/hello-world"}"#, version(), NOW)
        .fresh_for(Duration::from_secs(300))
        .stale_for(Duration::from_secs(3600))
        .content_type("application/json; charset=utf-8")
        .etag(r#"W/"5d1b2f""#)
        .last_modified("Fri, 15 Jan 2027 08:00:00 GMT")
        .tag("repo:octocat/hello-world")
        .tag("user:octocat")
        .build()
        .unwrap()
}

/// A value and nothing else: no metadata section at all.
pub(crate) fn minimal() -> Entry {
    Entry::builder("v", Version::ZERO, Timestamp::EPOCH).build().unwrap()
}

/// A value of no bytes, which is not the same as no value.
pub(crate) fn empty() -> Entry {
    Entry::builder("", version(), NOW).fresh_for(Duration::from_millis(1)).content_type("").build().unwrap()
}

/// A value that everybody may read.
pub(crate) fn public() -> Entry {
    Entry::builder("v", version(), NOW).class(Class::Public).build().unwrap()
}

pub(crate) fn tombstone() -> Entry {
    Entry::tombstone(version(), NOW)
}

/// A removal that says who made it.
pub(crate) fn proven_tombstone() -> Entry {
    Entry::tombstone_with_proof(version(), NOW, &b"signed by the writer"[..]).unwrap()
}

/// What every damage test is run on.
pub(crate) fn all() -> [Entry; 6] {
    [full(), minimal(), empty(), public(), tombstone(), proven_tombstone()]
}

fn text(most: usize) -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop_oneof![
        4 => prop::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter),
        1 => Just("x".repeat(most)),
    ])
}

/// Any entry that can be built, up to its bounds but for the size of the value.
pub(crate) fn entries() -> impl Strategy<Value = Entry> {
    let tag = prop_oneof![8 => "[a-z:/é]{1,12}", 1 => Just("t".repeat(MAX_TAG_BYTES))];
    let longest = u64::try_from(MAX_LIFETIME.as_millis()).unwrap();
    let lifetimes = (0..=longest).prop_flat_map(move |fresh| (Just(fresh), 0..=longest - fresh));
    let versions = (any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(wall, counter, node)| Version {
        wall: Timestamp::from_millis(wall),
        counter,
        node: NodeId::from_u64(node),
    });
    let value = (
        prop::collection::vec(any::<u8>(), 0..2000),
        versions,
        any::<u64>().prop_map(Timestamp::from_millis),
        lifetimes,
        (text(MAX_CONTENT_TYPE_BYTES), text(MAX_VALIDATOR_BYTES), text(MAX_VALIDATOR_BYTES)),
        prop::collection::vec(tag, 0..=MAX_TAGS),
    )
        .prop_map(|(value, version, created, (fresh, stale), (content_type, etag, modified), tags)| {
            let mut builder = Entry::builder(value, version, created)
                .fresh_for(Duration::from_millis(fresh))
                .stale_for(Duration::from_millis(stale));
            if let Some(content_type) = content_type {
                builder = builder.content_type(content_type);
            }
            if let Some(etag) = etag {
                builder = builder.etag(etag);
            }
            if let Some(modified) = modified {
                builder = builder.last_modified(modified);
            }
            tags.into_iter().fold(builder, peercache_api::EntryBuilder::tag).build().unwrap()
        });
    let proof = prop::collection::vec(any::<u8>(), 0..=MAX_PROOF_BYTES);
    let removal = (any::<u64>(), any::<u32>(), proof).prop_map(|(wall, counter, proof)| {
        let wall = Timestamp::from_millis(wall);
        let version = Version { wall, counter, node: NodeId::from_u64(1) };
        Entry::tombstone_with_proof(version, wall, proof).unwrap()
    });
    prop_oneof![8 => value, 1 => removal]
}
