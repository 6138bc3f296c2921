//! The headers of a request as the cache sees them: what is keyed is what is sent.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT, VIA};

use crate::accept::make_canonical;
use crate::key::{API_VERSION, REQUESTED_WITH};
use crate::upstream::end_to_end;

/// The request headers that reach upstream with a request whose answer may be stored. Each of them
/// is part of the key, or of the grant's (`Authorization`), but `Via`: it selects nothing, and
/// without it a request that goes round in a circle is not found. Conditions are added by whoever
/// sends.
static SENT: [HeaderName; 5] = [ACCEPT, AUTHORIZATION, API_VERSION, REQUESTED_WITH, VIA];

/// GitHub indents JSON for user agents that look like a browser, curl or wget, and the indented
/// body has another entity tag. The client's own is not sent, as it is not part of the key.
pub(crate) const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("peercache/", env!("CARGO_PKG_VERSION")));

/// A client's headers without those for one connection, with the canonical form of `Accept`.
/// Everything that is decided about a request of the cache's is decided by these.
pub(crate) fn of_client(request: &HeaderMap) -> HeaderMap {
    let mut headers = end_to_end(request);
    make_canonical(&mut headers);
    headers
}

/// The headers to send for a request whose answer may be stored, from those of [`of_client`].
pub(crate) fn to_send(client: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    for name in &SENT {
        for value in client.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(USER_AGENT, AGENT);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONNECTION;

    #[test]
    fn only_listed_headers_are_sent_and_connection_takes_away_before_that() {
        let mut request = HeaderMap::new();
        for (name, value) in [
            ("accept", "application/vnd.github.raw+json"),
            ("authorization", "token x"),
            ("x-github-api-version", "2022-11-28"),
            ("x-requested-with", "XMLHttpRequest"),
            ("x-forwarded-host", "evil.example"),
            ("via", "1.1 other"),
            ("user-agent", "curl/8"),
            ("if-none-match", "\"x\""),
        ] {
            request.insert(name, HeaderValue::from_static(value));
        }
        request.insert(CONNECTION, HeaderValue::from_static("close, accept, X-GitHub-Api-Version"));
        let sent = to_send(&of_client(&request));
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["accept", "accept-encoding", "authorization", "user-agent", "via", "x-requested-with"]
        );
        assert_eq!(sent[ACCEPT], crate::accept::DEFAULT, "what was taken away is as if it was never sent");
        assert!(sent[USER_AGENT].to_str().unwrap().starts_with("peercache/"));
    }
}
