//! The S3 backend itself.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use peercache_api::{BackendInfo, CacheBackend, Entry, Error, ErrorKind, Fleet, Key};
use peercache_blob::BlobBackend;

use crate::bucket::Bucket;
use crate::report::S3Report;

/// A bucket of S3 or of a store that speaks its protocol, as a tier.
///
/// [`BlobBackend`] over the bucket: names, order, expiry, damage and read-only detection are
/// described there. What is S3's own:
///
/// - **Requests.** A lookup is one `GET`. A put is one `PUT`, unless another machine wrote the key
///   since this process last saw it; the first put of a process also sends two that find out
///   whether the store honours conditional writes.
/// - **Time.** A get, put or probe ends within its deadline
///   ([`S3Builder::request_timeout`](crate::S3Builder::request_timeout)), whatever the store does.
///   A request that meets an accident is sent once more within it. One that is throttled is not,
///   and a `Retry-After` is obeyed by sending nothing until then.
/// - **Refusals.** Wrong credentials, a missing bucket, a wrong region: each a distinct error,
///   which is answered from memory for five seconds before the store is asked again.
///
/// Needs a tokio runtime. Cheap to open: nothing is sent.
pub struct S3 {
    pub(crate) blobs: BlobBackend<Bucket>,
    pub(crate) region: String,
    pub(crate) endpoint: Option<String>,
}

impl S3 {
    /// How long an operation may take unless told otherwise.
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

    pub(crate) fn bucket(&self) -> &Bucket {
        self.blobs.store()
    }

    /// What the tier has done since it was opened, and what it has found out about the store.
    #[must_use]
    pub fn report(&self) -> S3Report {
        let (blobs, counters) = (self.blobs.report(), &self.bucket().counters);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        S3Report {
            bucket: self.bucket().target.bucket.clone(),
            prefix: blobs.prefix,
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            requests: counters.requests(),
            bytes_in: read(&counters.bytes_in),
            bytes_out: read(&counters.bytes_out),
            throttled: read(&counters.throttled),
            held_back: read(&counters.held_back),
            retries: read(&counters.retries),
            conflicts: blobs.conflicts,
            corrupt: blobs.corrupt,
            timeouts: blobs.timeouts,
            conditional: blobs.conditional,
            writable: blobs.writable,
        }
    }

    /// A timeout while the credentials are still being loaded has another cause than a slow bucket.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Timeout || !self.bucket().loader.is_loading() {
            return error;
        }
        Error::new(
            ErrorKind::Timeout,
            error.operation(),
            "the credentials for the bucket were not loaded within the deadline",
        )
        .with_backend("s3")
        .with_context("milliseconds", error.context("milliseconds").unwrap_or("unknown"))
        .with_help(
            "see what provides them (AWS_PROFILE with credential_process, a web identity, the metadata \
             service of the machine); loading goes on in the background",
        )
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3")
            .field("bucket", &self.bucket().target.bucket)
            .field("prefix", &self.blobs.prefix())
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for S3 {
    fn info(&self) -> &BackendInfo {
        self.blobs.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.blobs.get(key).await.map_err(|error| self.explain(error))
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.blobs.put(key, entry).await.map_err(|error| self.explain(error))
    }

    async fn probe(&self) -> Result<(), Error> {
        self.blobs.probe().await.map_err(|error| self.explain(error))
    }

    async fn close(&self) -> Result<(), Error> {
        self.blobs.close().await
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
