//! The door through which the fuzzers in `fuzz/` reach the manifest. In no ordinary build.

use bytes::Bytes;
use peercache_api::Error;

use super::manifest::Manifest as Inner;

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest(Inner);

impl Manifest {
    /// The manifest of these parts.
    ///
    /// # Errors
    /// Parts that do not fit together.
    pub fn new(
        len: u64,
        chunk_bytes: usize,
        keep_minutes: u32,
        content_type: Option<String>,
        digests: Bytes,
    ) -> Result<Self, Error> {
        Inner::new(len, chunk_bytes, keep_minutes, content_type, digests).map(Self)
    }

    /// The manifest in `bytes`.
    ///
    /// # Errors
    /// Anything that is not exactly a manifest.
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        Inner::decode(bytes).map(Self)
    }

    /// The bytes that are stored.
    ///
    /// # Errors
    /// None that can happen.
    pub fn encode(&self) -> Result<Bytes, Error> {
        self.0.encode()
    }

    /// Bytes of the whole value.
    #[must_use]
    pub fn value_bytes(&self) -> u64 {
        self.0.len
    }

    /// How many chunks there are.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.0.chunks()
    }

    /// The length of chunk `index`, in bytes.
    #[must_use]
    pub fn chunk_len(&self, index: u64) -> usize {
        self.0.chunk_len(index)
    }

    /// The BLAKE3 of chunk `index`.
    #[must_use]
    pub fn digest(&self, index: u64) -> Option<&[u8; 32]> {
        self.0.digest(index)
    }
}
