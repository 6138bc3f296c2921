//! The newest `x-ratelimit-*` that a token has seen: what a client reads from a cached response
//! must not be an hour old.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use quick_cache::sync::Cache;

use crate::token::TokenId;

/// How many pairs of token and resource are remembered; the least used are forgotten first.
pub(crate) const MAX_REMEMBERED: usize = 10_000;

const RESOURCE: HeaderName = HeaderName::from_static("x-ratelimit-resource");
const USED: HeaderName = HeaderName::from_static("x-ratelimit-used");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");

/// The resource of a response that names none.
const CORE: HeaderValue = HeaderValue::from_static("core");

/// What one response said.
#[derive(Clone, Debug)]
struct Seen {
    reset: u64,
    used: u64,
    values: [(HeaderName, HeaderValue); 4],
}

/// Remembers per token and resource. Bounded by [`MAX_REMEMBERED`].
#[derive(Debug)]
pub(crate) struct RateLimits {
    newest: Cache<(TokenId, HeaderValue), Seen>,
}

impl RateLimits {
    pub(crate) fn new() -> Self {
        Self { newest: Cache::new(MAX_REMEMBERED) }
    }

    /// Takes note of a live response. Answers overtake each other, so within one window the one
    /// that counted more calls is the newer.
    pub(crate) fn note(&self, token: &TokenId, response: &HeaderMap) {
        let Some(seen) = read(response) else { return };
        let key = (token.clone(), resource(response));
        let newer = self.newest.peek(&key).is_none_or(|old| (seen.reset, seen.used) >= (old.reset, old.used));
        if newer {
            self.newest.insert(key, seen);
        }
    }

    /// Puts the newest numbers in the place of the stored ones, if the response has any.
    pub(crate) fn refresh(&self, token: &TokenId, response: &mut HeaderMap) {
        if !response.contains_key(REMAINING) {
            return;
        }
        let Some(seen) = self.newest.get(&(token.clone(), resource(response))) else { return };
        let stored = read(response).map_or((0, 0), |stored| (stored.reset, stored.used));
        if (seen.reset, seen.used) > stored {
            for (name, value) in seen.values {
                response.insert(name, value);
            }
        }
    }
}

fn resource(headers: &HeaderMap) -> HeaderValue {
    headers.get(RESOURCE).cloned().unwrap_or(CORE)
}

fn read(headers: &HeaderMap) -> Option<Seen> {
    let number = |name: &HeaderName| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
    let reset = number(&RESET)?;
    let remaining = number(&REMAINING)?;
    // Old servers send no `used`; less remaining is more used.
    let used = number(&USED).unwrap_or_else(|| number(&LIMIT).unwrap_or(u64::MAX).saturating_sub(remaining));
    let value = |name: &HeaderName| headers.get(name).cloned();
    Some(Seen {
        reset,
        used,
        values: [
            (LIMIT, value(&LIMIT)?),
            (REMAINING, value(&REMAINING)?),
            (RESET, value(&RESET)?),
            (USED, value(&USED).unwrap_or_else(|| HeaderValue::from(used))),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::TokenHasher;

    fn response(resource: &'static str, used: u64, reset: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(RESOURCE, HeaderValue::from_static(resource));
        headers.insert(LIMIT, HeaderValue::from(5000));
        headers.insert(USED, HeaderValue::from(used));
        headers.insert(REMAINING, HeaderValue::from(5000 - used));
        headers.insert(RESET, HeaderValue::from(reset));
        headers
    }

    fn token(name: &'static str) -> TokenId {
        TokenHasher::new([1; 32]).id(Some(&HeaderValue::from_static(name)))
    }

    #[test]
    fn the_newest_replaces_what_was_stored_for_this_token_and_resource_only() {
        let limits = RateLimits::new();
        limits.note(&token("a"), &response("core", 10, 100));
        limits.note(&token("a"), &response("core", 30, 100));
        limits.note(&token("a"), &response("core", 20, 100));
        let refreshed = |name, resource, used, reset| {
            let mut headers = response(resource, used, reset);
            limits.refresh(&token(name), &mut headers);
            headers[USED].to_str().unwrap().to_owned()
        };
        assert_eq!(refreshed("a", "core", 10, 100), "30", "an overtaken answer must not win");
        assert_eq!(refreshed("a", "search", 10, 100), "10");
        assert_eq!(refreshed("b", "core", 10, 100), "10");
        limits.note(&token("a"), &response("core", 1, 200));
        assert_eq!(refreshed("a", "core", 30, 100), "1", "a new window begins");
    }

    #[test]
    fn responses_without_limits_get_none() {
        let limits = RateLimits::new();
        limits.note(&token("a"), &response("core", 10, 100));
        let mut headers = HeaderMap::new();
        limits.refresh(&token("a"), &mut headers);
        assert!(headers.is_empty());
    }
}
