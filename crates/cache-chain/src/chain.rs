//! The chain: reads go down, hits are carried up, failures stay inside.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Fleet, Key, MAX_VALUE_BYTES,
    Operation, RemovalWatcher, Scope, SystemClock, async_trait,
};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::behind::{self, Behind};
use crate::budget::DEFAULT_BUDGET;
use crate::journal::Journal;
use crate::lease::{Leases, fleet_tier};
use crate::lookup::TierPut;
use crate::policy::{WriteBehind, WritePolicy};
use crate::promote::Promoter;
use crate::race::MAX_STRAGGLERS;
use crate::removals::Removals;
use crate::report::{PromotionReport, Report, tier_report};
use crate::stats::ChainStats;
use crate::tags::Tags;
use crate::tier::{Call, Mode, Tier, TierOptions, timeout_error};

/// Several backends that answer as one.
///
/// - A **read** asks the tiers in order, each within its deadline, and stops at the first fresh
///   value. A tombstone or a stale value hides everything older further down.
/// - A **hit** further down is written to the tiers above it with the same bytes, memory at once and
///   slower tiers in the background, bounded to 64 MiB of values.
/// - A **write** goes to the local tiers at once and to the shared ones through a bounded queue for each
///   ([`WriteBehind`]), and answers tier by tier. What waits is seen by reads of this chain.
/// - **No failure reaches the caller**: [`Chain::lookup`] and [`Chain::write`] cannot fail. Failures
///   are in the trace, the counters and the [`Report`].
///
/// As a [`CacheBackend`] a chain is a tier of another chain; there, a read that found nothing while a
/// tier failed is an error, because absence was not established.
#[derive(Debug)]
pub struct Chain {
    pub(crate) info: BackendInfo,
    pub(crate) tiers: Vec<Arc<Tier>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) promoter: Promoter,
    pub(crate) stats: Arc<ChainStats>,
    pub(crate) policy: WritePolicy,
    pub(crate) journal: Option<Arc<Journal>>,
    pub(crate) tags: Arc<Tags>,
    pub(crate) removals: Arc<Removals>,
    pub(crate) leases: Arc<Leases>,
    /// The tier that coordinates a fleet.
    pub(crate) fleet: Option<usize>,
    /// Whether a local tier lies below a shared one, so that what it knows is not seen first.
    pub(crate) local_below_shared: bool,
    /// How long one read may wait in all.
    pub(crate) read_budget: Duration,
    pub(crate) racing: bool,
    /// Room to follow reads that were overtaken to their end.
    pub(crate) stragglers: Arc<Semaphore>,
}

/// Builds a [`Chain`] from the fastest tier to the slowest.
#[derive(Debug)]
#[must_use = "a chain is made by `build`"]
pub struct ChainBuilder {
    name: &'static str,
    tiers: Vec<(Arc<dyn CacheBackend>, TierOptions)>,
    clock: Option<Arc<dyn Clock>>,
    read_budget: Option<Duration>,
    racing: bool,
    seed: Option<u64>,
    policy: WritePolicy,
    write_behind: WriteBehind,
    journal: Option<Journal>,
    read_only: bool,
    namespace: String,
    everything: bool,
}

impl ChainBuilder {
    /// Adds a tier below the ones before it.
    pub fn tier(self, backend: impl CacheBackend + 'static) -> Self {
        self.tier_with(backend, TierOptions::default())
    }

    /// Adds a tier below the ones before it, with its own deadlines and mode.
    pub fn tier_with(self, backend: impl CacheBackend + 'static, options: TierOptions) -> Self {
        self.shared_tier(Arc::new(backend), options)
    }

    /// Adds a tier that is shared with other code, below the ones before it.
    pub fn shared_tier(mut self, backend: Arc<dyn CacheBackend>, options: TierOptions) -> Self {
        self.tiers.push((backend, options));
        self
    }

    /// Takes the time from `clock` instead of the machine.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Names the chain, for reports of a chain that it is part of. Default: `chain`.
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// The longest that a read waits for all tiers together. Default: 1 s if any tier is shared, else no
    /// limit but the tiers' own deadlines. [`Duration::MAX`] is no limit.
    pub fn read_budget(mut self, budget: Duration) -> Self {
        self.read_budget = Some(budget);
        self
    }

    /// Whether a shared tier that takes longer than its recent 95th percentile is raced by the shared
    /// tier next below it. Default: yes. Without, a read asks one tier after the other.
    pub fn racing(mut self, racing: bool) -> Self {
        self.racing = racing;
        self
    }

