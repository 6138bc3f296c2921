//! Names for tokens that give nothing away about them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;

use crate::hex::{Hex, hex};

/// Turns `Authorization` values into ids: HMAC-SHA-256 with a key of this installation.
///
/// Tokens have a known shape, so a plain hash of one could be searched for; and an id that leaves
/// the machine must not be comparable with another installation's. Keep the 32 bytes like a
/// password: who has them can test guesses, and after losing them nothing stored is found again.
#[derive(Clone)]
pub struct TokenHasher {
    keyed: Hmac<Sha256>,
}

impl TokenHasher {
    /// A hasher with this key: 32 random bytes, the same for all who share stores.
    #[must_use]
    pub fn new(install_key: [u8; 32]) -> Self {
        // HMAC takes keys of every length; this one is always as long as its output.
        let keyed = Hmac::<Sha256>::new(&hmac::digest::Key::<Hmac<Sha256>>::from(pad(install_key)));
        Self { keyed }
    }

    /// The id of whoever sends this `Authorization`; nothing sent is an identity of its own.
    ///
    /// `token x` and `Bearer x` are one, as GitHub takes them for one: octokit sends one form and
    /// `gh` the other for the same token.
    #[must_use]
    pub fn id(&self, authorization: Option<&HeaderValue>) -> TokenId {
        let mut mac = self.keyed.clone();
        match authorization.map(|value| credentials(value.as_bytes())) {
            Some(Credentials::Token(token)) => {
                mac.update(&[1]);
                mac.update(token);
            }
            Some(Credentials::Other(value)) => {
                mac.update(&[2]);
                mac.update(value);
            }
            None => mac.update(&[0]),
        }
        TokenId(hex(&mac.finalize().into_bytes()))
    }
}

/// What an `Authorization` value holds.
enum Credentials<'a> {
    /// A token, in one of the schemes that GitHub takes for one.
    Token(&'a [u8]),
    /// Anything else, the whole value.
    Other(&'a [u8]),
}

fn credentials(value: &[u8]) -> Credentials<'_> {
    let value = value.trim_ascii();
    let Some(space) = value.iter().position(u8::is_ascii_whitespace) else {
        return Credentials::Other(value);
    };
    let (scheme, token) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"token") || scheme.eq_ignore_ascii_case(b"bearer") {
        Credentials::Token(token)
    } else {
        Credentials::Other(value)
    }
}

/// The other spellings of an `Authorization` value that stand for the same token, as clients send
/// them.
pub(crate) fn other_schemes(value: &HeaderValue) -> impl Iterator<Item = HeaderValue> {
    let token = match credentials(value.as_bytes()) {
        Credentials::Token(token) => Some(token),
        Credentials::Other(_) => None,
    };
    let spelled = |scheme: &'static [u8]| {
        let mut other = HeaderValue::from_bytes(&[scheme, b" ", token?].concat()).ok()?;
        other.set_sensitive(true);
        (other != *value).then_some(other)
    };
    [&b"token"[..], b"Bearer", b"bearer"].into_iter().filter_map(spelled).collect::<Vec<_>>().into_iter()
}

/// What sort of credentials a request has, by the token's prefix. GitHub answers some requests of
/// different kinds with different bodies, so nothing is shared between kinds without a proof for
/// the token itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TokenKind {
    /// No credentials.
    Anonymous,
    /// `ghs_`: an installation of an app, a workflow's `GITHUB_TOKEN` among them; also in the form
    /// of a JWT.
    Installation,
    /// `ghp_`: a classic personal access token.
    Classic,
    /// `github_pat_`: a fine-grained personal access token.
    FineGrained,
    /// `gho_`: an OAuth app's.
    OAuth,
    /// `ghu_`: an app's on behalf of a user.
    AppUser,
    /// Anything else.
    Other,
}

