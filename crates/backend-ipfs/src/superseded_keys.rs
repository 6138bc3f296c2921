//! The keys of which older writes are to be removed.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::layout::Place;

/// Keys that wait to be cleaned. Who finds the queue full cleans before it returns.
const QUEUE: usize = 1024;
/// How long closing waits for the rest.
const FLUSH: Duration = Duration::from_secs(5);

/// The keys that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Notify,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Place>,
    known: HashSet<Place>,
    /// Keys that are being cleaned.
    running: usize,
    /// Whether somebody empties it.
    served: bool,
}

impl Queue {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Queues a key; `false` where it does not fit, or nobody empties the queue.
    pub(crate) fn push(&self, place: &Place) -> bool {
        let pushed = self.with(|state| {
            if !state.served || (state.waiting.len() >= QUEUE && !state.known.contains(place)) {
                return false;
            }
            if state.known.insert(place.clone()) {
                state.waiting.push_back(place.clone());
            }
            true
        });
        if pushed {
            self.filled.notify_one();
        }
        pushed
    }

    /// Declares that somebody empties it from now on; before, nothing is queued.
    pub(crate) fn serve(&self) {
        self.with(|state| state.served = true);
    }

    /// The next keys, at most `count`; waits until there is one. [`Queue::cleaned`] says when they
    /// are done.
    pub(crate) async fn next(&self, count: usize) -> Vec<Place> {
        loop {
            let taken = self.take(count);
            if !taken.is_empty() {
                return taken;
            }
            self.emptied.notify_waiters();
            self.filled.notified().await;
        }
    }

    /// Notes that the keys of the last [`Queue::next`] are done.
    pub(crate) fn cleaned(&self) {
        self.with(|state| state.running = 0);
    }

    fn take(&self, count: usize) -> Vec<Place> {
        self.with(|state| {
            let count = state.waiting.len().min(count);
            let taken: Vec<_> = state.waiting.drain(..count).collect();
            for place in &taken {
                // One that is queued from now on is cleaned once more: it may have come too late
                // for this time.
                state.known.remove(place);
            }
            state.running = taken.len();
            taken
        })
    }

    fn is_empty(&self) -> bool {
        self.with(|state| state.waiting.is_empty() && state.running == 0)
    }

    /// Waits until everything that was queued is cleaned, for at most five seconds; a sweep finds
    /// the rest.
    pub(crate) async fn flush(&self) {
        let empty = async {
            loop {
                let mut emptied = std::pin::pin!(self.emptied.notified());
                emptied.as_mut().enable();
                if self.is_empty() {
                    return;
                }
                emptied.await;
            }
        };
        if timeout(FLUSH, empty).await.is_err() {
            tracing::debug!("the IPFS tier was closed before everything that was superseded was removed");
        }
    }
}
