//! The names under which representations, grants and marks are stored, and which requests are the
//! same request.

use std::borrow::Cow;

use http::header::{ACCEPT, HeaderMap, HeaderName};
use peercache::Key;
use sha2::{Digest, Sha256};

use crate::hex::{Hex, hex};
use crate::scope::Scope;
use crate::token::TokenId;

/// `X-GitHub-Api-Version`: selects the shape of a response.
pub(crate) const API_VERSION: HeaderName = HeaderName::from_static("x-github-api-version");
/// `X-Requested-With`: GitHub's `Vary` names it.
pub(crate) const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// A path and query in the one form that all spellings of the same request share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NormalUrl {
    /// Percent-normalised, with owner and repository in lower case. No trailing slash is removed.
    pub(crate) path: String,
    /// Percent-normalised, parameters sorted by name; those of one name keep their order.
    pub(crate) query: String,
}

/// Why a request-target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPath {
    /// A `.` or `..` segment, plain or percent-encoded.
    DotSegment,
    /// A backslash, which URL parsers take for a slash.
    Backslash,
    /// A `%` that is not followed by two hexadecimal digits.
    Percent,
}

impl NormalUrl {
    /// The normal form of `path` and `query`.
    ///
    /// Unreserved characters are decoded and the digits of the rest written in capitals (RFC 3986,
    /// section 6.2.2). Dot segments are refused rather than resolved: no API path needs one, and
    /// what one component resolves and the other does not is how requests are smuggled past a
    /// check.
    pub(crate) fn new(path: &str, query: Option<&str>) -> Result<Self, BadPath> {
        if path.contains('\\') {
            return Err(BadPath::Backslash);
        }
        let mut path = percent_normal(path)?;
        if path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(BadPath::DotSegment);
        }
        fold_repository(&mut path);
        let query = percent_normal(query.unwrap_or_default())?;
        let mut parameters: Vec<&str> = query.split('&').filter(|one| !one.is_empty()).collect();
        if parameters.is_sorted_by_key(|one| name_of(one)) && parameters.len() == query.split('&').count() {
            return Ok(Self { path, query });
        }
        // Stable: parameters of one name keep their order, however the name is encoded.
        parameters.sort_by_cached_key(|one| name_of(one).into_owned());
        Ok(Self { path, query: parameters.join("&") })
    }
}

/// The name of a parameter, decoded: `a[]` and `a%5B%5D` are one.
fn name_of(parameter: &str) -> Cow<'_, [u8]> {
    let name = parameter.split_once('=').map_or(parameter, |(name, _)| name).as_bytes();
    if !name.contains(&b'%') {
        return Cow::Borrowed(name);
    }
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let byte = after
            .first_chunk()
            .filter(|_| *first == b'%')
            .and_then(|[high, low]| Some(hex_value(*high).ok()? << 4 | hex_value(*low).ok()?));
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    Cow::Owned(decoded)
}

/// GitHub compares the names of owners and repositories without case.
fn fold_repository(path: &mut String) {
    let Some(rest) = path.strip_prefix("/repos/") else { return };
    let owner = rest.find('/').unwrap_or(rest.len());
    let repository = rest.get(owner + 1..).map_or(0, |tail| 1 + tail.find('/').unwrap_or(tail.len()));
    let end = "/repos/".len() + owner + repository;
    if path.as_bytes()[..end].iter().any(u8::is_ascii_uppercase) {
        let folded = path[..end].to_ascii_lowercase();
        // Percent-encoded bytes keep their capital digits: they were normalised before.
        path.replace_range(..end, &restore_escapes(&folded));
    }
}

/// Writes the digits of percent-encodings in capitals again.
fn restore_escapes(text: &str) -> String {
    let mut left = 0;
    text.chars()
        .map(|c| {
            let digit = left > 0;
            left = if c == '%' { 2 } else { usize::saturating_sub(left, 1) };
            if digit { c.to_ascii_uppercase() } else { c }
        })
        .collect()
}

fn percent_normal(text: &str) -> Result<String, BadPath> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let mut normal = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        normal.push_str(&rest[..at]);
        let digits = rest.as_bytes().get(at + 1..at + 3).ok_or(BadPath::Percent)?;
        let (high, low) = (hex_value(digits[0])?, hex_value(digits[1])?);
        let byte = high << 4 | low;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            normal.push(char::from(byte));
        } else {
            normal.push('%');
            normal.push(char::from(digits[0].to_ascii_uppercase()));
            normal.push(char::from(digits[1].to_ascii_uppercase()));
        }
        rest = &rest[at + 3..];
    }
    normal.push_str(rest);
    Ok(normal)
}

fn hex_value(digit: u8) -> Result<u8, BadPath> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadPath::Percent),
    }
}

