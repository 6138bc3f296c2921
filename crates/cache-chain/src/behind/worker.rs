//! The workers that write what waits, and the pauses between their attempts.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{Entry, Error, ErrorKind, Key, Version};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Behind, Phase, State, Why};
use crate::stats::CancelGuard;
use crate::tier::{Call, Tier, timeout_error};
use peercache_api::Operation;

/// How often a queue looks whether an open breaker has closed.
const LOOK: Duration = Duration::from_millis(500);

/// Starts as many workers for this tier as there is work for, within the bound. Does nothing outside a
/// runtime: the next write or read of the queue inside one starts them.
pub(crate) fn pump(tier: &Arc<Tier>) {
    let Some(behind) = &tier.behind else { return };
    let Ok(runtime) = Handle::try_current() else { return };
    let mut state = behind.state();
    let idle = state.workers - usize::from(state.pausing);
    let room = behind.limits.concurrency.max(1).saturating_sub(idle);
    // A worker that pauses does so for all.
    let wanted = if state.pausing { 0 } else { state.backlog.ready(room) };
    state.workers += wanted;
    drop(state);
    for _ in 0..wanted {
        let seat = Seat { tier: Arc::clone(tier), pausing: false, retired: false, trying: None };
        runtime.spawn(work(seat));
    }
}

/// One worker's place. Given back whatever ends the worker, the end of its runtime included.
struct Seat {
    tier: Arc<Tier>,
    pausing: bool,
    /// Whether it was given back already.
    retired: bool,
    trying: Option<Key>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(behind) = &self.tier.behind else { return };
        let mut state = behind.state();
        if let Some(key) = self.trying.take() {
            state.backlog.again(&key);
        }
        if self.pausing {
            state.pausing = false;
        }
        if !self.retired {
            state.workers -= 1;
        }
        drop(state);
        behind.rest.notify_waiters();
    }
}

/// What a worker does next.
enum Step {
    Try(Key, Entry),
    Pause(Duration),
    End,
}

async fn work(mut seat: Seat) {
    let tier = Arc::clone(&seat.tier);
    let Some(behind) = &tier.behind else { return };
    loop {
        match next(behind, &tier, &mut seat) {
            Step::End => return,
            Step::Pause(pause) => {
                behind.rest.notify_waiters();
                tokio::time::sleep(pause).await;
                seat.pausing = false;
                let (now, wall) = (behind.clock.monotonic(), behind.clock.now());
                let old = {
                    let mut state = behind.state();
                    state.pausing = false;
                    let old = state.backlog.too_old(now, wall);
                    behind.stats.too_old.add(old.len() as u64);
                    behind.note_missed(&old);
                    old
                };
                give_up(&tier, old).await;
            }
            Step::Try(key, entry) => {
                let outcome = attempt(&tier, behind, &key, &entry).await;
                let answered = outcome.is_ok();
                seat.trying = None;
                ended(&tier, behind, &key, entry.version(), outcome).await;
                if answered {
                    // The others need not wait for this one any more.
                    pump(&tier);
                }
            }
        }
    }
}

fn next(behind: &Behind, tier: &Tier, seat: &mut Seat) -> Step {
    let mut state = behind.state();
    if state.phase == Phase::Closed || state.backlog.next().is_none() {
        return end(&mut state, seat);
    }
    let wait = pause(&mut state, tier);
    let (key, entry, retry) = match (wait, state.backlog.next(), state.backlog.next_untried()) {
        (Some(wait), ..) => return rest(&mut state, seat, wait),
        (None, Some((key, slot)), _) if !slot.tried => (key.clone(), slot.entry.clone(), false),
        (None, Some((key, slot)), fresh) => {
            let (key, entry) = (key.clone(), slot.entry.clone());
            let fresh = fresh.map(|(key, slot)| (key.clone(), slot.entry.clone()));
            let now = state.started.elapsed();
            match (state.budget.spend(now), fresh) {
                (Ok(()), _) => (key, entry, true),
                (Err(_), Some((key, entry))) => (key, entry, false),
                (Err(wait), None) => return rest(&mut state, seat, wait),
            }
        }
        (None, None, _) => return end(&mut state, seat),
    };
    if retry {
        behind.stats.retried.add(1);
    } else {
        state.budget.earn();
    }
    state.backlog.begin(&key);
    seat.trying = Some(key.clone());
    Step::Try(key, entry)
}

/// How long no attempt may be made.
fn pause(state: &mut State, tier: &Tier) -> Option<Duration> {
    if !tier.breaker.allow() {
        return Some(LOOK);
    }
    let now = Instant::now();
    state.resume.filter(|resume| *resume > now).map(|resume| resume - now)
}

/// One worker pauses for all; the others end.
fn rest(state: &mut State, seat: &mut Seat, wait: Duration) -> Step {
    if state.pausing {
        return end(state, seat);
    }
    state.pausing = true;
    seat.pausing = true;
    Step::Pause(wait)
}

/// Gives the seat back under the lock under which there was found to be nothing to do: whoever brings
/// something after that finds the seat free.
fn end(state: &mut State, seat: &mut Seat) -> Step {
    state.workers -= 1;
    seat.retired = true;
    Step::End
}

