//! The disk tier: one directory with an SQLite index, shared by every process of the machine.

mod blob;
mod directory;
mod engine;
mod failure;
mod index;
mod mapped;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use peercache_api::envelope::{HEADER_BYTES, MAX_METADATA_BYTES};
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Key, MAX_VALUE_BYTES, Operation,
    SystemClock, Timestamp,
};
use tokio::sync::Semaphore;

use engine::Engine;

/// Reads that run at once, each on a connection and a blocking thread of its own.
const READERS: u32 = 4;
/// What an entry may take besides its value: metadata, and the pages of an index that holds nothing
/// else.
const MAX_CHARGE: u64 = (HEADER_BYTES + MAX_METADATA_BYTES) as u64 + 128 * 1024;

/// The disk tier: entries that survive the process, in one directory that any number of processes
/// of this machine may use at once.
///
/// - **Layout.** `index.sqlite` (SQLite, write-ahead log) holds envelopes up to 64 KiB; larger ones
///   are files below `blobs/`. Keys are stored as digests only. An index of a release with another
///   schema is left as it is, and this one's files lie in `schema-1/` beside it.
/// - **Owner.** The directory is made with mode 0700, files with 0600; one that others can write,
///   or that belongs to another user, is refused. Root may use another user's directory: what it
///   makes there belongs to that user. The directory is held open, so another one in its place is
///   noticed.
/// - **Opening** writes nothing where there is an index, evicts nothing, and costs the same however
///   much the directory holds. A full disk is read as usual, and a put on it makes room by
///   evicting.
/// - **Durability.** What `put` acknowledged survives `kill -9` of this or any process. A power cut
///   may take the last writes, never tear one.
/// - **Bound.** The pages of the index that are in use, and all files, those that a killed process
///   left included, stay within the capacity across all processes; the least recently used go
///   first. Besides it the directory holds a log of about 2 MiB, up to 4 MiB of spare pages, and at
///   most one quarantined index of at most 64 MiB.
/// - **Damage.** Every read is verified. A damaged entry is removed, counted and answered with kind
///   `Corrupt`; a damaged index is moved to `quarantine/` and made anew, and the operation
///   repeated. A directory that vanishes is made again.
/// - **Runtime.** All work runs on tokio's blocking threads: at most four reads and one write at a
///   time. Dropping a future leaves its job to end by itself.
///
/// A file system that several machines mount is not supported, and Unix only.
pub struct Disk {
    info: BackendInfo,
    engine: Arc<Engine>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    closed: Arc<AtomicBool>,
}

impl Disk {
    /// What a directory holds by default: 1 GiB.
    pub const DEFAULT_CAPACITY: u64 = 1 << 30;
    /// The least capacity: 1 MiB.
    pub const MIN_CAPACITY: u64 = 1 << 20;

    /// Opens the directory with a capacity of [`Disk::DEFAULT_CAPACITY`] and the system's clock.
    ///
    /// # Errors
    /// As [`DiskBuilder::open`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::builder(dir).open()
    }

    /// Starts with the defaults of [`Disk::open`].
    pub fn builder(dir: impl Into<PathBuf>) -> DiskBuilder {
        DiskBuilder { dir: dir.into(), capacity: Self::DEFAULT_CAPACITY, clock: Arc::new(SystemClock::new()) }
    }

    /// The most that the directory holds, in bytes.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.engine.capacity
    }

    /// The time that it goes by, for expiry. The cache above it must go by the same.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.engine.clock.now()
    }

    /// What the directory holds now, and what this process has met in it.
    ///
    /// # Errors
    /// When the index cannot be read, or the tier is closed.
    pub async fn stats(&self) -> Result<DiskStats, Error> {
        let totals = self.read(Operation::Probe, Engine::totals).await?;
        let counters = &self.engine.counters;
        Ok(DiskStats {
            entries: totals.entries,
            bytes: totals.bytes,
            capacity: self.engine.capacity,
            evicted: counters.evicted.load(Ordering::Relaxed),
            corrupt_dropped: counters.corrupt_dropped.load(Ordering::Relaxed),
            healed: counters.healed.load(Ordering::Relaxed),
            orphans_removed: counters.orphans_removed.load(Ordering::Relaxed),
        })
    }

    /// Some of the entries that the directory holds, those that came last first: at most `most`,
    /// and fewer once they have 4 MiB. `before` is [`DiskPage::next`] of the page before, or
    /// nothing to begin. Keys are known by their digests. What is written meanwhile may be left
    /// out. May be cancelled.
    ///
    /// # Errors
    /// When the index cannot be read, or the tier is closed.
    pub async fn page(&self, before: Option<DiskPosition>, most: usize) -> Result<DiskPage, Error> {
        let from = (before.map(|position| position.0), most.max(1));
        let page = self.read(Operation::Get, move |engine| engine.page(from)).await?;
        Ok(DiskPage { entries: page.entries, next: page.before.map(DiskPosition) })
    }

    async fn read<T: Send + 'static>(
        &self,
        operation: Operation,
        job: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.job(&self.reads, operation, job).await
    }

    /// Runs `job` on a blocking thread once there is room. The permit goes with the job, so a
    /// dropped future does not let more jobs run than there are permits.
    async fn job<T: Send + 'static>(
        &self,
        room: &Arc<Semaphore>,
        operation: Operation,
        job: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed(operation));
        }
        // The semaphores are never closed; if one were, so would be the tier.
        let permit = Arc::clone(room).acquire_owned().await.map_err(|_| closed(operation))?;
        let (engine, is_closed) = (Arc::clone(&self.engine), Arc::clone(&self.closed));
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            if is_closed.load(Ordering::Acquire) {
                return Err(closed(operation));
            }
            job(&engine)
        });
        done.await.unwrap_or_else(|broken| Err(unfinished(operation, broken)))
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("dir", &self.engine.root)
            .field("capacity", &self.engine.capacity)
            .finish_non_exhaustive()
    }
}

