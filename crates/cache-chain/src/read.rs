//! Reading: down the tiers until one answers, and what was found is carried up.

use std::time::Duration;

use peercache_api::{Entry, Error, Freshness, Key, Operation, Timestamp, Version};

use crate::chain::Chain;
use crate::lookup::{Lookup, Outcome, Skip, TierTrace};
use crate::stats::CancelGuard;
use crate::tier::{Call, Tier, timeout_error};

/// What a lookup knows after some of the tiers have answered.
#[derive(Default)]
pub(crate) struct Scan {
    /// The greatest version seen; what is not above it is superseded.
    pub(crate) newest: Option<Version>,
    found: Option<(usize, Entry)>,
    stale: Option<(usize, Entry)>,
    pub(crate) tombstone: Option<Entry>,
    pub(crate) failure: Option<Error>,
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

    /// Scans the tiers, counts the outcome and carries a hit up. The answer is the index of the tier
    /// and the entry.
    pub(crate) async fn read(&self, key: &Key) -> (Outcome, Option<(usize, Entry)>, Scan) {
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
}
