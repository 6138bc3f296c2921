//! `Cache-Control` and `Pragma`, of requests and of responses (RFC 9111, sections 5.2 and 5.4).

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

/// The largest delta-seconds that is told apart: 2^31, as RFC 9111, section 1.2.2 asks.
const MAX_SECONDS: u64 = 1 << 31;

/// The directives that this cache obeys. Unknown ones are ignored, and so is `max-stale`: nothing
/// stale is served, which a client that would accept it has to expect anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheControl {
    /// `no-cache`, with or without field names: naming fields is rare enough to treat it as the
    /// whole.
    pub(crate) no_cache: bool,
    pub(crate) no_store: bool,
    pub(crate) only_if_cached: bool,
    /// Of a response: everybody may have it.
    pub(crate) public: bool,
    /// Seconds. The smallest, if it is given twice; zero, if it is not a number.
    pub(crate) max_age: Option<u64>,
    /// Seconds. The largest, if it is given twice; the largest possible, if it is not a number.
    pub(crate) min_fresh: Option<u64>,
}

impl CacheControl {
    /// What a request asks for. `Pragma: no-cache` counts only without `Cache-Control`.
    pub(crate) fn of_request(headers: &HeaderMap) -> Self {
        let mut directives = Self::of_response(headers);
        if !headers.contains_key(CACHE_CONTROL) {
            directives.no_cache = headers
                .get_all(PRAGMA)
                .iter()
                .any(|value| list_items(value.as_bytes()).any(|item| item.eq_ignore_ascii_case(b"no-cache")));
        }
        directives
    }

    /// What a response allows.
    pub(crate) fn of_response(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            for item in list_items(value.as_bytes()) {
                directives.take(item);
            }
        }
        directives
    }

    fn take(&mut self, item: &[u8]) {
        let (name, argument) = match item.iter().position(|byte| *byte == b'=') {
            Some(at) => (item[..at].trim_ascii(), Some(item[at + 1..].trim_ascii())),
            None => (item, None),
        };
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("public") {
            self.public = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            let seconds = seconds(argument).unwrap_or(0);
            self.max_age = Some(self.max_age.map_or(seconds, |before| before.min(seconds)));
        } else if is("min-fresh") {
            let seconds = seconds(argument).unwrap_or(MAX_SECONDS);
            self.min_fresh = Some(self.min_fresh.map_or(seconds, |before| before.max(seconds)));
        }
    }

    /// Whether a request with these directives insists that the origin be asked.
    pub(crate) fn insists(&self) -> bool {
        self.no_cache || self.max_age == Some(0)
    }
}

/// A delta-seconds value, plain or quoted, capped; `None` when it is not one.
fn seconds(argument: Option<&[u8]>) -> Option<u64> {
    let mut digits = argument?;
    if let [b'"', inner @ .., b'"'] = digits {
        digits = inner;
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value =
        digits.iter().try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    Some(value.map_or(MAX_SECONDS, |value| value.min(MAX_SECONDS)))
}

/// The non-empty items of a comma-separated list; commas in quoted strings do not separate.
pub(crate) fn list_items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |byte| {
            if escaped {
                escaped = false;
            } else if quoted && *byte == b'\\' {
                escaped = true;
            } else if *byte == b'"' {
                quoted = !quoted;
            }
            *byte == b',' && !quoted
        })
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn response(values: &[&'static str]) -> CacheControl {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
        }
        CacheControl::of_response(&headers)
    }

    #[test]
    fn what_github_sends() {
        let directives = response(&["private, max-age=60, s-maxage=60"]);
        assert_eq!(directives, CacheControl { max_age: Some(60), ..CacheControl::default() });
        assert!(response(&["no-cache"]).no_cache);
    }

    #[test]
    fn odd_forms() {
        assert_eq!(response(&["MAX-AGE = \"7\""]).max_age, Some(7));
        assert_eq!(
            response(&["max-age=60", "max-age=5"]).max_age,
            Some(5),
            "the smaller one is the safe one"
        );
        assert_eq!(response(&["max-age=-1"]).max_age, Some(0));
        assert_eq!(response(&["max-age"]).max_age, Some(0));
        assert_eq!(response(&["max-age=99999999999999999999999"]).max_age, Some(MAX_SECONDS));
        assert_eq!(
            response(&["x=\"no-store, max-age=1\", no-cache=\"a,b\""]),
            CacheControl { no_cache: true, ..CacheControl::default() }
        );
        assert_eq!(response(&["min-fresh=x"]).min_fresh, Some(MAX_SECONDS));
    }

    #[test]
    fn pragma_counts_only_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(PRAGMA, HeaderValue::from_static("No-Cache"));
        assert!(CacheControl::of_request(&headers).no_cache);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=10"));
        assert!(!CacheControl::of_request(&headers).no_cache);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic_and_never_beyond_the_cap(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(CACHE_CONTROL, value);
                let parsed = CacheControl::of_request(&headers);
                prop_assert!(parsed.max_age.unwrap_or(0) <= MAX_SECONDS);
                prop_assert!(parsed.min_fresh.unwrap_or(0) <= MAX_SECONDS);
            }
        }

        #[test]
        fn a_directive_is_found_between_any_others(seconds in 0_u64..1_000_000, before in "[a-z]{1,8}", after in "[a-z]{1,8}=\"[a-z, ]{0,8}\"") {
            let mut headers = HeaderMap::new();
            let text = format!("x{before} ,, max-age={seconds},x{after}");
            headers.insert(CACHE_CONTROL, HeaderValue::from_str(&text).unwrap());
            prop_assert_eq!(CacheControl::of_response(&headers).max_age, Some(seconds));
        }
    }
}
