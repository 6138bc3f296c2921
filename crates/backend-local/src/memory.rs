//! The memory tier: a map bounded in bytes, with the eviction of `quick_cache`.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Freshness, Key,
    MAX_CONTENT_TYPE_BYTES, MAX_TAG_BYTES, MAX_TAGS, MAX_VALIDATOR_BYTES, MAX_VALUE_BYTES, Metadata,
    Operation, SystemClock, Timestamp,
};
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

/// What is charged for an entry besides [`Entry::memory_bytes`]: its key, its place in the map and
/// the counters behind its pointers.
const ENTRY_OVERHEAD: usize = 192;
/// The most that the metadata of one entry is charged.
const MAX_METADATA_CHARGE: usize = size_of::<Metadata>()
    + MAX_CONTENT_TYPE_BYTES
    + 2 * MAX_VALIDATOR_BYTES
    + MAX_TAGS * (MAX_TAG_BYTES + size_of::<String>());
/// The most that is charged for an entry besides its value.
const MAX_CHARGE: usize = ENTRY_OVERHEAD + MAX_METADATA_CHARGE;
const MAX_SHARDS: usize = 64;
/// Enough that two writers of different keys seldom meet.
const WRITE_STRIPES: usize = 64;

/// The memory tier.
///
/// - Bounded in bytes, metadata and keys included; what is over is evicted, least useful first.
/// - Writes are ordered by version; expired entries are never returned and removed when met.
/// - An entry that was accepted can be read back at once, however full the cache is: the entry that
///   is being written is never the one that is evicted for it.
/// - A hit costs one look into `quick_cache`, two reference counts and the box of `async_trait`.
///
/// A value is charged by its length. A value that is a small slice of a large buffer keeps that
/// buffer alive; copy it first if that matters.
pub struct Memory {
    info: BackendInfo,
    clock: Arc<dyn Clock>,
    cache: Cache<Digest, Entry, ByBytes, BuildHasherDefault<First8>, KeepNewest>,
    /// Held while a version is compared and replaced. `get` takes none of them.
    stripes: [Mutex<()>; WRITE_STRIPES],
    evicted: Arc<AtomicU64>,
    closed: AtomicBool,
}

impl Memory {
    /// The least capacity: 64 KiB.
    pub const MIN_CAPACITY: usize = 64 * 1024;

