//! Racing: when a shared tier takes longer than it usually does, the next one is asked meanwhile.
//!
//! The first answer that can be served wins, whoever gives it, and what was learnt on the way still
//! counts: an answer older than a version or a removal that is already known never wins. A tier
//! that was overtaken is followed to its end in the background, so that its latency and its breaker
//! see how it really fares; otherwise one that hangs would be raced for ever.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use peercache_api::{Entry, Key};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::budget::Budget;
use super::scan::{Scan, Sources};
use crate::outcome::Skip;
use crate::tier::Call;

/// So many races that are over may have calls that still run; those of more are dropped.
pub(crate) const MAX_STRAGGLERS: usize = 64;
/// A tier is never raced earlier than this: below it the second call costs more than it saves.
const SHORTEST_START: Duration = Duration::from_millis(2);

type Running = FuturesUnordered<BoxFuture<'static, (usize, Call<Option<Entry>>)>>;

/// Where one tier of a race stands.
enum Entrant {
    Waiting,
    /// Asked; after this moment the next one may start.
    Running(Option<Instant>),
    /// Answered, or left out, without giving the answer.
    Out(Skip),
    Won,
}

/// The tiers of one race, in their order. Counts nothing until it is over, because only then is it
/// known who was overtaken and who was asked in vain.
struct Race<'a> {
    sources: &'a Sources,
    first: usize,
    entrants: Vec<Entrant>,
}

/// Asks the tiers of `range`, each once the one before has answered or takes longer than usual.
/// `stragglers` is the room to follow calls that lost.
pub(crate) async fn race(
    sources: &Sources,
    stragglers: &Arc<Semaphore>,
    range: Range<usize>,
    key: &Key,
    scan: &mut Scan<'_>,
    budget: &mut Budget<'_>,
) {
    budget.start();
    let mut race = Race { sources, first: range.start, entrants: range.map(|_| Entrant::Waiting).collect() };
    let mut running = Running::new();
    loop {
        if race.may_start() {
            if !race.start(key, scan, budget, &running) {
                break;
            }
            continue;
        }
        let next = match race.starts_next() {
            Some(start) => match timeout_at(start, running.next()).await {
                Ok(next) => next,
                Err(_) => continue,
            },
            None => running.next().await,
        };
        let Some((index, call)) = next else { break };
        race.entrants[index - race.first] = match scan.weigh(index, call).await {
            Some(skip) => Entrant::Out(skip),
            None => Entrant::Won,
        };
        if scan.found.is_some() {
            break;
        }
    }
    race.over(scan);
    if !running.is_empty() {
        follow(stragglers, running);
    }
}

/// Lets calls that lost run to their end, unless too many do.
fn follow(stragglers: &Arc<Semaphore>, mut running: Running) {
    if let Ok(room) = Arc::clone(stragglers).try_acquire_owned() {
        tokio::spawn(async move {
            while running.next().await.is_some() {}
            drop(room);
        });
    }
}

impl Race<'_> {
    fn next_waiting(&self) -> Option<usize> {
        self.entrants.iter().position(|entrant| matches!(entrant, Entrant::Waiting))
    }

    /// When the next one starts if nobody answers before: when everyone who runs takes longer than
    /// usual. Nothing if nobody waits, or it is not known what is usual.
    fn starts_next(&self) -> Option<Instant> {
        self.next_waiting()?;
        let mut latest = None;
        for entrant in &self.entrants {
            if let Entrant::Running(overdue) = entrant {
                latest = latest.max(Some((*overdue)?));
            }
        }
        latest
    }

    /// Whether it is the next one's turn.
    fn may_start(&self) -> bool {
        let nobody_runs = !self.entrants.iter().any(|entrant| matches!(entrant, Entrant::Running(_)));
        nobody_runs || self.starts_next().is_some_and(|start| start <= Instant::now())
    }

    /// Starts the next one, unless it is left out. False if there is none.
    fn start(&mut self, key: &Key, scan: &Scan<'_>, budget: &Budget<'_>, running: &Running) -> bool {
        let Some(place) = self.next_waiting() else { return false };
        let index = self.first + place;
        let (sources, tier) = (self.sources, &self.sources.slots[index].tier);
        if let Some(skip) = scan.leave_out(index, budget) {
            self.entrants[place] = Entrant::Out(skip);
            return true;
        }
        let deadline = budget.allowance(index);
        let usual = tier.latency.percentiles(sources.clock.monotonic());
        let overdue = usual.map(|usual| Instant::now() + usual.p95.max(SHORTEST_START));
        self.entrants[place] = Entrant::Running(overdue);
        let (tier, key, clock) = (Arc::clone(tier), key.clone(), Arc::clone(&sources.clock));
        running.push(Box::pin(async move { (index, tier.get(&key, &*clock, || deadline).await) }));
        true
    }

    /// The race has an end: counts what each tier did, in their order.
    fn over(mut self, scan: &mut Scan<'_>) {
        let mut won = false;
        for (place, entrant) in std::mem::take(&mut self.entrants).into_iter().enumerate() {
            let index = self.first + place;
            match entrant {
                Entrant::Waiting => {}
                Entrant::Won => {
                    won = true;
                    scan.count_hit(index);
                }
                Entrant::Running(_) | Entrant::Out(_) if won => self.spare(index, &entrant),
                Entrant::Running(_) => scan.pass(index, Skip::Overtaken),
                Entrant::Out(skip) => scan.pass(index, skip),
            }
        }
    }

    /// Tier `index` was asked ahead of its turn and in vain. One that was left out was not asked.
    fn spare(&self, index: usize, entrant: &Entrant) {
        let left_out = matches!(entrant, Entrant::Out(Skip::Mode | Skip::Open | Skip::TooSlow));
        if !left_out {
            self.sources.slots[index].tier.stats.spare.add(1);
        }
    }
}

impl Drop for Race<'_> {
    /// The caller went away: it waited for the first that had not answered.
    fn drop(&mut self) {
        let mut gone = false;
        for (place, entrant) in self.entrants.iter().enumerate() {
            let index = self.first + place;
            match entrant {
                Entrant::Waiting | Entrant::Won => {}
                _ if gone => self.spare(index, entrant),
                Entrant::Running(_) => {
                    gone = true;
                    self.sources.slots[index].tier.stats.cancelled.add(1);
                }
                Entrant::Out(skip) => self.sources.slots[index].tier.stats.count_skip(skip),
            }
        }
    }
}
