//! The keys of one secret, prepared for use: what names, encrypts, signs and verifies.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use peercache_api::{Class, Error, ErrorKind, Key, Operation};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::hex::hex;
use crate::secret::{Bytes32, KeyId, Rights, Secret};
use crate::xaes::Xaes256Gcm;

pub(crate) struct Keys {
    id: KeyId,
    rights: Rights,
    /// For public entries and tombstones.
    public: Xaes256Gcm,
    /// For private entries; absent with the public form of the secret.
    private: Option<Xaes256Gcm>,
    blinding: Hmac<Sha256>,
    signing: Option<SigningKey>,
    verifying: VerifyingKey,
}

impl Keys {
    pub(crate) fn new(secret: &Secret) -> Self {
        Self {
            id: secret.id(),
            rights: secret.rights(),
            public: Xaes256Gcm::new(&secret.public_encryption_key()),
            private: secret.private_encryption_key().map(|key| Xaes256Gcm::new(&key)),
            blinding: hmac(&secret.blinding_key()),
            signing: secret.signing_key(),
            verifying: *secret.verifying_key(),
        }
    }

    pub(crate) const fn id(&self) -> KeyId {
        self.id
    }

    /// What encrypts entries of this class; `None` where this form of the secret cannot open them.
    pub(crate) const fn cipher(&self, class: Class) -> Option<&Xaes256Gcm> {
        match class {
            Class::Public => Some(&self.public),
            _ => self.private.as_ref(),
        }
    }

    pub(crate) const fn rights(&self) -> Rights {
        self.rights
    }

    pub(crate) const fn can_write(&self) -> bool {
        self.signing.is_some()
    }

    /// Under which name an entry is stored: nobody without the secret can tell of which key.
    pub(crate) fn place(&self, key: &Key) -> Result<Place, Error> {
        let name: [u8; 32] = self.blinding.clone().chain_update(key.digest()).finalize().into_bytes().into();
        Place::named(name)
            .ok_or_else(|| Error::new(ErrorKind::Config, Operation::Encode, "a blinded name is no key"))
    }

    /// `None` with a read-only secret.
    pub(crate) fn sign(&self, statement: &[u8]) -> Option<[u8; Signature::BYTE_SIZE]> {
        self.signing.as_ref().map(|key| key.sign(statement).to_bytes())
    }

    /// Strict (RFC 8032, section 5.1.7, and no key of small order): one signature of a statement is
    /// accepted by everyone or by nobody.
    pub(crate) fn verifies(&self, statement: &[u8], signature: &[u8; Signature::BYTE_SIZE]) -> bool {
        self.verifying.verify_strict(statement, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({}, {})", self.id, self.rights)
    }
}

/// HMAC-SHA-256 with this key. A key shorter than a block is filled with zeros (RFC 2104, section
/// 2).
fn hmac(key: &Bytes32) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(&**key);
    Hmac::new((&*block).into())
}

/// Where a sealed entry is stored, and the name that it is bound to.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) key: Key,
    pub(crate) name: [u8; 32],
}

impl Place {
    /// The place with this name. Always there: 64 digits are a key.
    pub(crate) fn named(name: [u8; 32]) -> Option<Self> {
        Key::new(hex(&name)).ok().map(|key| Self { key, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::unhex;

    #[test]
    fn short_hmac_keys_are_padded_as_the_rfc_says() {
        // RFC 4231, test case 4: a key of 25 bytes, so the block is it and 39 zeros.
        let key = unhex("0102030405060708090a0b0c0d0e0f10111213141516171819");
        let mut padded = Bytes32::default();
        padded[..25].copy_from_slice(&key);
        let tag = hmac(&padded).chain_update([0xcd; 50]).finalize().into_bytes();
        assert_eq!(hex(&tag), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    }

    #[test]
    fn places_depend_on_key_and_secret_and_on_nothing_else() {
        let (one, two) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let key = Key::new("repos/acme/rocket").unwrap();
        let name = |secret: &Secret, key: &Key| Keys::new(secret).place(key).unwrap().key;
        assert_eq!(name(&one, &key), name(&one.read_only(), &key));
        assert_ne!(name(&one, &key), name(&two, &key));
        assert_ne!(name(&one, &key), name(&one, &Key::new("repos/acme/rockeT").unwrap()));
        let text = name(&one, &key);
        assert!(
            text.as_str().len() == 64
                && text.as_str().bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        );
    }
}
