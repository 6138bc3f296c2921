//! What went wrong with large values, counted where it is noticed.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Why large values that were there could not be served. The chain's own counters see each chunk
/// and each manifest as an entry of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LargeReport {
    /// Chunks that no tier gave: expired, evicted, or their tier failed.
    pub chunks_missing: u64,
    /// Chunks that were given and are not what the manifest lists.
    pub chunks_corrupt: u64,
    /// Manifests that are damaged or of a format that this build does not read.
    pub manifests_unreadable: u64,
    /// Values that were asked for as a whole and are above [`crate::stream::MAX_WHOLE_BYTES`].
    pub values_too_large: u64,
}

/// The counters behind a [`LargeReport`].
#[derive(Debug, Default)]
pub(super) struct LargeStats {
    pub(super) chunks_missing: Count,
    pub(super) chunks_corrupt: Count,
    pub(super) manifests_unreadable: Count,
    pub(super) values_too_large: Count,
}

impl LargeStats {
    pub(super) fn report(&self) -> LargeReport {
        LargeReport {
            chunks_missing: self.chunks_missing.get(),
            chunks_corrupt: self.chunks_corrupt.get(),
            manifests_unreadable: self.manifests_unreadable.get(),
            values_too_large: self.values_too_large.get(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
