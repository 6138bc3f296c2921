//! The secret of a fleet: one text from which every key is derived, in a full and a read-only form.

mod passphrase;
mod text;

use std::fmt;

use ed25519_dalek::{SigningKey, VerifyingKey};
use hkdf::Hkdf;
use peercache_api::{Error, ErrorKind, Operation};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::hex::hex;

pub use text::MIN_PASSPHRASE_CHARS;

/// Names a secret without telling anything about it: eight bytes that stand in clear in every entry
/// sealed with it. Its full and its read-only form have the same one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The bytes, as they are stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// From bytes that were stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) type Bytes32 = Zeroizing<[u8; 32]>;

/// What a fleet shares, and nobody else has.
///
/// The full secret reads and writes. [`Secret::read_only`] makes the form that reads, and verifies who
/// wrote, and cannot write. Both are wiped from memory when dropped, and neither shows itself:
/// [`Secret::to_text`] is the only way to see one.
#[derive(Clone)]
pub struct Secret {
    /// What everything is derived from; absent in the read-only form.
    root: Option<Bytes32>,
    /// What readers need is derived from this one; it is itself derived from the root.
    reading: Bytes32,
    verifying: VerifyingKey,
    id: KeyId,
}

impl Secret {
    /// A new secret of 32 random bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the operating system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        let mut root = Bytes32::default();
        random(&mut *root)?;
        Ok(Self::from_root(root))
    }

    /// The secret in `text`; white space around it does not count. Three forms are accepted:
    ///
    /// - `pc-secret-1-…`, a full secret as [`Secret::to_text`] writes it. Carries a checksum, so a
    ///   character that was lost in copying is noticed here and not as a cache that never hits.
    /// - `pc-readonly-1-…`, a read-only secret.
    /// - anything else of at least [`MIN_PASSPHRASE_CHARS`] characters is a passphrase. It goes through
    ///   Argon2id with 64 MiB and 3 passes (RFC 9106, section 4, second recommended option), which takes
    ///   a fraction of a second: do it once, and not on a thread that must not wait. The salt is a
    ///   constant, because all runners must come to the same keys from the text alone; one table of
    ///   guesses therefore serves against every fleet, and a generated secret is better. A long-lived
    ///   GitHub token (`ghp_…`, `github_pat_…`, `gho_…`) is taken as a passphrase.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], which never repeats the text: it is empty, a passphrase that is too short,
    /// a placeholder that nobody filled in, damaged, or a GitHub token that expires. The token of an
    /// Actions job (`ghs_…`) is another one in every job, so no two runners could read each other.
    pub fn parse(text: &str) -> Result<Self, Error> {
        text::parse(text)
    }

    /// The form of this secret that opens entries and verifies who wrote them, and cannot make one.
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self { root: None, ..self.clone() }
    }

    /// Whether this is the read-only form.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.root.is_none()
    }

    /// The text that [`Secret::parse`] takes. Whoever sees it has the secret.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        text::write(self)
    }

    /// Which secret this is, in a form that may be shown.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// A key for another purpose, the same for everyone who has this secret in either form: to let
    /// members of a fleet know each other, for instance. Nothing can be computed back from it.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        expand(&hkdf(READING_SALT, &self.reading), &[b"purpose:", purpose.as_bytes()])
    }

    /// As [`Secret::derive`], for what readers must not be able to do: `None` in the read-only form.
    #[must_use]
    pub fn derive_for_writers(&self, purpose: &str) -> Option<Zeroizing<[u8; 32]>> {
        let root = self.root.as_ref()?;
        Some(expand(&hkdf(ROOT_SALT, root), &[b"purpose:", purpose.as_bytes()]))
    }

    fn from_root(root: Bytes32) -> Self {
        let derived = hkdf(ROOT_SALT, &root);
        let reading = expand(&derived, &[b"reading"]);
        let verifying = SigningKey::from_bytes(&expand(&derived, &[b"signing"])).verifying_key();
        Self { id: key_id(&reading, &verifying), root: Some(root), reading, verifying }
    }

    fn from_readers_half(reading: Bytes32, verifying: VerifyingKey) -> Self {
        Self { root: None, id: key_id(&reading, &verifying), reading, verifying }
    }

    pub(crate) fn encryption_key(&self) -> Bytes32 {
        expand(&hkdf(READING_SALT, &self.reading), &[b"encryption"])
    }

    pub(crate) fn blinding_key(&self) -> Bytes32 {
        expand(&hkdf(READING_SALT, &self.reading), &[b"blinding"])
    }

    pub(crate) fn signing_key(&self) -> Option<SigningKey> {
        let root = self.root.as_ref()?;
        Some(SigningKey::from_bytes(&expand(&hkdf(ROOT_SALT, root), &[b"signing"])))
    }

    pub(crate) const fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying
    }
}

