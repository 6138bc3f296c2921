//! The tier itself.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Entry, Error, ErrorKind, Fleet, Freshness, Key, Operation,
    envelope,
};

use crate::builder::S3Builder;
use crate::known::{Known, Memory, Turns};
use crate::layout::Layout;
use crate::report::{Finding, S3Report, SharedFinding, add};
use crate::store::Store;
use crate::trouble::Trouble;

/// After a refused write, one is let through again after this long: permissions can be mended while we run.
const READ_ONLY_FOR: Duration = Duration::from_secs(600);

/// A bucket of S3 or of a store that speaks its protocol, as a tier.
///
/// - **Layout.** One object per key, `PREFIX/ab/cd/REST` by the key's digest, holding one envelope.
/// - **Requests.** A lookup is one `GET`. A put is one `PUT`, unless another machine wrote the key since this
///   process last saw it; the first put of a process also sends two that find out whether the store
///   honours conditional writes.
/// - **Order.** The newest write wins, by `If-None-Match` and `If-Match`. On a store that ignores them each
///   write looks before and after; two machines that write one key in the same instant may then leave the
///   older entry there. [`S3::report`] says which it is.
/// - **Time.** A get, put or probe ends within its deadline ([`S3Builder::request_timeout`]), whatever
///   the store does. A request that meets an accident is sent once more within it; one that is throttled is
///   not, and a `Retry-After` is obeyed by sending nothing until then.
/// - **Refusals.** Wrong credentials, a missing bucket, a wrong region: each a distinct error, which is
///   answered from memory for five seconds before the store is asked again. Credentials that may not write
///   make it a read-only tier, for ten minutes at a time.
/// - **Memory.** At most 64 operations at once, each with at most two envelopes; at most 16,384 objects
///   are remembered by entity tag.
///
/// Needs a tokio runtime. Cheap to open: nothing is sent.
pub struct S3 {
    pub(crate) info: BackendInfo,
    pub(crate) store: Store,
    pub(crate) layout: Layout,
    pub(crate) memory: Memory,
    pub(crate) turns: Turns,
    pub(crate) conditional: SharedFinding,
    pub(crate) finding: tokio::sync::Mutex<()>,
    pub(crate) writable: SharedFinding,
    /// Milliseconds of the monotonic clock; a write is refused before.
    pub(crate) read_only_until: AtomicU64,
    pub(crate) region: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) closed: AtomicBool,
}

impl S3 {
    /// What an operation may take unless told otherwise.
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

    /// Starts with a bucket; credentials and region are the SDK's own unless given.
    pub fn builder(bucket: impl Into<String>) -> S3Builder {
        S3Builder::new(bucket.into())
    }

