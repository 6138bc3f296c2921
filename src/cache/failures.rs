//! Loads that failed lately, so that an origin that is down is not asked by every caller.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peercache_api::Key;

use super::fetch_error::LoadFailure;

/// The most failures that are remembered. When there are more, the oldest is forgotten, and its key
/// may be loaded again early.
const MAX_FAILURES: usize = 4096;

/// The failures of loads whose policy has an error backoff, by key. Times are the clock's monotonic
/// ones.
#[derive(Debug, Default)]
pub(super) struct Failures {
    known: Mutex<Known>,
    /// How many are known, so that a load without any takes no lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<Key, Failed>,
    /// In the order in which they came; a key may be in it again, with a later time.
    order: VecDeque<(Key, Duration)>,
}

#[derive(Debug)]
struct Failed {
    at: Duration,
    until: Duration,
    failure: LoadFailure,
}

impl Failures {
    /// The failure because of which `key` is not to be loaded at `now`.
    pub(super) fn find(&self, key: &Key, now: Duration) -> Option<LoadFailure> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let known = self.lock();
        known.by_key.get(key).filter(|failed| now < failed.until).map(|failed| failed.failure.clone())
    }

    /// Remembers that a load of `key` failed at `now`, for `pause`.
    pub(super) fn note(&self, key: &Key, now: Duration, pause: Duration, failure: &LoadFailure) {
        if pause.is_zero() {
            return;
        }
        let mut known = self.lock();
        let failed = Failed { at: now, until: now.saturating_add(pause), failure: failure.clone() };
        known.by_key.insert(key.clone(), failed);
        known.order.push_back((key.clone(), now));
        while known.order.len() > MAX_FAILURES {
            known.forget_oldest();
        }
        self.count.store(known.by_key.len(), Ordering::Release);
    }

    /// Forgets the failure of `key`, which was loaded or removed.
    pub(super) fn forget(&self, key: &Key) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut known = self.lock();
        known.by_key.remove(key);
        if known.by_key.is_empty() {
            known.order.clear();
        }
        self.count.store(known.by_key.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget_oldest(&mut self) {
        if let Some((key, at)) = self.order.pop_front()
            && self.by_key.get(&key).is_some_and(|failed| failed.at == at)
        {
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key::new(n.to_string()).unwrap()
    }

    #[test]
    fn a_failure_is_remembered_for_its_pause() {
        let (failures, second) = (Failures::default(), Duration::from_secs(1));
        failures.note(&key(1), second, 2 * second, &LoadFailure::new("down"));
        assert_eq!(failures.find(&key(1), 2 * second).unwrap().to_string(), "down");
        assert!(failures.find(&key(2), 2 * second).is_none());
        assert!(failures.find(&key(1), 3 * second).is_none(), "the pause is over");
        failures.note(&key(2), second, Duration::ZERO, &LoadFailure::new("down"));
        assert!(failures.find(&key(2), second).is_none(), "without a pause nothing is remembered");
        failures.forget(&key(1));
        assert!(failures.find(&key(1), 2 * second).is_none());
    }

    #[test]
    fn failures_are_bounded_and_the_oldest_is_forgotten() {
        let (failures, hour) = (Failures::default(), Duration::from_secs(3600));
        for n in 0..MAX_FAILURES + 10 {
            failures.note(&key(n), Duration::from_millis(n as u64), hour, &LoadFailure::new("down"));
        }
        let known = failures.lock();
        assert_eq!((known.by_key.len(), known.order.len()), (MAX_FAILURES, MAX_FAILURES));
        drop(known);
        assert!(failures.find(&key(9), hour / 2).is_none());
        assert!(failures.find(&key(10), hour / 2).is_some());
    }
}