    /// Makes what the chain leaves to chance, the jitter of its breakers' probes, repeatable. Default:
    /// another seed in every process, so that a fleet does not act as one.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How many shared tiers must have acknowledged a write before it returns. Default:
    /// [`WritePolicy::Local`].
    pub fn write_policy(mut self, policy: WritePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The bounds of the queues in which writes to shared tiers wait.
    pub fn write_behind(mut self, limits: WriteBehind) -> Self {
        self.write_behind = limits;
        self
    }

    /// Keeps what waits to be written to shared tiers in `journal` as well, so that it outlives this
    /// process, and takes over what processes that have ended left there.
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Never writes to shared tiers, whatever their modes; local ones as usual. Default: no.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Keeps the tags of this chain apart from those of other namespaces in the same stores. Default:
    /// none.
    pub fn tag_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Whether this chain looks for removals of everything ([`Chain::invalidate_all`]) that it was not told
    /// of: with the first hit in a durable local tier and the first one in a shared tier, each of which
    /// waits for that for 250 ms at most; and from then on, while it is used, every second in the durable
    /// local tiers and every 30 s, in the background, in the shared ones. Default: no.
    pub fn everything(mut self, look: bool) -> Self {
        self.everything = look;
        self
    }

    /// The chain. Without any tier every read is a miss and nothing is stored.
    ///
    /// With a journal this blocks for as long as it takes to read what is left there.
    #[must_use]
    pub fn build(self) -> Chain {
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let shared = |backend: &Arc<dyn CacheBackend>| backend.info().capabilities.scope == Scope::Shared;
        let local = !self.tiers.iter().any(|(backend, _)| shared(backend));
        let budget = self.read_budget.unwrap_or(if local { Duration::MAX } else { DEFAULT_BUDGET });
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let tiers: Vec<_> = (0_u64..)
            .zip(self.tiers)
            .map(|(index, (backend, options))| {
                Tier::new(backend, &options, budget, seed.wrapping_add(index), &clock)
            })
            .collect();
        let journal = self.journal.map(Arc::new);
        let queue = |tier: &mut Tier, name: String, seed: u64| {
            if tier.is_local() {
                return;
            }
            tier.frozen = self.read_only;
            if tier.frozen && tier.mode == Mode::ReadWrite {
                tier.mode = Mode::ReadOnly;
            }
            if tier.writes() {
                let (limits, clock) = (self.write_behind.clone(), Arc::clone(&clock));
                let (journal, missed) = (journal.clone(), Arc::clone(&tier.missed));
                tier.behind = Some(Arc::new(Behind::new(name, limits, clock, journal, missed, seed)));
            }
        };
        let names = journal_names(&tiers);
        let tiers: Vec<_> = tiers
            .into_iter()
            .zip(names)
            .zip(1_u64..)
            .map(|((mut tier, name), index)| {
                queue(&mut tier, name, seed.wrapping_sub(index));
                Arc::new(tier)
            })
            .collect();
        if let Some(journal) = &journal {
            behind::replay(journal, &tiers);
        }
        let removals = Removals::new(&self.namespace, self.everything, &tiers, &clock);
        let watcher: Arc<dyn RemovalWatcher> = Arc::clone(&removals) as _;
        for fleet in tiers.iter().filter_map(|tier| tier.backend.fleet()) {
            fleet.watch(Arc::downgrade(&watcher));
        }
        let local_below_shared = tiers.iter().skip_while(|tier| tier.is_local()).any(|tier| tier.is_local());
        Chain {
            info: BackendInfo::new(self.name, combined(&tiers)),
            fleet: fleet_tier(&tiers),
            leases: Leases::new(&clock),
            removals,
            tiers,
            clock,
            promoter: Promoter::new(),
            stats: Arc::default(),
            policy: self.policy,
            journal,
            tags: Arc::new(Tags::new(self.namespace)),
            local_below_shared,
            read_budget: budget,
            racing: self.racing,
            stragglers: Arc::new(Semaphore::new(MAX_STRAGGLERS)),
        }
    }
}

/// What the tiers are called in a journal: their names, numbered where one occurs again.
fn journal_names(tiers: &[Tier]) -> Vec<String> {
    let name = |(index, tier): (usize, &Tier)| {
        let before = tiers[..index].iter().filter(|other| other.name() == tier.name()).count();
        if before == 0 { tier.name().to_owned() } else { format!("{}#{}", tier.name(), before + 1) }
    };
    tiers.iter().enumerate().map(name).collect()
}

/// What a chain of these tiers can promise to a chain that it is part of.
fn combined(tiers: &[Arc<Tier>]) -> Capabilities {
    let mut writers = tiers.iter().filter(|tier| tier.writes()).map(|tier| tier.info().capabilities);
    let base = match tiers.iter().all(|tier| tier.is_local()) {
        true => Capabilities::local(),
        false => Capabilities::shared(),
    };
    let mut all = base.with_native_expiry();
    let writable = tiers.iter().any(|tier| tier.writes());
    if writable && writers.clone().all(|capabilities| capabilities.ordered_writes) {
        all = all.with_ordered_writes();
    }
    if writers.clone().any(|capabilities| capabilities.durable) {
        all = all.with_durable();
    }
    if !writable {
        all = all.with_read_only();
    }
    let largest = writers.by_ref().map(|capabilities| capabilities.max_value_bytes).max();
    all.with_max_value_bytes(largest.unwrap_or(MAX_VALUE_BYTES))
}

impl Chain {
    /// Starts a chain without tiers.
    pub fn builder() -> ChainBuilder {
        ChainBuilder {
            name: "chain",
            tiers: Vec::new(),
            clock: None,
            read_budget: None,
            racing: true,
            seed: None,
            policy: WritePolicy::Local,
            write_behind: WriteBehind::default(),
            journal: None,
            read_only: false,
            namespace: String::new(),
            everything: false,
        }
    }

