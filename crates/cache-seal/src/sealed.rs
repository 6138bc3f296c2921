//! The backend that seals what goes into another one, and opens what comes out.

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use peercache_api::{
    BackendInfo, CacheBackend, Clock, Entry, Error, ErrorKind, Fleet, Freshness, Key, Operation, SystemClock,
};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::format::{self, MAX_OVERHEAD_BYTES};
use crate::keyring::Keyring;
use crate::keys::{Keys, Place};
use crate::secret::KeyId;
use crate::stats::{Counters, Rejection, SealStats};
use crate::unsealing::Unsealing;

/// From this many bytes on, the work moves off the runtime's own threads: it takes a good part of a
/// millisecond, which others must not wait for.
const BLOCKING_BYTES: usize = 128 * 1024;

/// How many such pieces of work run at once in this process, whatever the number of tiers: two, or
/// one on a single core. Each thread that has held a copy of an entry keeps some of that memory, in
/// an arena of its own in the system's allocator, and two seal more than any network takes.
static AT_ONCE: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2)))
});

/// A backend around another: those who hold what the inner one stores can neither read nor change
/// it.
///
/// - Keys are blinded, values encrypted, both bound to each other and to version and lifetime.
/// - Every entry is signed. A read-only secret opens and verifies, and cannot make one: `put` is
///   then refused with kind `Denied` and the capabilities say so.
/// - What does not verify is an error of kind `Corrupt`, never a value; what another secret sealed
///   is absent. [`Sealed::stats`] counts both by reason.
/// - The value limit is the inner one's less [`MAX_OVERHEAD_BYTES`].
///
/// Sizes, times, versions and which keys are used together stay visible; `docs/design/sealing.md`
/// has the list.
///
/// Cancellation is as for every backend: a put that is dropped has happened wholly or not, except
/// that a removal may by then have been written under some secrets of the ring and not under the
/// others.
pub struct Sealed<B> {
    pub(crate) inner: B,
    info: BackendInfo,
    /// The current one first. Never empty.
    pub(crate) ring: Ring,
    pub(crate) counters: Arc<Counters>,
    /// Those who were given to the inner backend, kept for as long as who listens to them is there.
    watchers: Mutex<Vec<Arc<Unsealing>>>,
    pub(crate) clock: Arc<dyn Clock>,
    compress: bool,
}

#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) current: Arc<Keys>,
    pub(crate) old: Vec<Arc<Keys>>,
}

impl<B: CacheBackend> Sealed<B> {
    /// Seals what goes into `inner`, with the system's clock, and compresses where that helps.
    pub fn new(keyring: impl Into<Keyring>, inner: B) -> Self {
        Self::builder(keyring, inner).build()
    }

    /// Starts with the system's clock and compression.
    pub fn builder(keyring: impl Into<Keyring>, inner: B) -> SealedBuilder<B> {
        SealedBuilder { keyring: keyring.into(), inner, clock: Arc::new(SystemClock::new()), compress: true }
    }

    /// The backend inside, for its own statistics. What it stores is sealed.
    pub const fn inner(&self) -> &B {
        &self.inner
    }

    /// Which secret writes.
    pub fn key_id(&self) -> KeyId {
        self.ring.current.id()
    }

    /// What was sealed, opened and refused so far.
    pub fn stats(&self) -> SealStats {
        self.counters.read()
    }

    /// What is stored for `key` under one secret.
    async fn get_under(&self, keys: &Arc<Keys>, key: &Key) -> Result<Option<Entry>, Error> {
        let place = keys.place(key)?;
        let Some(outer) = self.inner.get(&place.key).await? else {
            return Ok(None);
        };
        self.open(keys, key, place, outer).await
    }

    pub(crate) async fn open(
        &self,
        keys: &Arc<Keys>,
        key: &Key,
        place: Place,
        outer: Entry,
    ) -> Result<Option<Entry>, Error> {
        let (keys, key) = (Arc::clone(keys), key.clone());
        let opened =
            off_the_runtime(outer.value().len(), move || format::open(&keys, &key, &place, outer)).await?;
        match opened {
            Ok(entry) => {
                self.counters.opened();
                Ok(Some(entry))
            }
            Err(why) => self.rejected(why).map_or(Ok(None), Err),
        }
    }

    /// Counts it, and gives the error for it unless it reads as absent.
    pub(crate) fn rejected(&self, why: Rejection) -> Option<Error> {
        self.counters.rejected(why);
        (!matches!(why, Rejection::Foreign | Rejection::Private)).then(|| {
            self.error(ErrorKind::Corrupt, Operation::Get, format!("the stored entry is refused: {why}"))
        })
    }

    /// Seals `entry` with `keys` and stores it at `place`.
    pub(crate) async fn put_at(
        &self,
        keys: &Arc<Keys>,
        key: &Key,
        place: Place,
        entry: Entry,
    ) -> Result<(), Error> {
        let (stored_at, compress) = (place.key.clone(), self.compress);
        let (keys, key) = (Arc::clone(keys), key.clone());
        let sealing =
            off_the_runtime(entry.value().len(), move || format::seal(&keys, &key, &place, &entry, compress))
                .await?
                .map_err(|error| error.with_backend(self.info.name.clone()))?;
        self.counters.sealed(sealing.compressed);
        self.inner.put(&stored_at, sealing.entry).await
    }

