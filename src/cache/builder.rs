//! Composing a cache in code: tiers, journal, and what backends report of themselves.

use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use peercache_api::{
    CacheBackend, Clock, Error, ErrorKind, MAX_LIFETIME, NodeId, Operation, Scope, SystemClock, VersionClock,
};
#[cfg(feature = "seal")]
use peercache_chain::JournalSeal;
use peercache_chain::{Chain, ChainBuilder, Journal, TierOptions, WriteBehind, WritePolicy};
#[cfg(feature = "libp2p")]
use peercache_libp2p::Peers;
#[cfg(feature = "seal")]
use peercache_seal::{KeyId, Keyring, LocalSeal};
use serde::Serialize;
use tokio::runtime::Handle;

use super::details::Details;
use super::loads::Loads;
use super::tiers::{self, Known, Tier};
use super::{Cache, Inner};
use crate::entries::Entries;
use crate::large::LargeValues;

/// The longest namespace, in bytes.
const MAX_NAMESPACE_BYTES: usize = 128;

/// Composes a [`Cache`] in code, from the fastest tier to the slowest.
#[derive(Debug)]
#[must_use = "a cache is made by `build`"]
pub struct CacheBuilder {
    chain: ChainBuilder,
    tiers: Vec<Tier>,
    clock: Arc<dyn Clock>,
    namespace: String,
    default_ttl: Duration,
    node: Option<NodeId>,
    pub(crate) journal: Option<Journalled>,
    pub(crate) details: Details,
}

impl CacheBuilder {
    /// Adds a memory tier of at most `bytes` below the ones before it. It goes by the cache's
    /// clock.
    #[cfg(feature = "memory")]
    pub fn memory(mut self, bytes: usize) -> Self {
        self.tiers.push(Tier::memory(bytes));
        self
    }

    /// Adds a disk tier in `dir`, of at most `bytes`, below the ones before it. It goes by the
    /// cache's clock. The directory is opened by [`CacheBuilder::build`].
    #[cfg(feature = "disk")]
    pub fn disk(mut self, dir: impl Into<PathBuf>, bytes: u64) -> Self {
        self.tiers.push(Tier::disk(dir.into(), bytes));
        self
    }

    /// Adds a tier below the ones before it. An [`Arc`] of a backend is one too, so that it can be
    /// shared with other code.
    ///
    /// What a memory tier, a bucket or a node reports about itself becomes part of the cache's
    /// report.
    pub fn tier(self, backend: impl CacheBackend + 'static) -> Self {
        self.tier_with(backend, TierOptions::default())
    }

    /// Adds a tier below the ones before it, with its own deadlines and mode.
    pub fn tier_with(mut self, backend: impl CacheBackend + 'static, options: TierOptions) -> Self {
        self.tiers.push(Tier::given(backend, options));
        self
    }

    /// Keeps this cache's keys apart from those of other namespaces in the same stores. At most 128
    /// bytes; default: none.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// How long values are fresh where nothing else is said; at most [`MAX_LIFETIME`]. Default: 300
    /// s.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = ttl;
        self
    }

    /// Takes the time from `clock` instead of the machine. Tiers that are made by the builder take
    /// it from there too; others must be given the same.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The longest that a read waits for all tiers together. Default: 1 s if any tier is shared,
    /// else no limit but the tiers' own deadlines.
    pub fn read_budget(mut self, budget: Duration) -> Self {
        self.chain = self.chain.read_budget(budget);
        self
    }

    /// Writes as this node instead of a random one. Two processes must not use the same.
    pub fn node(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    /// How many shared tiers must have acknowledged a write before it returns. Default:
    /// [`WritePolicy::Local`].
    pub fn write_policy(mut self, policy: WritePolicy) -> Self {
        self.chain = self.chain.write_policy(policy);
        self
    }

    /// The bounds of the queues in which writes to shared tiers wait.
    pub fn write_behind(mut self, limits: WriteBehind) -> Self {
        self.chain = self.chain.write_behind(limits);
        self
    }

    /// Never writes to shared tiers; local ones as usual. Default: no.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.chain = self.chain.read_only(read_only);
        self
    }

    /// The cache. It needs a tokio runtime with timers to be made and to be used. With a journal or
    /// a disk this blocks for as long as it takes to open them.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is no such runtime, the namespace or the default TTL is out
    /// of bounds, or a memory or disk tier goes by another clock; those of opening the disk and the
    /// journal.
    pub fn build(mut self) -> Result<Cache, Error> {
        require_runtime()?;
        if self.namespace.len() > MAX_NAMESPACE_BYTES {
            return Err(Error::new(
                ErrorKind::Config,
                Operation::Configure,
                format!(
                    "a namespace has at most {MAX_NAMESPACE_BYTES} bytes, this one has {}",
                    self.namespace.len()
                ),
            ));
        }
        if self.default_ttl > MAX_LIFETIME {
            return Err(Error::new(
                ErrorKind::Config,
                Operation::Configure,
                format!(
                    "the default TTL is at most {} s, this one is {} s",
                    MAX_LIFETIME.as_secs(),
                    self.default_ttl.as_secs()
                ),
            ));
        }
        let node = self.node.map_or_else(NodeId::random, Ok)?;
        let mut shared = Vec::new();
        for (tier, name) in tiers::named(std::mem::take(&mut self.tiers)) {
            self = self.add(tier, name, &mut shared)?;
        }
        let mut chain = self.chain.clock(self.clock).namespace(self.namespace.clone()).watch_namespace(true);
        if let Some(journal) = self.journal {
            chain = chain.journal(journal.open()?);
        }
        let (chain, loads) = (chain.build(), Loads::new());
        loads.watch(&chain);
        let entries = Entries::new(chain, VersionClock::new(node), self.namespace, self.default_ttl);
        Ok(Cache {
            inner: Arc::new(Inner {
                large: LargeValues::new(entries.clone(), shared),
                entries,
                loads,
                decode_errors: AtomicU64::new(0),
                invalid_keys: AtomicU64::new(0),
                details: self.details,
            }),
        })
    }
}

