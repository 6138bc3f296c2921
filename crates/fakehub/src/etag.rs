//! Entity tags: the rule that GitHub was observed to follow, and one that nobody can compute.
//!
//! Observed (undocumented; described by bored-engineer/github-conditional-http-transport, 2025, and
//! reproduced on recorded anonymous exchanges): the tag is the lower-case hexadecimal SHA-256 of,
//! for each of the request's `Accept`, `Authorization` and `Cookie` in this order and for each
//! value that was sent, the value followed by one `:`; then the response body before any content
//! coding. A header that was not sent contributes nothing, not even the colon.
//!
//! GitHub leaves out headers that the response's `Vary` does not name. That is not followed here: a
//! recording of an anonymous call lacks `Authorization` in `Vary`, and when it is replayed for a
//! token the tag must still be bound to that token.

use http::HeaderMap;
use http::header::{ACCEPT, AUTHORIZATION, COOKIE};
use sha2::{Digest, Sha256};

use crate::token::{RunKey, hex};

/// How entity tags are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EtagMode {
    /// The rule GitHub was observed to use: SHA-256 over `Accept`, `Authorization`, `Cookie` and
    /// the body, so who holds the body can compute the tag for another token.
    #[default]
    Observed,
    /// HMAC-SHA256 with a secret of this process over authorization, accept, URL and body: a cache
    /// that counts on the observed rule must fall back to plain misses, and must not leak.
    Opaque,
}

/// The hexadecimal tag of `body`, without quotes.
pub(crate) fn tag(mode: EtagMode, key: &RunKey, request: &HeaderMap, url: &str, body: &[u8]) -> String {
    match mode {
        EtagMode::Observed => {
            let mut hash = Sha256::new();
            for name in [ACCEPT, AUTHORIZATION, COOKIE] {
                for value in request.get_all(name) {
                    hash.update(value.as_bytes());
                    hash.update(b":");
                }
            }
            hash.update(body);
            hex(&hash.finalize())
        }
        EtagMode::Opaque => {
            let one = |name| request.get(name).map_or(&b""[..], http::HeaderValue::as_bytes);
            hex(&key.mac(&[b"etag", one(AUTHORIZATION), one(ACCEPT), url.as_bytes(), body]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of the empty string (FIPS 180-4).
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_observed_rule_hashes_what_was_sent_and_nothing_else() {
        let key = RunKey::random().unwrap();
        let mut request = HeaderMap::new();
        assert_eq!(tag(EtagMode::Observed, &key, &request, "u", b""), EMPTY);
        request.insert(COOKIE, "c=1".parse().unwrap());
        request.insert(AUTHORIZATION, "token t".parse().unwrap());
        request.insert(ACCEPT, "*/*".parse().unwrap());
        let expected = hex(&Sha256::digest(b"*/*:token t:c=1:{}"));
        assert_eq!(tag(EtagMode::Observed, &key, &request, "u", b"{}"), expected);
    }

    #[test]
    fn opaque_tags_depend_on_every_input_and_on_the_secret() {
        let keys = [RunKey::random().unwrap(), RunKey::random().unwrap()];
        let mut other = HeaderMap::new();
        other.insert(AUTHORIZATION, "token t".parse().unwrap());
        let plain = HeaderMap::new();
        let tags = [
            tag(EtagMode::Opaque, &keys[0], &plain, "u", b"x"),
            tag(EtagMode::Opaque, &keys[1], &plain, "u", b"x"),
            tag(EtagMode::Opaque, &keys[0], &other, "u", b"x"),
            tag(EtagMode::Opaque, &keys[0], &plain, "v", b"x"),
            tag(EtagMode::Opaque, &keys[0], &plain, "u", b"y"),
        ];
        let distinct: std::collections::BTreeSet<_> = tags.iter().collect();
        assert_eq!(distinct.len(), tags.len());
    }
}
