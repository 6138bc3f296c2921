//! Who calls: the token in an `Authorization` header, and names for it that can be logged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::Sha256;

/// A key that lives as long as the process and never leaves it.
#[derive(Clone)]
pub(crate) struct RunKey([u8; 64]);

impl RunKey {
    /// A fresh random key.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; 64];
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }

    /// HMAC-SHA256 over `parts`, each preceded by its length, so that no two lists of parts look
    /// alike.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new((&self.0).into());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// The caller of a request.
#[derive(Clone)]
pub(crate) struct Caller {
    token: Option<String>,
    id: String,
}

impl Caller {
    /// Reads `token X`, `Bearer X` and `Basic` (the password, or the user name where that is
    /// empty); a scheme that GitHub does not know counts as a token, so that it never passes as
    /// anonymous.
    pub(crate) fn of(headers: &HeaderMap, key: &RunKey) -> Self {
        match headers.get(AUTHORIZATION) {
            None => Self { token: None, id: "anonymous".to_owned() },
            Some(value) => Self::with_token(&token(&String::from_utf8_lossy(value.as_bytes())), key),
        }
    }

    /// The caller that has this token.
    pub(crate) fn with_token(token: &str, key: &RunKey) -> Self {
        let id = hex(&key.mac(&[b"token", token.as_bytes()])[..6]);
        Self { token: Some(token.to_owned()), id }
    }

    /// The token in clear, for comparison only. `None`: anonymous.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// A short keyed hash of the token, or `anonymous`. Another process has other ids.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

fn token(authorization: &str) -> String {
    let authorization = authorization.trim();
    let Some((scheme, rest)) = authorization.split_once(' ') else { return authorization.to_owned() };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("token") || scheme.eq_ignore_ascii_case("bearer") {
        return rest.to_owned();
    }
    let pair = || STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if scheme.eq_ignore_ascii_case("basic")
        && let Some(pair) = pair()
    {
        return match pair.split_once(':') {
            Some((user, "" | "x-oauth-basic")) => user.to_owned(),
            Some((_, password)) => password.to_owned(),
            None => pair,
        };
    }
    authorization.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_is_known_in_every_scheme() {
        let basic = |pair: &str| token(&format!("Basic {}", STANDARD.encode(pair)));
        assert_eq!(token("token abc"), "abc");
        assert_eq!(token("BEARER  abc"), "abc");
        assert_eq!(basic("user:abc"), "abc");
        assert_eq!(basic("abc:x-oauth-basic"), "abc");
        assert_eq!(basic("abc:"), "abc");
        assert_eq!(token("Digest abc"), "Digest abc");
    }

    #[test]
    fn ids_do_not_hold_the_token_and_are_keyed() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer secret-token".parse().unwrap());
        let (one, two) = (RunKey::random().unwrap(), RunKey::random().unwrap());
        let id = Caller::of(&headers, &one).id().to_owned();
        assert!(!id.contains("secret") && id != Caller::of(&headers, &two).id());
        assert_eq!(Caller::of(&headers, &one).id(), id);
    }
}