impl CacheBuilder {
    /// Opens `tier` and puts it into the chain, as `name`.
    fn add(mut self, tier: Tier, name: Option<String>, shared: &mut Vec<bool>) -> Result<Self, Error> {
        let (backend, options, known) = tier.open(&self.clock)?;
        known.check_clock(&*self.clock)?;
        shared.push(backend.info().capabilities.scope == Scope::Shared);
        let report = name.clone().unwrap_or_else(|| backend.info().name.to_string());
        let backend = match name {
            Some(name) => Arc::new(tiers::Named::new(name, backend)),
            None => backend,
        };
        self.chain = self.chain.tier_with(backend, options);
        Ok(match known {
            Known::Nothing => self,
            #[cfg(feature = "memory")]
            Known::Memory(memory) => self.backend_report(report, move || tiers::memory_report(&memory)),
            #[cfg(feature = "disk")]
            Known::Disk(_) => self,
            #[cfg(feature = "libp2p")]
            Known::Peers(peers) => self.peers(peers),
            #[cfg(feature = "redis")]
            Known::Redis(server) => self.backend_report(report, move || server.report()),
            #[cfg(feature = "s3")]
            Known::S3(bucket) => self.backend_report(report, move || bucket.report()),
        })
    }
}

/// A chain arms timers and runs tasks of its own, which panics without a runtime that has both.
fn require_runtime() -> Result<(), Error> {
    let refused = |what: &'static str, help: &'static str| {
        Err(Error::new(ErrorKind::Config, Operation::Open, what).with_help(help))
    };
    if Handle::try_current().is_err() {
        return refused(
            "a cache needs a tokio runtime, and this thread is not in one",
            "build it inside of #[tokio::main], block_on or Runtime::enter",
        );
    }
    // The one way to ask is to arm a timer; the panic is caught here and its message says the same.
    let timers = catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO)));
    if timers.is_err() {
        return refused(
            "a cache needs timers, and the tokio runtime of this thread has none",
            "build the runtime with enable_time() or enable_all()",
        );
    }
    Ok(())
}

impl Cache {
    /// Composes a cache in code.
    pub fn builder() -> CacheBuilder {
        CacheBuilder {
            chain: Chain::builder(),
            tiers: Vec::new(),
            clock: Arc::new(SystemClock::new()),
            namespace: String::new(),
            default_ttl: Duration::from_secs(300),
            node: None,
            journal: None,
            details: Details::default(),
        }
    }
}

impl CacheBuilder {
    /// Adds what `report` returns to the cache's report, under `name`: for a backend that counts
    /// more than the chain does. It is called for each report and must not block.
    pub fn backend_report<R: Serialize>(
        mut self,
        name: impl Into<String>,
        report: impl Fn() -> R + Send + Sync + 'static,
    ) -> Self {
        self.details.add(name.into(), report);
        self
    }

    /// Makes the node's report part of the cache's, under `peers`, and the node what
    /// [`Cache::peers`] gives. It adds no tier: that is the node itself, or a seal around it.
    #[cfg(feature = "libp2p")]
    pub fn peers(mut self, peers: Peers) -> Self {
        let node = peers.clone();
        self.details.peers = Some(peers);
        self.backend_report("peers", move || node.report())
    }
}

