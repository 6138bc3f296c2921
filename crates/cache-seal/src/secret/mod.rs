//! The secret of a fleet: one text from which every key is derived, in three forms.

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

pub use text::{MIN_PASSPHRASE_CHARS, MIN_PASSPHRASE_GUESSES_LOG10};

/// Names a secret without telling anything about it: eight bytes that stand in clear in every entry
/// sealed with it. Its forms have the same one.
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
/// It has three forms, each with the rights of the next one and more:
///
/// | form | opens | makes entries |
/// |---|---|---|
/// | full | everything | yes |
/// | [`Secret::read_only`] | everything | no |
/// | [`Secret::public`] | entries of [`Class::Public`](peercache_api::Class), and removals | no |
///
/// All are wiped from memory when dropped, and none shows itself: [`Secret::to_text`] is the only
/// way to see one.
#[derive(Clone)]
pub struct Secret {
    keys: Half,
    /// What every member needs is derived from this one; it is itself derived from the readers'
    /// key.
    public: Bytes32,
    verifying: VerifyingKey,
    id: KeyId,
}

/// What a form of the secret holds beyond the public form.
#[derive(Clone)]
enum Half {
    /// What everything is derived from, and what is derived from it for readers.
    Full {
        root: Bytes32,
        reading: Bytes32,
    },
    ReadOnly {
        reading: Bytes32,
    },
    Public,
}

/// What a form of the secret allows; each right includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rights {
    /// Opens public entries.
    Public,
    /// Opens every entry.
    ReadOnly,
    /// Opens and makes every entry.
    Full,
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public entries only",
            Self::ReadOnly => "read-only",
            Self::Full => "read and write",
        })
    }
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

    /// The form that opens every entry, verifies who wrote it, and cannot make one. The public form
    /// stays as it is.
    #[must_use]
    pub fn read_only(&self) -> Self {
        match &self.keys {
            Half::Full { reading, .. } => {
                Self { keys: Half::ReadOnly { reading: reading.clone() }, ..self.clone() }
            }
            Half::ReadOnly { .. } | Half::Public => self.clone(),
        }
    }

    /// The form that opens public entries alone: for jobs that run code of strangers.
    #[must_use]
    pub fn public(&self) -> Self {
        Self { keys: Half::Public, ..self.clone() }
    }

    /// What this form allows.
    #[must_use]
    pub const fn rights(&self) -> Rights {
        match self.keys {
            Half::Full { .. } => Rights::Full,
            Half::ReadOnly { .. } => Rights::ReadOnly,
            Half::Public => Rights::Public,
        }
    }

    /// Whether this form cannot make entries.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        !matches!(self.keys, Half::Full { .. })
    }

    /// Which secret this is, in a form that may be shown.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// A key for another purpose, the same for everyone who has this secret in any form: to let
    /// members of a fleet know each other, for instance. Nothing can be computed back from it.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        expand(&hkdf(PUBLIC_SALT, &self.public), &[b"purpose:", purpose.as_bytes()])
    }

    /// As [`Secret::derive`], for what is private: `None` in the public form.
    #[must_use]
    pub fn derive_for_readers(&self, purpose: &str) -> Option<Zeroizing<[u8; 32]>> {
        Some(expand(&hkdf(READING_SALT, self.reading()?), &[b"purpose:", purpose.as_bytes()]))
    }

    /// As [`Secret::derive`], for what readers must not be able to do: `None` in the read-only and
    /// the public form.
    #[must_use]
    pub fn derive_for_writers(&self, purpose: &str) -> Option<Zeroizing<[u8; 32]>> {
        Some(expand(&hkdf(ROOT_SALT, self.root()?), &[b"purpose:", purpose.as_bytes()]))
    }

    fn from_root(root: Bytes32) -> Self {
        let derived = hkdf(ROOT_SALT, &root);
        let reading = expand(&derived, &[b"reading"]);
        let verifying = SigningKey::from_bytes(&expand(&derived, &[b"signing"])).verifying_key();
        let public = public_key(&reading);
        Self { id: key_id(&public, &verifying), keys: Half::Full { root, reading }, public, verifying }
    }

    fn from_reading(reading: Bytes32, verifying: VerifyingKey) -> Self {
        let public = public_key(&reading);
        Self { id: key_id(&public, &verifying), keys: Half::ReadOnly { reading }, public, verifying }
    }

    fn from_public(public: Bytes32, verifying: VerifyingKey) -> Self {
        Self { id: key_id(&public, &verifying), keys: Half::Public, public, verifying }
    }

    const fn root(&self) -> Option<&Bytes32> {
        match &self.keys {
            Half::Full { root, .. } => Some(root),
            Half::ReadOnly { .. } | Half::Public => None,
        }
    }

    const fn reading(&self) -> Option<&Bytes32> {
        match &self.keys {
            Half::Full { reading, .. } | Half::ReadOnly { reading } => Some(reading),
            Half::Public => None,
        }
    }

    /// What encrypts public entries and tombstones.
    pub(crate) fn public_encryption_key(&self) -> Bytes32 {
        expand(&hkdf(PUBLIC_SALT, &self.public), &[b"encryption"])
    }

    /// What encrypts private entries; `None` in the public form.
    pub(crate) fn private_encryption_key(&self) -> Option<Bytes32> {
        Some(expand(&hkdf(READING_SALT, self.reading()?), &[b"encryption"]))
    }

    pub(crate) fn blinding_key(&self) -> Bytes32 {
        expand(&hkdf(PUBLIC_SALT, &self.public), &[b"blinding"])
    }

    pub(crate) fn signing_key(&self) -> Option<SigningKey> {
        Some(SigningKey::from_bytes(&expand(&hkdf(ROOT_SALT, self.root()?), &[b"signing"])))
    }

    pub(crate) const fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying
    }
}

