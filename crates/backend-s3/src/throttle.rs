//! Holds requests back while the store has asked for fewer, or has just refused all of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use peercache_api::{Clock, Error};

/// For how long a refusal that concerns every request is answered from memory. A tier with wrong
/// credentials would otherwise send, and wait for, one request per lookup; this is also how soon it
/// returns by itself.
pub(crate) const AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// The longest that a store's `Retry-After` is obeyed.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Closed {
    until: Duration,
    why: Error,
    /// The store asked for it, so nobody passes, not even a probe.
    asked: bool,
}

/// Open, or closed until a moment of the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Option<Closed>>);

impl Throttle {
    /// Closes the throttle. `asked`: the store asked to wait, so that a probe is held back as well.
    pub(crate) fn close(&self, clock: &dyn Clock, pause: Duration, why: Error, asked: bool) {
        let until = clock.monotonic().saturating_add(pause.min(MAX_RETRY_AFTER));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Closed { until, why, asked });
    }

    /// Opens the throttle: the store has served a request.
    pub(crate) fn open(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why nothing is sent at the moment. `probe`: the caller wants to find out whether it is over.
    pub(crate) fn closed(&self, clock: &dyn Clock, probe: bool) -> Option<Error> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.as_ref().is_some_and(|closed| clock.monotonic() >= closed.until) {
            *state = None;
        }
        state.as_ref().filter(|closed| closed.asked || !probe).map(|closed| closed.why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peercache_api::{ErrorKind, Operation};
    use peercache_testkit::ManualClock;

    fn why() -> Error {
        Error::new(ErrorKind::RateLimited, Operation::Get, "slow down")
    }

    #[test]
    fn it_opens_when_the_time_is_over() {
        let (throttle, clock) = (Throttle::default(), ManualClock::default());
        assert!(throttle.closed(&clock, false).is_none());
        throttle.close(&clock, Duration::from_secs(7), why(), true);
        clock.advance(Duration::from_millis(6_999));
        assert!(throttle.closed(&clock, false).is_some() && throttle.closed(&clock, true).is_some());
        clock.advance(Duration::from_millis(1));
        assert!(throttle.closed(&clock, false).is_none());
    }

    #[test]
    fn a_probe_passes_unless_the_store_asked_to_wait() {
        let (throttle, clock) = (Throttle::default(), ManualClock::default());
        throttle.close(&clock, Duration::from_secs(7), why(), false);
        assert!(throttle.closed(&clock, false).is_some());
        assert!(throttle.closed(&clock, true).is_none());
        throttle.open();
        assert!(throttle.closed(&clock, false).is_none());
    }

    #[test]
    fn nobody_is_held_back_for_a_day() {
        let (throttle, clock) = (Throttle::default(), ManualClock::default());
        throttle.close(&clock, Duration::from_secs(86_400), why(), true);
        clock.advance(MAX_RETRY_AFTER);
        assert!(throttle.closed(&clock, false).is_none());
    }
}
