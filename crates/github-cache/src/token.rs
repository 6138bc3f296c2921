//! Names for tokens that give nothing away about them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;

use crate::hex::{Hex, hex};

/// Turns `Authorization` values into ids: HMAC-SHA-256 with a key of this installation.
///
/// Tokens have a known shape, so a plain hash of one could be searched for; and an id that leaves the
/// machine must not be comparable with another installation's. Keep the 32 bytes like a password: who
/// has them can test guesses, and after losing them nothing stored is found again.
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
    /// `token x` and `Bearer x` differ: GitHub's validators do, too.
    #[must_use]
    pub fn id(&self, authorization: Option<&HeaderValue>) -> TokenId {
        let mut mac = self.keyed.clone();
        match authorization {
            Some(value) => {
                mac.update(&[1]);
                mac.update(value.as_bytes());
            }
            None => mac.update(&[0]),
        }
        TokenId(hex(&mac.finalize().into_bytes()))
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
    fn ids_differ_by_token_scheme_and_installation() {
        let ids = [
            id(1, None),
            id(1, Some("")),
            id(1, Some("token a")),
            id(1, Some("Bearer a")),
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
