//! The write queue of a shared tier: what is to be written waits here, bounded, until the tier has
//! it.
//!
//! Every write that is offered ends in exactly one way, and is counted there: delivered, coalesced
//! into a newer one of the same key, dropped for a reason, or left to the journal. Workers are
//! spawned when there is something to do and end when there is not, so a chain at rest has no task.

mod backlog;
mod options;
pub(crate) mod replay;
mod report;
mod retry_budget;
pub(crate) mod worker;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peercache_api::util::{Count, SplitMix64};
use peercache_api::{Clock, Entry, Error, ErrorKind, Key, Operation, Timestamp, Version};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::backlog::{Ack, Backlog, Offered, Removed};
pub use self::options::WriteBehind;
pub use self::report::{DroppedReport, QueueReport};
use self::retry_budget::RetryBudget;
use crate::tier::Tier;
use crate::write::journal::Journal;

/// So many failures in a row of a queue that is being emptied say that its tier is away.
const FAILURES: u32 = 3;

/// The queue of one tier.
#[derive(Debug)]
pub(crate) struct WriteQueue {
    /// Learns of a missed write before the write leaves the queue, so that at any moment one of
    /// them stands for it.
    tier: Arc<Tier>,
    /// The tier's name in the journal.
    name: String,
    limits: WriteBehind,
    clock: Arc<dyn Clock>,
    journal: Option<Arc<Journal>>,
    state: Mutex<State>,
    stats: QueueStats,
    /// Notified whenever a worker pauses or ends.
    rest: Notify,
    /// Ends the pause of the worker that waits for the tier.
    hurry: Notify,
}

#[derive(Debug)]
struct State {
    backlog: Backlog,
    budget: RetryBudget,
    workers: usize,
    /// Whether one of the workers waits for the tier on behalf of all.
    pausing: bool,
    /// Failures since the last success; several attempts that fail together count once.
    failures: u32,
    /// No attempt is made before.
    resume: Option<Instant>,
    started: Instant,
    jitter: SplitMix64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing is taken in any more.
    Flushing,
    Closed,
}

/// Why a write was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Full,
    TooOld,
    Refused,
    Shutdown,
}

/// Counted while the state is held, so that a report taken at any moment adds up.
#[derive(Debug, Default)]
struct QueueStats {
    queued: Count,
    promoted: Count,
    replayed: Count,
    delivered: Count,
    coalesced: Count,
    retried: Count,
    full: Count,
    too_old: Count,
    refused: Count,
    shutdown: Count,
    journalled: Count,
    unjournalled: Count,
}

/// How a queue took a write.
#[derive(Debug)]
pub(crate) enum Offer {
    /// It waits. The receiver gets one message: the tier has it, or the first attempt failed.
    Waits(oneshot::Receiver<Result<(), Error>>),
    Refused(Error),
}

impl WriteQueue {
    /// The queue of `tier`, which is called `name` in the journal; `seed` makes the jitter of its
    /// pauses repeatable.
    pub(crate) fn new(
        tier: Arc<Tier>,
        name: String,
        limits: WriteBehind,
        clock: Arc<dyn Clock>,
        journal: Option<Arc<Journal>>,
        seed: u64,
    ) -> Self {
        let state = State {
            backlog: Backlog::new(limits.max_entries, limits.max_bytes),
            budget: RetryBudget::new(),
            workers: 0,
            pausing: false,
            failures: 0,
            resume: None,
            started: Instant::now(),
            jitter: SplitMix64::new(seed),
            phase: Phase::Open,
        };
        let (state, stats) = (Mutex::new(state), QueueStats::default());
        let (rest, hurry) = (Notify::new(), Notify::new());
        Self { tier, name, limits, clock, journal, state, stats, rest, hurry }
    }

    /// The tier's name in the journal.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The write that waits under `key`.
    pub(crate) fn pending(&self, key: &Key) -> Option<Entry> {
        self.state().backlog.get(key).cloned()
    }

    /// Takes in a write, in the journal first if there is one. Returns once the journal has it, and
    /// takes effect even if the returned future is dropped.
    pub(crate) async fn offer(self: &Arc<Self>, key: &Key, entry: Entry) -> Offer {
        if self.journal.is_none() {
            return self.take_in(key, entry);
        }
        let (queue, owned) = (Arc::clone(self), key.clone());
        let taken = tokio::task::spawn_blocking(move || queue.take_in(&owned, entry)).await;
        taken.unwrap_or_else(|_| Offer::Refused(self.refusal("the runtime is shutting down")))
    }

