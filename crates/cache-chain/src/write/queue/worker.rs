//! The workers that write what waits, and the pauses between their attempts.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{Entry, Error, ErrorKind, Key, Version};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::backlog::Removed;
use super::{Phase, State, Why, WriteQueue};

/// How often a queue checks whether an open breaker has closed.
const LOOK: Duration = Duration::from_millis(500);

/// Starts as many workers for this queue as there is work for, within the bound. Does nothing
/// outside a runtime: the next write or read of the queue inside one starts them.
pub(crate) fn pump(queue: &Arc<WriteQueue>) {
    let Ok(runtime) = Handle::try_current() else { return };
    let mut state = queue.state();
    let idle = state.workers - usize::from(state.pausing);
    let room = queue.limits.concurrency.max(1).saturating_sub(idle);
    // A worker that pauses does so for all.
    let wanted = if state.pausing { 0 } else { state.backlog.ready(room) };
    state.workers += wanted;
    drop(state);
    for _ in 0..wanted {
        let seat = Seat { queue: Arc::clone(queue), pausing: false, retired: false, trying: None };
        runtime.spawn(work(seat));
    }
}

/// One worker's place. Given back whatever ends the worker, the end of its runtime included.
struct Seat {
    queue: Arc<WriteQueue>,
    pausing: bool,
    /// Whether it was given back already.
    retired: bool,
    trying: Option<Key>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.queue.state();
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
        self.queue.rest.notify_waiters();
    }
}

/// What a worker does next.
enum Step {
    Try(Key, Entry),
    Pause(Duration),
    End,
}

async fn work(mut seat: Seat) {
    let queue = Arc::clone(&seat.queue);
    loop {
        match next(&queue, &mut seat) {
            Step::End => return,
            Step::Pause(pause) => {
                queue.rest.notify_waiters();
                // Until its end, or until the queue is to be emptied.
                let _ended = tokio::time::timeout(pause, queue.hurry.notified()).await;
                seat.pausing = false;
                let (now, wall) = (queue.clock.monotonic(), queue.clock.now());
                let old = {
                    let mut state = queue.state();
                    state.pausing = false;
                    let old = state.backlog.too_old(now, wall);
                    queue.stats.too_old.add(old.len() as u64);
                    queue.note_missed(&old);
                    old
                };
                give_up(&queue, old.into_iter().map(|removed| (removed, Why::TooOld)).collect()).await;
            }
            Step::Try(key, entry) => {
                let outcome = queue.tier.put_counted(&key, &entry, &*queue.clock).await.map(|_| ());
                let answered = outcome.is_ok();
                seat.trying = None;
                ended(&queue, &key, entry.version(), outcome).await;
                if answered {
                    // The others need not wait for this one any more.
                    pump(&queue);
                }
            }
        }
    }
}

fn next(queue: &WriteQueue, seat: &mut Seat) -> Step {
    let mut state = queue.state();
    if state.phase == Phase::Closed || state.backlog.next().is_none() {
        return end(&mut state, seat);
    }
    let wait = pause(&mut state, queue);
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
        queue.stats.retried.add(1);
    } else {
        state.budget.earn();
    }
    state.backlog.begin(&key);
    seat.trying = Some(key.clone());
    Step::Try(key, entry)
}

/// How long no attempt may be made.
fn pause(state: &mut State, queue: &WriteQueue) -> Option<Duration> {
    if !queue.tier.breaker.allow() {
        // As for those who come now: no caller waits for a tier whose breaker is open.
        state.backlog.dismiss();
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

/// Gives the seat back under the lock under which there was found to be nothing to do: whoever
/// brings something after that finds the seat free.
fn end(state: &mut State, seat: &mut Seat) -> Step {
    state.workers -= 1;
    seat.retired = true;
    Step::End
}

async fn ended(queue: &Arc<WriteQueue>, key: &Key, version: Version, outcome: Result<(), Error>) {
    let mut dropped = Vec::new();
    let mut delivered = None;
    {
        let mut state = queue.state();
        match outcome {
            Ok(()) => {
                state.failures = 0;
                state.resume = None;
                delivered = state.backlog.delivered(key, version);
                queue.stats.delivered.add(u64::from(delivered.is_some()));
            }
            Err(error) if error.is_retryable() => {
                back_off(queue, &mut state, error.kind());
                tracing::debug!(tier = queue.tier.name(), operation = "put", %error, "a write waits to be tried again");
                let (now, wall) = (queue.clock.monotonic(), queue.clock.now());
                let mut is_old = false;
                if let Some(slot) = state.backlog.again(key) {
                    is_old = slot.is_too_old(now, wall);
                    for ack in slot.waiting.drain(..) {
                        // Whoever waited has perhaps gone.
                        let _ = ack.send(Err(error.clone()));
                    }
                }
                if is_old {
                    queue.stats.too_old.add(1);
                    let old = state.backlog.remove(key);
                    queue.note_missed(&old);
                    dropped.extend(old.map(|removed| (removed, Why::TooOld)));
                }
            }
            Err(error) => {
                tracing::debug!(tier = queue.tier.name(), operation = "put", %error, "a write is refused");
                // A newer one that came meanwhile may be taken.
                let refused = state.backlog.delivered(key, version).map(|mut removed| {
                    for ack in removed.slot.waiting.drain(..) {
                        let _ = ack.send(Err(error.clone()));
                    }
                    (removed, Why::Refused)
                });
                queue.stats.refused.add(u64::from(refused.is_some()));
                dropped.extend(refused);
            }
        }
    }
    if let Some(removed) = delivered {
        for ack in removed.slot.waiting {
            let _ = ack.send(Ok(()));
        }
        on_disk(queue, {
            let key = key.clone();
            move |queue| queue.forget(&key, version)
        })
        .await;
    }
    give_up(queue, dropped).await;
    queue.rest.notify_waiters();
}

async fn give_up(queue: &Arc<WriteQueue>, dropped: Vec<(Removed, Why)>) {
    if dropped.is_empty() {
        return;
    }
    on_disk(queue, move |queue| {
        for (removed, why) in dropped {
            queue.let_go(removed, why);
        }
    })
    .await;
}

/// Runs what writes to the journal where it may block; at once where there is no journal.
async fn on_disk(queue: &Arc<WriteQueue>, work: impl FnOnce(&WriteQueue) + Send + 'static) {
    if queue.journal.is_none() {
        return work(queue);
    }
    let queue = Arc::clone(queue);
    // It runs to its end whether or not anybody waits; that fails only when the runtime ends.
    let _ = tokio::task::spawn_blocking(move || work(&queue)).await;
}

/// Sets the tier's next pause. Attempts that were under way together are one failure.
fn back_off(queue: &WriteQueue, state: &mut State, kind: ErrorKind) {
    let now = Instant::now();
    if state.resume.is_some_and(|resume| resume > now) {
        return;
    }
    let doubled = queue.limits.backoff.saturating_mul(1 << state.failures.min(20));
    // A tier that counts requests says for how long it will go on refusing them in no common form.
    let least = if kind == ErrorKind::RateLimited { queue.limits.max_backoff / 4 } else { Duration::ZERO };
    let longest = doubled.max(least).min(queue.limits.max_backoff);
    state.failures = state.failures.saturating_add(1);
    // From the upper half, so that many processes that failed together do not come back together.
    let jitter = (longest / 2).mul_f64(state.jitter.unit());
    state.resume = Some(now + longest / 2 + jitter);
}