impl Cache {
    /// The node of this process, if there are peers in the chain.
    #[cfg(feature = "libp2p")]
    #[must_use]
    pub fn peers(&self) -> Option<&Peers> {
        self.details().peers.as_ref()
    }
}

#[cfg(feature = "storacha")]
impl CacheBuilder {
    /// Makes the report of the Storacha space part of the cache's, under `storacha`. The tier
    /// itself is given by [`CacheBuilder::tier`]; the cache does not close it.
    pub fn storacha(self, space: Arc<peercache_storacha::Storacha>) -> Self {
        self.backend_report("storacha", move || space.report())
    }
}

#[cfg(feature = "redis")]
impl CacheBuilder {
    /// Makes the report of the server part of the cache's, under `redis`: for a tier that is given
    /// sealed. The tier itself is given by [`CacheBuilder::tier`], as always.
    pub fn redis(self, server: Arc<peercache_redis::Redis>) -> Self {
        self.backend_report("redis", move || server.report())
    }
}

#[cfg(feature = "ipfs")]
impl CacheBuilder {
    /// Makes the report of the IPFS node part of the cache's, under `ipfs`. The tier itself is
    /// given by [`CacheBuilder::tier`], as always.
    pub fn ipfs(self, node: Arc<peercache_ipfs::Ipfs>) -> Self {
        self.backend_report("ipfs", move || node.report())
    }
}

#[cfg(feature = "s3")]
impl CacheBuilder {
    /// Makes the report of the bucket part of the cache's, under `s3`. The tier itself is given by
    /// [`CacheBuilder::tier`], as always.
    pub fn s3(self, bucket: Arc<peercache_s3::S3>) -> Self {
        self.backend_report("s3", move || bucket.report())
    }
}

/// What the journal's key is derived for; `docs/reference/sealed-format.md` names it.
#[cfg(feature = "seal")]
const PURPOSE: &str = "peercache journal 1";

/// A journal that is opened when the cache is built.
#[derive(Debug)]
pub(crate) enum Journalled {
    InClear(PathBuf),
    #[cfg(feature = "seal")]
    Sealed(PathBuf, Arc<dyn JournalSeal>),
}

impl Journalled {
    /// Blocks for a few file operations.
    pub(crate) fn open(self) -> Result<Journal, Error> {
        match self {
            Self::InClear(dir) => Journal::open(dir),
            #[cfg(feature = "seal")]
            Self::Sealed(dir, seal) => Journal::open_sealed(dir, seal),
        }
    }
}

impl CacheBuilder {
    /// Keeps what waits to be written to shared tiers in this directory as well, so that it
    /// outlives this process; the next one with the same directory delivers it. Keys and values lie
    /// there as they are; see [`Journal`]. Default: none.
    pub fn journal(mut self, dir: impl Into<PathBuf>) -> Self {
        self.journal = Some(Journalled::InClear(dir.into()));
        self
    }

    /// As [`CacheBuilder::journal`], with every record sealed for those who have the full secret.
    /// Records that another secret sealed, or that are in clear, are not delivered.
    ///
    /// With a read-only secret there is no journal: its holder does not write to sealed tiers, and
    /// must not be able to make others write in its place.
    #[cfg(feature = "seal")]
    pub fn sealed_journal(mut self, dir: impl Into<PathBuf>, keyring: &Keyring) -> Self {
        let seal = LocalSeal::new(keyring, PURPOSE).map(|seal| Arc::new(WritersOnly(seal)) as _);
        self.journal = seal.map(|seal| Journalled::Sealed(dir.into(), seal));
        self
    }
}

/// Seals a journal with what the full secret gives and the read-only one does not.
#[cfg(feature = "seal")]
#[derive(Debug)]
struct WritersOnly(LocalSeal);

#[cfg(feature = "seal")]
impl JournalSeal for WritersOnly {
    fn key_id(&self) -> [u8; 8] {
        *self.0.key_id().as_bytes()
    }

    fn knows(&self, key_id: [u8; 8]) -> bool {
        self.0.knows(KeyId::from_bytes(key_id))
    }

    fn seal(&self, segment: &[u8], record: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.seal(segment, record)
    }

    fn open(&self, key_id: [u8; 8], segment: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(KeyId::from_bytes(key_id), segment, sealed)
    }
}

#[cfg(feature = "seal")]
const _: () = assert!(peercache_seal::LOCAL_SEAL_BYTES <= peercache_chain::MAX_JOURNAL_SEAL_BYTES);
