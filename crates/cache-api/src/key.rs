//! The name under which an entry is stored.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Operation};
use crate::util::hex;

/// The longest key, in bytes. Longer names belong into the value, with their digest as the key.
pub const MAX_KEY_BYTES: usize = 1024;

/// The name of an entry: 1 to [`MAX_KEY_BYTES`] bytes of UTF-8, compared byte by byte.
///
/// A key may name a private repository, so it never shows itself: `Debug` prints the start of its
/// digest, and there is no `Display`. [`Key::as_str`] gives the text to code that needs it.
///
/// Cloning it is cheap. A key that is used again and again is best made once: it remembers its
/// digest, and what it is called in the namespace that it was used in first.
#[derive(Clone)]
pub struct Key {
    name: Arc<Name>,
}

/// What the clones of a key share.
struct Name {
    text: Arc<str>,
    digest: [u8; 32],
    /// The key within the first namespace that it was asked for.
    scoped: OnceLock<(Box<str>, Key)>,
}

impl Key {
    /// The key with this text.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is empty or longer than [`MAX_KEY_BYTES`].
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, Error> {
        let text = text.into();
        if text.is_empty() || text.len() > MAX_KEY_BYTES {
            return Err(Error::new(
                ErrorKind::Config,
                Operation::Encode,
                format!("a key has 1 to {MAX_KEY_BYTES} bytes, this one has {}", text.len()),
            )
            .with_help("store under a digest of the long name instead"));
        }
        Ok(Self::named(text))
    }

    fn named(text: Arc<str>) -> Self {
        let digest = Sha256::digest(text.as_bytes()).into();
        Self::with_digest(text, digest)
    }

    fn with_digest(text: Arc<str>, digest: [u8; 32]) -> Self {
        Self { name: Arc::new(Name { text, digest, scoped: OnceLock::new() }) }
    }

    /// A key of several parts that no other list of parts can produce.
    ///
    /// Parts are joined with `/`; a `/` or `%` inside a part is written `%2F` or `%25`, so
    /// `["a/b", "c"]` and `["a", "b/c"]` differ.
    ///
    /// # Errors
    /// As [`Key::new`], for the joined text.
    pub fn from_parts<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        let mut text = String::new();
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                text.push('/');
            }
            for c in part.as_ref().chars() {
                match c {
                    '/' => text.push_str("%2F"),
                    '%' => text.push_str("%25"),
                    other => text.push(other),
                }
            }
        }
        Self::new(text)
    }

    /// This key within a namespace: as many separate sets of keys as there are namespaces. The
    /// namespace is shortened to its digest with the key, so the result always has a valid length.
    #[must_use]
    pub fn scoped(&self, namespace: &str) -> Self {
        let (first, key) = self.name.scoped.get_or_init(|| (namespace.into(), self.scope(namespace)));
        if **first == *namespace { key.clone() } else { self.scope(namespace) }
    }

    fn scope(&self, namespace: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((namespace.len() as u64).to_be_bytes());
        hash.update(namespace);
        hash.update(self.name.digest);
        Self::named(hex(&hash.finalize()).into())
    }

    /// The key of which only the digest is known, as from a notice of a removal: equal to the key
    /// that has it, while its text is another. Stores find it by [`Key::digest`]; one that goes by
    /// the text does not.
    #[must_use]
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self::with_digest(format!("\u{1}digest/{}", hex(&digest)).into(), digest)
    }

    /// The text, in clear. Not for logs, errors or reports.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name.text
    }

    /// SHA-256 of the text: what stores index by and envelopes are bound to.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.name.digest
    }

    /// The first eight hexadecimal digits of the digest: enough to follow one key through a log.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(&self.name.digest[..4])
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name.digest == other.name.digest
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The digest is uniform, so eight bytes of it are as good as all of it.
        state.write(&self.name.digest[..8]);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}…)", self.fingerprint())
    }
}

impl TryFrom<&str> for Key {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for Key {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn length_is_bounded_at_both_ends() {
        assert!(Key::new("").is_err());
        assert!(Key::new("k".repeat(MAX_KEY_BYTES)).is_ok());
        let error = Key::new("k".repeat(MAX_KEY_BYTES + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[test]
    fn debug_never_shows_the_text() {
        let key = Key::new("acme/secret-plans").unwrap();
        assert_eq!(format!("{key:?}"), format!("Key({}…)", key.fingerprint()));
        assert!(!format!("{key:?}").contains("secret"));
    }

    #[test]
    fn namespaces_keep_keys_apart() {
        let key = Key::new("k".repeat(MAX_KEY_BYTES)).unwrap();
        assert_eq!(key.scoped("a"), key.scoped("a"));
        assert_eq!(key.scoped("b"), Key::new(key.as_str()).unwrap().scoped("b"), "also in a second one");
        assert_ne!(key.scoped("a"), key.scoped("b"));
        assert_ne!(key.scoped("a"), key);
        assert_eq!(Key::new(key.scoped("a").as_str()).unwrap(), key.scoped("a"));
    }

    #[test]
    fn a_key_known_by_its_digest_is_the_same_key() {
        let key = Key::new("repos/acme/rocket").unwrap();
        let known = Key::from_digest(*key.digest());
        assert_eq!(known, key);
        assert_eq!(known.scoped("a"), key.scoped("a"));
        assert_ne!(known.as_str(), key.as_str());
    }

    proptest! {
        #[test]
        fn different_parts_make_different_keys(
            a in prop::collection::vec("[a/%:=]{0,4}", 1..4),
            b in prop::collection::vec("[a/%:=]{0,4}", 1..4),
        ) {
            if let (Ok(left), Ok(right)) = (Key::from_parts(&a), Key::from_parts(&b)) {
                prop_assert_eq!(left == right, a == b);
            }
        }
    }
}
