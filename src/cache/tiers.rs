//! The tiers of a cache as they are given to its builder, before it is known by which clock it
//! goes.

use std::any::Any;
use std::collections::HashMap;
#[cfg(feature = "disk")]
use std::path::PathBuf;
use std::sync::Arc;

use peercache_api::{
    BackendInfo, CacheBackend, Clock, Entry, Error, ErrorKind, Fleet, Key, Operation, Timestamp, async_trait,
};
use peercache_chain::TierOptions;
#[cfg(feature = "libp2p")]
use peercache_libp2p::Peers;
#[cfg(feature = "disk")]
use peercache_local::Disk;
#[cfg(feature = "memory")]
use peercache_local::Memory;
#[cfg(feature = "redis")]
use peercache_redis::Redis;
#[cfg(feature = "s3")]
use peercache_s3::S3;

/// How far the clocks of a cache and of a tier may be apart when they are read one after the other.
const MAX_CLOCK_DIFFERENCE_MILLIS: u64 = 5_000;

/// A tier that is to be opened.
#[derive(Debug)]
pub(super) struct Tier {
    source: Source,
    options: TierOptions,
}

#[derive(Debug)]
enum Source {
    Given(Arc<dyn CacheBackend>, Known),
    #[cfg(feature = "memory")]
    Memory(usize),
    #[cfg(feature = "disk")]
    Disk(PathBuf, u64),
}

/// A backend of this workspace, which can tell more than every backend can.
#[derive(Debug)]
pub(super) enum Known {
    Nothing,
    #[cfg(feature = "memory")]
    Memory(Arc<Memory>),
    #[cfg(feature = "disk")]
    Disk(Arc<Disk>),
    #[cfg(feature = "libp2p")]
    Peers(Peers),
    #[cfg(feature = "redis")]
    Redis(Arc<Redis>),
    #[cfg(feature = "s3")]
    S3(Arc<S3>),
}

impl Tier {
    #[cfg(feature = "memory")]
    pub(super) fn memory(bytes: usize) -> Self {
        Self { source: Source::Memory(bytes), options: TierOptions::default() }
    }

    #[cfg(feature = "disk")]
    pub(super) fn disk(dir: PathBuf, bytes: u64) -> Self {
        Self { source: Source::Disk(dir, bytes), options: TierOptions::default() }
    }

    pub(super) fn given<B: CacheBackend + 'static>(backend: B, options: TierOptions) -> Self {
        let (backend, known) = recognized(Arc::new(backend));
        Self { source: Source::Given(backend, known), options }
    }

    fn name(&self) -> &str {
        match &self.source {
            Source::Given(backend, _) => &backend.info().name,
            #[cfg(feature = "memory")]
            Source::Memory(_) => "memory",
            #[cfg(feature = "disk")]
            Source::Disk(..) => "disk",
        }
    }

    /// The backend; one that is made here goes by `clock`.
    pub(super) fn open(
        self,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Arc<dyn CacheBackend>, TierOptions, Known), Error> {
        let (backend, known): (Arc<dyn CacheBackend>, _) = match self.source {
            Source::Given(backend, known) => (backend, known),
            #[cfg(feature = "memory")]
            Source::Memory(bytes) => {
                let memory = Memory::builder().capacity(bytes).clock(Arc::clone(clock)).build();
                let memory = Arc::new(memory);
                (Arc::clone(&memory) as _, Known::Memory(memory))
            }
            #[cfg(feature = "disk")]
            Source::Disk(dir, bytes) => {
                let disk = Arc::new(Disk::builder(dir).capacity(bytes).clock(Arc::clone(clock)).open()?);
                (Arc::clone(&disk) as _, Known::Disk(disk))
            }
        };
        Ok((backend, self.options, known))
    }
}

