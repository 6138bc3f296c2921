//! Any entry that can be made.

use std::time::Duration;

use arbitrary::Arbitrary;
use peercache_api::{Entry, NodeId, Timestamp, Version};

/// The parts of an entry, within bounds or not.
#[derive(Arbitrary, Debug)]
pub(crate) struct Parts {
    tombstone: bool,
    version: (u64, u32, u64),
    created: u64,
    fresh: u32,
    stale: u32,
    content_type: Option<String>,
    etag: Option<String>,
    last_modified: Option<String>,
    tags: Vec<String>,
    value: Vec<u8>,
}

pub(crate) fn version((wall, counter, node): (u64, u32, u64)) -> Version {
    Version { wall: Timestamp::from_millis(wall), counter, node: NodeId::from_u64(node) }
}

impl Parts {
    /// The entry, unless a part exceeds its bound.
    pub(crate) fn build(self) -> Option<Entry> {
        let (version, created) = (version(self.version), Timestamp::from_millis(self.created));
        if self.tombstone {
            return Entry::tombstone_with_proof(version, created, self.value).ok();
        }
        let mut entry = Entry::builder(self.value, version, created)
            .fresh_for(Duration::from_millis(self.fresh.into()))
            .stale_for(Duration::from_millis(self.stale.into()));
        if let Some(text) = self.content_type {
            entry = entry.content_type(text);
        }
        if let Some(text) = self.etag {
            entry = entry.etag(text);
        }
        if let Some(text) = self.last_modified {
            entry = entry.last_modified(text);
        }
        self.tags.into_iter().fold(entry, |entry, tag| entry.tag(tag)).build().ok()
    }
}
