//! One read's way down the tiers: what was found so far, and what that means for the next answer.

use std::sync::Arc;

use peercache_api::{
    BackendInfo, Clock, Entry, Error, ErrorKind, Freshness, Key, Operation, Timestamp, Version,
};

use super::budget::Budget;
use crate::invalidation::{Invalidation, Verdict};
use crate::outcome::{LookupOptions, Skip, TierTrace};
use crate::tier::{Call, CancelGuard, PartlyAnswered};
use crate::write::slot::Slot;

/// What every read of a chain works with.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) slots: Arc<[Slot]>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) invalidation: Arc<Invalidation>,
}

/// What a read knows after some of the tiers have answered.
pub(crate) struct Scan<'a> {
    sources: &'a Sources,
    key: &'a Key,
    /// The greatest version seen; what is below it is superseded.
    pub(crate) newest: Option<Version>,
    pub(crate) found: Option<(usize, Entry)>,
    pub(crate) stale: Option<(usize, Entry)>,
    tombstone: Option<Entry>,
    failure: Option<Error>,
    /// Whether any tier answered.
    answered: bool,
    /// When the latest answer was judged.
    pub(crate) judged: Timestamp,
    /// Tiers of which nothing is known, not even that they failed.
    pub(crate) unknown: Vec<usize>,
    pub(crate) trace: Vec<TierTrace>,
    /// The greatest version of a tag that removed an entry.
    pub(crate) tagged: Option<Version>,
    /// How it differs from the usual read.
    pub(crate) options: LookupOptions,
}

impl<'a> Scan<'a> {
    /// What a read of `key` knows before any tier is asked.
    #[inline]
    pub(crate) fn new(sources: &'a Sources, key: &'a Key) -> Self {
        let mut scan = Self {
            sources,
            key,
            newest: None,
            found: None,
            stale: None,
            tombstone: None,
            failure: None,
            answered: false,
            judged: Timestamp::EPOCH,
            unknown: Vec::new(),
            trace: Vec::new(),
            tagged: None,
            options: LookupOptions::default(),
        };
        scan.apply_known_removal();
        scan
    }

    /// Takes in what is known to be removed, so that nothing older is the answer, from whichever
    /// tier.
    #[inline]
    fn apply_known_removal(&mut self) {
        if let Some(removal) = self.sources.invalidation.known(self.key)
            && self.newest < Some(removal.version)
        {
            self.newest = Some(removal.version);
            self.tombstone = Some(removal.tombstone());
            self.stale = None;
        }
    }

