//! Removes what new writes have superseded, after they are acknowledged.
//!
//! A put is acknowledged once its last block is linked: readers take the greatest version, so what is older does
//! no harm for the moment that it stays. Removals are different: what was removed is gone when the put returns.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::layout::Place;
use crate::store::Store;

/// Keys that wait to be cleaned. Who finds the queue full cleans before it returns.
const QUEUE: usize = 1024;
/// Keys that are cleaned at once.
const AT_ONCE: usize = 4;
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

    fn take(&self) -> Vec<Place> {
        self.with(|state| {
            let count = state.waiting.len().min(AT_ONCE);
            let taken: Vec<_> = state.waiting.drain(..count).collect();
            for place in &taken {
                // One that is queued from now on is cleaned once more: it may have come too late for this time.
                state.known.remove(place);
            }
            state.running = taken.len();
            taken
        })
    }

    fn is_empty(&self) -> bool {
        self.with(|state| state.waiting.is_empty() && state.running == 0)
    }

    /// Waits until everything that was queued is cleaned, for at most five seconds; a sweep finds the rest.
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

/// Starts to empty the queue of a store; `None` without a runtime, where every put cleans for itself.
pub(crate) fn start(store: &Arc<Store>) -> Option<AbortHandle> {
    let runtime = Handle::try_current().ok()?;
    store.cleaning.with(|state| state.served = true);
    Some(runtime.spawn(run(Arc::clone(store))).abort_handle())
}

/// Ends with the tier, which aborts it.
async fn run(store: Arc<Store>) {
    loop {
        let taken = store.cleaning.take();
        if taken.is_empty() {
            store.cleaning.emptied.notify_waiters();
            store.cleaning.filled.notified().await;
            continue;
        }
        for cleaned in join_all(taken.iter().map(|place| store.clean(place))).await {
            if let Err(trouble) = cleaned {
                tracing::debug!(%trouble, "what a write has superseded could not be removed from the IPFS node; a sweep does it");
            }
        }
        store.cleaning.with(|state| state.running = 0);
    }
}