/// Which response is meant: the URL and every request header that selects among its
/// representations. HEAD has the variant of GET. Authorization is not part of it; the token id is,
/// in a grant's key. The headers are those of `request_headers::of_client`, so what is keyed is
/// what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Variant(Hex);

impl Variant {
    /// The variant of a GET for `url` at `authority`.
    pub(crate) fn new(authority: &str, url: &NormalUrl, headers: &HeaderMap) -> Self {
        let mut digest = Sha256::new();
        for part in [authority, "GET", &url.path, &url.query] {
            add(&mut digest, part.as_bytes());
        }
        add_all(&mut digest, headers, &ACCEPT);
        add_all(&mut digest, headers, &API_VERSION);
        add_all(&mut digest, headers, &REQUESTED_WITH);
        Self(hex(&digest.finalize()))
    }
}

/// Adds a part so that no other list of parts gives the same bytes.
fn add(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_be_bytes());
    digest.update(part);
}

fn add_all(digest: &mut Sha256, headers: &HeaderMap, name: &HeaderName) {
    let values = headers.get_all(name);
    let count = u32::try_from(values.iter().count()).unwrap_or(u32::MAX);
    digest.update(count.to_be_bytes());
    for value in values {
        add(digest, value.as_bytes());
    }
}

/// Where this token's grant for this variant is stored.
pub(crate) fn grant_key(token: &TokenId, variant: &Variant) -> Key {
    fixed_key(["grant/", token.as_str(), "/", variant.0.as_str()])
}

/// Where the latest representations of a variant are listed, whoever fetched them.
pub(crate) fn candidates_key(variant: &Variant) -> Key {
    fixed_key(["var/", variant.0.as_str(), "", ""])
}

/// Where it is noted since when grants in this area of a scope have to be revalidated. Only
/// repositories have areas; it is empty elsewhere.
pub(crate) fn scope_mark_key(authority: &str, scope: &Scope, area: &str) -> Key {
    fixed_key(["mark/scope/", scope_digest(authority, scope).as_str(), "/", area])
}

/// Where it is noted since when everything of this token outside of repositories has to be
/// revalidated.
pub(crate) fn token_outside_mark_key(token: &TokenId) -> Key {
    fixed_key(["mark/outside/", token.as_str(), "", ""])
}

/// Where it is noted since when everything of this token in repositories has to be revalidated.
pub(crate) fn token_mark_key(token: &TokenId) -> Key {
    fixed_key(["mark/token/", token.as_str(), "", ""])
}

/// Where it is noted that a token lost a right, or that it was refused this scope.
pub(crate) fn revoked_key(token: &TokenId, scope: Option<(&str, &Scope)>) -> Key {
    let digest = scope.map(|(authority, scope)| scope_digest(authority, scope));
    fixed_key(["revoked/", token.as_str(), "/", digest.as_ref().map_or("", |digest| digest.as_str())])
}

/// Where it is noted that a repository is public.
pub(crate) fn public_key(authority: &str, scope: &Scope) -> Key {
    fixed_key(["public/", scope_digest(authority, scope).as_str(), "", ""])
}

/// Where the name of the repository with this id is noted.
pub(crate) fn alias_key(authority: &str, id: u64) -> Key {
    fixed_key(["alias/", scope_digest(authority, &Scope::RepositoryId(id)).as_str(), "", ""])
}

/// Where the answer to a GraphQL query with this body is kept, for this token. `selecting` are the
/// headers that select it.
pub(crate) fn graphql_key<'a>(
    token: &TokenId,
    authority: &str,
    selecting: impl Iterator<Item = &'a HeaderName>,
    headers: &HeaderMap,
    body: &[u8],
) -> Key {
    let mut digest = Sha256::new();
    add(&mut digest, authority.as_bytes());
    for name in selecting {
        add_all(&mut digest, headers, name);
    }
    add(&mut digest, body);
    fixed_key(["graphql/", token.as_str(), "/", hex(&digest.finalize()).as_str()])
}

/// Where it is noted how much of a rate limit is used.
pub(crate) fn budget_key(authority: &str, resource: &str, limit: u64, reset: u64) -> Key {
    let mut digest = Sha256::new();
    add(&mut digest, authority.as_bytes());
    add(&mut digest, resource.as_bytes());
    digest.update(limit.to_be_bytes());
    digest.update(reset.to_be_bytes());
    fixed_key(["budget/", hex(&digest.finalize()).as_str(), "", ""])
}

fn scope_digest(authority: &str, scope: &Scope) -> Hex {
    let mut digest = Sha256::new();
    add(&mut digest, authority.as_bytes());
    add(&mut digest, scope.name().as_bytes());
    hex(&digest.finalize())
}

