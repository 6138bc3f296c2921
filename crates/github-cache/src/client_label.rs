//! Who a call is booked to: a name that the client gives itself, else one made of its token.

use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName};

use crate::error::Problem;
use crate::token::TokenId;

/// The header by which a client names itself. It is for this proxy and is not sent upstream.
pub(crate) const CLIENT: HeaderName = HeaderName::from_static("x-peercache-client");
/// The longest label, in bytes.
pub(crate) const MAX_LABEL_BYTES: usize = 100;
/// The label of what is not told apart any more.
pub(crate) const OTHER: &str = "other";
/// The least that is taken for a credential or a part of one, in bytes.
const MIN_TOKEN_BYTES: usize = 12;
/// What a token of GitHub's begins with: a label is shown to people, so none may be in it.
const TOKEN_PREFIXES: [&str; 6] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];

/// The first digits of a token's id: enough to tell the tokens of one server apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ShortId([u8; 12]);

impl ShortId {
    pub(crate) fn of(token: &TokenId) -> Self {
        let mut short = [b'0'; 12];
        for (to, from) in short.iter_mut().zip(token.as_str().bytes()) {
            *to = from;
        }
        Self(short)
    }

    pub(crate) fn as_str(&self) -> &str {
        // Digits of an id are ASCII; the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The label of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClientLabel {
    /// The one that it or its server gave.
    Given(Arc<str>),
    /// The short id of its token.
    Token(ShortId),
    /// No token and no label.
    Anonymous,
    /// One of those that are not told apart any more.
    Other,
}

impl ClientLabel {
    /// The label that a request gives, if it gives one.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(CLIENT).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().ok().map(str::trim).filter(|text| is_label(text));
        let text = text.filter(|text| !shows_a_credential(text, headers));
        match (text, values.next()) {
            (Some(text), None) => Ok(Some(Self::new(text))),
            _ => Err(Problem::bad_request(
                "peercache: X-Peercache-Client has to be given once, with 1 to 100 printable ASCII \
                 characters without `<`, `>`, `\"` and without a token",
                "bad-client",
            )),
        }
    }

    /// The label that a text of any sort stands for: what no label may have becomes `_`. `None` for
    /// a text in which nothing is left.
    pub(crate) fn clean(text: &str) -> Option<Self> {
        let kept = |c: char| if is_allowed(c) { c } else { '_' };
        let text: String = text.trim().chars().map(kept).take(MAX_LABEL_BYTES).collect();
        is_label(&text).then(|| Self::new(&text))
    }

    fn new(text: &str) -> Self {
        match text {
            OTHER => Self::Other,
            text => Self::Given(text.into()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Given(text) => text,
            Self::Token(id) => id.as_str(),
            Self::Anonymous => "anonymous",
            Self::Other => OTHER,
        }
    }
}

/// Whether a label has the request's own credential in it, of whatever form that is, or a large
/// part of it.
fn shows_a_credential(label: &str, headers: &HeaderMap) -> bool {
    let credentials = [AUTHORIZATION, PROXY_AUTHORIZATION];
    let mut values =
        credentials.iter().flat_map(|name| headers.get_all(name)).filter_map(|value| value.to_str().ok());
    values.any(|value| {
        let token = value.trim().rsplit(' ').next().unwrap_or_default();
        token.len() >= MIN_TOKEN_BYTES && label.contains(token)
            || label.len() >= MIN_TOKEN_BYTES && token.contains(label)
    })
}

fn is_allowed(c: char) -> bool {
    (' '..='~').contains(&c) && !['<', '>', '"'].contains(&c)
}

fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&text.len())
        && text.chars().all(is_allowed)
        && !TOKEN_PREFIXES.iter().any(|prefix| text.contains(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn given(values: &[&str]) -> Option<Option<String>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CLIENT, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        ClientLabel::of_request(&headers).ok().map(|label| label.map(|label| label.as_str().to_owned()))
    }

    #[test]
    fn label_of_a_request_is_checked() {
        assert_eq!(given(&[]), Some(None));
        assert_eq!(given(&["CI / build (3.12)"]), Some(Some("CI / build (3.12)".to_owned())));
        assert_eq!(given(&["other"]), Some(Some(OTHER.to_owned())));
        let long = &*"a".repeat(MAX_LABEL_BYTES + 1);
        for wrong in [&["a", "b"][..], &[""], &["a\u{e4}"], &["<b>"], &["x ghs_abc"], &[long]] {
            assert_eq!(given(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn any_text_becomes_a_label() {
        let clean = |text| ClientLabel::clean(text).map(|label| label.as_str().to_owned());
        assert_eq!(clean(" B\u{fc}ild\n/<x> "), Some("B_ild_/_x_".to_owned()));
        assert_eq!(clean("  "), None);
        assert_eq!(clean("github_pat_x"), None);
        assert_eq!(clean(&"\u{1f680}".repeat(500)).map(|label| label.len()), Some(MAX_LABEL_BYTES));
    }

    #[test]
    fn label_with_the_credential_of_its_request_is_refused() {
        let given = |label: &'static str, credential: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CLIENT, HeaderValue::from_static(label));
            headers.insert(AUTHORIZATION, HeaderValue::from_static(credential));
            ClientLabel::of_request(&headers).is_ok()
        };
        for label in ["opaque-credential-1", "job opaque-credential-1", "que-credential-1"] {
            assert!(!given(label, "Bearer opaque-credential-1"), "{label}");
            assert!(!given(label, "opaque-credential-1"), "{label}");
        }
        for label in ["build", "opaque", "opaque-credential-2"] {
            assert!(given(label, "Bearer opaque-credential-1"), "{label}");
        }
    }
}
