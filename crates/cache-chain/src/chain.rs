//! The chain: reads go down, hits are carried up, failures stay inside.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Freshness, Key, MAX_VALUE_BYTES,
    NodeId, Operation, SystemClock, Timestamp, Version, async_trait,
};

use crate::lookup::{Lookup, Outcome, PutOutcome, PutResult, Skip, TierPut, TierTrace};
use crate::promote::Promoter;
use crate::report::{PromotionReport, Report, TierReport};
use crate::stats::{CancelGuard, ChainStats};
use crate::tier::{Call, Tier, TierOptions, timeout_error};

/// Several backends that answer as one.
///
/// - A **read** asks the tiers in order, each within its deadline, and stops at the first fresh
///   value. A tombstone or a stale value hides everything older further down.
/// - A **hit** further down is written to the tiers above it with the same bytes, memory at once and
///   slower tiers in the background, bounded to 64 MiB of values.
/// - A **write** goes to every writable tier at once and answers tier by tier.
/// - **No failure reaches the caller**: [`Chain::lookup`] and [`Chain::write`] cannot fail. Failures
///   are in the trace, the counters and the [`Report`].
///
/// As a [`CacheBackend`] a chain is a tier of another chain; there, a read that found nothing while a
/// tier failed is an error, because absence was not established.
#[derive(Debug)]
pub struct Chain {
    info: BackendInfo,
    tiers: Vec<Arc<Tier>>,
    clock: Arc<dyn Clock>,
    promoter: Promoter,
    stats: Arc<ChainStats>,
}

/// Builds a [`Chain`] from the fastest tier to the slowest.
#[derive(Debug)]
#[must_use = "a chain is made by `build`"]
pub struct ChainBuilder {
    name: &'static str,
    tiers: Vec<(Arc<dyn CacheBackend>, TierOptions)>,
    clock: Option<Arc<dyn Clock>>,
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

    /// The chain. Without any tier every read is a miss and nothing is stored.
    #[must_use]
    pub fn build(self) -> Chain {
        let tiers: Vec<_> =
            self.tiers.into_iter().map(|(backend, options)| Arc::new(Tier::new(backend, &options))).collect();
        Chain {
            info: BackendInfo::new(self.name, combined(&tiers)),
            tiers,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::new())),
            promoter: Promoter::new(),
            stats: Arc::default(),
        }
    }
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

/// What a lookup knows after some of the tiers have answered.
#[derive(Default)]
struct Scan {
    /// The greatest version seen; what is not above it is superseded.
    newest: Option<Version>,
    found: Option<(usize, Entry)>,
    stale: Option<(usize, Entry)>,
    tombstone: Option<Entry>,
    failure: Option<Error>,
    trace: Vec<TierTrace>,
}

impl Scan {
    /// Takes in what tier `index` holds. Returns why it is not the answer, or nothing if it is.
    fn judge(&mut self, index: usize, held: Option<Entry>, now: Timestamp) -> Option<Skip> {
        let Some(entry) = held else { return Some(Skip::Absent) };
        if entry.is_from_future(now) {
            return Some(Skip::FromFuture);
        }
        if self.newest.is_some_and(|newest| entry.version() <= newest) {
            return Some(Skip::Superseded);
        }
        self.newest = Some(entry.version());
        self.tombstone = None;
        let freshness = entry.freshness(now);
        if freshness == Freshness::Expired {
            self.stale = None;
            return Some(Skip::Expired);
        }
        if entry.is_tombstone() {
            self.stale = None;
            self.tombstone = Some(entry);
            return Some(Skip::Removed);
        }
        if freshness == Freshness::Stale {
            self.stale = Some((index, entry));
            return Some(Skip::Stale);
        }
        self.found = Some((index, entry));
        None
    }
}

impl Chain {
    /// Starts a chain without tiers.
    pub fn builder() -> ChainBuilder {
        ChainBuilder { name: "chain", tiers: Vec::new(), clock: None }
    }

    /// The clock that this chain goes by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Reads `key`. Cannot fail: a tier that fails is passed over, and the trace says why.
    ///
    /// Cancel-safe; a lookup that is dropped is counted as cancelled.
    pub async fn lookup(&self, key: &Key) -> Lookup {
        let (outcome, answer, scan) = self.read(key).await;
        let (newest, trace) = (scan.newest, scan.trace);
        let Some((tier, entry)) = answer else {
            return Lookup { outcome, entry: None, tier: None, age: Duration::ZERO, newest, trace };
        };
        Lookup {
            outcome,
            age: entry.age(self.clock.now()),
            tier: Some(self.tiers[tier].info().name.clone()),
            entry: Some(entry),
            newest,
            trace,
        }
    }

