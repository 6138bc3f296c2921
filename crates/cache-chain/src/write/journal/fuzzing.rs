//! The door through which the fuzzers in `fuzz/` reach the bytes of a journal. In no ordinary
//! build.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use peercache_api::{Entry, Error, Key, Timestamp, Version};

use super::record::{self, What};
use super::seal::{self, Coding, JournalSeal};
use super::segment;

/// The first bytes of a segment in clear.
pub const HEADER: [u8; 8] = seal::CLEAR_HEADER;
/// The first bytes of a sealed segment; the name of its key follows.
pub const SEALED_HEADER: [u8; 8] = seal::SEALED_HEADER;
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

    /// The record in a body.
    ///
    /// # Errors
    /// Anything that is not exactly a record.
    pub fn decode(body: &Bytes) -> Result<Self, Error> {
        record::decode_body(body.clone()).map(Self)
    }

    /// The frame and the body, sealed or not.
    ///
    /// # Errors
    /// The seal's own.
    pub fn encode(&self, seal: Option<&Arc<dyn JournalSeal>>) -> Result<Bytes, Error> {
        Coding::new(seal).encode(&self.0).map(Bytes::from)
    }

    /// Whether this ends a write.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.0.what, What::End(_))
    }
}

/// What a segment holds.
#[derive(Debug)]
pub struct Found {
    /// The writes that have not ended, oldest first.
    pub writes: Vec<(String, Key, Entry, Timestamp)>,
    /// Whether it ends within a record, or a record is damaged.
    pub torn: bool,
    /// Whole records that are none, or do not open.
    pub refused: u64,
}

/// What a segment holds; `None` when it is another's.
///
/// # Errors
/// The reader's own.
pub fn read(
    segment: &[u8],
    max_bytes: u64,
    seal: Option<&Arc<dyn JournalSeal>>,
) -> io::Result<Option<Found>> {
    let found = segment::read(segment, max_bytes, seal)?;
    Ok(found.map(|left| Found { writes: left.writes, torn: left.torn, refused: left.refused }))
}
