//! Reading: down the tiers until one answers, and what was found is promoted.

mod budget;
pub(crate) mod explain;
mod promote;
mod race;
mod scan;

use std::sync::Arc;
use std::time::Duration;

use peercache_api::util::Count;
use peercache_api::{Clock, Entry, Key, Version};
use tokio::sync::Semaphore;

use self::budget::Budget;
pub(crate) use self::budget::DEFAULT_BUDGET;
use self::promote::Promoter;
pub use self::promote::PromotionReport;
use self::race::MAX_STRAGGLERS;
use self::scan::Scan;
pub(crate) use self::scan::Sources;
use crate::invalidation::Invalidation;
use crate::outcome::{Lookup, LookupOptions, Outcome};
use crate::tier::{Call, CancelGuard};
use crate::write::slot::Slot;

/// Reads the tiers of a chain.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) sources: Sources,
    promoter: Promoter,
    stats: ReadStats,
    /// How long one read may wait in all.
    pub(crate) budget: Duration,
    racing: bool,
    /// Room to follow reads that were overtaken to their end.
    stragglers: Arc<Semaphore>,
}

/// How the reads of a chain ended.
#[derive(Debug, Default)]
pub(crate) struct ReadStats {
    pub(crate) hits: Count,
    pub(crate) stale: Count,
    pub(crate) misses: Count,
    pub(crate) cancelled: Count,
}

/// The answer of a read: the tier's index and the entry.
type Answer = Option<(usize, Entry)>;

impl Reader {
    /// Reads within `budget`; `racing` says whether a slow shared tier is raced by the next one.
    pub(crate) fn new(
        slots: &Arc<[Slot]>,
        invalidation: &Arc<Invalidation>,
        clock: &Arc<dyn Clock>,
        budget: Duration,
        racing: bool,
    ) -> Self {
        let (slots, invalidation, clock) = (Arc::clone(slots), Arc::clone(invalidation), Arc::clone(clock));
        Self {
            promoter: Promoter::new(&clock),
            sources: Sources { slots, clock, invalidation },
            stats: ReadStats::default(),
            budget,
            racing,
            stragglers: Arc::new(Semaphore::new(MAX_STRAGGLERS)),
        }
    }

    pub(crate) fn stats(&self) -> &ReadStats {
        &self.stats
    }

    pub(crate) fn promotions(&self) -> PromotionReport {
        self.promoter.report()
    }

    /// Waits until every copy that is being promoted has been written or given up.
    pub(crate) async fn settle(&self) {
        self.promoter.settle().await;
    }

    /// Reads `key`, counts the outcome, and promotes a hit.
    pub(crate) async fn lookup(&self, key: &Key, options: LookupOptions) -> Lookup {
        let (outcome, answer, scan) = self.read(key, options).await;
        let (newest, judged, trace) = (scan.newest.max(scan.tagged), scan.judged, scan.trace);
        let Some((index, entry)) = answer else {
            let (entry, tier, tier_index, age) = (None, None, None, Duration::ZERO);
            let (shared, in_process) = (false, false);
            return Lookup { outcome, entry, tier, tier_index, in_process, shared, age, newest, trace };
        };
        let tier = &self.sources.slots[index].tier;
        Lookup {
            outcome,
            age: entry.age(judged),
            tier: Some(tier.info().name.clone()),
            tier_index: Some(index),
            in_process: tier.is_volatile(),
            shared: !tier.is_local(),
            entry: Some(entry),
            newest,
            trace,
        }
    }

    /// A fresh value from a local tier, if there is one. Nothing is counted or promoted.
    pub(crate) async fn peek_local(&self, key: &Key) -> Option<Entry> {
        let mut scan = Scan::new(&self.sources, key);
        for (index, slot) in self.sources.slots.iter().enumerate() {
            if !slot.reads_locally() || !slot.tier.breaker.allow() {
                continue;
            }
            let call = slot.tier.peek(key).await;
            if matches!(call, Call::Done(_)) && scan.weigh(index, call).await.is_none() {
                break;
            }
        }
        scan.found.map(|(_, entry)| entry)
    }

