//! What was asked and charged over time, by the minute.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use peercache::backend::Timestamp;
use serde::Serialize;

/// How many minutes are remembered.
const MINUTES: usize = 180;

/// The counters at the end of a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sample {
    /// Minutes since the Unix epoch.
    pub minute: u64,
    /// Requests of clients since the server started.
    pub asked: u64,
    /// Requests upstream since then that count against a rate limit.
    pub charged: u64,
}

/// The latest [`MINUTES`] in which something was asked.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The minute of the newest sample, so that most requests take no lock.
    newest: AtomicU64,
    samples: Mutex<VecDeque<Sample>>,
}

impl History {
    /// Adds a sample when a minute has begun; `counted` is asked only then for how many requests
    /// were asked and how many charged.
    pub(crate) fn note(&self, now: Timestamp, counted: impl FnOnce() -> (u64, u64)) {
        let minute = now.as_millis() / 60_000;
        if self.newest.swap(minute, Ordering::Relaxed) == minute {
            return;
        }
        let (asked, charged) = counted();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        // After a clock that was set back, time begins anew.
        if samples.back().is_some_and(|sample| sample.minute > minute) {
            samples.clear();
        }
        if samples.len() == MINUTES {
            samples.pop_front();
        }
        samples.push_back(Sample { minute, asked, charged });
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000 + 5)
    }

    #[test]
    fn a_minute_has_one_sample_and_the_oldest_go() {
        let history = History::default();
        for minute in 1..=200 {
            history.note(at(minute), || (minute, 0));
            history.note(at(minute), || unreachable!("the minute has its sample"));
        }
        let samples = history.samples();
        assert_eq!((samples.len(), samples[0].minute, samples[179].asked), (MINUTES, 21, 200));
    }

    #[test]
    fn a_clock_that_was_set_back_begins_anew() {
        let history = History::default();
        history.note(at(100), || (1, 0));
        history.note(at(50), || (2, 0));
        assert_eq!(history.samples(), [Sample { minute: 50, asked: 2, charged: 0 }]);
    }
}
