//! Tells an operator when upstream stops answering, and when it answers again: one line each.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use http::{Response, StatusCode};

use crate::upstream::UpstreamError;

/// Failures in a row before it is called an outage: one alone is told to its client.
const FAILURES: u32 = 3;

#[derive(Debug, Default)]
struct State {
    failures: u32,
    since: Option<Instant>,
    told: bool,
}

/// How upstream has answered lately.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<State>);

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Began(&'static str),
    Ended { seconds: u64, failures: u32 },
}

impl Outage {
    /// Takes note of one request to the API.
    pub(crate) fn note<B>(&self, result: &Result<Response<B>, UpstreamError>) {
        let failure = match result {
            Ok(response) => match response.status() {
                StatusCode::BAD_GATEWAY => Some("it answers 502"),
                StatusCode::SERVICE_UNAVAILABLE => Some("it answers 503"),
                StatusCode::GATEWAY_TIMEOUT => Some("it answers 504"),
                _ => None,
            },
            // It was not asked.
            Err(UpstreamError::Busy | UpstreamError::Spent(_)) => return,
            Err(UpstreamError::Timeout) => Some("it does not answer in time"),
            Err(UpstreamError::NoConnection) => Some("no connection can be made"),
            Err(UpstreamError::Unreachable) => Some("connections break before an answer"),
        };
        match self.count(failure) {
            Some(Event::Began(what)) => {
                tracing::warn!("the upstream API fails: {what}; see https://www.githubstatus.com");
            }
            Some(Event::Ended { seconds, failures }) => {
                tracing::warn!("the upstream API answers again, after {failures} failures in {seconds} s");
            }
            None => {}
        }
    }

    fn count(&self, failure: Option<&'static str>) -> Option<Event> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(what) = failure else {
            let ended = std::mem::take(&mut *state);
            let seconds = ended.since.map_or(0, |since| since.elapsed().as_secs());
            return ended.told.then_some(Event::Ended { seconds, failures: ended.failures });
        };
        state.failures = state.failures.saturating_add(1);
        state.since.get_or_insert_with(Instant::now);
        if state.failures < FAILURES || state.told {
            return None;
        }
        state.told = true;
        Some(Event::Began(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outage_and_recovery_are_told_once_each() {
        let outage = Outage::default();
        assert_eq!(outage.count(None), None);
        assert_eq!(outage.count(Some("x")), None);
        assert_eq!(outage.count(None), None, "one failure alone is none");
        let told: Vec<_> = (0..10).filter_map(|_| outage.count(Some("x"))).collect();
        assert_eq!(told, [Event::Began("x")]);
        assert_eq!(outage.count(None), Some(Event::Ended { seconds: 0, failures: 10 }));
        assert_eq!(outage.count(None), None);
    }
}
