//! What the tier has done and what it costs: counted where requests are sent.

use std::sync::atomic::{AtomicU64, Ordering};

use peercache_blob::Finding;
use serde::Serialize;

/// A request as the store's price list knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Get,
    Put,
    Lifecycle,
}

/// Counters of one tier.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    gets: AtomicU64,
    puts: AtomicU64,
    lifecycle: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) throttled: AtomicU64,
    pub(crate) held_back: AtomicU64,
    pub(crate) retries: AtomicU64,
}

/// Adds `amount` to a counter.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn sent(&self, request: Request) {
        add(
            match request {
                Request::Get => &self.gets,
                Request::Put => &self.puts,
                Request::Lifecycle => &self.lifecycle,
            },
            1,
        );
    }

    pub(crate) fn requests(&self) -> Requests {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Requests { get: read(&self.gets), put: read(&self.puts), lifecycle: read(&self.lifecycle) }
    }
}

/// Requests sent by this process since it opened the tier, retries included: what a store charges
/// for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Requests {
    /// `GetObject`: lookups, looks after a lost write, probes.
    pub get: u64,
    /// `PutObject`: writes, lost ones too, and at most three that find out whether conditions are
    /// honoured.
    pub put: u64,
    /// Reading and writing the bucket's lifecycle configuration.
    pub lifecycle: u64,
}

/// What the tier has done since it was opened by this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct S3Report {
    /// The bucket.
    pub bucket: String,
    /// What every object's name begins with; empty, or with a `/` at its end.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The endpoint, if it is not AWS's own. Without credentials that its URL may hold.
    pub endpoint: Option<String>,
    /// Requests by kind.
    pub requests: Requests,
    /// Bytes of objects that were read.
    pub bytes_in: u64,
    /// Bytes of objects that were sent, lost writes included.
    pub bytes_out: u64,
    /// Answers that asked for fewer requests.
    pub throttled: u64,
    /// Calls that were refused here because the store had asked to wait or had refused us just
    /// before.
    pub held_back: u64,
    /// Requests that were sent a second time.
    pub retries: u64,
    /// Writes that found something else in the object than expected.
    pub conflicts: u64,
    /// Objects that were not what was written.
    pub corrupt: u64,
    /// Calls that did not end within their deadline.
    pub timeouts: u64,
    /// Whether the store honours `If-None-Match` and `If-Match` on writes. Found out at the first
    /// write.
    pub conditional: Finding,
    /// Whether these credentials may write. Found out at the first write.
    pub writable: Finding,
}
