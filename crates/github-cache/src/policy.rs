//! Which requests the cache answers, and which responses it keeps.

use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, COOKIE, ETAG, HeaderMap, HeaderName, IF_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, SET_COOKIE, TRANSFER_ENCODING, VARY,
};
use http::{Method, StatusCode};

use crate::cache_control::{CacheControl, list_items};
use crate::cache_status::Forward;
use crate::freshness::Freshness;
use crate::key::{API_VERSION, REQUESTED_WITH};
use crate::representation::{MAX_REPRESENTATION_BYTES, is_negative};
use crate::route_table::{Lifetime, Rule};
use crate::stats::NotStored;

/// One-time passwords: a response to one is for that moment.
const OTP: HeaderName = HeaderName::from_static("x-github-otp");

/// For how long at least an answer is good whose bytes never change.
const IMMUTABLE_AT_LEAST: Duration = Duration::from_secs(3600);

/// Headers that `Vary` may name: they are in the key, or requests that carry them are passed
/// through, or (`Accept-Encoding`) what is stored does not depend on them.
static KNOWN_TO_VARY: [HeaderName; 7] =
    [ACCEPT, AUTHORIZATION, COOKIE, OTP, ACCEPT_ENCODING, REQUESTED_WITH, API_VERSION];

/// Requests with one of these are for the origin, and why.
static BYPASSING: [(HeaderName, &str); 6] = [
    (COOKIE, "cookie"),
    (OTP, "otp"),
    (RANGE, "range"),
    (IF_RANGE, "range"),
    (IF_MATCH, "precondition"),
    (IF_UNMODIFIED_SINCE, "precondition"),
];

/// What to do with a request for the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Look into the store.
    Answer {
        /// Only the headers are wanted.
        head: bool,
    },
    /// Pass it on, and do not store the response.
    Forward(Forward, Option<&'static str>),
}

/// Decides about a request. `stored` says whether its route is one that is stored.
pub(crate) fn plan(
    method: &Method,
    headers: &HeaderMap,
    has_body: bool,
    stored: bool,
    directives: &CacheControl,
) -> Plan {
    if method != Method::GET && method != Method::HEAD {
        return Plan::Forward(Forward::Method, None);
    }
    if has_body {
        return Plan::Forward(Forward::Bypass, Some("body"));
    }
    if let Some((_, detail)) = BYPASSING.iter().find(|(name, _)| headers.contains_key(name)) {
        return Plan::Forward(Forward::Bypass, Some(detail));
    }
    if !stored {
        return Plan::Forward(Forward::Bypass, Some("route"));
    }
    if directives.no_store {
        return Plan::Forward(Forward::Request, Some("no-store"));
    }
    Plan::Answer { head: method == Method::HEAD }
}

/// What is kept of a response that may be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) freshness: Freshness,
    /// Headers named by `Vary` that the request did not have.
    pub(crate) without: Vec<HeaderName>,
}

