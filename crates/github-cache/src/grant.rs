//! A grant: this token may see that representation, as of then.

use std::time::Duration;

use http::header::{
    AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, PROXY_AUTHENTICATE, SET_COOKIE,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use minicbor::{Decode, Encode};
use peercache::backend::Timestamp;

use crate::cache_status::CACHE_STATUS;
use crate::freshness::Freshness;
use crate::representation::{CONTENT_HEADERS, Field, MAX_HEAD_BYTES, add_fields, to_fields};

const FORMAT: u8 = 1;

/// One token's permission and proof: which representation, when it was validated, for how long that
/// holds, and the headers of the response that belong to this token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// SHA-256 of the representation.
    pub(crate) representation: [u8; 32],
    pub(crate) freshness: Freshness,
    /// The end-to-end headers that are not content headers, `ETag` among them.
    pub(crate) headers: HeaderMap,
    /// Headers that `Vary` named and that the request did not have. A request that has one is
    /// another request (RFC 9111, section 4.1).
    pub(crate) without: Vec<HeaderName>,
    /// The page of a list that may grow without a change of its tag; see [`crate::pages`].
    pub(crate) full_page: bool,
}

#[derive(Debug, Encode, Decode)]
struct Stored {
    #[n(0)]
    format: u8,
    #[cbor(n(1), with = "minicbor::bytes")]
    representation: Vec<u8>,
    #[n(2)]
    validated_millis: u64,
    #[n(3)]
    initial_age_millis: u64,
    #[n(4)]
    lifetime_millis: u64,
    #[n(5)]
    fields: Vec<Field>,
    #[n(6)]
    without: Vec<String>,
    #[n(7)]
    full_page: bool,
}

impl Grant {
    /// As bytes. `None` when its headers exceed their bound.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let bytes = minicbor::to_vec(Stored {
            format: FORMAT,
            representation: self.representation.to_vec(),
            validated_millis: self.freshness.validated.as_millis(),
            initial_age_millis: millis(self.freshness.initial_age),
            lifetime_millis: millis(self.freshness.lifetime),
            fields: to_fields(&self.headers),
            without: self.without.iter().map(|name| name.as_str().to_owned()).collect(),
            full_page: self.full_page,
        })
        .ok()?;
        (bytes.len() <= MAX_HEAD_BYTES).then_some(bytes)
    }

    /// From bytes. `None` if they are not a grant of this format.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_HEAD_BYTES {
            return None;
        }
        let stored: Stored = minicbor::decode(bytes).ok()?;
        if stored.format != FORMAT {
            return None;
        }
        let mut headers = HeaderMap::with_capacity(stored.fields.len());
        add_fields(&mut headers, &stored.fields)?;
        let without: Option<Vec<_>> =
            stored.without.iter().map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
        Some(Self {
            representation: stored.representation.try_into().ok()?,
            freshness: Freshness {
                validated: Timestamp::from_millis(stored.validated_millis),
                initial_age: Duration::from_millis(stored.initial_age_millis),
                lifetime: Duration::from_millis(stored.lifetime_millis),
            },
            headers,
            without: without?,
            full_page: stored.full_page,
        })
    }
}

/// Headers that describe one transfer or one moment and are never kept.
static TRANSIENT: [HeaderName; 11] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    AGE,
    SET_COOKIE,
];

fn is_kept(name: &HeaderName) -> bool {
    !TRANSIENT.contains(name) && !CONTENT_HEADERS.contains(name) && *name != CACHE_STATUS
}

/// The headers of a response that go into a grant. Hop-by-hop ones named by `Connection` are gone
/// already.
pub(crate) fn granted_headers(response: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(response.len());
    for (name, value) in response.iter().filter(|(name, _)| is_kept(name)) {
        kept.append(name, value.clone());
    }
    kept
}

/// Updates stored headers from a 304 (RFC 9111, section 3.2): each field in it replaces the stored
/// one, `Link`, `Last-Modified` and `X-Poll-Interval` among them. Content headers stay as the
/// representation has them.
pub(crate) fn merge_304(stored: &HeaderMap, not_modified: &HeaderMap) -> HeaderMap {
    let mut merged = stored.clone();
    for name in not_modified.keys().filter(|name| is_kept(name)) {
        merged.remove(name);
        for value in not_modified.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::{CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG, LINK, VARY};
    use proptest::prelude::*;

    fn map(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let grant = Grant {
            representation: [7; 32],
            freshness: Freshness {
                validated: Timestamp::from_millis(1_800_000_000_123),
                initial_age: Duration::from_secs(3),
                lifetime: Duration::from_secs(60),
            },
            headers: map(&[(ETAG, "W/\"x\""), (VARY, "Accept"), (VARY, "Accept-Encoding")]),
            without: vec![HeaderName::from_static("x-feature")],
            full_page: true,
        };
        assert_eq!(Grant::decode(&grant.encode().unwrap()), Some(grant));
    }

    #[test]
    fn content_transfer_and_status_headers_are_left_out() {
        let kept = granted_headers(&map(&[
            (CONTENT_TYPE, "application/json"),
            (CONTENT_LENGTH, "3"),
            (CONTENT_ENCODING, "gzip"),
            (AGE, "3"),
            (CACHE_STATUS, "edge; hit"),
            (LINK, "<x>"),
            (ETAG, "\"x\""),
            (HeaderName::from_static("x-oauth-scopes"), "repo"),
        ]));
        assert_eq!(
            kept,
            map(&[(LINK, "<x>"), (ETAG, "\"x\""), (HeaderName::from_static("x-oauth-scopes"), "repo")])
        );
    }

    #[test]
    fn a_304_replaces_what_it_names_and_nothing_else() {
        let stored =
            map(&[(ETAG, "\"x\""), (DATE, "old"), (VARY, "a"), (VARY, "b"), (CACHE_CONTROL, "max-age=60")]);
        let fresh = map(&[
            (DATE, "new"),
            (VARY, "c"),
            (CONTENT_TYPE, "text/html"),
            (LINK, "<x>"),
            (CONTENT_LENGTH, "0"),
        ]);
        let merged = merge_304(&stored, &fresh);
        assert_eq!(
            merged,
            map(&[(ETAG, "\"x\""), (CACHE_CONTROL, "max-age=60"), (DATE, "new"), (VARY, "c"), (LINK, "<x>")])
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _either = Grant::decode(&bytes);
        }
    }
}
