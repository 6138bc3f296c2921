//! One chunk: its key, its lifetime, storing it, and fetching it verified.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use peercache_api::{Entry, Error, Key};
use peercache_chain::{LookupOptions, PutOutcome, WritePolicy};

use super::digest::{Digest, digest};
use super::error::LargeError;
use super::manifest::Manifest;
use super::values::LargeValues;
use super::{LEAST_BYTES_PER_SECOND, SHARED_READ_WINDOW};
use crate::entries::Entries;

/// `peercache/chunk/<minutes>/<BLAKE3 in hexadecimal>`, before the cache's namespace is applied.
fn key(keep_minutes: u32, digest: &Digest) -> Result<Key, Error> {
    let mut text = format!("peercache/chunk/{keep_minutes}/");
    for byte in digest {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Key::new(text)
}

/// Stores a chunk in every tier that may be written and has room for the `whole` value; newest
/// wins, and both are equal. `policy` says which shared tiers are waited for.
pub(super) async fn store(
    entries: &Entries,
    keep_minutes: u32,
    chunk: Bytes,
    policy: WritePolicy,
    whole: u64,
) -> Result<(Digest, PutOutcome), Error> {
    let digest = digest(&chunk).await;
    let version = entries.next_version();
    // True since ever, so its age may be counted from the version: then the newer of two writes is
    // always the one that lives longer, even if a wall clock was set back between them.
    let entry = Entry::builder(chunk, version, version.wall)
        .fresh_for(Duration::from_secs(60 * u64::from(keep_minutes)))
        .build()?;
    Ok((digest, entries.write_part(&key(keep_minutes, &digest)?, entry, policy, whole).await))
}

/// Whether a local tier still has the chunk: one that is smaller than the value evicts its first
/// chunks for its last ones.
pub(super) async fn is_held(entries: &Entries, keep_minutes: u32, digest: &Digest) -> bool {
    let Ok(key) = key(keep_minutes, digest) else { return false };
    entries.chain().peek_local(&entries.scope(&key)).await.is_some()
}

/// How much longer than a small entry a chunk of `len` bytes may take, with as many beside it as
/// there are.
fn patience(len: usize) -> Duration {
    let beside = len as u64 * SHARED_READ_WINDOW as u64;
    Duration::from_millis(beside * 1000 / LEAST_BYTES_PER_SECOND)
}

/// A chunk as it was found.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    /// Whether it came from a shared tier.
    pub(super) shared: bool,
}

/// Chunk `index` of `manifest`, verified.
pub(super) async fn fetch(
    values: &LargeValues,
    manifest: &Manifest,
    index: u64,
) -> Result<Chunk, LargeError> {
    let chunks = manifest.chunks();
    let stats = values.stats();
    let missing = || {
        stats.chunks_missing.add_one();
        LargeError::ChunkMissing { index, chunks }
    };
    let expected = manifest.digest(index).ok_or_else(missing)?;
    let key = key(manifest.keep_minutes, expected).map_err(|_| missing())?;
    let options = LookupOptions::new().extra_time(patience(manifest.chunk_len(index))).part_of(manifest.len);
    let lookup = values.entries.lookup_with(&key, options).await;
    let shared = lookup.shared;
    let chunk = lookup.hit().ok_or_else(missing)?.into_value();
    if chunk.len() != manifest.chunk_len(index) || digest(&chunk).await != *expected {
        stats.chunks_corrupt.add_one();
        tracing::debug!(index, chunks, "a chunk is not what its manifest lists");
        return Err(LargeError::ChunkCorrupt { index, chunks });
    }
    Ok(Chunk { bytes: chunk, shared })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_within_its_bound_and_differs_by_lifetime() {
        let short = key(16, &[0xab; 32]).unwrap();
        assert_eq!(short.as_str(), format!("peercache/chunk/16/{}", "ab".repeat(32)));
        assert_ne!(short, key(32, &[0xab; 32]).unwrap());
    }
}