    /// Takes in what tier `index` holds. Returns why it is not the answer, or nothing if it is.
    fn judge(&mut self, index: usize, held: Option<Entry>, now: Timestamp) -> Option<Skip> {
        self.answered = true;
        self.judged = now;
        let Some(entry) = held else { return Some(Skip::Absent) };
        if entry.is_from_future(now) {
            return Some(Skip::FromFuture);
        }
        // The same write may live shorter in one tier than in another, so an equal version counts,
        // unless it was removed.
        let known = self.newest.cmp(&Some(entry.version()));
        let removed = self.tombstone.as_ref().is_some_and(|tombstone| tombstone.version() >= entry.version());
        if known.is_gt() || removed {
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

    /// Takes in what a tier holds that missed a newer write. It is not served, nor is anything
    /// older. A tier that holds the same and missed nothing may still serve it.
    fn outdated(&mut self, entry: &Entry, now: Timestamp) -> Skip {
        self.answered = true;
        self.judged = now;
        if entry.is_from_future(now) {
            return Skip::FromFuture;
        }
        self.raise(entry, now);
        Skip::Superseded
    }

    /// There is such an entry, somewhere: nothing older is served.
    fn raise(&mut self, entry: &Entry, now: Timestamp) {
        if self.newest < Some(entry.version()) && !entry.is_from_future(now) {
            self.newest = Some(entry.version());
            self.stale = None;
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
            (None, None) if self.unknown.is_empty() => Ok(None),
            (None, None) => {
                let left_out = "a tier was not asked, because its breaker is open or it is too slow";
                let cause = error(ErrorKind::Unavailable, left_out);
                Err(match self.answered {
                    true => error(ErrorKind::Unavailable, "no tier that was asked holds the key")
                        .with_source(PartlyAnswered(cause)),
                    false => cause,
                })
            }
        }
    }

    /// Nothing but what is above `newest` is of use.
    pub(crate) fn require_newer(&mut self, newest: Option<Version>) {
        self.newest = self.newest.max(newest);
    }

    /// Why the tier at `index` is not asked, if it is not. Nothing here looks at the time for a
    /// tier that answers without I/O.
    pub(crate) fn leave_out(&self, index: usize, budget: &Budget<'_>) -> Option<Skip> {
        let tier = &self.sources.slots[index].tier;
        if !tier.reads() {
            Some(Skip::Mode)
        } else if !tier.breaker.allow() {
            Some(Skip::Open)
        } else if !tier.is_volatile() && budget.is_too_slow(index) {
            Some(Skip::TooSlow)
        } else {
            None
        }
    }

    /// Asks the tier at `index`. Returns why it is not the answer, or nothing if it is.
    pub(crate) async fn ask(&mut self, index: usize, budget: &mut Budget<'_>) -> Option<Skip> {
        if let Some(skip) = self.leave_out(index, budget) {
            return Some(skip);
        }
        let tier = &self.sources.slots[index].tier;
        let cancel = CancelGuard::new(&tier.stats.cancelled);
        let deadline = || {
            budget.start();
            budget.allowance(index)
        };
        let call = tier.get(self.key, &*self.sources.clock, deadline).await;
        let skip = self.weigh(index, call).await;
        cancel.ended();
        if skip.is_none() {
            self.count_hit(index);
        }
        skip
    }

    /// Takes in how a call to the tier at `index` ended. Returns why that is not the answer, or
    /// nothing if it is.
    pub(crate) async fn weigh(&mut self, index: usize, call: Call<Option<Entry>>) -> Option<Skip> {
        let held = match call {
            Call::Done(held) => held,
            Call::Failed(error) => return Some(Skip::Failed(error)),
            Call::TimedOut(waited) => return Some(Skip::TimedOut(waited)),
        };
        let (sources, tier) = (self.sources, &self.sources.slots[index].tier);
        let Some(entry) = held else { return self.judge(index, None, sources.clock.now()) };
        if sources.invalidation.is_horizon_due(index) {
            // Boxed, so that a hit in memory does not carry the room for it.
            Box::pin(sources.invalidation.look_for_horizon(index)).await;
            self.apply_known_removal();
        }
        if tier.missed.outdates(self.key, entry.version(), &*sources.clock) {
            return Some(self.outdated(&entry, sources.clock.now()));
        }
        if let Some(verdict) = sources.invalidation.verdict(index, self.key, &entry, !tier.is_local()).await {
            return Some(self.apply(index, &entry, verdict));
        }
        self.judge(index, Some(entry), sources.clock.now())
    }

    /// Takes in that `entry`, which was found at `index`, was removed.
    fn apply(&mut self, index: usize, entry: &Entry, verdict: Verdict) -> Skip {
        let now = self.sources.clock.now();
        match verdict {
            Verdict::Tagged(version) => {
                let tombstone = Entry::tombstone(entry.version(), entry.metadata().created);
                // Nothing older may be the answer now; something newer further down may.
                self.judge(index, Some(tombstone), now);
                self.tagged = self.tagged.max(Some(version));
                Skip::Tagged
            }
            Verdict::Tombstone(tombstone) => {
                self.judge(index, Some(tombstone), now);
                Skip::Superseded
            }
        }
    }

    /// The newest that waits to be written to a shared tier under the key.
    pub(crate) fn waiting(&self) -> Option<Entry> {
        self.sources.slots.iter().filter_map(|slot| slot.pending(self.key)).max_by_key(Entry::version)
    }

    /// Takes in what waits to be written to shared tiers, before the one at `index` is asked: this
    /// process sees what it has written, and no older version comes back from a tier that the newer
    /// one, or a removal, has not reached yet. Whether that is the answer: at a tier that is not
    /// read it hides what is older, and is served at the next one that is.
    pub(crate) async fn weigh_waiting(&mut self, index: usize, waiting: Entry) -> bool {
        let (answered, tier) = (self.answered, &self.sources.slots[index].tier);
        let cancel = CancelGuard::new(&tier.stats.cancelled);
        let verdict = self.sources.invalidation.verdict(index, self.key, &waiting, false).await;
        cancel.ended();
        let now = self.sources.clock.now();
        let fresh = if let Some(verdict) = verdict {
            self.apply(index, &waiting, verdict);
            false
        } else if tier.reads() || waiting.is_tombstone() {
            self.judge(index, Some(waiting), now).is_none()
        } else {
            self.raise(&waiting, now);
            false
        };
        // No tier has answered yet.
        self.answered = answered;
        fresh
    }

    /// Counts and notes that the tier at `index` did not give the answer.
    pub(crate) fn pass(&mut self, index: usize, skip: Skip) {
        let tier = &self.sources.slots[index].tier;
        tier.stats.count_skip(&skip);
        match &skip {
            Skip::Failed(error) => {
                tracing::debug!(tier = tier.name(), operation = "get", %error, "tier failed");
                self.failure.get_or_insert_with(|| error.clone());
            }
            Skip::TimedOut(deadline) => {
                tracing::debug!(tier = tier.name(), operation = "get", ?deadline, "tier timed out");
                let error = tier.timeout_error(Operation::Get, *deadline);
                tier.stats.note(&error);
                self.failure.get_or_insert(error);
            }
            Skip::Open | Skip::TooSlow | Skip::Overtaken => self.unknown.push(index),
            _ => {}
        }
        self.trace.push(TierTrace { index, tier: tier.info().name.clone(), skip });
    }

    pub(crate) fn count_hit(&self, index: usize) {
        if let Some((_, entry)) = &self.found {
            let stats = &self.sources.slots[index].tier.stats;
            stats.hits.add(1);
            stats.bytes_read.add(entry.value().len() as u64);
        }
    }
}
