//! Why a large value cannot be read to its end.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// Why a value that was found cannot be read to its end. It is a miss that came late: drop what was
/// read, load the value anew and store it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LargeError {
    /// A chunk is in no tier any more, or its tier failed.
    ChunkMissing {
        /// Which one, counted from 0.
        index: u64,
        /// How many the value has.
        chunks: u64,
    },
    /// A chunk is not what was written. None of its bytes was given out.
    ChunkCorrupt {
        /// Which one, counted from 0.
        index: u64,
        /// How many the value has.
        chunks: u64,
    },
}

impl fmt::Display for LargeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, chunks, what) = match self {
            Self::ChunkMissing { index, chunks } => (index, chunks, "is in no tier"),
            Self::ChunkCorrupt { index, chunks } => (index, chunks, "is not what was stored"),
        };
        let number = index + 1;
        write!(
            f,
            "chunk {number} of {chunks} {what}: treat the value as a miss, load it anew and store it again"
        )
    }
}

impl StdError for LargeError {}

impl From<LargeError> for io::Error {
    /// `UnexpectedEof` for a missing chunk, `InvalidData` for an altered one.
    fn from(error: LargeError) -> Self {
        let kind = match error {
            LargeError::ChunkMissing { .. } => io::ErrorKind::UnexpectedEof,
            LargeError::ChunkCorrupt { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
