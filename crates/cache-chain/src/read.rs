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
    /// When the latest answer was judged.
    judged: Timestamp,
    /// Tiers of which nothing is known, not even that they failed.
    unheard: Vec<usize>,
    pub(crate) trace: Vec<TierTrace>,
    /// The greatest version of a tag that removed an entry.
    tagged: Option<Version>,
}

impl Scan {
    /// Takes in what tier `index` holds. Returns why it is not the answer, or nothing if it is.
    pub(crate) fn judge(&mut self, index: usize, held: Option<Entry>, now: Timestamp) -> Option<Skip> {
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

    /// Takes in what a tier holds that missed a newer write. It is not served, nor is anything older. A
    /// tier that holds the same and missed nothing may still serve it.
    fn outdated(&mut self, entry: &Entry, now: Timestamp) -> Skip {
        self.answered = true;
        self.judged = now;
        if entry.is_from_future(now) {
            return Skip::FromFuture;
        }
        self.hears_of(entry, now);
        Skip::Superseded
    }

    /// There is such an entry, somewhere: nothing older is served.
    fn hears_of(&mut self, entry: &Entry, now: Timestamp) {
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
        self.lookup_patiently(key, Duration::ZERO).await
    }

    /// As [`Chain::lookup`], where each tier and the whole read may take `more` than they may usually: for what is
    /// known to be large, and travels longer than what deadlines are made for. A chain as a tier keeps its own.
    pub async fn lookup_patiently(&self, key: &Key, more: Duration) -> Lookup {
        let (outcome, answer, scan) = self.read(key, more).await;
        let (newest, judged, trace) = (scan.newest.max(scan.tagged), scan.judged, scan.trace);
        let Some((tier, entry)) = answer else {
            let (entry, tier, shared, age) = (None, None, false, Duration::ZERO);
            return Lookup { outcome, entry, tier, shared, age, newest, trace };
        };
        Lookup {
            outcome,
            age: entry.age(judged),
            tier: Some(self.tiers[tier].info().name.clone()),
            shared: !self.tiers[tier].is_local(),
            entry: Some(entry),
            newest,
            trace,
        }
    }

    /// A fresh value from a local tier, if there is one. Nothing is counted or carried up: this is
    /// for a second look just before something expensive.
    pub async fn peek_local(&self, key: &Key) -> Option<Entry> {
        let mut scan = self.begin(key);
        let local = |tier: &Tier| tier.is_local() && tier.reads() && tier.breaker.allow();
        for (index, tier) in self.tiers.iter().enumerate().filter(|(_, tier)| local(tier)) {
            let call = tier.peek(key).await;
            if matches!(call, Call::Done(_))
                && self.weigh_with_tags(index, key, call, &mut scan).await.is_none()
            {
                break;
            }
        }
        scan.found.map(|(_, entry)| entry)
    }

    /// Scans the tiers, counts the outcome and carries a hit up. The answer is the index of the tier
    /// and the entry. Each tier and the whole may take `more` than usual.
    pub(crate) async fn read(&self, key: &Key, more: Duration) -> (Outcome, Option<(usize, Entry)>, Scan) {
        let cancel = CancelGuard::new(&self.stats.cancelled);
        let mut scan = self.scan(key, more).await;
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
    /// out of the read, which may hold it, nor to those that are unwell, for which it is too old, or which
    /// would not be believed about it.
    pub(crate) async fn carry_up(&self, index: usize, key: &Key, entry: &Entry, scan: &Scan) {
        let age = entry.age(self.clock.now());
        let wants = |(index, tier): &(usize, &Arc<Tier>)| {
            !scan.unheard.contains(index)
                && tier.breaker.allow()
                && tier.max_ttl.is_none_or(|cap| age < cap)
                && !tier.missed.outdates(key, entry.version())
        };
        let above = self.tiers[..index].iter().enumerate().filter(wants);
        let above: Vec<_> = above.map(|(_, tier)| Arc::clone(tier)).collect();
        self.promoter.promote(&above, key, entry, &self.clock, &self.stats).await;
    }

    async fn scan(&self, key: &Key, more: Duration) -> Scan {
        let mut scan = self.begin(key);
        let mut budget = Budget::new(self.read_budget, more);
        let mut index = 0;
        while index < self.tiers.len() && scan.found.is_none() {
            let end = self.race_end(index);
            if !self.tiers[index].is_local()
                && let Some(waiting) = self.waiting(key)
                && Box::pin(self.weigh_waiting(index, key, waiting, &mut scan)).await
            {
                self.count_hit(index, &scan);
                break;
            }
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
            self.allowance(index, budget.left(), budget.more())
        };
        let call = tier.get(key, &*self.clock, deadline).await;
        let skip = self.weigh_with_tags(index, key, call, scan).await;
        cancel.ended();
        if skip.is_none() {
            self.count_hit(index, scan);
        }
        skip
    }

    /// The newest that waits to be written to a shared tier under `key`.
    pub(crate) fn waiting(&self, key: &Key) -> Option<Entry> {
        self.tiers.iter().filter_map(|tier| tier.pending(key)).max_by_key(Entry::version)
    }

    /// Takes in what waits to be written to shared tiers, before the one at `index` is asked: this process
    /// sees what it has written, and no older version comes back from a tier that the newer one, or a
    /// removal, has not reached yet. Whether that is the answer: at a tier that is not read it hides what is
    /// older, and is served at the next one that is.
    pub(crate) async fn weigh_waiting(
        &self,
        index: usize,
        key: &Key,
        waiting: Entry,
        scan: &mut Scan,
    ) -> bool {
        let answered = scan.answered;
        let cancel = CancelGuard::new(&self.tiers[index].stats.cancelled);
        let removed = self.removed_elsewhere(index, key, &waiting, false, scan).await.is_some();
        cancel.ended();
        let now = self.clock.now();
        let fresh = if removed {
            false
        } else if self.tiers[index].reads() || waiting.is_tombstone() {
            scan.judge(index, Some(waiting), now).is_none()
        } else {
            scan.hears_of(&waiting, now);
            false
        };
        // No tier has said anything yet.
        scan.answered = answered;
        fresh
    }

    /// As [`Chain::weigh`], and an entry that was removed by one of its tags, or by a tombstone in a
    /// local tier that the read has not come to yet, is not the answer either.
    pub(crate) async fn weigh_with_tags(
        &self,
        index: usize,
        key: &Key,
        call: Call<Option<Entry>>,
        scan: &mut Scan,
    ) -> Option<Skip> {
        if let Call::Done(Some(_)) = &call
            && let second = self.tiers[index].recent.second()
            && let shared = !self.tiers[index].is_local()
            && self.removals.floor.is_due(second, shared)
        {
            // Boxed, so that a hit in memory does not carry the room for it.
            Box::pin(self.look_for_floor(second, shared)).await;
            self.recall(key, scan);
        }
        if let Call::Done(Some(entry)) = &call
            && !self.tiers[index].missed.outdates(key, entry.version())
        {
            let shared = !self.tiers[index].is_local();
            let removed = self.removed_elsewhere(index, key, entry, shared, scan).await;
            if removed.is_some() {
                return removed;
            }
        }
        self.weigh(index, key, call, scan)
    }

    /// Takes in that `entry`, which was found at tier `index`, was removed by one of its tags, or by a
    /// tombstone in a local tier below. `ask` says whether it is in proportion to ask shared tiers about
    /// the tags.
    async fn removed_elsewhere(
        &self,
        index: usize,
        key: &Key,
        entry: &Entry,
        ask: bool,
        scan: &mut Scan,
    ) -> Option<Skip> {
        if !entry.metadata().tags.is_empty()
            && let Some(version) = self.removed_by_tag(entry, ask).await
        {
            let burial = Entry::tombstone(entry.version(), entry.metadata().created);
            // Nothing older may be the answer now; something newer further down may.
            scan.judge(index, Some(burial), self.clock.now());
            scan.tagged = scan.tagged.max(Some(version));
            return Some(Skip::Tagged);
        }
        if !self.tiers[index].is_local()
            && self.local_below_shared
            && let Some(tombstone) = Box::pin(self.buried_below(index, key, entry.version())).await
        {
            scan.judge(index, Some(tombstone), self.clock.now());
            return Some(Skip::Superseded);
        }
        None
    }

    /// A tombstone for `version` of `key` in a local tier below `index`.
    async fn buried_below(&self, index: usize, key: &Key, version: Version) -> Option<Entry> {
        let local = |tier: &&Arc<Tier>| tier.is_local() && tier.reads() && tier.breaker.allow();
        let now = self.clock.now();
        for tier in self.tiers[index + 1..].iter().filter(local) {
            if let Call::Done(Some(held)) = tier.peek(key).await
                && held.is_tombstone()
                && held.version() >= version
                && !held.is_from_future(now)
            {
                return Some(held);
            }
        }
        None
    }

    /// Why the end of a call to tier `index` is not the answer, or nothing if it is.
    fn weigh(&self, index: usize, key: &Key, call: Call<Option<Entry>>, scan: &mut Scan) -> Option<Skip> {
        match call {
            Call::Done(Some(entry)) if self.tiers[index].missed.outdates(key, entry.version()) => {
                Some(scan.outdated(&entry, self.clock.now()))
            }
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
