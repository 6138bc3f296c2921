//! The manifest: which chunks make up a value. `docs/reference/manifest-format.md` describes it to
//! the byte.

use std::fmt;

use bytes::Bytes;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use peercache_api::{Error, ErrorKind, MAX_CONTENT_TYPE_BYTES, Operation};

use super::digest::Digest;
use super::lifetime::MAX_KEEP_MINUTES;
use super::{MAX_CHUNK_BYTES, MAX_LARGE_BYTES};

/// The first four bytes of every manifest.
const MAGIC: [u8; 4] = [0x89, b'P', b'C', b'M'];
/// The format version that this build writes.
const FORMAT_VERSION: u8 = 2;
const HEADER_BYTES: usize = MAGIC.len() + 1;
pub(super) const DIGEST_BYTES: usize = 32;

/// The CBOR map after the header. A reader skips numbers that it does not know.
#[derive(Default)]
struct Fields<'b> {
    len: u64,
    chunk_bytes: u32,
    keep_minutes: u32,
    digests: &'b [u8],
    content_type: Option<&'b str>,
}

const LEN: i64 = 0;
const CHUNK_BYTES: i64 = 1;
const KEEP_MINUTES: i64 = 2;
const DIGESTS: i64 = 3;
const CONTENT_TYPE: i64 = 4;

impl<'b> Fields<'b> {
    fn write(
        &self,
        to: &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        to.map(4 + u64::from(self.content_type.is_some()))?;
        to.i64(LEN)?.u64(self.len)?;
        to.i64(CHUNK_BYTES)?.u32(self.chunk_bytes)?;
        to.i64(KEEP_MINUTES)?.u32(self.keep_minutes)?;
        to.i64(DIGESTS)?.bytes(self.digests)?;
        if let Some(content_type) = self.content_type {
            to.i64(CONTENT_TYPE)?.str(content_type)?;
        }
        Ok(())
    }

    /// Each of the first four has to be there.
    fn read(from: &mut Decoder<'b>) -> Result<Self, minicbor::decode::Error> {
        let mut fields = Self::default();
        let mut missing = [LEN, CHUNK_BYTES, KEEP_MINUTES, DIGESTS].to_vec();
        let mut left = from.map()?;
        while left != Some(0) {
            if left.is_none() && from.datatype()? == Type::Break {
                from.skip()?;
                break;
            }
            let number = from.i64()?;
            match number {
                LEN => fields.len = from.u64()?,
                CHUNK_BYTES => fields.chunk_bytes = from.u32()?,
                KEEP_MINUTES => fields.keep_minutes = from.u32()?,
                DIGESTS => fields.digests = from.bytes()?,
                CONTENT_TYPE if from.datatype()? == Type::Null => from.null()?,
                CONTENT_TYPE => fields.content_type = Some(from.str()?),
                _ => from.skip()?,
            }
            missing.retain(|wanted| *wanted != number);
            left = left.map(|left| left - 1);
        }
        match missing.is_empty() {
            true => Ok(fields),
            false => Err(minicbor::decode::Error::message("a field is missing")),
        }
    }
}

/// What a large value consists of. Its invariants hold from the moment it is made: the digests are
/// exactly as many as `len` and `chunk_bytes` ask for.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Bytes of the whole value.
    pub(super) len: u64,
    /// Bytes of each chunk but the last.
    pub(super) chunk_bytes: usize,
    /// The lifetime that the chunks were stored with; part of their keys.
    pub(super) keep_minutes: u32,
    /// The value's own media type.
    pub(super) content_type: Option<String>,
    /// One BLAKE3 after another.
    digests: Bytes,
}