/// Compares in constant time. A full secret and its read-only form are not equal.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let roots = match (&self.root, &other.root) {
            (Some(left), Some(right)) => left.ct_eq(&**right),
            (None, None) => 1.into(),
            _ => 0.into(),
        };
        let verifying = self.verifying.as_bytes().ct_eq(other.verifying.as_bytes());
        (roots & self.reading.ct_eq(&*other.reading) & verifying).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = if self.is_read_only() { "read-only" } else { "read and write" };
        write!(f, "Secret({}, {rights})", self.id)
    }
}

const ROOT_SALT: &[u8] = b"peercache secret 1: root";
const READING_SALT: &[u8] = b"peercache secret 1: reading";

fn hkdf(salt: &[u8], key: &Bytes32) -> Hkdf<Sha256> {
    Hkdf::new(Some(salt), &**key)
}

fn expand(derived: &Hkdf<Sha256>, info: &[&[u8]]) -> Bytes32 {
    let mut key = Bytes32::default();
    if derived.expand_multi_info(info, &mut *key).is_err() {
        // Never a key of zeros, should the bound of HKDF (8160 bytes) ever be another one.
        unreachable!("HKDF-SHA256 gives 32 bytes");
    }
    key
}

/// Bound to both halves of what a reader has, so a read-only text put together from the halves of two
/// secrets is a stranger to both.
fn key_id(reading: &Bytes32, verifying: &VerifyingKey) -> KeyId {
    let full = expand(&hkdf(READING_SALT, reading), &[b"key id", verifying.as_bytes()]);
    let mut id = [0; 8];
    id.copy_from_slice(&full[..8]);
    KeyId(id)
}

/// Fills `bytes` from the operating system.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| {
        Error::new(ErrorKind::Unavailable, Operation::Encode, "the operating system gave no random bytes")
            .with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_secrets_differ_and_survive_their_text() {
        let (one, two) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one, two);
        assert_ne!(one.id(), two.id());
        for secret in [one.clone(), one.read_only(), two] {
            assert_eq!(Secret::parse(&secret.to_text()).unwrap(), secret);
        }
        assert_ne!(one, one.read_only());
        assert_eq!(one.id(), one.read_only().id());
        assert_eq!(one.read_only().read_only(), one.read_only());
    }

    #[test]
    fn every_derived_key_is_its_own() {
        let secret = Secret::from_root(Bytes32::new([9; 32]));
        let signing = Zeroizing::new(secret.signing_key().unwrap().to_bytes());
        let keys = [
            secret.reading.clone(),
            secret.encryption_key(),
            secret.blinding_key(),
            signing,
            secret.derive("a"),
            secret.derive("b"),
            secret.derive_for_writers("a").unwrap(),
            secret.derive_for_writers("b").unwrap(),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(keys[..index].iter().all(|other| other != key), "key {index} equals another");
        }
    }

    #[test]
    fn a_reader_has_the_readers_keys_and_none_of_the_writers() {
        let full = Secret::from_root(Bytes32::new([9; 32]));
        let reader = Secret::parse(&full.read_only().to_text()).unwrap();
        assert_eq!(reader.encryption_key(), full.encryption_key());
        assert_eq!(reader.blinding_key(), full.blinding_key());
        assert_eq!(reader.verifying_key(), full.verifying_key());
        assert_eq!(reader.derive("p"), full.derive("p"));
        assert!(reader.signing_key().is_none());
        assert!(reader.derive_for_writers("p").is_none());
    }

    /// A change of derivation would orphan every stored entry: this test is the tripwire.
    #[test]
    fn derivation_never_changes() {
        let secret = Secret::from_root(Bytes32::new([42; 32]));
        insta::assert_snapshot!(secret.id(), @"85beb37115aa7ad0");
        insta::assert_snapshot!(hex(&*secret.encryption_key()), @"d2d76b556dc93fa302bcbac71078aa1da0106673700b62a74eb565698942731c");
        insta::assert_snapshot!(hex(&*secret.blinding_key()), @"226856e16d72e9ffd2d2f38b01eafc14d5f4e6a2b1de39f6d5068f0105c21492");
        insta::assert_snapshot!(hex(secret.verifying_key().as_bytes()), @"ff6696eac4f24e47d52c657c5bd433bc205e605ac5971830866fdd451d642bb8");
        insta::assert_snapshot!(hex(&*secret.derive("example")), @"c673b7c156fdcfd3fc6a0613c53a757a00b1911ee03b182fab706db8869a4181");
        insta::assert_snapshot!(*secret.to_text(), @"pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug");
        insta::assert_snapshot!(*secret.read_only().to_text(), @"pc-readonly-1-7tBscmJ9uWR8O7Ftom88QiW5TsDCTuJ8fAJ9xzfGvNH_ZpbqxPJOR9UsZXxb1DO8IF5gWsWXGDCGb91FHWQruG5bSRM");
    }

    #[test]
    fn debug_shows_the_id_alone() {
        let secret = Secret::from_root(Bytes32::new([42; 32]));
        assert_eq!(format!("{secret:?}"), format!("Secret({}, read and write)", secret.id()));
        assert_eq!(format!("{:?}", secret.read_only()), format!("Secret({}, read-only)", secret.id()));
    }
}