impl TokenKind {
    pub(crate) const COUNT: usize = 7;
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Anonymous,
        Self::Installation,
        Self::Classic,
        Self::FineGrained,
        Self::OAuth,
        Self::AppUser,
        Self::Other,
    ];

    /// The kind of what an `Authorization` value holds.
    pub(crate) fn of(authorization: Option<&HeaderValue>) -> Self {
        let Some(value) = authorization else { return Self::Anonymous };
        let Credentials::Token(token) = credentials(value.as_bytes()) else { return Self::Other };
        let prefixes: [(&[u8], Self); 5] = [
            (b"ghs_", Self::Installation),
            (b"ghp_", Self::Classic),
            (b"github_pat_", Self::FineGrained),
            (b"gho_", Self::OAuth),
            (b"ghu_", Self::AppUser),
        ];
        prefixes.iter().find(|(prefix, _)| token.starts_with(prefix)).map_or(Self::Other, |(_, kind)| *kind)
    }

    /// A short name for reports.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Installation => "ghs",
            Self::Classic => "ghp",
            Self::FineGrained => "github_pat",
            Self::OAuth => "gho",
            Self::AppUser => "ghu",
            Self::Other => "other",
        }
    }
}

/// The key as a block of SHA-256, as HMAC pads it (RFC 2104, section 2).
fn pad(key: [u8; 32]) -> [u8; 64] {
    let mut block = [0; 64];
    block[..32].copy_from_slice(&key);
    block
}

impl fmt::Debug for TokenHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenHasher").finish_non_exhaustive()
    }
}

/// Who asks: 64 hexadecimal digits that say nothing about the token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenId(Hex);

impl TokenId {
    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({}…)", &self.as_str()[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: u8, value: Option<&'static str>) -> TokenId {
        TokenHasher::new([key; 32]).id(value.map(HeaderValue::from_static).as_ref())
    }

    #[test]
    fn ids_differ_by_token_and_installation() {
        let ids = [
            id(1, None),
            id(1, Some("")),
            id(1, Some("token a")),
            id(1, Some("Basic a")),
            id(1, Some("token b")),
            id(2, Some("token a")),
        ];
        for (index, left) in ids.iter().enumerate() {
            assert_eq!(left.as_str().len(), 64);
            assert!(ids[index + 1..].iter().all(|right| left != right));
        }
        assert_eq!(id(1, Some("token a")), ids[2]);
    }

    #[test]
    fn schemes_of_one_token_are_one_identity() {
        for form in ["Bearer a.b.c", "bearer  a.b.c", "TOKEN a.b.c", " token a.b.c "] {
            assert_eq!(id(1, Some(form)), id(1, Some("token a.b.c")), "{form}");
        }
    }

    #[test]
    fn other_spellings_of_a_token_are_those_of_clients() {
        let of = |value: &'static str| other_schemes(&HeaderValue::from_static(value)).collect::<Vec<_>>();
        assert_eq!(of("token a"), ["Bearer a", "bearer a"]);
        assert_eq!(of("TOKEN a"), ["token a", "Bearer a", "bearer a"]);
        assert!(of("Basic a").is_empty());
    }

    #[test]
    fn kinds_are_told_by_prefix() {
        let kind = |value: &'static str| TokenKind::of(Some(&HeaderValue::from_static(value)));
        assert_eq!(kind("token ghs_1"), TokenKind::Installation);
        assert_eq!(kind("bearer ghs_eyJ.eyJ.x"), TokenKind::Installation);
        assert_eq!(kind("Bearer github_pat_1"), TokenKind::FineGrained);
        assert_eq!(kind("Basic ghs_1"), TokenKind::Other);
        assert_eq!(kind("token x"), TokenKind::Other);
        assert_eq!(TokenKind::of(None), TokenKind::Anonymous);
    }

    #[test]
    fn it_is_hmac_sha256_as_published() {
        // RFC 4231, test case 2, has a key shorter than a block too: "Jefe", padded with zeros.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mut mac = TokenHasher::new(key).keyed;
        mac.update(b"what do ya want for nothing?");
        assert_eq!(
            hex(&mac.finalize().into_bytes()).as_str(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn debug_shows_neither_key_nor_token() {
        let shown = format!("{:?} {:?}", TokenHasher::new([7; 32]), id(7, Some("token ghp_secret")));
        assert!(!shown.contains("ghp") && !shown.contains("07") && !shown.contains("7, 7"), "{shown}");
    }
}
