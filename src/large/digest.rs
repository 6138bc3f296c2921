//! SHA-256 of chunks, off the threads that run everybody's futures.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// A chunk's SHA-256.
pub(super) type Digest = [u8; 32];

/// Below this a hash takes less time than handing it to another thread.
const WORTH_A_THREAD: usize = 64 * 1024;

/// The SHA-256 of `bytes`. A chunk takes about a millisecond, so it is hashed where blocking is
/// allowed. Cancel-safe.
pub(super) async fn sha256(bytes: &Bytes) -> Digest {
    if bytes.len() >= WORTH_A_THREAD {
        let shared = bytes.clone();
        // It fails only when the runtime is going down; whoever still polls gets the answer here.
        if let Ok(digest) = tokio::task::spawn_blocking(move || of(&shared)).await {
            return digest;
        }
    }
    of(bytes)
}

fn of(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}
