//! A cache backend over a [`BlobStore`].

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Fleet, Freshness, Key,
    Operation, Scope, SystemClock, envelope,
};
use tokio::sync::Semaphore;

use crate::layout::Layout;
use crate::object_cache::{Known, ObjectCache, Turns};
use crate::report::{BlobReport, Counters, Finding, SharedFinding, add};
use crate::store::{Blob, BlobStore, Conditions};

/// After a refused write, the next one asks the store again after this long: permissions can
/// change.
const READ_ONLY_FOR: Duration = Duration::from_secs(600);

/// A [`BlobStore`] as a [`CacheBackend`].
///
/// - **Names.** One blob per key, named by the key's digest below the prefix, holding one envelope.
/// - **Order.** The newest write wins. A store that compares versions itself needs one request per
///   put. With conditions on revisions a put is one request as long as this process knows the state
///   of the blob, and up to 32 rounds of read and write under contention. Without conditions each
///   put reads before and after; two machines that write one key in the same instant may then leave
///   the older entry.
/// - **Expiry.** An expired entry is a miss, whether the store has removed it or not.
/// - **Damage.** A blob that is not what was written is an error of kind `Corrupt`, and the next
///   put of its key replaces it. A blob in a newer format is a miss.
/// - **Permissions.** When the store refuses writes, the backend is read-only for ten minutes.
/// - **Time.** Every call ends within [`BlobBackendBuilder::request_timeout`].
/// - **Memory.** At most [`BlobBackendBuilder::max_concurrent`] calls run at once, each with at
///   most two envelopes; at most 16,384 blobs are remembered by revision.
///
/// Needs a tokio runtime with timers.
pub struct BlobBackend<S> {
    pub(crate) store: S,
    pub(crate) info: BackendInfo,
    pub(crate) layout: Layout,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Counters,
    pub(crate) cache: ObjectCache,
    pub(crate) turns: Turns,
    pub(crate) conditional: SharedFinding,
    pub(crate) detecting: tokio::sync::Mutex<()>,
    pub(crate) writable: SharedFinding,
    /// Why writes are refused, and until when on the monotonic clock.
    refusal: Mutex<Option<(Duration, Error)>>,
    timeout: Duration,
    room: Semaphore,
    closed: AtomicBool,
}

/// Builds a [`BlobBackend`].
#[derive(Clone, Debug)]
#[must_use = "the backend is made by `build`"]
pub struct BlobBackendBuilder<S> {
    store: S,
    prefix: String,
    timeout: Duration,
    concurrent: usize,
    read_only: bool,
    clock: Arc<dyn Clock>,
}

impl<S: BlobStore> BlobBackendBuilder<S> {
    /// The start of every blob's name, at most 512 bytes of letters, digits and `-_./=+@!'()*`.
    /// Default: nothing. Backends of one store that are not to share entries need different
    /// prefixes.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The longest that a get, put or probe may take, however many requests it needs. Default
    /// [`BlobBackend::DEFAULT_REQUEST_TIMEOUT`]; not zero.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many calls run at once; others wait, within their deadline. Default 64, at least 1.
    pub fn max_concurrent(mut self, calls: usize) -> Self {
        self.concurrent = calls.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Never writes: a put is answered with kind `Denied`, and nothing is sent.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The source of time for expiry. Default: the system's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the backend. Nothing is sent to the store.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a prefix that cannot be part of a name, or a timeout of zero.
    pub fn build(self) -> Result<BlobBackend<S>, Error> {
        let name = self.store.info().name.clone();
        if self.timeout.is_zero() {
            return Err(Error::new(
                ErrorKind::Config,
                Operation::Open,
                "the request timeout is zero; the least is 1 ms",
            )
            .with_backend(name));
        }
        let layout = Layout::new(self.store.info().naming).below(&self.prefix);
        Ok(BlobBackend::assemble(self, layout.map_err(|error| error.with_backend(name))?))
    }
}

impl<S: BlobStore> BlobBackend<S> {
    /// How long a call may take unless [`BlobBackendBuilder::request_timeout`] says otherwise.
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
    /// How many calls run at once unless [`BlobBackendBuilder::max_concurrent`] says otherwise.
    pub const DEFAULT_MAX_CONCURRENT: usize = 64;

