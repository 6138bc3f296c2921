//! Secondary rate limits: requests in flight, and points per minute.
//!
//! GitHub documents 100 requests in flight and 900 points a minute; a read costs 1 point, a write 5.
//! It refuses with 403 or 429, with `Retry-After` or without, and leaves `x-ratelimit-remaining` as
//! it is.

use std::collections::HashMap;
use std::sync::Mutex;

use http::{HeaderValue, Method, StatusCode};

use crate::control::Failure;
use crate::log::lock;

const MINUTE_MILLIS: u64 = 60_000;
/// Buckets that are watched; above it those that are idle are dropped.
const MAX_BUCKETS: usize = 65_536;

/// The secondary limits of every bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecondaryLimits {
    /// Requests in flight at a time.
    pub concurrent: u32,
    /// Points per minute: 1 for a read, 5 for a write.
    pub points_per_minute: u32,
    /// 403 or 429.
    pub status: u16,
    /// Seconds in `Retry-After`; `None` sends none.
    pub retry_after: Option<u32>,
}

impl SecondaryLimits {
    /// GitHub's documented numbers, refused with 403 and `Retry-After: 60`.
    #[must_use]
    pub const fn documented() -> Self {
        Self { concurrent: 100, points_per_minute: 900, status: 403, retry_after: Some(60) }
    }
}

#[derive(Clone, Copy, Default)]
struct Use {
    in_flight: u32,
    minute: u64,
    points: u32,
}

pub(crate) struct Secondary {
    pub(crate) limits: SecondaryLimits,
    uses: Mutex<HashMap<String, Use>>,
}

/// A request in flight. It ends when this is dropped.
pub(crate) struct InFlight<'a> {
    secondary: &'a Secondary,
    bucket: String,
}

impl Secondary {
    pub(crate) fn new(limits: SecondaryLimits) -> Self {
        Self { limits, uses: Mutex::default() }
    }

    /// `None` when a limit is exceeded; what was asked then costs no points.
    pub(crate) fn enter(&self, bucket: &str, method: &Method, now: u64) -> Option<InFlight<'_>> {
        let points = if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) { 1 } else { 5 };
        let minute = now / MINUTE_MILLIS;
        let mut uses = lock(&self.uses);
        if uses.len() >= MAX_BUCKETS {
            uses.retain(|_, known| known.in_flight > 0 || known.minute == minute);
        }
        let known = uses.entry(bucket.to_owned()).or_default();
        if known.minute != minute {
            (known.minute, known.points) = (minute, 0);
        }
        if known.in_flight >= self.limits.concurrent || known.points + points > self.limits.points_per_minute
        {
            return None;
        }
        known.in_flight += 1;
        known.points += points;
        Some(InFlight { secondary: self, bucket: bucket.to_owned() })
    }
}

impl Secondary {
    pub(crate) fn failure(&self) -> Failure {
        Failure {
            status: StatusCode::from_u16(self.limits.status).unwrap_or(StatusCode::FORBIDDEN),
            retry_after: self.limits.retry_after.map(HeaderValue::from),
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(known) = lock(&self.secondary.uses).get_mut(&self.bucket) {
            known.in_flight = known.in_flight.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_and_requests_in_flight_are_bounded_by_bucket() {
        let limits = SecondaryLimits { concurrent: 2, points_per_minute: 7, status: 429, retry_after: None };
        let secondary = Secondary::new(limits);
        let first = secondary.enter("a", &Method::GET, 0);
        let second = secondary.enter("a", &Method::POST, 0);
        assert!(first.is_some() && second.is_some() && secondary.enter("a", &Method::GET, 0).is_none());
        drop(first);
        assert!(secondary.enter("a", &Method::GET, 0).is_some());
        assert!(secondary.enter("a", &Method::GET, 0).is_none(), "7 points are used");
        assert!(secondary.enter("b", &Method::GET, 0).is_some());
        assert!(secondary.enter("a", &Method::GET, MINUTE_MILLIS).is_some());
    }
}
