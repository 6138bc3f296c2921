//! Reading: down the tiers until one answers, and what was found is carried up.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{BackendInfo, Entry, Error, ErrorKind, Freshness, Key, Operation, Timestamp, Version};

use crate::breaker::PartlyAnswered;
use crate::budget::Budget;
use crate::chain::Chain;
use crate::lookup::{Lookup, Outcome, Skip, TierTrace};
use crate::stats::CancelGuard;
use crate::tier::{Call, Tier, timeout_error};

/// What a lookup knows after some of the tiers have answered.
#[derive(Default)]
pub(crate) struct Scan {
    /// The greatest version seen; what is below it is superseded.
    pub(crate) newest: Option<Version>,
    pub(crate) found: Option<(usize, Entry)>,
    pub(crate) stale: Option<(usize, Entry)>,
    pub(crate) tombstone: Option<Entry>,
    failure: Option<Error>,
    /// Whether any tier answered.
    answered: bool,
    /// Tiers of which nothing is known, not even that they failed.
    unheard: Vec<usize>,
    pub(crate) trace: Vec<TierTrace>,
}

impl Scan {
    /// Takes in what tier `index` holds. Returns why it is not the answer, or nothing if it is.
    pub(crate) fn judge(&mut self, index: usize, held: Option<Entry>, now: Timestamp) -> Option<Skip> {
        self.answered = true;
        let Some(entry) = held else { return Some(Skip::Absent) };
        if entry.is_from_future(now) {
            return Some(Skip::FromFuture);
        }
        // The same write may live shorter in one tier than in another, so an equal version counts,
        // unless it was removed.
        let known = self.newest.cmp(&Some(entry.version()));
        if known.is_gt() || (known.is_eq() && self.tombstone.is_some()) {
            return Some(Skip::Superseded);
        }
        if known.is_lt() {
            self.newest = Some(entry.version());
            self.tombstone = None;
            self.stale = None;
        }
        match entry.freshness(now) {
            Freshness::Expired => Some(Skip::Expired),
            _ if entry.is_tombstone() => {
                self.stale = None;
                self.tombstone = Some(entry);
                Some(Skip::Removed)
            }
            Freshness::Stale => {
                self.stale.get_or_insert((index, entry));
                Some(Skip::Stale)
            }
            Freshness::Fresh => {
                self.found = Some((index, entry));
                None
            }
        }
    }

