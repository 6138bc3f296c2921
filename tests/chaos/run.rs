//! Takes a scenario step by step and judges every answer by the model and every count by the
//! answers.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Clock, Entry, Key, NodeId, VersionClock};
use peercache_chain::{Lookup, Outcome, PutOutcome, Report, Skip, TierPut, TierReport};
use peercache_testkit::ManualClock;
use peercache_testkit::chaos::Trace;
use peercache_testkit::model::{Answer, Model, Queue, Taken, TierSpec};
use tokio::time::timeout;

use crate::scenario::{KEYS, Kind, Mode, Room, Scenario, TierPlan};
use crate::step::Step;
use crate::tally::Tally;
use crate::world::{World, index_of};

thread_local! {
    /// Panics of this thread, those in background tasks too: tokio would swallow them.
    pub(crate) static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// What a run leaves behind, to compare with another run.
pub(crate) type Record = (Vec<Report>, Vec<Trace>);

/// Longer than any pause: that of a breaker and that of a queue, one after the other.
const LONGEST_PAUSES: Duration = Duration::from_secs(150);

/// Runs a scenario in paused time. The error says at which step what was wrong.
pub(crate) fn run(scenario: &Scenario) -> Result<Record, String> {
    let before = PANICS.get();
    let outcome = std::panic::catch_unwind(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(Run::new(scenario).all(&scenario.steps))
    });
    match (outcome, PANICS.get() - before) {
        (Ok(outcome), 0) => outcome,
        (_, panics) => Err(format!("{panics} panics, the messages are above")),
    }
}

struct Run {
    clock: Arc<ManualClock>,
    /// Ours, and another process's.
    versions: [VersionClock; 2],
    plans: Vec<TierPlan>,
    world: World,
    model: Model,
    tally: Tally,
}

impl Run {
    fn new(scenario: &Scenario) -> Self {
        let clock = Arc::new(ManualClock::default());
        let queue = if scenario.chain.room == Room::Enough { Queue::Roomy } else { Queue::Bounded };
        let spec = |plan: &TierPlan| TierSpec {
            reads: plan.mode != Mode::WriteOnly,
            keeps: plan.keeps(),
            queue: if plan.is_shared() { queue } else { Queue::None },
        };
        Self {
            versions: [1, 2].map(|node| VersionClock::new(NodeId::from_u64(node))),
            plans: scenario.tiers.clone(),
            world: World::build("chain", &scenario.chain, &scenario.tiers, &clock),
            model: Model::new(scenario.tiers.iter().map(spec), clock.now()),
            tally: Tally::new(scenario.tiers.len()),
            clock,
        }
    }

    async fn all(mut self, steps: &[Step]) -> Result<Record, String> {
        for (number, step) in steps.iter().enumerate() {
            let at = |wrong: String| format!("step {number}, {step:?}: {wrong}");
            self.take(step).await.map_err(at)?;
            // Not after each: the percentiles of a report cost more than the step.
            if number % 16 == 15 {
                self.tally.check(&self.world.chain.report(), false).map_err(at)?;
            }
        }
        self.calm().await?;
        // Whatever it answers, closing ends within the deadlines of the tiers.
        if timeout(Duration::from_secs(300), self.world.chain.close()).await.is_err() {
            return Err("closing the chain never ended".to_owned());
        }
        let report = self.world.chain.report();
        let waiting = |tier: &TierReport| tier.queue.as_ref().is_some_and(|queue| queue.waiting > 0);
        if let Some(tier) = report.tiers.iter().find(|tier| waiting(tier)) {
            return Err(format!("{}: something waits after the end", tier.name));
        }
        Tally::check_sums(&report, false)?;
        Ok(self.world.record())
    }