    /// Takes in a copy of what a tier further down holds, if there is room for it without giving
    /// anything up, and nothing waits under its key. It is not in the journal: nothing is lost with
    /// it.
    pub(crate) fn offer_copy(&self, key: &Key, entry: Entry) -> bool {
        let (queued, give_up) = (self.clock.now(), self.clock.monotonic() + self.age_of(&entry));
        let mut state = self.state();
        if state.phase != Phase::Open || !state.backlog.has_room(key, &entry) {
            return false;
        }
        // There is room, as the line above says.
        let _ = state.backlog.offer(key, entry, queued, give_up, None);
        self.stats.promoted.add(1);
        true
    }

    fn take_in(&self, key: &Key, entry: Entry) -> Offer {
        let (queued, give_up) = (self.clock.now(), self.clock.monotonic() + self.age_of(&entry));
        let (ack, told) = oneshot::channel();
        match self.insert(key, entry, queued, give_up, Some(ack), &self.stats.queued) {
            Ok(()) => Offer::Waits(told),
            Err(message) => Offer::Refused(self.refusal(message)),
        }
    }

    /// Takes in a write that another process has left in the journal.
    pub(crate) fn replay(&self, key: &Key, entry: Entry, queued: Timestamp) {
        let (now, spent) = (self.clock.monotonic(), self.clock.now().saturating_since(queued));
        let Some(rest) = self.age_of(&entry).checked_sub(spent).filter(|rest| !rest.is_zero()) else {
            let state = self.state();
            self.stats.replayed.add(1);
            self.stats.too_old.add(1);
            self.tier.missed.note(key, entry.version());
            drop(state);
            return;
        };
        // Where there is no room it is counted as dropped, and there is nobody to tell.
        let _ = self.insert(key, entry, queued, now + rest, None, &self.stats.replayed);
    }

    /// How long this write is tried.
    pub(crate) fn age_of(&self, entry: &Entry) -> Duration {
        if entry.is_tombstone() { self.limits.max_removal_age } else { self.limits.max_age }
    }