impl Known {
    /// # Errors
    /// [`ErrorKind::Config`] when the tier goes by another clock: what the cache stores would be
    /// expired for it, or live on.
    pub(super) fn check_clock(&self, clock: &dyn Clock) -> Result<(), Error> {
        let (name, time): (_, Timestamp) = match self {
            #[cfg(feature = "memory")]
            Self::Memory(memory) => ("memory", memory.now()),
            #[cfg(feature = "disk")]
            Self::Disk(disk) => ("disk", disk.now()),
            _ => return Ok(()),
        };
        let difference = time.as_millis().abs_diff(clock.now().as_millis());
        if difference <= MAX_CLOCK_DIFFERENCE_MILLIS {
            return Ok(());
        }
        let what = format!("the {name} tier goes by a clock that is {difference} ms from the cache's");
        Err(Error::new(ErrorKind::Config, Operation::Configure, what)
            .with_backend(name)
            .with_help("give both the same clock, or let the builder make the tier"))
    }
}

/// `backend`, not wrapped twice where it is an [`Arc`] already, and what it is known to be.
fn recognized<B: CacheBackend + 'static>(backend: Arc<B>) -> (Arc<dyn CacheBackend>, Known) {
    let any: Arc<dyn Any + Send + Sync> = Arc::clone(&backend) as _;
    if let Ok(inner) = Arc::clone(&any).downcast::<Arc<dyn CacheBackend>>() {
        return (Arc::clone(&inner), Known::Nothing);
    }
    #[cfg(feature = "memory")]
    if let Some(memory) = held::<Memory>(&any) {
        return (Arc::clone(&memory) as _, Known::Memory(memory));
    }
    #[cfg(feature = "disk")]
    if let Some(disk) = held::<Disk>(&any) {
        return (Arc::clone(&disk) as _, Known::Disk(disk));
    }
    #[cfg(feature = "libp2p")]
    if let Some(peers) = held::<Peers>(&any) {
        let handle = Peers::clone(&peers);
        return (peers, Known::Peers(handle));
    }
    #[cfg(feature = "redis")]
    if let Some(server) = held::<Redis>(&any) {
        return (Arc::clone(&server) as _, Known::Redis(server));
    }
    #[cfg(feature = "s3")]
    if let Some(bucket) = held::<S3>(&any) {
        return (Arc::clone(&bucket) as _, Known::S3(bucket));
    }
    (backend, Known::Nothing)
}

/// The `T` that was given, by itself or in an [`Arc`].
#[cfg(any(feature = "memory", feature = "disk", feature = "libp2p", feature = "redis", feature = "s3"))]
fn held<T: Send + Sync + 'static>(any: &Arc<dyn Any + Send + Sync>) -> Option<Arc<T>> {
    let shared = || Arc::clone(any).downcast::<Arc<T>>().ok();
    Arc::clone(any).downcast().ok().or_else(|| shared().map(|shared| (*shared).clone()))
}

/// The tiers, each of which has a name of its own: a second `memory` becomes `memory-2`.
pub(super) fn named(tiers: Vec<Tier>) -> Vec<(Tier, Option<String>)> {
    let mut counts = HashMap::<String, usize>::new();
    let named = tiers.into_iter().map(|tier| {
        let count = counts.entry(tier.name().to_owned()).or_default();
        *count += 1;
        let name = (*count > 1).then(|| format!("{}-{count}", tier.name()));
        (tier, name)
    });
    named.collect()
}

/// What a memory tier holds.
#[cfg(feature = "memory")]
pub(super) fn memory_report(memory: &Memory) -> serde_json::Value {
    let stats = memory.stats();
    serde_json::json!({
        "entries": stats.entries,
        "bytes": stats.bytes,
        "capacity": stats.capacity,
        "evicted": stats.evicted,
    })
}

/// A backend under another name.
#[derive(Debug)]
pub(super) struct Named {
    info: BackendInfo,
    backend: Arc<dyn CacheBackend>,
}

impl Named {
    pub(super) fn new(name: String, backend: Arc<dyn CacheBackend>) -> Self {
        Self { info: BackendInfo::new(name, backend.info().capabilities), backend }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for Named {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.backend.get(key).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.backend.put(key, entry).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.backend.probe().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.backend.close().await
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        self.backend.fleet()
    }
}
