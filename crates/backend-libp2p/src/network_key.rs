//! The key that makes a group of nodes a private network, and everything that is derived from it.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The most keys that one node holds at a time: the current one and those that it still accepts.
pub const MAX_NETWORK_KEYS: usize = 4;

/// What the nodes of one network share. Whoever does not have it is refused before anything that he
/// says is looked at.
///
/// It is derived from the group's secret and never sent: connections prove it. A second key, the
/// writer's, is had by those alone that may write; it too is only ever proved. `Debug` shows the
/// key's public id and nothing else.
#[derive(Clone)]
pub struct NetworkKey {
    current: OneKey,
    old: Vec<OneKey>,
}

/// One key of the ring.
#[derive(Clone)]
pub(crate) struct OneKey {
    id: [u8; 8],
    network: Zeroizing<[u8; 32]>,
    writer: Option<Zeroizing<[u8; 32]>>,
}

impl NetworkKey {
    /// A key for members, the key that members prove the right to write with (`None` for a node
    /// that only reads), and the public id of both: not secret, the same for everyone with this
    /// key, and different for other keys.
    ///
    /// Both keys must be uniform, such as the output of a key derivation: a passphrase could be
    /// guessed by whoever watches a connection being made.
    ///
    /// A node without the writer's key cannot check that others have it, and takes nobody for a
    /// writer: it finds what is there and stores for nobody.
    #[must_use]
    pub fn new(network: [u8; 32], writer: Option<[u8; 32]>, id: [u8; 8]) -> Self {
        Self {
            current: OneKey { id, network: Zeroizing::new(network), writer: writer.map(Zeroizing::new) },
            old: Vec::new(),
        }
    }

    /// Still accepts nodes with `old` keys, so that a network can move to a new key without a
    /// break: give the new key, with the old one behind it, to one node after the other. At most
    /// [`MAX_NETWORK_KEYS`] are kept; more are ignored.
    ///
    /// Placement and derived identities follow the current key.
    #[must_use]
    pub fn with_old(mut self, old: Self) -> Self {
        self.old.push(old.current);
        self.old.extend(old.old);
        self.old.truncate(MAX_NETWORK_KEYS - 1);
        self
    }

    /// Whether this node can prove that it may write.
    #[must_use]
    pub fn can_write(&self) -> bool {
        self.current.writer.is_some()
    }

    /// The keys, the current one first.
    pub(crate) fn ring(&self) -> impl Iterator<Item = &OneKey> {
        std::iter::once(&self.current).chain(&self.old)
    }

    /// Places keys on anchors.
    pub(crate) fn placement(&self) -> [u8; 16] {
        self.current.derive(b"placement", b"")
    }

    /// The seed of the identity called `name`; `None` without the writer's key, so that no node
    /// that only reads can take the name of another one.
    pub(crate) fn identity_seed(&self, name: &str) -> Option<Zeroizing<[u8; 32]>> {
        let writer = self.current.writer.as_ref()?;
        Some(Zeroizing::new(derive(writer, b"identity", name.as_bytes())))
    }
}

impl OneKey {
    pub(crate) const fn id(&self) -> [u8; 8] {
        self.id
    }

    /// What both sides of a connection mix into the Noise handshake.
    pub(crate) fn prologue(&self) -> [u8; 32] {
        self.derive(b"prologue", b"")
    }

    /// Proves membership.
    pub(crate) fn member_mac(&self) -> Hmac<Sha256> {
        mac(&Zeroizing::new(self.derive(b"hello", b"")))
    }

    /// Proves the right to write; `None` without the writer's key.
    pub(crate) fn writer_mac(&self) -> Option<Hmac<Sha256>> {
        let writer = self.writer.as_ref()?;
        Some(mac(&Zeroizing::new(derive(writer, b"hello", b""))))
    }

    fn derive<const N: usize>(&self, purpose: &[u8], name: &[u8]) -> [u8; N] {
        derive(&self.network, purpose, name)
    }
}

/// HKDF-SHA-256 (RFC 5869) with a name for each purpose. A zero byte ends the purpose, which has
/// none, so no two pairs of purpose and name give the same bytes.
fn derive<const N: usize>(key: &[u8; 32], purpose: &[u8], name: &[u8]) -> [u8; N] {
    let mut output = [0; N];
    let info: [&[u8]; 4] = [b"peercache peers 1 ", purpose, b"\0", name];
    // Only an output of more than 255 digests is an error; the longest here is one.
    if Hkdf::<Sha256>::new(None, key).expand_multi_info(&info, &mut output).is_err() {
        unreachable!("at most 32 bytes are derived");
    }
    output
}

fn mac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    // HMAC pads a shorter key with zeros to a block (RFC 2104), so this is the same key.
    Hmac::new((&*block).into())
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkKey")
            .field("id", &format_args!("{}", hex(&self.current.id)))
            .field("old", &self.old.len())
            .finish_non_exhaustive()
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::Mac;

    #[test]
    fn what_is_derived_differs_by_key_purpose_and_name() {
        let (one, other) =
            (NetworkKey::new([1; 32], Some([2; 32]), [0; 8]), NetworkKey::new([3; 32], None, [0; 8]));
        assert_ne!(one.current.prologue(), other.current.prologue());
        assert_ne!(one.identity_seed("host"), one.identity_seed("host2"));
        assert_ne!(*one.identity_seed("").unwrap(), one.current.prologue());
        assert!(other.identity_seed("host").is_none(), "a reader takes no name");
        let tag = |mac: Hmac<Sha256>| mac.finalize().into_bytes();
        assert_ne!(tag(one.current.member_mac()), tag(one.current.writer_mac().unwrap()));
        assert!(other.current.writer_mac().is_none());
    }

    #[test]
    fn derivations_are_the_same_in_every_release() {
        let key = NetworkKey::new([7; 32], Some([9; 32]), *b"12345678");
        insta::assert_snapshot!(hex(&key.current.prologue()), @"3aece57511c7e7159ef870e1800125366a6333ef2d2b0c5e9d113b6beff94ab8");
        insta::assert_snapshot!(hex(&*key.identity_seed("mcp-server").unwrap()), @"87bb65c4ca035a226bfa6b84e8b6d9df6b07839e87b9fcc50498022b3f97081e");
        insta::assert_snapshot!(hex(&key.placement()), @"ccaa2a3a05cc182677210c3f7c3a8a29");
    }

    #[test]
    fn debug_shows_no_key() {
        let key = NetworkKey::new([7; 32], Some([9; 32]), *b"12345678");
        let key = key.with_old(NetworkKey::new([8; 32], None, *b"87654321"));
        insta::assert_snapshot!(format!("{key:?}"), @r#"NetworkKey { id: 3132333435363738, old: 1, .. }"#);
    }

    #[test]
    fn the_ring_is_bounded_and_begins_with_the_current_key() {
        let named = |id: u8| NetworkKey::new([id; 32], None, [id; 8]);
        let key = (1..9).fold(named(0), |key, id| key.with_old(named(id)));
        assert_eq!(key.ring().map(|key| key.id()[0]).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
