//! The latest representations of one request, whoever fetched them.
//!
//! Answers to tokens of different kinds may differ, so there are several. They hold nothing of a
//! token: the headers are those that do not depend on who asks. Knowing one gives no token
//! anything: it is served only after GitHub has confirmed it for that token, or by the rules of
//! [`crate::public`].

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, DATE, HeaderName, LAST_MODIFIED, LINK, VARY};
use minicbor::{Decode, Encode};
use peercache::backend::{NodeId, Timestamp, Version};

use crate::freshness::Freshness;
use crate::representation::{Field, MAX_HEAD_BYTES, add_fields, to_fields};
use crate::token::TokenKind;

/// How many representations of one request are remembered.
pub(crate) const MAX_CANDIDATES: usize = 4;
/// How many validations of one representation are remembered for each kind of token: the newest,
/// and the oldest that is still fresh. A proof that covers the older one is good although the newer
/// one came after it.
const MAX_VALIDATIONS_OF_KIND: usize = 2;

const FORMAT: u8 = 1;

/// Headers of an answer that are the same whoever asks. Limits, scopes and request ids are not.
static COMMON: [HeaderName; 9] = [
    CACHE_CONTROL,
    VARY,
    LAST_MODIFIED,
    LINK,
    DATE,
    HeaderName::from_static("x-poll-interval"),
    HeaderName::from_static("x-github-api-version-selected"),
    HeaderName::from_static("deprecation"),
    HeaderName::from_static("sunset"),
];

/// The headers of an answer that may be given to another token.
pub(crate) fn common_headers(headers: &HeaderMap) -> HeaderMap {
    let mut common = HeaderMap::with_capacity(COMMON.len());
    for name in &COMMON {
        for value in headers.get_all(name) {
            common.append(name, value.clone());
        }
    }
    common
}

/// That a representation was validated for some token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validation {
    pub(crate) freshness: Freshness,
    /// The version that the token's grant has.
    pub(crate) version: Version,
    /// The kind of the token.
    pub(crate) kind: TokenKind,
}

/// One representation of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// SHA-256 of the representation.
    pub(crate) representation: [u8; 32],
    /// The newest first.
    pub(crate) validations: Vec<Validation>,
    /// Those of the newest validation.
    pub(crate) headers: HeaderMap,
    /// Whether its tag came in the weak form.
    pub(crate) weak: bool,
    pub(crate) full_page: bool,
    /// Whether its body is free of parts that depend on the token's rights.
    pub(crate) shareable: bool,
    /// Headers that `Vary` named and that the request did not have.
    pub(crate) without: Vec<HeaderName>,
}

#[derive(Encode, Decode)]
struct StoredList {
    #[n(0)]
    format: u8,
    #[n(1)]
    list: Vec<Stored>,
}

#[derive(Encode, Decode)]
struct Stored {
    #[cbor(n(0), with = "minicbor::bytes")]
    representation: Vec<u8>,
    #[n(1)]
    validations: Vec<StoredValidation>,
    #[n(2)]
    fields: Vec<Field>,
    #[n(3)]
    weak: bool,
    #[n(4)]
    full_page: bool,
    #[n(5)]
    shareable: bool,
    #[n(6)]
    without: Vec<String>,
}

#[derive(Encode, Decode)]
struct StoredValidation {
    #[n(0)]
    validated_millis: u64,
    #[n(1)]
    initial_age_millis: u64,
    #[n(2)]
    lifetime_millis: u64,
    #[n(3)]
    wall_millis: u64,
    #[n(4)]
    counter: u32,
    #[n(5)]
    node: u64,
    #[n(6)]
    kind: u8,
}

/// The list as it is stored. `None` when its headers exceed their bound.
pub(crate) fn encode(list: &[Candidate]) -> Option<Vec<u8>> {
    let list = list
        .iter()
        .map(|one| Stored {
            representation: one.representation.to_vec(),
            validations: one.validations.iter().map(StoredValidation::from).collect(),
            fields: to_fields(&one.headers),
            weak: one.weak,
            full_page: one.full_page,
            shareable: one.shareable,
            without: one.without.iter().map(|name| name.as_str().to_owned()).collect(),
        })
        .collect();
    let bytes = minicbor::to_vec(StoredList { format: FORMAT, list }).ok()?;
    (bytes.len() <= MAX_HEAD_BYTES).then_some(bytes)
}

/// The list from bytes. `None` if they are not one of this format.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Candidate>> {
    if bytes.len() > MAX_HEAD_BYTES {
        return None;
    }
    let stored: StoredList = minicbor::decode(bytes).ok()?;
    if stored.format != FORMAT || stored.list.len() > MAX_CANDIDATES {
        return None;
    }
    stored.list.into_iter().map(candidate).collect()
}

impl From<&Validation> for StoredValidation {
    fn from(one: &Validation) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            validated_millis: one.freshness.validated.as_millis(),
            initial_age_millis: millis(one.freshness.initial_age),
            lifetime_millis: millis(one.freshness.lifetime),
            wall_millis: one.version.wall.as_millis(),
            counter: one.version.counter,
            node: one.version.node.as_u64(),
            kind: one.kind as u8,
        }
    }
}

