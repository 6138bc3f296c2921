//! Single-flight: concurrent loads of one key run once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use peercache_api::Key;
use tokio::sync::Mutex;

/// How a caller of [`SingleFlight::run`] got its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flight {
    /// It ran its own loader.
    Led,
    /// Another caller's loader ran, and this one waited for it.
    Joined,
}

/// The result of one flight, filled in by the caller that completed it.
type Slot<T> = Arc<Mutex<Option<T>>>;

/// Runs one loader per key at a time and hands its result to everyone who asked meanwhile.
///
/// Cancel-safe: when the caller whose loader runs goes away, the next waiting caller runs its own.
/// Results are not remembered: a call after the end starts a new flight. Holds one small slot for
/// each key that is being loaded, so it is bounded by the number of callers.
pub struct SingleFlight<T> {
    slots: StdMutex<HashMap<Key, Slot<T>>>,
}

impl<T: Clone> SingleFlight<T> {
    /// Without any flight.
    #[must_use]
    pub fn new() -> Self {
        Self { slots: StdMutex::new(HashMap::new()) }
    }

    /// The result of `load`, or of another caller's loader for `key` that was running already.
    ///
    /// Dropping the returned future is safe at any point and affects no other caller.
    pub async fn run<F, Fut>(&self, key: &Key, load: F) -> (T, Flight)
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = T>,
    {
        let seat = self.join(key);
        let mut result = seat.slot.lock().await;
        if let Some(result) = &*result {
            return (result.clone(), Flight::Joined);
        }
        // This caller leads. If it is dropped from here on, the lock is released without a result
        // and the next in line leads.
        let loaded = load().await;
        *result = Some(loaded.clone());
        // Before the lock is released, so that nobody who comes later finds a finished flight.
        self.leave(key, &seat.slot);
        (loaded, Flight::Led)
    }

    /// Keeps callers from joining the flight that is under way for `key`, if there is one: the next
    /// caller starts another. Those who wait already still get its result.
    pub fn forget(&self, key: &Key) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// As [`SingleFlight::forget`], for every flight.
    pub fn forget_all(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn join<'a>(&'a self, key: &'a Key) -> Seat<'a, T> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::clone(slots.entry(key.clone()).or_default());
        Seat { flights: self, key, slot }
    }

    fn leave(&self, key: &Key, slot: &Slot<T>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.get(key).is_some_and(|current| Arc::ptr_eq(current, slot)) {
            slots.remove(key);
        }
    }
}

impl<T: Clone> Default for SingleFlight<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for SingleFlight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("SingleFlight").field("running", &slots.len()).finish()
    }
}

/// One caller's place in a flight; the last to leave takes the slot out of the map.
struct Seat<'a, T> {
    flights: &'a SingleFlight<T>,
    key: &'a Key,
    slot: Slot<T>,
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        let mut slots = self.flights.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // Two owners left means the map and this seat: seats are only taken under the same lock.
        if Arc::strong_count(&self.slot) == 2
            && slots.get(self.key).is_some_and(|current| Arc::ptr_eq(current, &self.slot))
        {
            slots.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    fn key() -> Key {
        Key::new("k").unwrap()
    }

    #[tokio::test]
    async fn a_thousand_callers_run_one_loader() {
        let flights = Arc::new(SingleFlight::new());
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let callers: Vec<_> = (0..1000)
            .map(|_| {
                let (flights, runs, gate) = (Arc::clone(&flights), Arc::clone(&runs), Arc::clone(&gate));
                tokio::spawn(async move {
                    let load = || async {
                        runs.fetch_add(1, Ordering::SeqCst);
                        gate.notified().await;
                        42
                    };
                    flights.run(&key(), load).await
                })
            })
            .collect();
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // Everyone has been polled once by now or will join the running flight: the single-threaded
        // runtime runs spawned tasks in order.
        gate.notify_one();
        let mut led = 0;
        for caller in callers {
            let (value, flight) = caller.await.unwrap();
            assert_eq!(value, 42);
            led += usize::from(flight == Flight::Led);
        }
        assert_eq!((led, runs.load(Ordering::SeqCst)), (1, 1));
        assert_eq!(format!("{flights:?}"), "SingleFlight { running: 0 }");
    }

    #[tokio::test]
    async fn when_the_leader_is_cancelled_the_next_one_leads() {
        let flights = Arc::new(SingleFlight::<u32>::new());
        let leader = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move { flights.run(&key(), std::future::pending).await }
        });
        tokio::task::yield_now().await;
        let follower = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move { flights.run(&key(), || async { 7 }).await }
        });
        tokio::task::yield_now().await;
        assert!(!follower.is_finished());
        leader.abort();
        assert_eq!(follower.await.unwrap(), (7, Flight::Led));
        assert_eq!(format!("{flights:?}"), "SingleFlight { running: 0 }");
    }

    #[tokio::test]
    async fn a_loader_that_panics_takes_nobody_along() {
        let flights = Arc::new(SingleFlight::<u32>::new());
        let doomed = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move { flights.run(&key(), || async { panic!("boom") }).await }
        });
        assert!(doomed.await.unwrap_err().is_panic());
        assert_eq!(flights.run(&key(), || async { 1 }).await, (1, Flight::Led));
    }
}