/// Where the representation with this digest is stored.
pub(crate) fn representation_key(digest: &[u8; 32]) -> Key {
    fixed_key(["rep/", hex(digest).as_str(), "", ""])
}

#[allow(clippy::expect_used, reason = "four parts of known length are always within a key's bounds")]
fn fixed_key(parts: [&str; 4]) -> Key {
    Key::new(parts.concat()).expect("keys made of digests are within bounds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn normal(text: &str) -> Result<NormalUrl, BadPath> {
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        NormalUrl::new(path, query)
    }

    #[test]
    fn spellings_of_one_request_are_one() {
        for (left, right) in [
            ("/repos/Rust-Lang/RUST/issues", "/repos/rust-lang/rust/issues"),
            ("/repos/O/R", "/repos/o/r"),
            ("/repos/O", "/repos/o"),
            ("/x?b=2&a=1", "/x?a=1&b=2"),
            ("/x?a=1&&b=2&", "/x?a=1&b=2"),
            ("/x/%7euser?q=%61", "/x/~user?q=a"),
            ("/x/%c3%a9", "/x/%C3%A9"),
            ("/x?", "/x"),
        ] {
            assert_eq!(normal(left), normal(right), "{left}");
        }
    }

    #[test]
    fn different_requests_stay_different() {
        for (left, right) in [
            ("/repos/o/r/contents/README.md", "/repos/o/r/contents/readme.md"),
            ("/x?a=1&a=2", "/x?a=2&a=1"),
            ("/x/a%2Fb", "/x/a/b"),
            ("/x?q=a%26b", "/x?q=a&b"),
            ("/x?a[]=1&a%5B%5D=2", "/x?a%5B%5D=2&a[]=1"),
            ("/users/Octocat", "/users/octocat2"),
        ] {
            assert_ne!(normal(left), normal(right), "{left}");
        }
    }

    #[test]
    fn tricks_are_refused() {
        for (text, why) in [
            ("/repos/o/r/../../secret", BadPath::DotSegment),
            ("/repos/o/%2e%2E/x", BadPath::DotSegment),
            ("/./x", BadPath::DotSegment),
            ("/a\\..\\b", BadPath::Backslash),
            ("/a%2", BadPath::Percent),
            ("/a%zz", BadPath::Percent),
            ("/a?q=%", BadPath::Percent),
        ] {
            assert_eq!(normal(text), Err(why), "{text}");
        }
        assert!(normal("/repos/o/r/compare/main...feature").is_ok());
    }

    #[test]
    fn headers_that_select_a_representation_make_a_variant() {
        let url = normal("/repos/o/r").unwrap();
        let variant = |pairs: &[(HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name.clone(), HeaderValue::from_static(value));
            }
            Variant::new("api.github.com", &url, &headers)
        };
        let plain = variant(&[]);
        assert_eq!(plain, variant(&[(http::header::USER_AGENT, "curl")]));
        assert_ne!(plain, variant(&[(ACCEPT, "application/vnd.github.raw+json")]));
        assert_ne!(plain, variant(&[(API_VERSION, "2022-11-28")]));
        assert_ne!(plain, variant(&[(REQUESTED_WITH, "2022-11-28")]));
        assert_ne!(variant(&[(ACCEPT, "a"), (ACCEPT, "b")]), variant(&[(ACCEPT, "a, b")]));
        assert_ne!(plain, Variant::new("other.example", &url, &HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn normalising_is_idempotent(text in "/[a-zA-Z0-9/%.~?&=+-]{0,40}") {
            if let Ok(once) = normal(&text) {
                prop_assert_eq!(NormalUrl::new(&once.path, Some(&once.query)), Ok(once.clone()));
            }
        }

        #[test]
        fn no_dot_segment_passes(before in "(/[a-z]{0,3}){0,3}", dots in "(\\.|%2e|%2E){1,2}", after in "(/[a-z]{0,3}){0,3}") {
            let path = format!("{before}/{dots}{after}");
            prop_assert_eq!(normal(&path), Err(BadPath::DotSegment));
        }

        #[test]
        fn anything_that_hyper_accepts_is_handled(text in "/\\PC{0,40}") {
            if let Ok(uri) = text.parse::<http::Uri>() {
                let _either = NormalUrl::new(uri.path(), uri.query());
            }
        }

        #[test]
        fn the_order_of_parameters_of_different_names_does_not_matter(mut pairs in prop::collection::btree_map("[a-z]{1,3}", "[a-z0-9]{0,3}", 0..6)) {
            let forward: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let mut backward = forward.clone();
            backward.reverse();
            pairs.clear();
            prop_assert_eq!(
                NormalUrl::new("/x", Some(&forward.join("&"))),
                NormalUrl::new("/x", Some(&backward.join("&")))
            );
        }
    }
}