    /// The clock that this chain goes by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// How many shared tiers must have acknowledged a write before it returns, unless the write says so
    /// itself.
    #[must_use]
    pub fn policy(&self) -> WritePolicy {
        self.policy
    }

    /// Waits until every copy that is being carried up has been written or given up, and every write
    /// that waits for a shared tier has been written or waits for a tier that is unwell.
    pub async fn settle(&self) {
        self.removals.settle().await;
        self.promoter.settle().await;
        for tier in &self.tiers {
            if let Some(behind) = &tier.behind {
                behind::pump(tier);
                behind.settle().await;
            }
        }
    }

    /// The counters so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let (hits, stale) = (self.stats.hits.get(), self.stats.stale.get());
        let (misses, cancelled) = (self.stats.misses.get(), self.stats.cancelled.get());
        Report {
            lookups: hits + stale + misses + cancelled,
            hits,
            stale,
            misses,
            cancelled,
            puts: self.stats.puts.get(),
            puts_stored: self.stats.puts_stored.get(),
            promotions: PromotionReport {
                stored: self.stats.promoted.get(),
                errors: self.stats.promotion_errors.get(),
                dropped: self.stats.promotions_dropped.get(),
            },
            tags: self.tags.report(),
            journal: self.journal.as_ref().map(|journal| journal.report()),
            removals: self.removals.report(),
            leases: self.leases.report(),
            tiers: self.tiers.iter().map(|tier| tier_report(tier)).collect(),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for Chain {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let (_, answer, scan) = self.read(key, Duration::ZERO).await;
        match answer {
            Some((_, entry)) => Ok(Some(entry)),
            None => scan.without_value(&self.info),
        }
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        let bytes = entry.value().len();
        let outcome = self.write(key, entry).await;
        if outcome.is_stored() || self.tiers.is_empty() {
            return Ok(());
        }
        if let Some(error) = outcome.errors().next() {
            return Err(error.clone());
        }
        if outcome.is_queued() {
            let waits = "no tier of the chain has taken it yet; it waits for one that is unwell";
            return Err(Error::new(ErrorKind::Unavailable, Operation::Put, waits)
                .with_backend(self.info.name.clone()));
        }
        let too_large = outcome.tiers.iter().any(|tier| matches!(tier.put, TierPut::TooLarge));
        Err(if too_large {
            Error::new(ErrorKind::TooLarge, Operation::Put, "no tier of the chain takes a value of this size")
                .with_context("bytes", bytes)
        } else {
            Error::new(ErrorKind::Denied, Operation::Put, "no tier of the chain may be written")
        }
        .with_backend(self.info.name.clone()))
    }

    /// Well while any tier is.
    async fn probe(&self) -> Result<(), Error> {
        let mut first = None;
        for tier in &self.tiers {
            match timeout(tier.read_deadline, tier.backend.probe()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => first = first.or(Some(error)),
                Err(_) => {
                    first = first.or_else(|| Some(timeout_error(tier, Operation::Probe, tier.read_deadline)))
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Writes what waits for shared tiers, within [`WriteBehind::flush_deadline`], and leaves the rest to
    /// the journal; closes every tier, each within its deadline for writes, whatever the others answer;
    /// then gives the first error.
    async fn close(&self) -> Result<(), Error> {
        self.tiers.iter().for_each(|tier| tier.breaker.stop());
        self.promoter.settle().await;
        // Local writes, and so quick; a disk that hangs is not waited for.
        let _buried = timeout(Duration::from_secs(1), self.removals.settle()).await;
        let flushed = behind::finish(&self.tiers, self.journal.as_ref()).await;
        let closed = join_all(self.tiers.iter().map(async |tier| match tier.close().await {
            Call::Done(()) => Ok(()),
            Call::Failed(error) => Err(error),
            Call::TimedOut(deadline) => Err(timeout_error(tier, Operation::Close, deadline)),
        }))
        .await;
        closed.into_iter().chain([flushed]).collect()
    }

    /// Where a tier coordinates a fleet, the chain does too.
    fn fleet(&self) -> Option<&dyn Fleet> {
        self.fleet.map(|_| self as &dyn Fleet)
    }
}

impl Drop for Chain {
    /// Ends the probing of tiers that are unwell, and leaves what waits to the journal if there is one;
    /// everything else ends by itself.
    fn drop(&mut self) {
        self.tiers.iter().for_each(|tier| tier.breaker.stop());
        if let Some(journal) = &self.journal {
            behind::abandon(&self.tiers, journal);
        }
    }
}
