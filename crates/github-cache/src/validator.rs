//! The entity tag that GitHub would give a body for one token.
//!
//! Observed, and not documented: the lower-case hexadecimal SHA-256 of, for each of `Accept`,
//! `Authorization` and `Cookie` in this order and for each value sent, the value and a colon; then
//! the body before content coding. A 304 to such a tag proves that this token may see exactly these
//! bytes. As the rule is not documented it watches itself: see [`SelfCheck`].

use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use http::header::{ACCEPT, AUTHORIZATION, COOKIE, HeaderValue};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::token::TokenKind;

/// How many answers are compared before a class may be switched off.
const LEAST_COMPARED: u32 = 10;
/// Counts are halved when they reach this, so that the ratio is of the recent past.
const HALVED_AT: u32 = 200;
/// Matches per hundred comparisons below which a class is switched off.
const LEAST_MATCHING_PERCENT: u32 = 90;

/// The tag for a body that begins with `parts`, without quotes, as it is for a request with these
/// headers.
pub(crate) fn derive<'a>(sent: &HeaderMap, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    for name in [ACCEPT, AUTHORIZATION, COOKIE] {
        for value in sent.get_all(name) {
            digest.update(value.as_bytes());
            digest.update(b":");
        }
    }
    for part in parts {
        digest.update(part);
    }
    hex(&digest.finalize()).as_str().to_owned()
}

/// A tag in the form that is sent: weak where the stored answer had a weak one, else strong.
pub(crate) fn quoted(tag: &str, weak: bool) -> Option<HeaderValue> {
    HeaderValue::from_str(&if weak { format!("W/\"{tag}\"") } else { format!("\"{tag}\"") }).ok()
}

/// Whether a received tag is the derived one, whatever its form.
pub(crate) fn is_derived(received: &HeaderValue, derived: &str) -> bool {
    let bytes = received.as_bytes().trim_ascii();
    let opaque = bytes.strip_prefix(b"W/").unwrap_or(bytes);
    opaque.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) == Some(derived.as_bytes())
}

/// How well the rule has held for one kind of token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RuleCheck {
    /// Answers whose tag was compared with the derived one, recent ones only.
    pub compared: u32,
    /// Of those, the ones with the derived tag.
    pub matched: u32,
    /// Whether derived tags are sent: at least 90 in a hundred match, or fewer than ten were
    /// compared.
    pub in_use: bool,
}

/// Compares derived with received tags and switches a kind of token off whose tags do not match.
///
/// Answers are compared in both states, so a kind is switched on again when the rule holds again.
#[derive(Debug, Default)]
pub(crate) struct SelfCheck {
    counts: Mutex<[(u32, u32); TokenKind::COUNT]>,
}

impl SelfCheck {
    /// Takes note of one comparison.
    pub(crate) fn note(&self, kind: TokenKind, matched: bool) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (compared, matching) = &mut counts[kind as usize];
        *compared += 1;
        *matching += u32::from(matched);
        if *compared >= HALVED_AT {
            *compared /= 2;
            *matching /= 2;
        }
        let fails = is_failing(*compared, *matching);
        drop(counts);
        if fails && !matched {
            tracing::debug!(kind = kind.as_str(), "entity tags do not follow the observed rule");
        }
    }

    /// Whether derived tags are to be sent for this kind of token.
    pub(crate) fn is_in_use(&self, kind: TokenKind) -> bool {
        let (compared, matched) = self.counts.lock().unwrap_or_else(PoisonError::into_inner)[kind as usize];
        !is_failing(compared, matched)
    }

    /// The state of each kind of token for which there was something to compare.
    pub(crate) fn report(&self) -> std::collections::BTreeMap<&'static str, RuleCheck> {
        let counts = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        TokenKind::ALL
            .iter()
            .zip(counts)
            .filter(|(_, (compared, _))| *compared > 0)
            .map(|(kind, (compared, matched))| {
                (kind.as_str(), RuleCheck { compared, matched, in_use: !is_failing(compared, matched) })
            })
            .collect()
    }
}

const fn is_failing(compared: u32, matched: u32) -> bool {
    compared >= LEAST_COMPARED && matched * 100 < compared * LEAST_MATCHING_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_hashes_the_headers_sent_and_then_the_body() {
        let mut sent = HeaderMap::new();
        assert_eq!(
            derive(&sent, [&b""[..]]),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "SHA-256 of nothing"
        );
        sent.insert(ACCEPT, HeaderValue::from_static("*/*"));
        sent.insert(AUTHORIZATION, HeaderValue::from_static("token t"));
        let whole = hex(&Sha256::digest(b"*/*:token t:{}")).as_str().to_owned();
        assert_eq!(derive(&sent, [&b"{"[..], b"}"]), whole);
        let weak = quoted(&whole, true).unwrap();
        assert!(is_derived(&weak, &whole) && is_derived(&quoted(&whole, false).unwrap(), &whole));
        assert!(!is_derived(&HeaderValue::from_static("\"x\""), &whole));
    }

    #[test]
    fn a_kind_whose_tags_do_not_match_is_switched_off_and_on_again() {
        let check = SelfCheck::default();
        let (a, b) = (TokenKind::Installation, TokenKind::Classic);
        for _ in 0..9 {
            check.note(a, false);
        }
        assert!(check.is_in_use(a), "nine are too few to judge");
        check.note(a, false);
        assert!(!check.is_in_use(a));
        assert!(check.is_in_use(b), "each kind is judged alone");
        for _ in 0..400 {
            check.note(a, true);
        }
        assert!(check.is_in_use(a));
        let report = check.report();
        assert_eq!(report.len(), 1);
        assert!(report["ghs"].in_use && report["ghs"].matched >= 90);
    }
}