fn validation(stored: &StoredValidation) -> Option<Validation> {
    Some(Validation {
        freshness: Freshness {
            validated: Timestamp::from_millis(stored.validated_millis),
            initial_age: Duration::from_millis(stored.initial_age_millis),
            lifetime: Duration::from_millis(stored.lifetime_millis),
        },
        version: Version {
            wall: Timestamp::from_millis(stored.wall_millis),
            counter: stored.counter,
            node: NodeId::from_u64(stored.node),
        },
        kind: *TokenKind::ALL.get(usize::from(stored.kind))?,
    })
}

fn candidate(stored: Stored) -> Option<Candidate> {
    let mut headers = HeaderMap::with_capacity(stored.fields.len());
    add_fields(&mut headers, &stored.fields)?;
    let without: Option<Vec<_>> =
        stored.without.iter().map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
    if stored.validations.len() > MAX_VALIDATIONS_OF_KIND * TokenKind::COUNT {
        return None;
    }
    Some(Candidate {
        representation: stored.representation.try_into().ok()?,
        validations: stored.validations.iter().map(validation).collect::<Option<_>>()?,
        headers: common_headers(&headers),
        weak: stored.weak,
        full_page: stored.full_page,
        shareable: stored.shareable,
        without: without?,
    })
}

/// Puts a representation that was validated now in front and forgets the oldest beyond
/// [`MAX_CANDIDATES`]. Earlier validations of the same representation are kept while they are
/// fresh.
pub(crate) fn put_first(list: &mut Vec<Candidate>, mut one: Candidate, now: Timestamp) {
    if let Some(at) = list.iter().position(|other| other.representation == one.representation) {
        let earlier = list.remove(at).validations;
        one.validations.extend(earlier.into_iter().filter(|one| !one.freshness.remaining(now).is_zero()));
        one.validations.sort_by_key(|one| std::cmp::Reverse(one.version));
        for kind in TokenKind::ALL {
            let of_kind: Vec<Version> =
                one.validations.iter().filter(|one| one.kind == kind).map(|one| one.version).collect();
            if let [newest, .., oldest] = of_kind[..] {
                one.validations
                    .retain(|one| one.kind != kind || one.version == newest || one.version == oldest);
            }
        }
    }
    list.insert(0, one);
    list.truncate(MAX_CANDIDATES);
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_120 + 1000 * seconds)
    }

    fn validated(seconds: u64, kind: TokenKind) -> Validation {
        Validation {
            freshness: Freshness {
                validated: at(seconds),
                initial_age: Duration::from_secs(1),
                lifetime: Duration::from_secs(60),
            },
            version: Version { wall: at(seconds), counter: 7, node: NodeId::from_u64(9) },
            kind,
        }
    }

    fn one(number: u8) -> Candidate {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_static("<x>; rel=\"next\""));
        Candidate {
            representation: [number; 32],
            validations: vec![validated(0, TokenKind::Installation)],
            headers,
            weak: true,
            full_page: false,
            shareable: true,
            without: vec![HeaderName::from_static("x-feature")],
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let list = vec![one(1), one(2)];
        assert_eq!(decode(&encode(&list).unwrap()), Some(list));
    }

    #[test]
    fn headers_of_a_token_are_never_in_it() {
        let mut headers = HeaderMap::new();
        for name in ["x-oauth-scopes", "x-ratelimit-remaining", "etag", "set-cookie", "link"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        let common = common_headers(&headers);
        assert_eq!(common.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["link"]);
        let stored = Candidate { headers, ..one(1) };
        assert_eq!(decode(&encode(&[stored]).unwrap()).unwrap()[0].headers, common, "not even from a store");
    }

    #[test]
    fn the_newest_is_first_and_the_number_is_bounded() {
        let mut list = Vec::new();
        for number in 0..6 {
            put_first(&mut list, one(number), at(0));
        }
        put_first(&mut list, one(4), at(0));
        let order: Vec<_> = list.iter().map(|one| one.representation[0]).collect();
        assert_eq!(order, [4, 5, 3, 2]);
    }

    #[test]
    fn oldest_fresh_validation_of_each_kind_is_kept_beside_the_newest() {
        let mut list = Vec::new();
        let mut validate = |seconds, kind| {
            let one = Candidate { validations: vec![validated(seconds, kind)], ..one(1) };
            put_first(&mut list, one, at(seconds));
            let kept: Vec<_> = list[0].validations.iter().map(|one| (one.version.wall, one.kind)).collect();
            kept
        };
        let (job, app) = (TokenKind::Installation, TokenKind::OAuth);
        validate(0, job);
        validate(10, app);
        validate(20, job);
        assert_eq!(validate(30, job), [(at(30), job), (at(10), app), (at(0), job)]);
        let kept = validate(59, job);
        assert_eq!(
            kept,
            [(at(59), job), (at(30), job), (at(10), app)],
            "the first one is not fresh any more"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _either = decode(&bytes);
        }
    }
}