async fn attempt(tier: &Tier, behind: &Behind, key: &Key, entry: &Entry) -> Result<(), Error> {
    let cancel = CancelGuard::new(&tier.stats.put_cancelled);
    let started = behind.clock.monotonic();
    let call = tier.put(key, entry.clone(), &*behind.clock).await;
    cancel.ended();
    tier.stats.put_latency.record(behind.clock.monotonic().saturating_sub(started));
    if !matches!(call, Call::Done(())) {
        // While it still waits, so that there is no moment at which neither stands for it.
        tier.missed.note(key, entry.version());
    }
    match call {
        Call::Done(()) => {
            tier.stats.stored.add(1);
            tier.stats.bytes_written.add(entry.value().len() as u64);
            Ok(())
        }
        Call::Failed(error) => {
            tier.stats.put_errors.add(1);
            tier.stats.note(&error);
            Err(error)
        }
        Call::TimedOut(deadline) => {
            let error = timeout_error(tier, Operation::Put, deadline);
            tier.stats.put_timeouts.add(1);
            tier.stats.note(&error);
            Err(error)
        }
    }
}

async fn ended(
    tier: &Arc<Tier>,
    behind: &Arc<Behind>,
    key: &Key,
    version: Version,
    outcome: Result<(), Error>,
) {
    let mut dropped = Vec::new();
    let mut delivered = None;
    {
        let mut state = behind.state();
        match outcome {
            Ok(()) => {
                state.failures = 0;
                state.resume = None;
                delivered = state.backlog.delivered(key, version);
                behind.stats.delivered.add(u64::from(delivered.is_some()));
            }
            Err(error) if error.is_retryable() => {
                back_off(behind, &mut state, error.kind());
                tracing::debug!(tier = tier.name(), operation = "put", %error, "a write waits to be tried again");
                let (now, wall) = (behind.clock.monotonic(), behind.clock.now());
                let mut is_old = false;
                if let Some(slot) = state.backlog.again(key) {
                    is_old = slot.is_too_old(now, wall);
                    for ack in slot.waiting.drain(..) {
                        // Whoever waited has perhaps gone.
                        let _ = ack.send(Err(error.clone()));
                    }
                }
                if is_old {
                    behind.stats.too_old.add(1);
                    let old = state.backlog.remove(key);
                    behind.note_missed(&old);
                    dropped.extend(old.map(|removed| (removed, Why::TooOld)));
                }
            }
            Err(error) => {
                tracing::debug!(tier = tier.name(), operation = "put", %error, "a write is refused");
                // A newer one that came meanwhile may be taken.
                let refused = state.backlog.delivered(key, version).map(|mut removed| {
                    for ack in removed.slot.waiting.drain(..) {
                        let _ = ack.send(Err(error.clone()));
                    }
                    (removed, Why::Refused)
                });
                behind.stats.refused.add(u64::from(refused.is_some()));
                dropped.extend(refused);
            }
        }
    }
    if let Some(removed) = delivered {
        for ack in removed.slot.waiting {
            let _ = ack.send(Ok(()));
        }
        on_disk(behind, {
            let key = key.clone();
            move |behind| behind.forget(&key, version)
        })
        .await;
    }
    give_up_with(behind, dropped).await;
    behind.rest.notify_waiters();
}

async fn give_up(tier: &Arc<Tier>, old: Vec<super::Removed>) {
    if let Some(behind) = &tier.behind {
        give_up_with(behind, old.into_iter().map(|removed| (removed, Why::TooOld)).collect()).await;
    }
}

async fn give_up_with(behind: &Arc<Behind>, dropped: Vec<(super::Removed, Why)>) {
    if dropped.is_empty() {
        return;
    }
    on_disk(behind, move |behind| {
        for (removed, why) in dropped {
            behind.let_go(removed, why);
        }
    })
    .await;
}

/// Runs what writes to the journal where it may block; at once where there is no journal.
async fn on_disk(behind: &Arc<Behind>, work: impl FnOnce(&Behind) + Send + 'static) {
    if behind.journal.is_none() {
        return work(behind);
    }
    let behind = Arc::clone(behind);
    // It runs to its end whether or not anybody waits; that fails only when the runtime ends.
    let _ = tokio::task::spawn_blocking(move || work(&behind)).await;
}

/// Sets the tier's next pause. Attempts that were under way together are one failure.
fn back_off(behind: &Behind, state: &mut State, kind: ErrorKind) {
    let now = Instant::now();
    if state.resume.is_some_and(|resume| resume > now) {
        return;
    }
    let doubled = behind.limits.backoff.saturating_mul(1 << state.failures.min(20));
    // A tier that counts requests says for how long it will go on refusing them in no common form.
    let least = if kind == ErrorKind::RateLimited { behind.limits.max_backoff / 4 } else { Duration::ZERO };
    let longest = doubled.max(least).min(behind.limits.max_backoff);
    state.failures = state.failures.saturating_add(1);
    state.seed = splitmix(state.seed);
    let share = u32::try_from(state.seed >> 33).unwrap_or(0);
    // From the upper half, so that many processes that failed together do not come back together.
    let jitter = (longest / 2).mul_f64(f64::from(share) / f64::from(1_u32 << 31));
    state.resume = Some(now + longest / 2 + jitter);
}

/// The next number of the SplitMix64 sequence (Steele, Lea, Flood 2014).
fn splitmix(seed: u64) -> u64 {
    let state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
