//! Principals: who issues, and for whom.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;

use super::Malformed;

/// Multicodec `ed25519-pub`, as a varint.
const ED25519_PUB: [u8; 2] = [0xed, 0x01];
/// Multicodec of every other method of DID, as a varint.
const OTHER: [u8; 2] = [0x9d, 0x1a];
/// The longest DID that is read, in bytes.
const MAX_DID_BYTES: usize = 512;

/// A decentralised identifier: a key, or a name on the web whose key is looked up.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Did {
    /// `did:key:z6Mk…`: an Ed25519 key.
    Key([u8; 32]),
    /// Any other: the text behind `did:`.
    Other(String),
}

impl Did {
    pub(crate) fn of(key: &VerifyingKey) -> Self {
        Self::Key(key.to_bytes())
    }

    /// The key, for a DID that is one.
    pub(crate) fn key(&self) -> Option<VerifyingKey> {
        match self {
            Self::Key(bytes) => VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()),
            Self::Other(_) => None,
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Key(key) => [&ED25519_PUB[..], key].concat(),
            Self::Other(text) => [&OTHER[..], text.as_bytes()].concat(),
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if let Some(key) = bytes.strip_prefix(&ED25519_PUB) {
            return key.try_into().map(Self::Key).map_err(|_| Malformed("a key has not 32 bytes"));
        }
        let text = bytes.strip_prefix(&OTHER).ok_or(Malformed("a principal is of an unknown kind"))?;
        let text = std::str::from_utf8(text).map_err(|_| Malformed("a principal is no text"))?;
        format!("did:{text}").parse()
    }
}

impl FromStr for Did {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let rest = text.strip_prefix("did:").ok_or(Malformed("a DID begins with `did:`"))?;
        if text.len() > MAX_DID_BYTES || !rest.contains(':') || rest.contains(char::is_whitespace) {
            return Err(Malformed("a DID has a method and a name, and at most 512 bytes"));
        }
        let Some(key) = rest.strip_prefix("key:") else {
            return Ok(Self::Other(rest.to_owned()));
        };
        let bytes = key.strip_prefix('z').and_then(|key| bs58::decode(key).into_vec().ok());
        Self::from_bytes(&bytes.ok_or(Malformed("the key of a DID is no base58btc"))?)
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => write!(f, "did:key:z{}", bs58::encode(self.to_bytes()).into_string()),
            Self::Other(text) => write!(f, "did:{text}"),
        }
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_survive_text_and_bytes() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        for did in [Did::of(&key), "did:web:test.up.storacha.network".parse().unwrap()] {
            assert_eq!(did.to_string().parse(), Ok(did.clone()));
            assert_eq!(Did::from_bytes(&did.to_bytes()), Ok(did));
        }
        assert!(Did::of(&key).to_string().starts_with("did:key:z6Mk"));
        for bad in ["", "did:", "did:key:z", "did:key:Mk", "key:z6Mk", "did:web:a b"] {
            assert!(bad.parse::<Did>().is_err(), "{bad}");
        }
    }
}