impl Manifest {
    /// The manifest of a value of `len` bytes, whose chunks have these digests.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the parts do not fit together or exceed a bound.
    pub(super) fn new(
        len: u64,
        chunk_bytes: usize,
        keep_minutes: u32,
        content_type: Option<String>,
        digests: Bytes,
    ) -> Result<Self, Error> {
        let complaint = if len == 0 || len > MAX_LARGE_BYTES {
            "the manifest's length is out of bounds"
        } else if chunk_bytes == 0 || chunk_bytes > MAX_CHUNK_BYTES {
            "the manifest's chunks are longer or shorter than allowed"
        } else if keep_minutes == 0 || keep_minutes > MAX_KEEP_MINUTES {
            "the manifest's chunks live longer or shorter than allowed"
        } else if digests.len() as u64 != len.div_ceil(chunk_bytes as u64) * DIGEST_BYTES as u64 {
            "the manifest lists more or fewer chunks than its length asks for"
        } else if content_type.as_ref().is_some_and(|text| text.len() > MAX_CONTENT_TYPE_BYTES) {
            "the manifest's content type is too long"
        } else {
            return Ok(Self { len, chunk_bytes, keep_minutes, content_type, digests });
        };
        Err(corrupt(complaint))
    }

    /// How many chunks there are.
    pub(super) fn chunks(&self) -> u64 {
        (self.digests.len() / DIGEST_BYTES) as u64
    }

    /// The digest of chunk `index`, if there is one.
    pub(super) fn digest(&self, index: u64) -> Option<&Digest> {
        let start = usize::try_from(index).ok()?.checked_mul(DIGEST_BYTES)?;
        self.digests.get(start..)?.first_chunk()
    }

    /// The length of chunk `index`: the last one may be shorter than the others, and none is empty.
    pub(super) fn chunk_len(&self, index: u64) -> usize {
        let before = index.saturating_mul(self.chunk_bytes as u64);
        let rest = usize::try_from(self.len.saturating_sub(before)).unwrap_or(usize::MAX);
        rest.min(self.chunk_bytes)
    }

    /// The bytes that are stored.
    ///
    /// # Errors
    /// None that can happen: writing CBOR to memory does not fail.
    pub(super) fn encode(&self) -> Result<Bytes, Error> {
        let fields = Fields {
            len: self.len,
            // The bound is far below: an invariant of the type.
            chunk_bytes: u32::try_from(self.chunk_bytes).unwrap_or(u32::MAX),
            keep_minutes: self.keep_minutes,
            digests: &self.digests,
            content_type: self.content_type.as_deref(),
        };
        let mut bytes = Vec::with_capacity(self.digests.len() + 64 + MAX_CONTENT_TYPE_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(FORMAT_VERSION);
        fields.write(&mut Encoder::new(&mut bytes)).map_err(|error| {
            Error::new(ErrorKind::Config, Operation::Encode, "the manifest cannot be written")
                .with_source(error)
        })?;
        Ok(bytes.into())
    }

    /// The manifest in `bytes`. The list of digests is a slice of them: nothing is allocated but
    /// the content type.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`] for a format version that this build does not know.
    /// - [`ErrorKind::Corrupt`] for anything else that is not exactly a manifest within its bounds.
    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let Some((&[m0, m1, m2, m3, version], cbor)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(corrupt("the manifest ends within its header"));
        };
        if [m0, m1, m2, m3] != MAGIC {
            return Err(corrupt("this is not a manifest"));
        }
        if version != FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                Operation::Decode,
                "the manifest has a format version that this build does not read",
            )
            .with_context("version", version)
            .with_context("known", FORMAT_VERSION));
        }
        let mut decoder = Decoder::new(cbor);
        let fields = Fields::read(&mut decoder)
            .map_err(|error| corrupt("the manifest is not valid CBOR").with_source(error))?;
        if decoder.position() != cbor.len() {
            return Err(corrupt("there are bytes after the manifest"));
        }
        let chunk_bytes = usize::try_from(fields.chunk_bytes).unwrap_or(usize::MAX);
        let content_type = fields.content_type.filter(|text| text.len() <= MAX_CONTENT_TYPE_BYTES);
        if content_type.is_none() && fields.content_type.is_some() {
            return Err(corrupt("the manifest's content type is too long"));
        }
        Self::new(
            fields.len,
            chunk_bytes,
            fields.keep_minutes,
            content_type.map(str::to_owned),
            bytes.slice_ref(fields.digests),
        )
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the digests: they identify content.
        f.debug_struct("Manifest")
            .field("len", &self.len)
            .field("chunk_bytes", &self.chunk_bytes)
            .field("chunks", &self.chunks())
            .finish_non_exhaustive()
    }
}

fn corrupt(message: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, Operation::Decode, message)
}

#[cfg(test)]
mod tests;