    /// Scans the tiers, counts the outcome and promotes a hit.
    pub(crate) async fn read<'a>(
        &'a self,
        key: &'a Key,
        options: LookupOptions,
    ) -> (Outcome, Answer, Scan<'a>) {
        let cancel = CancelGuard::new(&self.stats.cancelled);
        let mut scan = self.scan(key, options).await;
        cancel.ended();
        if let Some((index, entry)) = scan.found.take() {
            self.stats.hits.add(1);
            if index > 0 {
                self.promote(index, key, &entry, &scan).await;
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

    async fn scan<'a>(&'a self, key: &'a Key, options: LookupOptions) -> Scan<'a> {
        let slots = &self.sources.slots;
        let mut scan = Scan::new(&self.sources, key);
        scan.options = options;
        let mut budget = Budget::new(slots, &*self.sources.clock, self.budget, options.extra_time);
        let mut index = 0;
        while index < slots.len() && scan.found.is_none() {
            let end = self.race_end(index);
            if !slots[index].tier.is_local()
                && let Some(waiting) = scan.waiting()
                && Box::pin(scan.weigh_waiting(index, waiting)).await
            {
                scan.count_hit(index);
                break;
            }
            if end - index > 1 {
                // Boxed, so that a hit in memory does not carry the room for a race.
                let raced =
                    race::race(&self.sources, &self.stragglers, index..end, key, &mut scan, &mut budget);
                Box::pin(raced).await;
            } else if let Some(skip) = scan.ask(index, &mut budget).await {
                scan.pass(index, skip);
            }
            index = end;
        }
        scan
    }

    /// The end of the run of tiers from `start` that may be raced: adjacent and shared. One that is
    /// not read stands alone before the others, so that what waits for these is served at their
    /// turn.
    fn race_end(&self, start: usize) -> usize {
        let slots = &self.sources.slots;
        if !self.racing || slots[start].tier.is_local() || !slots[start].tier.reads() {
            return start + 1;
        }
        start + slots[start..].iter().take_while(|slot| !slot.tier.is_local()).count()
    }

    /// Judges a value that another machine has loaded, and that the tier at `index` gave, like one
    /// that was read, and promotes it. Nothing if it is of no use.
    pub(crate) async fn take_loaded(
        &self,
        index: usize,
        key: &Key,
        entry: Entry,
        newer_than: Option<Version>,
    ) -> Option<Entry> {
        let mut scan = Scan::new(&self.sources, key);
        scan.require_newer(newer_than);
        let held = Call::Done(Some(self.sources.slots[index].tier.capped(entry)));
        let _skip = scan.weigh(index, held).await;
        let (_, entry) = scan.found.take()?;
        self.promote(index, key, &entry, &scan).await;
        Some(entry)
    }

    /// Writes a hit in the tier at `index` to the tiers above that could use it: not to those that
    /// were left out of the read, which may hold it, nor to those that are unhealthy, for which it
    /// is too old, which missed a newer write of it, or which have no room for the whole that it is
    /// a part of.
    async fn promote(&self, index: usize, key: &Key, entry: &Entry, scan: &Scan<'_>) {
        if scan.options.look_only {
            return;
        }
        let age = entry.age(self.sources.clock.now());
        for (above, slot) in self.sources.slots[..index].iter().enumerate() {
            let tier = &slot.tier;
            if tier.writes()
                && tier.info().capabilities.has_room_for(scan.options.part_of)
                && !scan.unknown.contains(&above)
                && tier.breaker.allow()
                && tier.max_ttl.is_none_or(|cap| age < cap)
                && !tier.missed.outdates(key, entry.version(), &*self.sources.clock)
            {
                self.promoter.promote(slot, key, entry).await;
            }
        }
    }
}
