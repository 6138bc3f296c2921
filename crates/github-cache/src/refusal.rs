//! What a refusal of GitHub's means: a limit, a lost right, or trouble.

use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use peercache::backend::Timestamp;

use crate::budget::SpentReason;

/// The most bytes of a refusal's body that are read for its message.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Why GitHub did not give what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The quota of an hour is spent.
    PrimaryLimit,
    /// Too much at once. The right to see what was asked for is untouched.
    SecondaryLimit,
    /// The token may not see it, or it is not there (any longer).
    Revoked,
    /// The token is not accepted at all.
    BadToken,
    /// The server failed.
    Trouble,
}

impl Refusal {
    /// What `Cache-Status` says where an answer that is known is served instead of this refusal;
    /// `None` where none is.
    pub(crate) const fn stale_detail(self) -> Option<&'static str> {
        match self {
            Self::Trouble => Some("upstream-error"),
            Self::PrimaryLimit => Some(SpentReason::Quota.detail()),
            Self::SecondaryLimit => Some(SpentReason::Pause.detail()),
            Self::Revoked | Self::BadToken => None,
        }
    }
}

/// Whether the message has to be read to tell a limit from a lost right.
pub(crate) fn needs_message(status: StatusCode) -> bool {
    matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
}

/// What an answer means that is neither a success nor a 304. `body` is its body as far as it was
/// read.
pub(crate) fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Refusal> {
    match status {
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => Some(limit(status, headers, body)),
        StatusCode::UNAUTHORIZED => Some(Refusal::BadToken),
        StatusCode::REQUEST_TIMEOUT => Some(Refusal::Trouble),
        StatusCode::NOT_MODIFIED => None,
        status if status.is_server_error() => Some(Refusal::Trouble),
        status if status.is_success() || status.is_informational() => None,
        _ => Some(Refusal::Revoked),
    }
}

/// For how long GitHub asks to be left alone: `Retry-After` in seconds or as a date.
pub(crate) fn pause(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(until.saturating_sub(Duration::from_millis(now.as_millis())))
}

fn limit(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let message = String::from_utf8_lossy(body).to_ascii_lowercase();
    if message.contains("secondary rate limit") || message.contains("abuse detection") {
        return Refusal::SecondaryLimit;
    }
    let spent = headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0");
    if spent || message.contains("api rate limit exceeded") {
        return Refusal::PrimaryLimit;
    }
    if status == StatusCode::TOO_MANY_REQUESTS || headers.contains_key(RETRY_AFTER) {
        return Refusal::SecondaryLimit;
    }
    Refusal::Revoked
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn pause_is_read_in_both_forms() {
        let now = Timestamp::from_millis(784_887_151_000);
        for (text, seconds) in [
            ("30", Some(30)),
            ("Tue, 15 Nov 1994 08:13:01 GMT", Some(30)),
            ("Tue, 15 Nov 1994 08:12:01 GMT", Some(0)),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(pause(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn limits_are_told_from_lost_rights_by_status_headers_and_message() {
        let secondary = br#"{"message":"You have exceeded a secondary rate limit. Please wait"}"#.as_slice();
        let primary = br#"{"message":"API rate limit exceeded for installation ID 1."}"#.as_slice();
        let denied = br#"{"message":"Resource not accessible by integration"}"#.as_slice();
        let remaining = |left: &'static str| ("x-ratelimit-remaining", left);
        for (status, header, body, expected) in [
            (403, None, secondary, Refusal::SecondaryLimit),
            (429, None, b"".as_slice(), Refusal::SecondaryLimit),
            (403, Some(("retry-after", "60")), denied, Refusal::SecondaryLimit),
            (403, Some(remaining("0")), secondary, Refusal::SecondaryLimit),
            (403, Some(remaining("0")), b"".as_slice(), Refusal::PrimaryLimit),
            (429, Some(remaining("0")), primary, Refusal::PrimaryLimit),
            (403, Some(remaining("10")), primary, Refusal::PrimaryLimit),
            (403, Some(remaining("10")), denied, Refusal::Revoked),
            (401, None, b"".as_slice(), Refusal::BadToken),
            (404, None, b"".as_slice(), Refusal::Revoked),
            (451, None, b"".as_slice(), Refusal::Revoked),
            (301, None, b"".as_slice(), Refusal::Revoked),
            (502, None, b"".as_slice(), Refusal::Trouble),
        ] {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = header {
                headers.insert(name, HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(classify(status, &headers, body), Some(expected), "{status} {header:?}");
        }
        assert_eq!(classify(StatusCode::OK, &HeaderMap::new(), b""), None);
    }
}
