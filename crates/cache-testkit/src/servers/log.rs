//! What went through a proxy, for counting.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Requests that a log keeps; older ones are forgotten, and counted.
const KEPT: usize = 200_000;

/// A request that a [`FaultProxy`](super::FaultProxy) saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path, percent-encoded as it was sent, without the query.
    pub path: String,
    /// What follows the question mark; empty without one.
    pub query: String,
    /// The status that the client was answered; `None` while it was answered nothing.
    pub status: Option<u16>,
}

/// The requests of a time, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The requests.
    pub requests: Vec<Seen>,
    /// How many older ones were forgotten: above zero, counts are too low.
    pub forgotten: u64,
}

impl Log {
    /// How many requests had this method.
    #[must_use]
    pub fn count(&self, method: &str) -> usize {
        self.requests.iter().filter(|seen| seen.method == method).count()
    }
}

#[derive(Debug, Default)]
struct Kept {
    requests: VecDeque<Seen>,
    /// The number of the oldest one that is kept: answers arrive after it may be gone.
    first: u64,
    forgotten: u64,
}

/// The log while it is written.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    kept: Mutex<Kept>,
}

impl Recorder {
    fn with<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a request; the number is for its answer.
    pub(super) fn request(&self, method: &str, path: &str, query: &str) -> u64 {
        let seen =
            Seen { method: method.to_owned(), path: path.to_owned(), query: query.to_owned(), status: None };
        self.with(|kept| {
            if kept.requests.len() == KEPT {
                kept.requests.pop_front();
                kept.first += 1;
                kept.forgotten += 1;
            }
            kept.requests.push_back(seen);
            kept.first + kept.requests.len() as u64 - 1
        })
    }

    pub(super) fn answer(&self, number: u64, status: u16) {
        self.with(|kept| {
            let index = number.checked_sub(kept.first).and_then(|index| usize::try_from(index).ok());
            if let Some(seen) = index.and_then(|index| kept.requests.get_mut(index)) {
                seen.status = Some(status);
            }
        });
    }

    /// A copy.
    pub(super) fn read(&self) -> Log {
        self.with(|kept| Log { requests: kept.requests.iter().cloned().collect(), forgotten: kept.forgotten })
    }

    /// What is there, which is emptied.
    pub(super) fn take(&self) -> Log {
        self.with(|kept| {
            kept.first += kept.requests.len() as u64;
            Log {
                requests: kept.requests.drain(..).collect(),
                forgotten: std::mem::take(&mut kept.forgotten),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_finds_its_request_and_a_late_one_none() {
        let log = Recorder::default();
        let first = log.request("GET", "/a", "");
        let second = log.request("PUT", "/b", "x=1");
        log.answer(second, 200);
        let seen = log.read();
        assert_eq!((seen.requests[0].status, seen.requests[1].status), (None, Some(200)));
        assert_eq!((seen.count("GET"), seen.count("PUT"), seen.count("HEAD")), (1, 1, 0));
        assert_eq!(log.take(), seen);
        log.answer(first, 500);
        let third = log.request("GET", "/c", "");
        log.answer(third, 304);
        let seen = log.take();
        assert_eq!(seen.requests.len(), 1);
        assert_eq!(seen.requests[0].status, Some(304));
    }

    #[test]
    fn what_is_forgotten_is_counted() {
        let log = Recorder::default();
        let numbers: Vec<_> = (0..KEPT + 2).map(|_| log.request("GET", "/", "")).collect();
        log.answer(numbers[0], 200);
        log.answer(numbers[KEPT + 1], 204);
        let seen = log.take();
        assert_eq!((seen.requests.len(), seen.forgotten), (KEPT, 2));
        assert_eq!(seen.requests[0].status, None);
        assert_eq!(seen.requests[KEPT - 1].status, Some(204));
        assert_eq!(log.take(), Log::default());
    }
}