fn closed(operation: Operation) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "the disk tier is closed")
        .with_backend("disk")
        .with_temporary(false)
}

fn unfinished(operation: Operation, broken: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "a job of the disk tier did not end")
        .with_backend("disk")
        .with_source(broken)
}

#[async_trait]
impl CacheBackend for Disk {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let key = key.clone();
        self.read(Operation::Get, move |engine| engine.get(&key)).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        let most = self.info.capabilities.max_value_bytes;
        if entry.value().len() > most {
            return Err(Error::new(
                ErrorKind::TooLarge,
                Operation::Put,
                format!("the value has {} bytes, this disk tier takes at most {most}", entry.value().len()),
            )
            .with_backend("disk")
            .with_help("raise CACHE_DISK_BYTES"));
        }
        let key = key.clone();
        self.job(&self.writes, Operation::Put, move |engine| engine.put(&key, &entry)).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.read(Operation::Probe, Engine::probe).await
    }

    async fn close(&self) -> Result<(), Error> {
        self.closed.store(true, Ordering::Release);
        // Jobs that began before the flag was set still hold a permit: wait for all of them.
        let reads = Arc::clone(&self.reads).acquire_many_owned(READERS).await;
        let writes = Arc::clone(&self.writes).acquire_owned().await;
        let engine = Arc::clone(&self.engine);
        let done = tokio::task::spawn_blocking(move || {
            let _permits = (reads, writes);
            engine.close()
        });
        done.await.unwrap_or_else(|broken| Err(unfinished(Operation::Close, broken)))
    }

    fn fleet(&self) -> Option<&dyn peercache_api::Fleet> {
        None
    }
}

/// Builds a [`Disk`].
#[derive(Clone, Debug)]
#[must_use = "the tier is made by `open`"]
pub struct DiskBuilder {
    dir: PathBuf,
    capacity: u64,
    clock: Arc<dyn Clock>,
}

impl DiskBuilder {
    /// The most that the directory's entries take, in bytes, overhead included. Processes that
    /// share a directory should agree on it: each keeps to its own.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = bytes;
        self
    }

    /// Where the time comes from, for expiry and for the age of orphaned files.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the directory, making it if it is not there. Blocks for a few milliseconds, or for as
    /// long as another process repairs the same directory.
    ///
    /// # Errors
    /// - [`ErrorKind::Config`] when the directory is a file, lies below one, or the capacity is
    ///   below [`Disk::MIN_CAPACITY`].
    /// - [`ErrorKind::Denied`] when it belongs to another user, others can write it, or we cannot.
    /// - [`ErrorKind::Unavailable`] when the disk is full or fails, [`ErrorKind::Timeout`] when
    ///   another process holds the index for too long.
    pub fn open(self) -> Result<Disk, Error> {
        if self.capacity < Disk::MIN_CAPACITY {
            return Err(Error::new(ErrorKind::Config, Operation::Open, "the capacity is too small")
                .with_backend("disk")
                .with_context("bytes", self.capacity)
                .with_context("least", Disk::MIN_CAPACITY)
                .with_help("raise CACHE_DISK_BYTES"));
        }
        let room = usize::try_from(self.capacity - MAX_CHARGE).unwrap_or(usize::MAX);
        let capabilities = Capabilities::local()
            .with_ordered_writes()
            .with_native_expiry()
            .with_durable()
            .with_max_value_bytes(room.min(MAX_VALUE_BYTES))
            .with_capacity_bytes(self.capacity);
        // A relative path would follow the process when it changes its directory; a symbolic link
        // is followed now, and not again.
        let root = std::fs::canonicalize(&self.dir).or_else(|_| std::path::absolute(&self.dir));
        let root = root.map_err(|error| {
            Error::new(ErrorKind::Config, Operation::Open, "the cache directory has no usable path")
                .with_backend("disk")
                .with_context("dir", self.dir.display())
                .with_source(error)
        })?;
        Ok(Disk {
            info: BackendInfo::new("disk", capabilities),
            engine: Arc::new(Engine::open(root, self.capacity, self.clock)?),
            reads: Arc::new(Semaphore::new(READERS as usize)),
            writes: Arc::new(Semaphore::new(1)),
            closed: Arc::new(AtomicBool::new(false)),
        })
    }
}

/// Some of the entries of a directory; see [`Disk::page`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskPage {
    /// The entries, tombstones included, and their keys by digest.
    pub entries: Vec<(Key, Entry)>,
    /// Where the next page begins; nothing when this was the last one.
    pub next: Option<DiskPosition>,
}

/// A place between the entries of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPosition(i64);

impl DiskPosition {
    /// As a number, to be kept elsewhere.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0.cast_unsigned()
    }

    /// The place with this number, as [`DiskPosition::as_u64`] gave it.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number.cast_signed())
    }
}

/// What a directory holds, and what this process has met in it since it opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskStats {
    /// How many entries the directory holds.
    pub entries: u64,
    /// The bytes that they take: pages of the index, and files.
    pub bytes: u64,
    /// The most that `bytes` can be.
    pub capacity: u64,
    /// Entries that this process removed to make room.
    pub evicted: u64,
    /// Damaged entries that this process removed.
    pub corrupt_dropped: u64,
    /// Times that this process replaced a damaged or missing index.
    pub healed: u64,
    /// Files that killed processes had left, removed by this process when it opened the directory.
    pub orphans_removed: u64,
}