    /// What a read that found no value to serve says to a chain around this one: a removal; or that
    /// there is nothing; or, if that was not established, an error.
    pub(crate) fn without_value(self, info: &BackendInfo) -> Result<Option<Entry>, Error> {
        let error = |kind, message: &'static str| {
            Error::new(kind, Operation::Get, message).with_backend(info.name.clone())
        };
        match (self.tombstone, self.failure) {
            (Some(tombstone), _) => Ok(Some(tombstone)),
            (None, Some(failure)) if self.answered => {
                Err(error(failure.kind(), "a tier failed and no other holds the key")
                    .with_temporary(failure.is_retryable())
                    .with_source(PartlyAnswered(failure)))
            }
            (None, Some(failure)) => Err(failure),
            (None, None) if self.unheard.is_empty() => Ok(None),
            (None, None) => {
                let left_out = "a tier that was unwell or slow lately was left out";
                let cause = error(ErrorKind::Unavailable, left_out);
                Err(match self.answered {
                    true => error(ErrorKind::Unavailable, "no tier that was asked holds the key")
                        .with_source(PartlyAnswered(cause)),
                    false => cause,
                })
            }
        }
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
        let local = |tier: &Tier| tier.is_local() && tier.reads() && tier.breaker.allow();
        for (index, tier) in self.tiers.iter().enumerate().filter(|(_, tier)| local(tier)) {
            if let Call::Done(held) = tier.peek(key).await
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
                self.carry_up(index, key, &entry, &scan).await;
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

    /// Writes a hit in tier `index` to the tiers above that could use it: not to those that were left
    /// out of the read, which may hold it, nor to those for which it is too old.
    async fn carry_up(&self, index: usize, key: &Key, entry: &Entry, scan: &Scan) {
        let age = entry.age(self.clock.now());
        let wants = |(index, tier): &(usize, &Arc<Tier>)| {
            !scan.unheard.contains(index) && tier.max_ttl.is_none_or(|cap| age < cap)
        };
        let above = self.tiers[..index].iter().enumerate().filter(wants);
        let above: Vec<_> = above.map(|(_, tier)| Arc::clone(tier)).collect();
        self.promoter.promote(&above, key, entry, &self.clock, &self.stats).await;
    }

    async fn scan(&self, key: &Key) -> Scan {
        let mut scan = Scan::default();
        let mut budget = Budget::new(self.read_budget);
        let mut index = 0;
        while index < self.tiers.len() && scan.found.is_none() {
            let end = self.race_end(index);
            if end - index > 1 {
                // Boxed, so that a hit in memory does not carry the room for a race.
                Box::pin(self.race(index..end, key, &mut scan, &mut budget)).await;
            } else if let Some(skip) = self.ask(index, key, &mut scan, &mut budget).await {
                self.pass(index, skip, &mut scan);
            }
            index = end;
        }
        scan
    }

    /// Counts and notes that tier `index` did not give the answer.
    pub(crate) fn pass(&self, index: usize, skip: Skip, scan: &mut Scan) {
        let tier = &self.tiers[index];
        tier.stats.count_skip(&skip);
        match &skip {
            Skip::Failed(error) => {
                tracing::debug!(tier = tier.name(), operation = "get", %error, "tier failed");
                scan.failure.get_or_insert_with(|| error.clone());
            }
            Skip::TimedOut(deadline) => {
                tracing::debug!(tier = tier.name(), operation = "get", ?deadline, "tier timed out");
                let error = timeout_error(tier, Operation::Get, *deadline);
                tier.stats.note(&error);
                scan.failure.get_or_insert(error);
            }
            Skip::Open | Skip::TooSlow | Skip::Overtaken => scan.unheard.push(index),
            _ => {}
        }
        scan.trace.push(TierTrace { tier: tier.info().name.clone(), skip });
    }

    /// Why `tier` is not asked, if it is not. Nothing here looks at the time for a tier that answers
    /// without I/O.
    pub(crate) fn leave_out(&self, tier: &Tier, budget: &Budget) -> Option<Skip> {
        if !tier.reads() {
            Some(Skip::Mode)
        } else if !tier.breaker.allow() {
            Some(Skip::Open)
        } else if !tier.is_volatile() && self.is_too_slow(tier, budget.left()) {
            Some(Skip::TooSlow)
        } else {
            None
        }
    }

    /// Asks one tier. Returns why it is not the answer, or nothing if it is.
    async fn ask(&self, index: usize, key: &Key, scan: &mut Scan, budget: &mut Budget) -> Option<Skip> {
        let tier = &self.tiers[index];
        if let Some(skip) = self.leave_out(tier, budget) {
            return Some(skip);
        }
        let cancel = CancelGuard::new(&tier.stats.cancelled);
        let deadline = || {
            budget.start();
            self.allowance(index, budget.left())
        };
        let call = tier.get(key, &*self.clock, deadline).await;
        cancel.ended();
        let skip = self.weigh(index, call, scan);
        if skip.is_none() {
            self.count_hit(index, scan);
        }
        skip
    }

    /// Why the end of a call to tier `index` is not the answer, or nothing if it is.
    pub(crate) fn weigh(&self, index: usize, call: Call<Option<Entry>>, scan: &mut Scan) -> Option<Skip> {
        match call {
            Call::Done(held) => scan.judge(index, held, self.clock.now()),
            Call::Failed(error) => Some(Skip::Failed(error)),
            Call::TimedOut(deadline) => Some(Skip::TimedOut(deadline)),
        }
    }

    pub(crate) fn count_hit(&self, index: usize, scan: &Scan) {
        if let Some((_, entry)) = &scan.found {
            self.tiers[index].stats.hits.add(1);
            self.tiers[index].stats.bytes_read.add(entry.value().len() as u64);
        }
    }
}
