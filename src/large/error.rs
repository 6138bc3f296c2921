//! Why a large value cannot be read to its end.

use std::io;

use thiserror::Error;

/// Why a value that was found cannot be read to its end. It is a miss that came late: drop what was
/// read, load the value anew and store it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LargeError {
    /// A chunk is in no tier any more, or its tier failed.
    #[error(
        "chunk {} of {chunks} is in no tier: treat the value as a miss, load it anew and store it again",
        .index + 1
    )]
    ChunkMissing {
        /// Which one, counted from 0.
        index: u64,
        /// How many the value has.
        chunks: u64,
    },
    /// A chunk is not what was written. None of its bytes was given out.
    #[error(
        "chunk {} of {chunks} is not what was stored: treat the value as a miss, load it anew and store it again",
        .index + 1
    )]
    ChunkCorrupt {
        /// Which one, counted from 0.
        index: u64,
        /// How many the value has.
        chunks: u64,
    },
}

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