/// Judges a response by its head. The body still has to arrive whole and within its bound.
pub(crate) fn judge(
    status: StatusCode,
    response: &HeaderMap,
    request: &HeaderMap,
    sent: peercache::backend::Timestamp,
    rule: &Rule,
) -> Result<Keep, NotStored> {
    let negative = is_negative(status) && !rule.negative.is_zero();
    if status != StatusCode::OK && !negative {
        return Err(NotStored::Status);
    }
    let directives = CacheControl::of_response(response);
    if directives.no_store {
        return Err(NotStored::NoStore);
    }
    if response.contains_key(SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    let without = vary(response, request).ok_or(NotStored::Vary)?;
    let mut freshness = Freshness::of(response, &directives, sent);
    if negative {
        // For this token alone, and only for a moment: what is not there may be made.
        freshness = Freshness { validated: sent, initial_age: Duration::ZERO, lifetime: rule.negative };
        return Ok(Keep { freshness, without });
    }
    match rule.lifetime {
        Lifetime::Github => {}
        Lifetime::Revalidate => freshness.lifetime = Duration::ZERO,
        Lifetime::Immutable if freshness.lifetime.is_zero() => {}
        Lifetime::Immutable => freshness.lifetime = freshness.lifetime.max(IMMUTABLE_AT_LEAST),
    }
    let validator = response.contains_key(ETAG) || response.contains_key(LAST_MODIFIED);
    if freshness.lifetime.is_zero() && !validator {
        return Err(NotStored::Unusable);
    }
    Ok(Keep { freshness, without })
}

/// Whether an unencoded body of this length can be stored, and whether its end can be told: a body
/// that ends with the connection may have been cut (RFC 9111, section 3.3).
pub(crate) fn judge_length(response: &HeaderMap) -> Result<(), NotStored> {
    match content_length(response) {
        Some(bytes) if bytes > MAX_REPRESENTATION_BYTES as u64 => Err(NotStored::TooLarge),
        Some(_) => Ok(()),
        None if response.contains_key(TRANSFER_ENCODING) => Ok(()),
        None => Err(NotStored::Incomplete),
    }
}

/// The length that a response announces, in bytes.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The headers that `Vary` names beyond the known ones, if the request has none of them; `None` if
/// it has one, or if the response varies by everything.
fn vary(response: &HeaderMap, request: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut without = Vec::new();
    for value in response.get_all(VARY) {
        for item in list_items(value.as_bytes()) {
            // `*` is not a header name either.
            let name = HeaderName::from_bytes(item).ok().filter(|_| item != b"*")?;
            if KNOWN_TO_VARY.contains(&name) || without.contains(&name) {
                continue;
            }
            if request.contains_key(&name) {
                return None;
            }
            without.push(name);
        }
    }
    Some(without)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use peercache::backend::Timestamp;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn planned(method: Method, headers: &[(&'static str, &'static str)]) -> Plan {
        let headers = map(headers);
        plan(&method, &headers, false, true, &CacheControl::of_request(&headers))
    }

    #[test]
    fn the_table_of_requests() {
        use Forward::{Bypass, Method as ByMethod, Request};
        assert_eq!(planned(Method::GET, &[]), Plan::Answer { head: false });
        assert_eq!(planned(Method::HEAD, &[]), Plan::Answer { head: true });
        assert_eq!(planned(Method::POST, &[]), Plan::Forward(ByMethod, None));
        assert_eq!(planned(Method::OPTIONS, &[]), Plan::Forward(ByMethod, None));
        for (name, detail) in [
            ("cookie", "cookie"),
            ("x-github-otp", "otp"),
            ("range", "range"),
            ("if-range", "range"),
            ("if-match", "precondition"),
        ] {
            assert_eq!(planned(Method::GET, &[(name, "1")]), Plan::Forward(Bypass, Some(detail)));
        }
        assert_eq!(
            planned(Method::GET, &[("cache-control", "no-store")]),
            Plan::Forward(Request, Some("no-store"))
        );
        let none = CacheControl::default();
        let with_body = plan(&Method::GET, &HeaderMap::new(), true, true, &none);
        assert_eq!(with_body, Plan::Forward(Bypass, Some("body")));
        let limits = plan(&Method::GET, &HeaderMap::new(), false, false, &none);
        assert_eq!(limits, Plan::Forward(Bypass, Some("route")));
    }

    fn judged(status: u16, response: &[(&'static str, &'static str)]) -> Result<Keep, NotStored> {
        let request = map(&[("x-present", "1"), ("accept", "a")]);
        judge(
            StatusCode::from_u16(status).unwrap(),
            &map(response),
            &request,
            Timestamp::EPOCH,
            &Rule::default(),
        )
    }

    #[test]
    fn the_table_of_responses() {
        let fresh = ("cache-control", "private, max-age=60");
        assert!(judged(200, &[fresh]).is_ok());
        assert!(judged(200, &[("etag", "\"x\"")]).is_ok());
        assert!(judged(200, &[("last-modified", "x")]).is_ok());
        assert!(judged(200, &[("cache-control", "no-cache"), ("etag", "\"x\"")]).is_ok());
        for status in [201, 204, 301, 302, 304, 403, 500] {
            assert_eq!(judged(status, &[fresh]), Err(NotStored::Status));
        }
        assert_eq!(judged(200, &[("cache-control", "no-cache")]), Err(NotStored::Unusable));
        assert_eq!(judged(200, &[]), Err(NotStored::Unusable));
        assert_eq!(judged(200, &[("cache-control", "no-store, max-age=60")]), Err(NotStored::NoStore));
        assert_eq!(judged(200, &[fresh, ("set-cookie", "a=b")]), Err(NotStored::SetCookie));
    }

    #[test]
    fn vary_beyond_the_key_is_kept_only_for_requests_without_the_header() {
        let fresh = ("cache-control", "max-age=60");
        let github = ("vary", "Accept, Authorization, Cookie, X-GitHub-OTP");
        let more = ("vary", "Accept-Encoding, Accept, X-Requested-With");
        assert_eq!(judged(200, &[fresh, github, more]).unwrap().without, [""; 0]);
        assert_eq!(judged(200, &[fresh, ("vary", "X-Absent")]).unwrap().without, ["x-absent"]);
        assert_eq!(judged(200, &[fresh, ("vary", "X-Present")]), Err(NotStored::Vary));
        assert_eq!(judged(200, &[fresh, ("vary", "accept, *")]), Err(NotStored::Vary));
        assert_eq!(judged(200, &[fresh, ("vary", "not a name")]), Err(NotStored::Vary));
    }

    #[test]
    fn the_route_decides_with_the_response() {
        let response = map(&[("cache-control", "private, max-age=60"), ("etag", "\"x\"")]);
        let lifetime = |status, rule: Rule| {
            let judged = judge(status, &response, &HeaderMap::new(), Timestamp::EPOCH, &rule);
            judged.map(|keep| keep.freshness.lifetime.as_secs())
        };
        let rule = Rule::default();
        assert_eq!(lifetime(StatusCode::OK, rule), Ok(60));
        assert_eq!(lifetime(StatusCode::OK, Rule { lifetime: Lifetime::Revalidate, ..rule }), Ok(0));
        assert_eq!(lifetime(StatusCode::OK, Rule { lifetime: Lifetime::Immutable, ..rule }), Ok(3600));
        assert_eq!(lifetime(StatusCode::NOT_FOUND, rule), Ok(5), "its own lifetime counts for nothing");
        let none = Rule { negative: Duration::ZERO, ..rule };
        assert_eq!(lifetime(StatusCode::NOT_FOUND, none), Err(NotStored::Status));
    }

    #[test]
    fn lengths() {
        let most = MAX_REPRESENTATION_BYTES.to_string();
        let mut headers = HeaderMap::new();
        assert_eq!(judge_length(&headers), Err(NotStored::Incomplete));
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        assert_eq!(judge_length(&headers), Ok(()));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_str(&most).unwrap());
        assert_eq!(judge_length(&headers), Ok(()));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(MAX_REPRESENTATION_BYTES + 1));
        assert_eq!(judge_length(&headers), Err(NotStored::TooLarge));
    }
}