    /// A cache of at most `bytes` bytes that reads the system's clock. Less than
    /// [`Memory::MIN_CAPACITY`] is raised to it.
    ///
    /// Below about 8 MiB, values that do not fit are refused with kind `TooLarge`;
    /// [`Capabilities::max_value_bytes`] says which.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self::builder().capacity(bytes).build()
    }

    /// Starts with 64 MiB and the system's clock.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder { capacity: 64 * 1024 * 1024, clock: Arc::new(SystemClock::new()) }
    }

    /// What it holds now.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        MemoryStats {
            entries: self.cache.len() as u64,
            bytes: self.cache.weight(),
            capacity: self.cache.capacity(),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// The time that it goes by, for expiry. The cache above it must go by the same.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn refuse_if_closed(&self, operation: Operation) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, operation, "the memory tier is closed")
                .with_backend("memory")
                .with_temporary(false));
        }
        Ok(())
    }

    fn stripe(&self, key: &Key) -> MutexGuard<'_, ()> {
        // The last byte: the first eight choose the shard and the slot.
        let stripe = usize::from(key.digest()[31]) % WRITE_STRIPES;
        self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, key: &Key, entry: Entry) {
        let digest = *key.digest();
        let _stripe = self.stripe(key);
        if self.cache.peek(&digest).is_some_and(|stored| !entry.supersedes(&stored, self.clock.now())) {
            return;
        }
        // `insert` replaces in place: a reader sees the old entry or this one, never a gap.
        let _kept = Keeping::start(digest);
        self.cache.insert(digest, entry);
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

#[async_trait]
impl CacheBackend for Memory {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.refuse_if_closed(Operation::Get)?;
        let Some(entry) = self.cache.get(key.digest()) else {
            return Ok(None);
        };
        if entry.freshness(self.clock.now()) == Freshness::Expired {
            // Only this very write: another may have replaced it meanwhile.
            self.cache.remove_if(key.digest(), |stored| stored.version() == entry.version());
            return Ok(None);
        }
        Ok(Some(entry))
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.refuse_if_closed(Operation::Put)?;
        let most = self.info.capabilities.max_value_bytes;
        if entry.value().len() > most {
            return Err(Error::new(
                ErrorKind::TooLarge,
                Operation::Put,
                format!("the value has {} bytes, this memory tier takes at most {most}", entry.value().len()),
            )
            .with_backend("memory")
            .with_help("raise CACHE_MEMORY_BYTES"));
        }
        self.store(key, entry);
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        self.refuse_if_closed(Operation::Probe)
    }

    /// Forgets everything.
    async fn close(&self) -> Result<(), Error> {
        self.closed.store(true, Ordering::Release);
        self.cache.clear();
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache_api::Fleet> {
        None
    }
}

/// Builds a [`Memory`].
#[derive(Clone, Debug)]
#[must_use = "the tier is made by `build`"]
pub struct MemoryBuilder {
    capacity: usize,
    clock: Arc<dyn Clock>,
}

impl MemoryBuilder {
    /// The most that it holds, in bytes. Less than [`Memory::MIN_CAPACITY`] is raised to it.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    /// Where the time comes from, for expiry.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The memory tier.
    #[must_use]
    pub fn build(self) -> Memory {
        let capacity = self.capacity.max(Memory::MIN_CAPACITY);
        let shards = shards(capacity);
        let shard_bytes = capacity / shards;
        let estimated_items = (capacity / 4096).max(32 * shards);
        let evicted = Arc::new(AtomicU64::new(0));
        let mut options = OptionsBuilder::new();
        options
            .shards(shards)
            .estimated_items_capacity(estimated_items)
            .weight_capacity((shard_bytes * shards) as u64);
        let lifecycle = KeepNewest { evicted: Arc::clone(&evicted) };
        let cache = match options.build() {
            Ok(options) => Cache::with_options(options, ByBytes, BuildHasherDefault::default(), lifecycle),
            // Both settings that it asks for are set above; the other constructor takes them as
            // arguments.
            Err(_) => Cache::with(
                estimated_items,
                capacity as u64,
                ByBytes,
                BuildHasherDefault::default(),
                lifecycle,
            ),
        };
        // Asked for, not assumed: one shard is the largest thing that an entry can fill.
        let room = usize::try_from(cache.shard_capacity()).unwrap_or(usize::MAX);
        let capabilities = Capabilities::local()
            .with_ordered_writes()
            .with_native_expiry()
            .with_max_value_bytes(room.saturating_sub(MAX_CHARGE).min(MAX_VALUE_BYTES))
            .with_capacity_bytes(cache.capacity());
        Memory {
            info: BackendInfo::new("memory", capabilities),
            clock: self.clock,
            cache,
            stripes: [const { Mutex::new(()) }; WRITE_STRIPES],
            evicted,
            closed: AtomicBool::new(false),
        }
    }
}

/// As many shards as still take the largest entry each: every shard evicts on its own, so an entry
/// must fit into one.
fn shards(capacity: usize) -> usize {
    let fitting = (capacity / (MAX_VALUE_BYTES + MAX_CHARGE)).clamp(1, MAX_SHARDS);
    1 << fitting.ilog2()
}

/// What a memory tier holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// How many entries.
    pub entries: u64,
    /// What they are charged, in bytes: values, metadata, keys and overhead.
    pub bytes: u64,
    /// The most that `bytes` can be.
    pub capacity: u64,
    /// How many entries had to make room for others since it was made.
    pub evicted: u64,
}

/// [`Key::digest`]: the text of a key is not kept.
type Digest = [u8; 32];

/// The first eight bytes of a digest: SHA-256 has mixed them already.
#[derive(Default)]
struct First8(u64);

impl Hasher for First8 {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Digest, Entry> for ByBytes {
    fn weight(&self, _: &Digest, entry: &Entry) -> u64 {
        (entry.memory_bytes() + ENTRY_OVERHEAD) as u64
    }
}

thread_local! {
    /// The entry that this thread is inserting. Eviction runs on the inserting thread, so this is
    /// all that it takes to tell the newcomer from the rest, and a hit pays nothing for it.
    static KEPT: Cell<Option<Digest>> = const { Cell::new(None) };
}

/// While it lives, this thread's evictions pass this entry over.
struct Keeping;

impl Keeping {
    fn start(digest: Digest) -> Self {
        KEPT.set(Some(digest));
        Self
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        KEPT.set(None);
    }
}

#[derive(Clone)]
struct KeepNewest {
    evicted: Arc<AtomicU64>,
}

impl Lifecycle<Digest, Entry> for KeepNewest {
    /// Evicted entries are dropped with it, after the shard's lock is released.
    type RequestState = Vec<Entry>;

    fn is_pinned(&self, key: &Digest, _: &Entry) -> bool {
        KEPT.get() == Some(*key)
    }

    fn on_evict(&self, dropped: &mut Vec<Entry>, key: Digest, entry: Entry) {
        // The library reports the value that is being replaced, too; that is no eviction.
        if KEPT.get() != Some(key) {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        dropped.push(entry);
    }
}

#[cfg(test)]
mod tests;