    fn insert(
        &self,
        key: &Key,
        entry: Entry,
        queued: Timestamp,
        give_up: Duration,
        ack: Option<Ack>,
        came: &Count,
    ) -> Result<(), &'static str> {
        let (version, tombstone) = (entry.version(), Entry::tombstone_for(&entry));
        self.remember(key, &entry, queued);
        let mut state = self.state();
        came.add(1);
        if state.phase != Phase::Open {
            self.stats.shutdown.add(1);
            self.tier.missed.note(key, version);
            drop(state);
            self.forget(key, version);
            return Err("the cache is closed");
        }
        let (offered, evicted) = state.backlog.offer(key, entry, queued, give_up, ack);
        self.stats.full.add(evicted.len() as u64);
        self.note_missed(&evicted);
        match offered {
            Offered::Queued => {}
            // The newer of the two is in the journal, and stands for the other there as well.
            Offered::Replaced | Offered::Older => self.stats.coalesced.add(1),
            Offered::Full => {
                self.stats.full.add(1);
                self.tier.missed.note(key, version);
            }
        }
        // What waits of this key was replaced by what found no room, so a removal takes its place:
        // that always fits. It counts as what it stands for.
        let replaced = offered == Offered::Full && state.backlog.get(key).is_some();
        if replaced {
            let give_up = self.clock.monotonic() + self.age_of(&tombstone);
            let _ = state.backlog.offer(key, tombstone.clone(), queued, give_up, None);
        }
        drop(state);
        for removed in evicted {
            self.let_go(removed, Why::Full);
        }
        if offered == Offered::Full {
            self.forget(key, version);
            if replaced {
                self.remember(key, &tombstone, queued);
            }
            return Err("too much waits to be written to this tier already");
        }
        Ok(())
    }

    /// Notes a write in the journal, if there is one.
    fn remember(&self, key: &Key, entry: &Entry, queued: Timestamp) {
        let Some(journal) = &self.journal else { return };
        match journal.append(&self.name, key, entry, queued) {
            Ok(true) => {}
            Ok(false) => self.stats.unjournalled.add(1),
            Err(error) => {
                tracing::debug!(tier = self.name, %error, "a write waits in memory alone");
                self.stats.unjournalled.add(1);
            }
        }
    }

    fn refusal(&self, message: &'static str) -> Error {
        Error::new(ErrorKind::Unavailable, Operation::Put, message).with_backend(self.name.clone())
    }

    /// Remembers writes that the tier will not get. For whoever holds the state in which they
    /// waited.
    fn note_missed<'a>(&self, removed: impl IntoIterator<Item = &'a Removed>) {
        for Removed { key, slot } in removed {
            self.tier.missed.note(key, slot.entry.version());
        }
    }

    /// Takes a write that was given up, and counted, out of the journal, and answers whoever waits
    /// for it.
    fn let_go(&self, removed: Removed, why: Why) {
        let message = match why {
            Why::Full => "it made room for newer writes",
            Why::TooOld => "it waited for too long",
            Why::Refused => "the tier refuses it",
            Why::Shutdown => "the cache was closed before it was written",
        };
        self.forget(&removed.key, removed.slot.entry.version());
        for ack in removed.slot.waiting {
            // Whoever waited has perhaps gone.
            let _ = ack.send(Err(self.refusal(message)));
        }
    }

    /// Takes a write out of the journal.
    fn forget(&self, key: &Key, version: Version) {
        if let Some(journal) = &self.journal
            && let Err(error) = journal.end(&self.name, key, version, self.clock.now())
        {
            // The next process writes it once more, which changes nothing.
            tracing::debug!(tier = self.name, %error, "the end of a write is not in the journal");
        }
    }

    /// Takes in nothing from now on, and lets what waits be tried at once.
    pub(crate) fn begin_flush(&self) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Flushing;
            (state.resume, state.failures) = (None, 0);
            if state.pausing {
                self.hurry.notify_one();
            }
        }
    }

    /// Whether it takes anything in. Once it does not, it never does again.
    pub(crate) fn is_open(&self) -> bool {
        self.state().phase == Phase::Open
    }

    /// Ends it: what still waits is left to the journal, or counted as dropped where there is none.
    /// Blocks for file operations when there is a journal.
    pub(crate) fn finish(&self) {
        let is_kept = |removed: &Removed| {
            let version = removed.slot.entry.version();
            self.journal.as_ref().is_some_and(|journal| journal.holds(&self.name, &removed.key, version))
        };
        let (kept, lost): (Vec<_>, Vec<_>) = {
            let mut state = self.state();
            state.phase = Phase::Closed;
            let left = state.backlog.drain();
            self.note_missed(&left);
            let (kept, lost): (Vec<_>, Vec<_>) = left.into_iter().partition(is_kept);
            self.stats.journalled.add(kept.len() as u64);
            self.stats.shutdown.add(lost.len() as u64);
            (kept, lost)
        };
        for removed in lost {
            self.let_go(removed, Why::Shutdown);
        }
        for removed in kept {
            for ack in removed.slot.waiting {
                let _ = ack.send(Err(self.refusal("the cache was closed; the next process writes it")));
            }
        }
        self.rest.notify_waiters();
    }

    /// Waits until nothing is under way: everything is written, or the rest waits for the tier.
    pub(crate) async fn settle(&self) {
        self.until(|state| state.workers == usize::from(state.pausing)).await;
    }

    /// Waits until nothing is left to write. A write that the tier has is still at work until its
    /// end is in the journal: a queue closed before that would have the next process write it once
    /// more.
    ///
    /// Where the journal has everything, it is left to it as soon as the tier turns out to be away:
    /// each command that ends meanwhile would otherwise wait for as long as it may.
    pub(crate) async fn drained(&self) {
        self.until(|state| {
            let at_rest = state.workers == usize::from(state.pausing);
            let is_away = || state.failures >= FAILURES || !self.tier.breaker.allow();
            let is_kept = self.journal.is_some() && self.stats.unjournalled.get() == 0;
            let is_done = state.backlog.is_empty() || (is_kept && is_away());
            state.phase == Phase::Closed || (at_rest && is_done)
        })
        .await;
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            let rest = self.rest.notified();
            tokio::pin!(rest);
            // Before the look, so that nothing is missed between the two.
            rest.as_mut().enable();
            if done(&self.state()) {
                return;
            }
            rest.await;
        }
    }

    pub(crate) fn report(&self) -> QueueReport {
        let state = self.state();
        let (waiting, waiting_bytes) = (state.backlog.len() as u64, state.backlog.bytes() as u64);
        let stats = &self.stats;
        QueueReport {
            queued: stats.queued.get(),
            promoted: stats.promoted.get(),
            replayed: stats.replayed.get(),
            delivered: stats.delivered.get(),
            coalesced: stats.coalesced.get(),
            dropped: DroppedReport {
                queue_full: stats.full.get(),
                too_old: stats.too_old.get(),
                refused: stats.refused.get(),
                shutdown: stats.shutdown.get(),
            },
            journalled: stats.journalled.get(),
            waiting,
            waiting_bytes,
            retried: stats.retried.get(),
            unjournalled: stats.unjournalled.get(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