    /// A backend over `store` with the defaults of [`BlobBackend::builder`].
    pub fn new(store: S) -> Self {
        let layout = Layout::new(store.info().naming);
        Self::assemble(Self::builder(store), layout)
    }

    /// Starts a backend over `store`.
    pub fn builder(store: S) -> BlobBackendBuilder<S> {
        BlobBackendBuilder {
            store,
            prefix: String::new(),
            timeout: Self::DEFAULT_REQUEST_TIMEOUT,
            concurrent: Self::DEFAULT_MAX_CONCURRENT,
            read_only: false,
            clock: Arc::new(SystemClock::new()),
        }
    }

    fn assemble(builder: BlobBackendBuilder<S>, layout: Layout) -> Self {
        let about = builder.store.info();
        let capabilities = match about.scope {
            Scope::Local => Capabilities::local(),
            Scope::Shared => Capabilities::shared(),
        };
        // Also without conditions: within a process writes take turns, and across processes the
        // order is a best effort that the chain's own comparison could not better. `BlobReport`
        // tells.
        let capabilities = capabilities
            .with_ordered_writes()
            .with_native_expiry()
            .with_max_value_bytes(about.max_value_bytes);
        let capabilities = if about.durable { capabilities.with_durable() } else { capabilities };
        let capabilities = if builder.read_only { capabilities.with_read_only() } else { capabilities };
        let conditional = match about.conditions {
            Conditions::None => Finding::No,
            Conditions::Detect => Finding::Unknown,
            Conditions::Revisions | Conditions::Versions => Finding::Yes,
        };
        Self {
            info: BackendInfo::new(about.name.clone(), capabilities),
            store: builder.store,
            layout,
            clock: builder.clock,
            counters: Counters::default(),
            cache: ObjectCache::default(),
            turns: Turns::default(),
            conditional: SharedFinding::new(conditional),
            detecting: tokio::sync::Mutex::new(()),
            writable: SharedFinding::default(),
            refusal: Mutex::default(),
            timeout: builder.timeout,
            room: Semaphore::new(builder.concurrent),
            closed: AtomicBool::new(false),
        }
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The start of every blob's name: empty, or with a `/` at its end.
    pub fn prefix(&self) -> &str {
        self.layout.prefix()
    }

    /// The name of the blob that holds the entry under `key`.
    pub fn blob_name(&self, key: &Key) -> String {
        self.layout.name(key)
    }

    /// What the backend has done since it was made.
    #[must_use]
    pub fn report(&self) -> BlobReport {
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BlobReport {
            store: self.info.name.to_string(),
            prefix: self.layout.prefix().to_owned(),
            reads: read(&counters.reads),
            writes: read(&counters.writes),
            conflicts: read(&counters.conflicts),
            corrupt: read(&counters.corrupt),
            timeouts: read(&counters.timeouts),
            bytes_in: read(&counters.bytes_in),
            bytes_out: read(&counters.bytes_out),
            conditional: self.conditional.get(),
            writable: if self.info.capabilities.writable { self.writable.get() } else { Finding::No },
        }
    }

    /// Runs `call` as the backend runs its own: refused once closed, within the deadline and the
    /// bound on concurrent calls. For what a store offers beyond reading and writing blobs.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] once closed, [`ErrorKind::Timeout`] at the deadline, else the
    /// call's.
    pub async fn run<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, operation, "the backend is closed")
                .with_backend(self.info.name.clone())
                .with_temporary(false));
        }
        let bounded = async {
            // The semaphore is never closed.
            let _permit = self.room.acquire().await;
            call.await
        };
        match tokio::time::timeout(self.timeout, bounded).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(error.with_backend(self.info.name.clone())),
            Err(_) => {
                add(&self.counters.timeouts, 1);
                Err(self
                    .error(ErrorKind::Timeout, operation, "the store did not answer within the deadline")
                    .with_context("milliseconds", self.timeout.as_millis()))
            }
        }
    }

    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation, message: &'static str) -> Error {
        Error::new(kind, operation, message).with_backend(self.info.name.clone())
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Notes that the store refuses writes, and returns the error to answer with.
    pub(crate) fn note_read_only(&self, why: Error) -> Error {
        let why = why.with_backend(self.info.name.clone());
        let until = self.monotonic().saturating_add(READ_ONLY_FOR);
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, why.clone()));
        if self.writable.replace(Finding::No) != Finding::No {
            tracing::warn!(backend = %self.info.name, "the backend is read-only for ten minutes: {why}");
        }
        why
    }

    fn refuse_read_only(&self) -> Result<(), Error> {
        if !self.info.capabilities.writable {
            return Err(self.error(ErrorKind::Denied, Operation::Put, "the backend is read-only"));
        }
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        match &*refusal {
            Some((until, why)) if self.monotonic() < *until => {
                let left = until.saturating_sub(self.monotonic()).as_secs();
                Err(why.clone().with_context("asked-again-in-seconds", left))
            }
            Some(_) => {
                *refusal = None;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn refuse_too_large(&self, entry: &Entry) -> Result<(), Error> {
        let (bytes, most) = (entry.value().len(), self.info.capabilities.max_value_bytes);
        if bytes <= most {
            return Ok(());
        }
        Err(self
            .error(ErrorKind::TooLarge, Operation::Put, "the value is larger than the store takes")
            .with_context("bytes", bytes)
            .with_context("most", most))
    }

    /// Reads a blob and counts it.
    pub(crate) async fn fetch(&self, name: &str) -> Result<Option<Blob>, Error> {
        add(&self.counters.reads, 1);
        self.store.read(name).await
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let Some(blob) = self.fetch(&self.layout.name(key)).await? else {
            self.cache.forget(key);
            return Ok(None);
        };
        self.decode(key, blob)
    }

    /// The entry in a blob that the store holds for `key`, as [`CacheBackend::get`] returns it:
    /// `None` for an expired one and for one in a newer format. For what a store offers beyond
    /// reading blobs.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is not what was written; the next put of this key replaces
    /// it.
    pub fn decode(&self, key: &Key, blob: Blob) -> Result<Option<Entry>, Error> {
        let now = self.clock.now();
        // Where the store compares versions itself, a write never asks for a revision that a lookup
        // has seen.
        let revision = if self.remembers_revisions() { blob.revision() } else { None };
        let bytes = match blob.into_content() {
            Ok(bytes) => bytes,
            Err(length) => {
                self.note_corrupt(key, Known::unreadable(revision));
                return Err(self
                    .error(ErrorKind::Corrupt, Operation::Get, "the stored blob is larger than any entry")
                    .with_context("object", key.fingerprint())
                    .with_context("bytes", length)
                    .with_help("the next put of this key replaces it"));
            }
        };
        add(&self.counters.bytes_in, bytes.len() as u64);
        match envelope::decode(key, bytes) {
            Ok(entry) => {
                if self.remembers_revisions() {
                    self.cache.note(key, Known::holding(&entry, revision), now);
                }
                Ok((entry.freshness(now) != Freshness::Expired).then_some(entry))
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.cache.note(key, Known::unreadable(revision), now);
                Ok(None)
            }
            Err(error) => {
                self.note_corrupt(key, Known::unreadable(revision));
                Err(self
                    .error(ErrorKind::Corrupt, Operation::Get, "the stored blob is not what was written")
                    .with_context("object", key.fingerprint())
                    .with_source(error)
                    .with_help("the next put of this key replaces it"))
            }
        }
    }

    fn note_corrupt(&self, key: &Key, known: Known) {
        add(&self.counters.corrupt, 1);
        self.cache.note(key, known, self.clock.now());
    }

    /// Whether what a blob holds is worth remembering: not where the store compares versions
    /// itself.
    pub(crate) fn remembers_revisions(&self) -> bool {
        self.store.info().conditions != Conditions::Versions
    }
}

impl<S: fmt::Debug> fmt::Debug for BlobBackend<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobBackend")
            .field("store", &self.store)
            .field("prefix", &self.layout.prefix())
            .finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: BlobStore> CacheBackend for BlobBackend<S> {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        // Pinned here: moving it into `run` and on would copy it each time.
        let call = pin!(self.read(key));
        self.run(Operation::Get, call).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        let call = pin!(async {
            self.refuse_read_only()?;
            self.refuse_too_large(&entry)?;
            self.write(key, &entry).await
        });
        self.run(Operation::Put, call).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.run(Operation::Probe, self.store.probe()).await
    }

    async fn close(&self) -> Result<(), Error> {
        // A put is acknowledged by the store, so there is nothing to flush.
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.store.close().await.map_err(|error| error.with_backend(self.info.name.clone()))
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        None
    }
}
