//! How long a validated response may be served without asking (RFC 9111, section 4.2).

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, DATE, EXPIRES};
use peercache::backend::{MAX_LIFETIME, Timestamp};

use crate::cache_control::CacheControl;

/// When a response was validated and for how long that holds.
///
/// Everything counts from the moment the request was sent, so the time that the answer travelled
/// shortens its life rather than lengthening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    /// When the request that validated it was sent.
    pub(crate) validated: Timestamp,
    /// How old it was by then, from the `Age` of the response.
    pub(crate) initial_age: Duration,
    /// Its freshness lifetime, at most 30 days.
    pub(crate) lifetime: Duration,
}

impl Freshness {
    /// Reads it from a response's headers. `s-maxage` is for shared caches; each token's part of
    /// this one is private.
    pub(crate) fn of(headers: &HeaderMap, directives: &CacheControl, sent: Timestamp) -> Self {
        let lifetime = if directives.no_cache {
            Duration::ZERO
        } else if let Some(seconds) = directives.max_age {
            Duration::from_secs(seconds)
        } else {
            expires(headers).unwrap_or_default()
        };
        Self { validated: sent, initial_age: age_of(headers), lifetime: lifetime.min(MAX_LIFETIME) }
    }

    /// Its current age. What was validated later than `now`, by a clock that was ahead, has no
    /// known age and counts as older than anything.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        if self.validated > now {
            return Duration::MAX;
        }
        now.saturating_since(self.validated).saturating_add(self.initial_age)
    }

    /// Its age as `Age` tells it, in whole seconds.
    pub(crate) fn age_seconds(&self, now: Timestamp) -> u64 {
        self.age(now).as_secs().min(1 << 31)
    }

    /// For how much longer it is fresh; zero when it is not.
    pub(crate) fn remaining(&self, now: Timestamp) -> Duration {
        self.lifetime.saturating_sub(self.age(now))
    }

    /// Whether it may answer a request with these directives without asking.
    pub(crate) fn satisfies(&self, request: &CacheControl, now: Timestamp) -> bool {
        let remaining = self.remaining(now);
        !request.insists()
            && remaining > Duration::ZERO
            && request.max_age.is_none_or(|most| self.age(now) <= Duration::from_secs(most))
            && request.min_fresh.is_none_or(|least| remaining >= Duration::from_secs(least))
    }
}

/// The `Age` of a response. One that is not a number is taken as none, and one that is larger than
/// any number here as the largest (RFC 9111, section 1.2.2).
fn age_of(headers: &HeaderMap) -> Duration {
    let text = headers.get(AGE).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = if is_number { text.parse().unwrap_or(u64::from(u32::MAX)) } else { 0 };
    Duration::from_secs(seconds)
}

/// The lifetime by `Expires` and `Date`; zero for an `Expires` that is not a date.
fn expires(headers: &HeaderMap) -> Option<Duration> {
    let date = |value: &http::HeaderValue| httpdate::parse_http_date(value.to_str().ok()?).ok();
    let expires = headers.get(EXPIRES)?;
    let Some((expires, date)) = date(expires).zip(headers.get(DATE).and_then(date)) else {
        return Some(Duration::ZERO);
    };
    Some(expires.duration_since(date).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::{CACHE_CONTROL, HeaderName};

    const SENT: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn of(pairs: &[(HeaderName, &'static str)]) -> Freshness {
        let headers: HeaderMap =
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        Freshness::of(&headers, &CacheControl::of_response(&headers), SENT)
    }

    fn at(seconds: u64) -> Timestamp {
        SENT.saturating_add(Duration::from_secs(seconds))
    }

    #[test]
    fn max_age_less_age() {
        let freshness = of(&[(CACHE_CONTROL, "private, max-age=60, s-maxage=600"), (AGE, "10")]);
        assert_eq!(freshness.remaining(at(0)), Duration::from_secs(50));
        assert_eq!(freshness.age(at(20)), Duration::from_secs(30));
        assert_eq!(freshness.remaining(at(50)), Duration::ZERO);
    }

    #[test]
    fn age_beyond_every_number_is_not_fresh() {
        for (age, fresh) in [("99999999999999999999", false), ("-1", true), ("1e9", true), ("59", true)] {
            let freshness = of(&[(CACHE_CONTROL, "max-age=60"), (AGE, age)]);
            assert_eq!(freshness.remaining(at(0)) > Duration::ZERO, fresh, "{age}");
        }
    }

    #[test]
    fn expires_counts_without_max_age_only() {
        let pair = [(DATE, "Tue, 15 Nov 1994 08:12:31 GMT"), (EXPIRES, "Tue, 15 Nov 1994 08:13:31 GMT")];
        assert_eq!(of(&pair).lifetime, Duration::from_secs(60));
        let [date, expires] = pair;
        assert_eq!(
            of(&[date.clone(), expires, (CACHE_CONTROL, "max-age=5")]).lifetime,
            Duration::from_secs(5)
        );
        assert_eq!(of(&[date, (EXPIRES, "0")]).lifetime, Duration::ZERO);
    }

    #[test]
    fn what_comes_from_a_later_clock_is_not_fresh() {
        let freshness = of(&[(CACHE_CONTROL, "max-age=60")]);
        let before = Timestamp::from_millis(SENT.as_millis() - 1);
        assert_eq!(freshness.remaining(before), Duration::ZERO);
        assert_eq!(freshness.age_seconds(before), 1 << 31);
        assert!(!freshness.satisfies(&CacheControl::default(), before));
    }

    #[test]
    fn no_cache_and_nothing_mean_ask() {
        assert_eq!(of(&[(CACHE_CONTROL, "no-cache, max-age=60")]).lifetime, Duration::ZERO);
        assert_eq!(of(&[]).lifetime, Duration::ZERO);
    }

    #[test]
    fn what_a_request_asks_for_is_obeyed() {
        let freshness = of(&[(CACHE_CONTROL, "max-age=60")]);
        let ask = |change: fn(&mut CacheControl)| {
            let mut request = CacheControl::default();
            change(&mut request);
            freshness.satisfies(&request, at(20))
        };
        assert!(ask(|_| ()));
        assert!(!ask(|request| request.no_cache = true));
        assert!(!ask(|request| request.max_age = Some(0)));
        assert!(!ask(|request| request.max_age = Some(19)));
        assert!(ask(|request| request.max_age = Some(20)));
        assert!(ask(|request| request.min_fresh = Some(40)));
        assert!(!ask(|request| request.min_fresh = Some(41)));
    }
}
