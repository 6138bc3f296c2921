//! Bytes that stay on this machine, sealed by writers for writers: a journal, for one.

use std::fmt;

use peercache_api::{Error, ErrorKind, Operation};

use crate::keyring::Keyring;
use crate::secret::{KeyId, Secret, random};
use crate::xaes::{NONCE_BYTES, TAG_BYTES, Xaes256Gcm};

/// By how many bytes [`LocalSeal::seal`] makes something longer.
pub const LOCAL_SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Encrypts and authenticates bytes that no reader of the fleet is to open or make.
///
/// XAES-256-GCM with a key that follows from [`Secret::derive_for_writers`]: there is no signature,
/// so whoever can open can also seal, and a read-only secret can do neither. What is sealed is
/// `nonce (24 bytes) || ciphertext || tag (16 bytes)`.
///
/// ```
/// use peercache_seal::{LocalSeal, Secret};
///
/// let secret = Secret::generate()?;
/// let seal = LocalSeal::new(&secret.clone().into(), "notes").expect("a full secret");
/// let sealed = seal.seal(b"page 1", b"buy milk")?;
/// assert_eq!(seal.open(seal.key_id(), b"page 1", &sealed).as_deref(), Some(&b"buy milk"[..]));
/// assert_eq!(seal.open(seal.key_id(), b"page 2", &sealed), None);
/// assert!(LocalSeal::new(&secret.read_only().into(), "notes").is_none());
/// # Ok::<(), peercache_api::Error>(())
/// ```
pub struct LocalSeal {
    current: (KeyId, Xaes256Gcm),
    old: Vec<(KeyId, Xaes256Gcm)>,
}

impl LocalSeal {
    /// For one purpose: what is sealed for another does not open. `None` when the current secret is
    /// a read-only one; former ones that are read-only open nothing.
    #[must_use]
    pub fn new(keyring: &Keyring, purpose: &str) -> Option<Self> {
        let key =
            |secret: &Secret| Some((secret.id(), Xaes256Gcm::new(&*secret.derive_for_writers(purpose)?)));
        Some(Self { current: key(&keyring.current)?, old: keyring.old.iter().filter_map(key).collect() })
    }

    /// Which secret seals.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.current.0
    }

    /// Whether what this secret sealed can be opened.
    #[must_use]
    pub fn knows(&self, id: KeyId) -> bool {
        self.cipher(id).is_some()
    }

    /// Seals `bytes` and binds them to `associated`, which is needed to open them and is not
    /// secret.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the operating system gives no randomness,
    /// [`ErrorKind::TooLarge`] above 64 GiB.
    pub fn seal(&self, associated: &[u8], bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        let mut sealed = Vec::with_capacity(bytes.len() + LOCAL_SEAL_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(bytes);
        let tag = self.current.1.encrypt(&nonce, associated, &mut sealed[NONCE_BYTES..]).map_err(|_| {
            Error::new(ErrorKind::TooLarge, Operation::Encode, "it is longer than AES-GCM takes")
        })?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// What was sealed with this secret for this purpose and `associated`; `None` for anything
    /// else.
    #[must_use]
    pub fn open(&self, id: KeyId, associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let mut bytes = ciphertext.to_vec();
        self.cipher(id)?.decrypt(nonce, associated, &mut bytes, tag).ok()?;
        Some(bytes)
    }

    fn cipher(&self, id: KeyId) -> Option<&Xaes256Gcm> {
        std::iter::once(&self.current).chain(&self.old).find(|(known, _)| *known == id).map(|(_, key)| key)
    }
}

impl fmt::Debug for LocalSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let old: Vec<_> = self.old.iter().map(|(id, _)| id).collect();
        f.debug_struct("LocalSeal")
            .field("current", &self.current.0)
            .field("old", &old)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(secret: &Secret) -> LocalSeal {
        LocalSeal::new(&secret.clone().into(), "test").unwrap()
    }

    #[test]
    fn no_flipped_bit_no_cut_and_no_other_place_opens() {
        let seal = seal(&Secret::generate().unwrap());
        let sealed = seal.seal(b"here", b"quiet please").unwrap();
        let open = |associated: &[u8], sealed: &[u8]| seal.open(seal.key_id(), associated, sealed);
        assert_eq!(sealed.len(), b"quiet please".len() + LOCAL_SEAL_BYTES);
        assert_eq!(open(b"here", &sealed).as_deref(), Some(&b"quiet please"[..]));
        assert_eq!(open(b"there", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(b"here", &flipped), None, "bit {bit}");
        }
        assert!((0..sealed.len()).all(|length| open(b"here", &sealed[..length]).is_none()));
        assert_eq!(open(b"here", &[&sealed[..], &[0]].concat()), None);
        assert_ne!(sealed, seal.seal(b"here", b"quiet please").unwrap(), "each has a nonce of its own");
    }

    #[test]
    fn only_the_same_secret_and_purpose_open() {
        let (ours, theirs) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let sealed = seal(&ours).seal(b"", b"text").unwrap();
        let other = seal(&theirs);
        assert!(!other.knows(ours.id()));
        assert_eq!(other.open(ours.id(), b"", &sealed), None);
        assert_eq!(other.open(theirs.id(), b"", &sealed), None, "a label changes nothing");
        let purpose = LocalSeal::new(&ours.clone().into(), "another").unwrap();
        assert_eq!(purpose.open(ours.id(), b"", &sealed), None);

        let rotated = LocalSeal::new(&Keyring::new(theirs).with_old(ours.clone()).unwrap(), "test").unwrap();
        assert_eq!(rotated.open(ours.id(), b"", &sealed).as_deref(), Some(&b"text"[..]));
        assert_ne!(rotated.key_id(), ours.id());
    }

    #[test]
    fn a_read_only_secret_neither_seals_nor_opens() {
        let (ours, former) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert!(LocalSeal::new(&ours.read_only().into(), "test").is_none());
        let ring = Keyring::new(ours).with_old(former.read_only()).unwrap();
        let seal = LocalSeal::new(&ring, "test").unwrap();
        assert!(!seal.knows(former.id()));
    }

    #[test]
    fn debug_shows_ids_alone() {
        let secret = Secret::generate().unwrap();
        let shown = format!("{:?}", seal(&secret));
        assert_eq!(shown, format!("LocalSeal {{ current: {}, old: [], .. }}", secret.id()));
    }
}