    /// Everything is up again and time passes: the tiers that do no wrong have got all that was
    /// written while they were away, and every count adds up.
    async fn calm(&mut self) -> Result<(), String> {
        (0..self.plans.len()).for_each(|tier| self.switch(tier, true));
        if self.plans.iter().any(TierPlan::is_shared) {
            tokio::time::sleep(LONGEST_PAUSES).await;
        }
        self.world.settle().await;
        let report = self.world.chain.report();
        self.tally.check(&report, true)?;
        for within in self.world.all().into_iter().skip(1) {
            Tally::check_sums(&within.chain.report(), true)?;
        }
        for (index, tier) in report.tiers.iter().enumerate().filter(|(index, _)| self.plans[*index].keeps()) {
            if let Some(waiting) = tier.queue.as_ref().map(|queue| queue.waiting).filter(|some| *some > 0) {
                return Err(format!("{}: {waiting} writes wait although it is well again", tier.name));
            }
            for key in (0..KEYS).map(name) {
                let Some(least) = self.model.must_hold(&key, index) else { continue };
                let held = self.world.doors[index].get(&key).await.ok().flatten();
                if held.as_ref().is_none_or(|held| held.version() < least.version()) {
                    return Err(format!("{}: {key:?} is {held:?} there and should be {least:?}", tier.name));
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Put { key, size, fresh, stale, tag } => {
                let entry = self.entry(0, size, fresh, stale, tag);
                self.put(&name(key), entry, None).await;
            }
            Step::Remove { key } => {
                let entry = self.tombstone(0);
                self.put(&name(key), entry, None).await;
            }
            Step::Invalidate { tag } => {
                let version = self.versions[0].next(self.clock.now());
                self.model.invalidate_tag(&tag_name(tag), version);
                let written = self.world.chain.invalidate_tag(&tag_name(tag), version).await;
                self.tally.put();
                written.map_err(|error| error.to_string())?;
            }
            Step::DroppedPut { key, after } => {
                let entry = self.entry(0, 24, 30, 30, None);
                self.put(&name(key), entry, Some(Duration::from_millis(after))).await;
            }
            Step::DroppedRemove { key, after } => {
                let entry = self.tombstone(0);
                self.put(&name(key), entry, Some(Duration::from_millis(after))).await;
            }
            Step::Lookup { key } => {
                let lookup = self.world.chain.lookup(&name(key)).await;
                return self.judge(&name(key), &lookup);
            }
            Step::Often { key, times } => {
                for _ in 0..times {
                    let lookup = self.world.chain.lookup(&name(key)).await;
                    self.judge(&name(key), &lookup)?;
                }
            }
            Step::DroppedLookup { key, after } => {
                let name = name(key);
                match timeout(Duration::from_millis(after), self.world.chain.lookup(&name)).await {
                    Ok(lookup) => return self.judge(&name, &lookup),
                    Err(_) => self.tally.dropped_lookup(),
                }
            }
            Step::Together { key, remove, lookups } => {
                let entry = if remove { self.tombstone(0) } else { self.entry(0, 24, 30, 30, None) };
                return self.together(&name(key), entry, lookups).await;
            }
            Step::Foreign { tier, key, remove } => {
                let entry = if remove { self.tombstone(1) } else { self.entry(1, 24, 30, 30, None) };
                self.foreign(tier, &name(key), entry).await;
            }
            Step::Wait { seconds } => {
                self.clock.advance(Duration::from_secs(seconds));
                self.model.advance(Duration::from_secs(seconds));
            }
            Step::Breathe { millis } => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::Down { tier } => self.switch(tier, false),
            Step::Up { tier } => self.switch(tier, true),
            Step::Settle => self.world.chain.settle().await,
        }
        Ok(())
    }

    fn entry(&self, writer: usize, size: usize, fresh: u64, stale: u64, tag: Option<usize>) -> Entry {
        let now = self.clock.now();
        let version = self.versions[writer].next(now);
        let value = format!("{version:?}{:size$}", "");
        let entry = Entry::builder(value, version, now)
            .fresh_for(Duration::from_secs(fresh))
            .stale_for(Duration::from_secs(stale));
        tag.into_iter().fold(entry, |entry, tag| entry.tag(tag_name(tag))).build().unwrap()
    }

    fn tombstone(&self, writer: usize) -> Entry {
        let now = self.clock.now();
        Entry::tombstone(self.versions[writer].next(now), now)
    }

    /// Writes, and gives up after `patience` if there is one.
    async fn put(&mut self, key: &Key, entry: Entry, patience: Option<Duration>) {
        let (version, bytes) = (entry.version(), entry.value().len());
        self.model.begin_put(key, &entry);
        let write = self.world.chain.write(key, entry);
        let outcome = match patience {
            None => Some(write.await),
            Some(patience) => timeout(patience, write).await.ok(),
        };
        self.tally.put();
        if let Some(outcome) = outcome {
            self.model.end_put(key, version, &self.taken(bytes, &outcome));
        }
    }

    async fn together(&mut self, key: &Key, entry: Entry, lookups: usize) -> Result<(), String> {
        let (version, bytes) = (entry.version(), entry.value().len());
        self.model.begin_put(key, &entry);
        let chain = &self.world.chain;
        let beside = async {
            let lookup = async || chain.lookup(key).await;
            match lookups {
                1 => vec![lookup().await],
                2 => <[_; 2]>::from(tokio::join!(lookup(), lookup())).into(),
                _ => <[_; 3]>::from(tokio::join!(lookup(), lookup(), lookup())).into(),
            }
        };
        let (outcome, answers) = tokio::join!(chain.write(key, entry), beside);
        self.tally.put();
        // While the write is under way, what was right before it is right, and the new entry too.
        answers.iter().try_for_each(|lookup| self.judge(key, lookup))?;
        self.model.end_put(key, version, &self.taken(bytes, &outcome));
        Ok(())
    }

    /// Writes past the chain and past the chaos, as another process would.
    async fn foreign(&mut self, tier: usize, key: &Key, entry: Entry) {
        if !self.plans[tier].orders() {
            return;
        }
        let version = entry.version();
        self.model.begin_put(key, &entry);
        match self.world.doors[tier].put(key, entry).await {
            Ok(()) => self.model.end_put_elsewhere(key, version, Some(tier)),
            // Some of its tiers may have it, or have buried what is older, and our chain knows
            // nothing of it: as if the other process had gone away.
            Err(_) if matches!(self.plans[tier].kind, Kind::Nested(_)) => {}
            Err(_) => self.model.end_put_elsewhere(key, version, None),
        }
    }

    fn switch(&mut self, tier: usize, up: bool) {
        self.world.switch(tier, up);
        self.model.set_up(tier, up);
    }

    /// How each tier took the write of a value of `bytes`.
    fn taken(&self, bytes: usize, outcome: &PutOutcome) -> Vec<Taken> {
        let tiers = self.plans.iter().zip(&self.world.doors);
        let taken = outcome.tiers.iter().zip(tiers).map(|(tier, (plan, door))| match &tier.put {
            TierPut::Stored => Taken::Stored,
            TierPut::TooLarge => Taken::Buried,
            TierPut::Queued => Taken::Queued,
            TierPut::Failed(_) if matches!(plan.kind, Kind::Nested(_)) => Taken::Partly,
            TierPut::Failed(_) if bytes > door.info().capabilities.max_value_bytes => Taken::Partly,
            TierPut::Failed(error) if plan.is_shared() && error.is_retryable() => Taken::Delayed,
            TierPut::Failed(_) => Taken::Failed,
            _ => Taken::NotAsked,
        });
        taken.collect()
    }

    fn judge(&mut self, key: &Key, lookup: &Lookup) -> Result<(), String> {
        self.tally.lookup(lookup);
        let mut silent = Vec::new();
        for trace in &lookup.trace {
            let tier = index_of(&trace.tier);
            match trace.skip {
                Skip::Failed(_) | Skip::TimedOut(_) | Skip::Open => {
                    self.model.judge_silence(tier).map_err(|wrong| wrong.to_string())?;
                    silent.push(tier);
                }
                Skip::Absent
                | Skip::Expired
                | Skip::Stale
                | Skip::Removed
                | Skip::Superseded
                | Skip::Tagged
                | Skip::FromFuture => {}
                // Its mode, a spent budget, a race that another won: the chain did not hear it.
                _ => silent.push(tier),
            }
        }
        let answer = match (lookup.outcome, &lookup.entry, &lookup.tier) {
            (Outcome::Miss, None, None) => Answer::Miss,
            (Outcome::Hit, Some(entry), Some(tier)) => {
                Answer::Hit { tier: index_of(tier), entry: entry.clone() }
            }
            (Outcome::Stale, Some(entry), Some(tier)) => {
                Answer::Stale { tier: index_of(tier), entry: entry.clone() }
            }
            _ => return Err(format!("an answer that contradicts itself: {lookup:?}")),
        };
        self.model.judge(key, &answer, &silent).map_err(|wrong| {
            let right = self.model.acceptable(key, &silent);
            format!("{wrong}; answered {answer:?}, right would be {right:?}, the lookup: {:?}", lookup.trace)
        })
    }
}

fn tag_name(tag: usize) -> String {
    format!("tag {tag}")
}

fn name(key: usize) -> Key {
    Key::from_parts(["key", &key.to_string()]).unwrap()
}