    /// Removes under every secret that can write, so that neither an entry of before a rotation
    /// comes back nor a process that has only the former secret keeps serving it.
    async fn put_tombstone(&self, key: &Key, tombstone: Entry) -> Result<(), Error> {
        let writers = self.ring.all().filter(|keys| keys.can_write());
        try_join_all(writers.map(|keys| {
            let tombstone = tombstone.clone();
            async move { self.put_at(keys, key, keys.place(key)?, tombstone).await }
        }))
        .await
        .map(drop)
    }

    /// Keeps `watcher`, and lets go of those that nobody listens to any more.
    pub(crate) fn keep_watcher(&self, watcher: Arc<Unsealing>) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| watcher.has_watcher());
        watchers.push(watcher);
    }

    pub(crate) fn error(&self, kind: ErrorKind, operation: Operation, message: impl Into<String>) -> Error {
        Error::new(kind, operation, message.into()).with_backend(self.info.name.clone())
    }
}

impl Ring {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Keys>> {
        std::iter::once(&self.current).chain(&self.old)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for Sealed<B> {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    /// With former secrets on the ring, looks under all of them at once and returns the newest
    /// write.
    ///
    /// A failure under the current secret is the answer, and so is a store that fails under any:
    /// what it hides could be a removal.
    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let current = self.get_under(&self.ring.current, key);
        let now = || self.clock.now();
        let newest = if self.ring.old.is_empty() {
            current.await?
        } else {
            let old = join_all(self.ring.old.iter().map(|keys| self.get_under(keys, key)));
            let (current, old) = futures_util::future::join(current, old).await;
            let mut newest = current?;
            let mut damaged = None;
            for found in old {
                match found {
                    Ok(Some(entry)) if newest.as_ref().is_none_or(|known| entry.supersedes(known, now())) => {
                        newest = Some(entry);
                    }
                    Ok(_) => {}
                    // Its loss is no greater than if the store had dropped it, which it can at any
                    // time.
                    Err(error) if error.kind() == ErrorKind::Corrupt => damaged = Some(error),
                    Err(error) => return Err(error),
                }
            }
            match (newest, damaged) {
                (None, Some(error)) => return Err(error),
                (newest, _) => newest,
            }
        };
        // A store that keeps expired entries, or lies about them, cannot pass them on.
        Ok(newest.filter(|entry| entry.freshness(now()) != Freshness::Expired))
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        if !self.ring.current.can_write() {
            return Err(self
                .error(ErrorKind::Denied, Operation::Put, format!("this process has a secret that cannot make entries ({})", self.ring.current.rights()))
                .with_help(
                    "to write, set CACHE_SECRET to the full secret (pc-secret-1-…); leave it so for jobs of untrusted pull requests",
                ));
        }
        if entry.is_tombstone() {
            return self.put_tombstone(key, entry).await;
        }
        let (bytes, most) = (entry.value().len(), self.info.capabilities.max_value_bytes);
        if bytes > most {
            return Err(self.error(
                ErrorKind::TooLarge,
                Operation::Put,
                format!("the value has {bytes} bytes, sealed it takes at most {most}"),
            ));
        }
        let keys = &self.ring.current;
        self.put_at(keys, key, keys.place(key)?, entry).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.inner.probe().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        self.inner.fleet().map(|_| self as &dyn Fleet)
    }
}

impl<B: fmt::Debug> fmt::Debug for Sealed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("current", &self.ring.current)
            .field("old", &self.ring.old)
            .field("stats", &self.counters.read())
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// Builds a [`Sealed`].
#[derive(Debug)]
#[must_use = "the backend is made by `build`"]
pub struct SealedBuilder<B> {
    keyring: Keyring,
    inner: B,
    clock: Arc<dyn Clock>,
    compress: bool,
}

impl<B: CacheBackend> SealedBuilder<B> {
    /// Where the time comes from: it decides which entries have expired or claim to be from the
    /// future.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Whether values above 1 KiB are compressed where that saves more than a tenth; the default.
    /// The stored size then tells something about the content. Switch it off where others can put
    /// text of their choice beside yours in one value, and can see sizes.
    pub fn compression(mut self, on: bool) -> Self {
        self.compress = on;
        self
    }

    /// The backend.
    #[must_use]
    pub fn build(self) -> Sealed<B> {
        let keys = |secret| Arc::new(Keys::new(secret));
        let ring =
            Ring { current: keys(&self.keyring.current), old: self.keyring.old.iter().map(keys).collect() };
        let inner = self.inner.info();
        let most = inner.capabilities.max_value_bytes.saturating_sub(MAX_OVERHEAD_BYTES);
        let mut capabilities = inner.capabilities.with_max_value_bytes(most);
        if !ring.current.can_write() {
            capabilities = capabilities.with_read_only();
        }
        Sealed {
            info: BackendInfo::new(format!("sealed({})", inner.name), capabilities),
            inner: self.inner,
            ring,
            counters: Arc::default(),
            watchers: Mutex::default(),
            clock: self.clock,
            compress: self.compress,
        }
    }
}

/// Does `work` on `bytes` bytes, on a thread that may be blocked if that takes long.
async fn off_the_runtime<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let Some(runtime) = (bytes >= BLOCKING_BYTES).then(Handle::try_current).and_then(Result::ok) else {
        return Ok(work());
    };
    // It is never closed. The permit goes with the work, which runs to its end also when nobody
    // waits.
    let permit = AT_ONCE.acquire().await;
    let work = move || {
        let _permit = permit;
        work()
    };
    match runtime.spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(broken) if broken.is_panic() => std::panic::resume_unwind(broken.into_panic()),
        Err(_) => Err(Error::new(ErrorKind::Unavailable, Operation::Encode, "the runtime is shutting down")
            .with_temporary(false)),
    }
}
