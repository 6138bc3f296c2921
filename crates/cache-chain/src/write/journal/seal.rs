//! How the records of a segment are written: as they are, or sealed by somebody who has a secret.
//!
//! A sealed segment begins with [`SEALED_HEADER`] and the eight bytes that name the key; each of
//! its bodies is what [`JournalSeal::seal`] made of one, bound to these 16 bytes.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use peercache_api::{Error, ErrorKind, Operation};

use super::record::{self, MAX_BODY_BYTES, Record};

/// The most bytes by which a sealed record may be longer than the record in it.
pub const MAX_JOURNAL_SEAL_BYTES: usize = 64;

/// The first bytes of a segment whose records are as they are; the last one is the version of the
/// format.
pub(super) const CLEAR_HEADER: [u8; 8] = [0x89, b'P', b'C', b'J', b'R', b'N', b'L', 1];
/// The first bytes of a segment whose records are sealed.
pub(super) const SEALED_HEADER: [u8; 8] = [0x89, b'P', b'C', b'J', b'R', b'N', b'L', 2];
/// What both have in common, and a later version will.
const MAGIC_BYTES: usize = 7;

/// Seals what a [`Journal`](crate::Journal) keeps on disk.
///
/// What is read from a journal is written to shared tiers in this process's name, so only those may
/// have the key who may write there: not the holder of a read-only secret.
pub trait JournalSeal: fmt::Debug + Send + Sync {
    /// Names the key that [`JournalSeal::seal`] uses, and tells nothing about it: it stands in
    /// clear.
    fn key_id(&self) -> [u8; 8];

    /// Whether [`JournalSeal::open`] has the key of this name: its own, or a former one.
    fn knows(&self, key_id: [u8; 8]) -> bool;

    /// Seals `record`, and binds it to `segment`, which is not secret. At most
    /// [`MAX_JOURNAL_SEAL_BYTES`] are added.
    ///
    /// # Errors
    /// When it cannot: the write then waits in memory alone.
    fn seal(&self, segment: &[u8], record: &[u8]) -> Result<Vec<u8>, Error>;

    /// The record in `sealed`; `None` unless exactly these bytes were sealed for this `segment`
    /// with the key of this name.
    fn open(&self, key_id: [u8; 8], segment: &[u8], sealed: &[u8]) -> Option<Vec<u8>>;
}

/// How one segment is written.
#[derive(Clone, Debug)]
pub(super) enum Coding {
    Clear,
    Sealed {
        seal: Arc<dyn JournalSeal>,
        key_id: [u8; 8],
        /// The beginning of the segment, to which every record is bound.
        header: [u8; 16],
    },
}

/// What the first bytes of a segment say about the rest.
#[derive(Debug)]
pub(super) enum Beginning {
    Ours(Coding),
    /// Another key's, a later version's, or not sealed although this process seals.
    Foreign,
    /// Damaged, or cut off.
    Torn,
}

impl Coding {
    /// For a segment of this process.
    pub(super) fn new(seal: Option<&Arc<dyn JournalSeal>>) -> Self {
        seal.map_or(Self::Clear, |seal| Self::sealed(seal, seal.key_id()))
    }

    fn sealed(seal: &Arc<dyn JournalSeal>, key_id: [u8; 8]) -> Self {
        let mut header = [0; 16];
        header[..8].copy_from_slice(&SEALED_HEADER);
        header[8..].copy_from_slice(&key_id);
        Self::Sealed { seal: Arc::clone(seal), key_id, header }
    }

    /// For a segment that begins with `first`, of which the next eight bytes are `rest`.
    ///
    /// With a seal, what is in clear is not read: whoever can write to the directory could
    /// otherwise have this process sign it.
    pub(super) fn begun(first: &[u8], rest: &[u8], seal: Option<&Arc<dyn JournalSeal>>) -> Beginning {
        if first.len() < CLEAR_HEADER.len() || first[..MAGIC_BYTES] != CLEAR_HEADER[..MAGIC_BYTES] {
            return Beginning::Torn;
        }
        match (seal, <[u8; 8]>::try_from(rest)) {
            (None, _) if first == CLEAR_HEADER => Beginning::Ours(Self::Clear),
            (Some(_), Err(_)) if first == SEALED_HEADER => Beginning::Torn,
            (Some(seal), Ok(key_id)) if first == SEALED_HEADER && seal.knows(key_id) => {
                Beginning::Ours(Self::sealed(seal, key_id))
            }
            _ => Beginning::Foreign,
        }
    }

    /// What the segment begins with.
    pub(super) fn header(&self) -> &[u8] {
        match self {
            Self::Clear => &CLEAR_HEADER,
            Self::Sealed { header, .. } => header,
        }
    }

    /// The longest body, in bytes.
    pub(super) fn max_body_bytes(&self) -> usize {
        match self {
            Self::Clear => MAX_BODY_BYTES,
            Self::Sealed { .. } => MAX_BODY_BYTES + MAX_JOURNAL_SEAL_BYTES,
        }
    }

    /// A record with its frame.
    ///
    /// # Errors
    /// The seal's own.
    pub(super) fn encode(&self, record: &Record) -> Result<Vec<u8>, Error> {
        let body = record::encode_body(record);
        let Self::Sealed { seal, header, .. } = self else { return Ok(record::framed(&body)) };
        let sealed = seal.seal(header, &body)?;
        if sealed.len() > body.len() + MAX_JOURNAL_SEAL_BYTES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                Operation::Encode,
                format!("a seal adds more than {MAX_JOURNAL_SEAL_BYTES} bytes to a journal record"),
            ));
        }
        Ok(record::framed(&sealed))
    }

    /// The record in a body whose checksum is right.
    pub(super) fn decode(&self, body: Bytes) -> Option<Record> {
        let body = match self {
            Self::Clear => body,
            Self::Sealed { seal, key_id, header } => seal.open(*key_id, header, &body)?.into(),
        };
        record::decode_body(body).ok()
    }
}