    /// A fresh value from a local tier, if there is one. Nothing is counted or carried up: this is
    /// for a second look just before something expensive.
    pub async fn peek_local(&self, key: &Key) -> Option<Entry> {
        let mut scan = Scan::default();
        for (index, tier) in self.tiers.iter().enumerate().filter(|(_, tier)| tier.is_local() && tier.reads())
        {
            if let Call::Done(held) = tier.get(key).await
                && scan.judge(index, held, self.clock.now()).is_none()
            {
                break;
            }
        }
        scan.found.map(|(_, entry)| entry)
    }

    /// Writes `entry` to every tier that may be written, all at once, and says how each took it.
    ///
    /// Cancel-safe in that each tier has stored it wholly or not at all; which ones have is unknown.
    pub async fn write(&self, key: &Key, entry: Entry) -> PutOutcome {
        self.stats.puts.add(1);
        let tiers = join_all(self.tiers.iter().map(|tier| self.write_tier(tier, key, &entry))).await;
        let outcome = PutOutcome { tiers };
        if outcome.is_stored() {
            self.stats.puts_stored.add(1);
        }
        outcome
    }

    /// Waits until every copy that is being carried up has been written or given up.
    pub async fn settle(&self) {
        self.promoter.settle().await;
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
            tiers: self.tiers.iter().map(|tier| tier_report(tier)).collect(),
        }
    }

    /// Scans the tiers, counts the outcome and carries a hit up. The answer is the index of the tier
    /// and the entry.
    async fn read(&self, key: &Key) -> (Outcome, Option<(usize, Entry)>, Scan) {
        let cancel = CancelGuard::new(&self.stats.cancelled);
        let mut scan = self.scan(key).await;
        cancel.ended();
        if let Some((index, entry)) = scan.found.take() {
            self.stats.hits.add(1);
            if index > 0 {
                self.promoter.promote(&self.tiers[..index], key, &entry, &self.clock, &self.stats).await;
            }
            return (Outcome::Hit, Some((index, entry)), scan);
        }
        if let Some(stale) = scan.stale.take() {
            self.stats.stale.add(1);
            return (Outcome::Stale, Some(stale), scan);
        }
        self.stats.misses.add(1);
        (Outcome::Miss, None, scan)
    }

    async fn scan(&self, key: &Key) -> Scan {
        let mut scan = Scan::default();
        for (index, tier) in self.tiers.iter().enumerate() {
            let Some(skip) = self.ask(index, tier, key, &mut scan).await else { break };
            tier.stats.count_skip(&skip);
            if let Skip::Failed(error) = &skip {
                tracing::debug!(tier = tier.name(), operation = "get", %error, "tier failed");
                scan.failure.get_or_insert_with(|| error.clone());
            }
            if let Skip::TimedOut(deadline) = skip {
                tracing::debug!(tier = tier.name(), operation = "get", ?deadline, "tier timed out");
                let error = timeout_error(tier, Operation::Get, deadline);
                tier.stats.note(&error);
                scan.failure.get_or_insert(error);
            }
            scan.trace.push(TierTrace { tier: tier.info().name.clone(), skip });
        }
        scan
    }

    /// Asks one tier. Returns why it is not the answer, or nothing if it is.
    async fn ask(&self, index: usize, tier: &Tier, key: &Key, scan: &mut Scan) -> Option<Skip> {
        if !tier.reads() {
            return Some(Skip::Mode);
        }
        let cancel = CancelGuard::new(&tier.stats.cancelled);
        let started = self.clock.monotonic();
        let call = tier.get(key).await;
        cancel.ended();
        tier.stats.get_latency.record(self.clock.monotonic().saturating_sub(started));
        let held = match call {
            Call::Done(held) => held,
            Call::Failed(error) => return Some(Skip::Failed(error)),
            Call::TimedOut(deadline) => return Some(Skip::TimedOut(deadline)),
        };
        let skip = scan.judge(index, held, self.clock.now());
        if skip.is_none()
            && let Some((_, entry)) = &scan.found
        {
            tier.stats.hits.add(1);
            tier.stats.bytes_read.add(entry.value().len() as u64);
        }
        skip
    }

    async fn write_tier(&self, tier: &Tier, key: &Key, entry: &Entry) -> PutResult {
        let bytes = entry.value().len();
        let put = if !tier.writes() {
            tier.stats.put_skipped.add(1);
            TierPut::Mode
        } else {
            let too_large = bytes > tier.info().capabilities.max_value_bytes;
            let written = if too_large { burial(entry) } else { entry.clone() };
            let cancel = CancelGuard::new(&tier.stats.put_cancelled);
            let started = self.clock.monotonic();
            let call = tier.put(key, written, &*self.clock).await;
            cancel.ended();
            tier.stats.put_latency.record(self.clock.monotonic().saturating_sub(started));
            match call {
                Call::Done(()) if too_large => {
                    tier.stats.put_skipped.add(1);
                    TierPut::TooLarge
                }
                Call::Done(()) => {
                    tier.stats.stored.add(1);
                    tier.stats.bytes_written.add(bytes as u64);
                    TierPut::Stored
                }
                Call::Failed(error) => {
                    tracing::debug!(tier = tier.name(), operation = "put", %error, "tier failed");
                    tier.stats.put_errors.add(1);
                    tier.stats.note(&error);
                    TierPut::Failed(error)
                }
                Call::TimedOut(deadline) => {
                    let error = timeout_error(tier, Operation::Put, deadline);
                    tier.stats.put_timeouts.add(1);
                    tier.stats.note(&error);
                    TierPut::Failed(error)
                }
            }
        };
        PutResult { tier: tier.info().name.clone(), durable: tier.info().capabilities.durable, put }
    }
}