    /// What the tier has done since it was opened, and what it has found out about the store.
    #[must_use]
    pub fn report(&self) -> S3Report {
        let counters = &self.store.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        S3Report {
            bucket: self.store.bucket.clone(),
            prefix: self.layout.prefix().to_owned(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            requests: counters.requests(),
            bytes_in: read(&counters.bytes_in),
            bytes_out: read(&counters.bytes_out),
            throttled: read(&counters.throttled),
            held_back: read(&counters.held_back),
            retries: read(&counters.retries),
            conflicts: read(&counters.conflicts),
            corrupt: read(&counters.corrupt),
            timeouts: read(&counters.timeouts),
            conditional: self.conditional.get(),
            writable: if self.info.capabilities.writable { self.writable.get() } else { Finding::No },
        }
    }

    pub(crate) fn refuse_closed(&self, operation: Operation) -> Result<(), Error> {
        if !self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, operation, "the S3 tier is closed")
            .with_backend("s3")
            .with_temporary(false))
    }

    fn monotonic_millis(&self) -> u64 {
        u64::try_from(self.store.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    /// The error of a write that failed; makes the tier read-only where the credentials may not write.
    pub(crate) fn refused_write(&self, trouble: Trouble) -> Error {
        if trouble.is_access_denied() {
            let until = self.monotonic_millis().saturating_add(READ_ONLY_FOR.as_millis() as u64);
            self.read_only_until.store(until, Ordering::Release);
            if self.writable.get() != Finding::No {
                tracing::warn!("the credentials may not write to the bucket: the S3 tier is read-only");
            }
            self.writable.set(Finding::No);
        }
        self.store.fail(trouble, Operation::Put)
    }

    fn refuse_read_only(&self) -> Result<(), Error> {
        let denied = |message: &'static str| {
            Error::new(ErrorKind::Denied, Operation::Put, message)
                .with_backend("s3")
                .with_context("bucket", &self.store.bucket)
        };
        if !self.info.capabilities.writable {
            return Err(denied("the tier is read-only"));
        }
        if self.writable.get() == Finding::No
            && self.monotonic_millis() < self.read_only_until.load(Ordering::Acquire)
        {
            return Err(denied("the tier is read-only: the credentials may not write to the bucket")
                .with_help("allow s3:PutObject, or set CACHE_READ_ONLY=true if they are not to write"));
        }
        Ok(())
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let name = self.layout.object(key);
        let object = match self.store.get(&name, Operation::Get).await {
            Ok(Some(object)) => object,
            Ok(None) => {
                self.memory.forget(key);
                return Ok(None);
            }
            Err(trouble) => {
                if let Trouble::TooLong(_, etag) = &trouble {
                    add(&self.store.counters.corrupt, 1);
                    self.memory.note(key, Known::unreadable(etag.clone()), self.store.clock.now());
                }
                return Err(self.store.fail(trouble, Operation::Get));
            }
        };
        let now = self.store.clock.now();
        match envelope::decode(key, object.body) {
            Ok(entry) => {
                self.memory.note(key, Known::holding(&entry, object.etag), now);
                Ok((entry.freshness(now) != Freshness::Expired).then_some(entry))
            }
            Err(error) => {
                self.memory.note(key, Known::unreadable(object.etag), now);
                if error.kind() == ErrorKind::Unsupported {
                    return Ok(None);
                }
                add(&self.store.counters.corrupt, 1);
                Err(Error::new(ErrorKind::Corrupt, Operation::Get, "the object is not what was written")
                    .with_backend("s3")
                    .with_context("object", key.fingerprint())
                    .with_source(error)
                    .with_help("the next put of this key replaces it"))
            }
        }
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3")
            .field("bucket", &self.store.bucket)
            .field("prefix", &self.layout.prefix())
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// What is declared, once and before the store was asked anything. On a store without conditional writes the order
/// is a best effort; that is found out later, and told by [`S3Report::conditional`].
pub(crate) fn capabilities(read_only: bool) -> Capabilities {
    let all = Capabilities::shared().with_ordered_writes().with_native_expiry().with_durable();
    if read_only { all.with_read_only() } else { all }
}

#[async_trait]
impl CacheBackend for S3 {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.refuse_closed(Operation::Get)?;
        self.store.within(Operation::Get, self.read(key)).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.refuse_closed(Operation::Put)?;
        self.refuse_read_only()?;
        self.store.within(Operation::Put, self.write(key, &entry)).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.refuse_closed(Operation::Probe)?;
        let name = self.layout.probe();
        let ask = async {
            match self.store.get(&name, Operation::Probe).await {
                // Whether it is there or not: the store knows the bucket and takes our signature.
                Ok(_) | Err(Trouble::TooLong(..)) => Ok(()),
                Err(trouble) => Err(self.store.fail(trouble, Operation::Probe)),
            }
        };
        self.store.within(Operation::Probe, ask).await
    }

    async fn close(&self) -> Result<(), Error> {
        // A put is acknowledged by the store, so there is nothing to flush.
        self.closed.store(true, Ordering::Release);
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
