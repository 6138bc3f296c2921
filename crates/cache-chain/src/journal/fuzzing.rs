//! The door through which the fuzzers in `fuzz/` reach the bytes of a journal. In no ordinary build.

use std::io;

use bytes::Bytes;
use peercache_api::{Entry, Error, Key, Timestamp, Version};
use xxhash_rust::xxh3::xxh3_64;

use super::record::{self, What};
use super::segment;

/// The first bytes of a segment.
pub const HEADER: [u8; 8] = record::HEADER;
/// The length and the checksum in front of each record's body.
pub const FRAME_BYTES: usize = record::FRAME_BYTES;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(record::Record);

impl Record {
    /// The record that says: `entry` waits to be written.
    #[must_use]
    pub fn write(tier: String, key: Key, queued: Timestamp, entry: Entry) -> Self {
        Self(record::Record { tier, key, queued, what: What::Write(entry) })
    }

    /// The record that says: this version, and older ones, wait no more.
    #[must_use]
    pub fn end(tier: String, key: Key, queued: Timestamp, version: Version) -> Self {
        Self(record::Record { tier, key, queued, what: What::End(version) })
    }

    /// The record in a body, whose checksum is taken for right.
    ///
    /// # Errors
    /// Anything that is not exactly a record.
    pub fn decode(body: &Bytes) -> Result<Self, Error> {
        record::decode_body(body.clone(), xxh3_64(body)).map(Self)
    }

    /// The frame and the body.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        record::encode(&self.0)
    }

    /// Whether this ends a write.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.0.what, What::End(_))
    }
}

/// The writes of a segment that have not ended, oldest first, and whether it is torn.
///
/// # Errors
/// The reader's own.
pub fn read(segment: &[u8], max_bytes: u64) -> io::Result<(Vec<(String, Key, Entry, Timestamp)>, bool)> {
    segment::read(segment, max_bytes).map(|left| (left.writes, left.torn))
}
