//! SHA-256 of chunks, without holding up the thread that runs everybody's futures.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// A chunk's SHA-256.
pub(super) type Digest = [u8; 32];

/// What is hashed without a break: well below a millisecond, even without hardware for it.
const STRIDE: usize = 64 * 1024;

/// The SHA-256 of `bytes`, with a break after every stride so that others get their turn. No thread of
/// the blocking pool is used: the more of them there are, the more memory the allocator keeps for them.
/// Cancel-safe.
pub(super) async fn sha256(bytes: &Bytes) -> Digest {
    let mut hash = Sha256::new();
    let mut strides = bytes.chunks(STRIDE).peekable();
    while let Some(stride) = strides.next() {
        hash.update(stride);
        if strides.peek().is_some() {
            tokio::task::yield_now().await;
        }
    }
    hash.finalize().into()
}
