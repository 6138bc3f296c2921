//! What a blob backend has done, and what it has found out about its store.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use serde::Serialize;

/// What is not known until the store was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// Not asked yet.
    Unknown,
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// A [`Finding`] that several tasks share.
#[derive(Debug, Default)]
pub(crate) struct SharedFinding(AtomicU8);

impl SharedFinding {
    pub(crate) fn new(finding: Finding) -> Self {
        Self(AtomicU8::new(finding as u8))
    }

    pub(crate) fn set(&self, finding: Finding) {
        self.0.store(finding as u8, Ordering::Release);
    }

    /// As [`SharedFinding::set`]; gives what was there before.
    pub(crate) fn replace(&self, finding: Finding) -> Finding {
        Self::named(self.0.swap(finding as u8, Ordering::AcqRel))
    }

    pub(crate) fn get(&self) -> Finding {
        Self::named(self.0.load(Ordering::Acquire))
    }

    fn named(number: u8) -> Finding {
        match number {
            1 => Finding::Yes,
            2 => Finding::No,
            _ => Finding::Unknown,
        }
    }
}

/// Counters of one backend.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) corrupt: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

/// Adds `amount` to a counter.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// What a [`BlobBackend`](crate::BlobBackend) has done since this process opened it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BlobReport {
    /// The name of the store.
    pub store: String,
    /// The start of every blob's name; empty, or with a `/` at its end.
    pub prefix: String,
    /// Reads that the store was asked for: lookups, and reads before or after a write.
    pub reads: u64,
    /// Writes that the store was asked for, those that lost included.
    pub writes: u64,
    /// Writes that found something else in the blob than expected.
    pub conflicts: u64,
    /// Blobs that are not what was written.
    pub corrupt: u64,
    /// Calls that did not end within their deadline.
    pub timeouts: u64,
    /// Bytes of blobs that were read.
    pub bytes_in: u64,
    /// Bytes of blobs that were sent, those of lost writes included.
    pub bytes_out: u64,
    /// Whether the store honours conditions on writes. May be found out at the first write only.
    pub conditional: Finding,
    /// Whether this process may write. Found out at the first write.
    pub writable: Finding,
}