/// The tombstone for what a tier holds that is older than `entry`, where `entry` itself does not fit:
/// an upper tier would otherwise go on serving the value that was replaced. Its version lies just below
/// the entry's, so tiers further down still answer.
fn burial(entry: &Entry) -> Entry {
    Entry::tombstone(just_below(entry.version()), entry.metadata().created)
}

/// The greatest version below `version`; none is below [`Version::ZERO`].
fn just_below(version: Version) -> Version {
    let Version { wall, counter, node } = version;
    if node.as_u64() > 0 {
        return Version { node: NodeId::from_u64(node.as_u64() - 1), ..version };
    }
    let node = NodeId::from_u64(u64::MAX);
    if counter > 0 {
        return Version { wall, counter: counter - 1, node };
    }
    match wall.as_millis() {
        0 => Version::ZERO,
        millis => Version { wall: Timestamp::from_millis(millis - 1), counter: u32::MAX, node },
    }
}

fn tier_report(tier: &Tier) -> TierReport {
    let stats = &tier.stats;
    let reads = [
        &stats.hits,
        &stats.stale,
        &stats.misses,
        &stats.errors,
        &stats.timeouts,
        &stats.skipped,
        &stats.cancelled,
    ]
    .map(|count| count.get());
    let [hits, stale, misses, errors, timeouts, skipped, cancelled] = reads;
    TierReport {
        name: tier.name().to_owned(),
        scope: if tier.is_local() { "local" } else { "shared" },
        mode: tier.mode.as_str(),
        lookups: reads.iter().sum(),
        hits,
        stale,
        misses,
        errors,
        timeouts,
        skipped,
        cancelled,
        corrupt: stats.corrupt.get(),
        from_future: stats.from_future.get(),
        superseded: stats.superseded.get(),
        bytes_read: stats.bytes_read.get(),
        get_latency: stats.get_latency.report(),
        stored: stats.stored.get(),
        put_errors: stats.put_errors.get(),
        put_timeouts: stats.put_timeouts.get(),
        put_skipped: stats.put_skipped.get(),
        put_cancelled: stats.put_cancelled.get(),
        bytes_written: stats.bytes_written.get(),
        put_latency: stats.put_latency.report(),
        last_error: stats.last_error().map(|error| error.to_string()),
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for Chain {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let (_, answer, scan) = self.read(key).await;
        match (answer, scan.tombstone, scan.failure) {
            (Some((_, entry)), _, _) => Ok(Some(entry)),
            (None, Some(tombstone), _) => Ok(Some(tombstone)),
            (None, None, Some(failure)) => Err(failure),
            (None, None, None) => Ok(None),
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
            match tokio::time::timeout(tier.read_deadline, tier.backend.probe()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => first = first.or(Some(error)),
                Err(_) => {
                    first = first.or_else(|| Some(timeout_error(tier, Operation::Probe, tier.read_deadline)))
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Closes every tier, each within its deadline for writes, whatever the others answer; then gives
    /// the first error.
    async fn close(&self) -> Result<(), Error> {
        self.settle().await;
        let closed = join_all(self.tiers.iter().map(async |tier| match tier.close().await {
            Call::Done(()) => Ok(()),
            Call::Failed(error) => Err(error),
            Call::TimedOut(deadline) => Err(timeout_error(tier, Operation::Close, deadline)),
        }))
        .await;
        closed.into_iter().collect()
    }
}