/// Compares in constant time. Two forms of one secret are not equal.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let same = |left: Option<&Bytes32>, right: Option<&Bytes32>| match (left, right) {
            (Some(left), Some(right)) => left.ct_eq(&**right),
            (None, None) => 1.into(),
            _ => 0.into(),
        };
        let verifying = self.verifying.as_bytes().ct_eq(other.verifying.as_bytes());
        let keys = same(self.root(), other.root()) & same(self.reading(), other.reading());
        (keys & self.public.ct_eq(&*other.public) & verifying).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, {})", self.id, self.rights())
    }
}

const ROOT_SALT: &[u8] = b"peercache secret 1: root";
const READING_SALT: &[u8] = b"peercache secret 1: reading";
const PUBLIC_SALT: &[u8] = b"peercache secret 1: public";

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

/// What the public form holds, from what readers have.
fn public_key(reading: &Bytes32) -> Bytes32 {
    expand(&hkdf(READING_SALT, reading), &[b"public"])
}

/// Bound to both parts of what every form has, so a text put together from the parts of two secrets
/// is a stranger to both.
fn key_id(public: &Bytes32, verifying: &VerifyingKey) -> KeyId {
    let full = expand(&hkdf(PUBLIC_SALT, public), &[b"key id", verifying.as_bytes()]);
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

    fn fixed() -> Secret {
        Secret::from_root(Bytes32::new([42; 32]))
    }

    #[test]
    fn generated_secrets_differ_and_survive_their_text() {
        let (one, two) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one, two);
        assert_ne!(one.id(), two.id());
        for secret in [one.clone(), one.read_only(), one.public(), two] {
            assert_eq!(Secret::parse(&secret.to_text()).unwrap(), secret);
        }
    }

    #[test]
    fn forms_of_one_secret_have_one_id_and_only_lose_rights() {
        let full = fixed();
        let forms = [full.clone(), full.read_only(), full.public()];
        for (index, form) in forms.iter().enumerate() {
            assert_eq!(form.id(), full.id());
            assert_eq!(form.public(), forms[2]);
            assert_eq!(form.read_only(), forms[index.max(1)]);
            assert!(forms[..index].iter().all(|other| other != form));
        }
        assert_eq!(forms.map(|form| form.rights()), [Rights::Full, Rights::ReadOnly, Rights::Public]);
    }

    #[test]
    fn every_derived_key_is_its_own() {
        let secret = fixed();
        let signing = Zeroizing::new(secret.signing_key().unwrap().to_bytes());
        let keys = [
            secret.reading().unwrap().clone(),
            secret.public.clone(),
            secret.private_encryption_key().unwrap(),
            secret.public_encryption_key(),
            secret.blinding_key(),
            signing,
            secret.derive("a"),
            secret.derive("b"),
            secret.derive_for_readers("a").unwrap(),
            secret.derive_for_readers("b").unwrap(),
            secret.derive_for_writers("a").unwrap(),
            secret.derive_for_writers("b").unwrap(),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(keys[..index].iter().all(|other| other != key), "key {index} equals another");
        }
    }

    #[test]
    fn each_form_has_the_keys_of_its_rights_and_no_others() {
        let full = fixed();
        for form in [full.read_only(), full.public()] {
            let form = Secret::parse(&form.to_text()).unwrap();
            let reads = form.rights() == Rights::ReadOnly;
            assert_eq!(form.public_encryption_key(), full.public_encryption_key());
            assert_eq!(form.blinding_key(), full.blinding_key());
            assert_eq!(form.verifying_key(), full.verifying_key());
            assert_eq!(form.derive("p"), full.derive("p"));
            let private = full.private_encryption_key().filter(|_| reads);
            assert_eq!(form.private_encryption_key(), private);
            assert_eq!(form.derive_for_readers("p"), full.derive_for_readers("p").filter(|_| reads));
            assert!(form.signing_key().is_none());
            assert!(form.derive_for_writers("p").is_none());
        }
    }

    /// A change of derivation would orphan every stored entry: this test is the tripwire.
    #[test]
    fn derivation_never_changes() {
        let secret = fixed();
        insta::assert_snapshot!(secret.id(), @"4365b5b621b7611a");
        insta::assert_snapshot!(hex(&*secret.private_encryption_key().unwrap()), @"d2d76b556dc93fa302bcbac71078aa1da0106673700b62a74eb565698942731c");
        insta::assert_snapshot!(hex(&*secret.public_encryption_key()), @"9c9be4d0afd181854fe6eef51fafa5919b18a2eec678c3957f214be3b0bb815d");
        insta::assert_snapshot!(hex(&*secret.blinding_key()), @"07e5d8a7041153d41ef684c1d8468430a3efa4a759a5beaa8f47b94ddbba2a87");
        insta::assert_snapshot!(hex(secret.verifying_key().as_bytes()), @"ff6696eac4f24e47d52c657c5bd433bc205e605ac5971830866fdd451d642bb8");
        insta::assert_snapshot!(hex(&*secret.derive("example")), @"9a62490b0f9a8ec2e730ab4ba24cf7b540cfe90647f9f4f5d6026bf206705d56");
        insta::assert_snapshot!(*secret.to_text(), @"pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug");
        insta::assert_snapshot!(*secret.read_only().to_text(), @"pc-readonly-1-7tBscmJ9uWR8O7Ftom88QiW5TsDCTuJ8fAJ9xzfGvNH_ZpbqxPJOR9UsZXxb1DO8IF5gWsWXGDCGb91FHWQruG5bSRM");
        insta::assert_snapshot!(*secret.public().to_text(), @"pc-public-1-_DlLaJRXujvf8rq6z4yJsMT7IV1y5ipZ8UHpwTB8MZT_ZpbqxPJOR9UsZXxb1DO8IF5gWsWXGDCGb91FHWQruPvA09M");
    }

    #[test]
    fn debug_shows_id_and_rights_alone() {
        let secret = fixed();
        assert_eq!(format!("{secret:?}"), format!("Secret({}, read and write)", secret.id()));
        assert_eq!(format!("{:?}", secret.read_only()), format!("Secret({}, read-only)", secret.id()));
        assert_eq!(format!("{:?}", secret.public()), format!("Secret({}, public entries only)", secret.id()));
    }
}
