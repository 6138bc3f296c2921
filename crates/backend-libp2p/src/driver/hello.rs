//! What both sides say first, to the byte, and how they prove that they may say it.

use bytes::{Buf, BufMut};
use hmac::{Hmac, Mac};
use peercache_api::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::core::{Hello, Role};
use crate::network_key::{MAX_NETWORK_KEYS, NetworkKey, OneKey};
use crate::wire::{ClockReading, MAX_ADDRESS_BYTES, MAX_ADDRESSES, PeerKey};

/// The version of the protocol that this build speaks. A node refuses another one.
pub(crate) const PROTOCOL_VERSION: u8 = 1;
/// The longest HELLO, in bytes. Ours are shorter; a later release may say more behind what it says
/// now.
pub(crate) const MAX_HELLO_BYTES: usize = 4096;
/// Flags, a proof of membership, a proof of the right to write or zeros.
pub(crate) const PROOF_BYTES: usize = 1 + 32 + 32;

const ANCHOR: u8 = 1;
const HAS_SINCE: u8 = 2;
const WRITER: u8 = 1;

/// Why a peer was refused in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It speaks this version of the protocol, which is another one.
    #[error(
        "it speaks version {0} of the protocol, and this node version {PROTOCOL_VERSION}: run releases that speak the same"
    )]
    Version(u8),
    /// Its HELLO is no HELLO.
    #[error("its HELLO is malformed")]
    Malformed,
    /// There is no key that both have.
    #[error("it has none of this node's network keys: CACHE_SECRET has to be the same on both")]
    Key,
    /// It cannot prove that it has the key, or the right to write that it claims.
    #[error("it did not prove that it has the network key, or the right to write that it claims")]
    Proof,
    /// It took too long.
    #[error("it did not finish the handshake in time")]
    TooSlow,
    /// It is not on the list of allowed peers.
    #[error("it is not on the list of allowed peers")]
    NotAllowed,
    /// It ended the connection and said nothing, as a node does that lets no more in, or not this
    /// one.
    #[error(
        "it ended the connection and said nothing: this node may not be on its list of allowed peers, or it has too many connections"
    )]
    Unheard,
    /// The connection ended between the HELLOs and the proofs.
    #[error("the connection ended during the handshake")]
    Gone,
}

/// A HELLO: what [`Hello`] says, and what only the driver needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) role: Role,
    /// Random, so that no proof is ever of use twice.
    pub(crate) nonce: [u8; 32],
    /// Random for each process: distinguishes a restarted node from one that is connected twice.
    pub(crate) instance: u64,
    pub(crate) removals_since: Option<Timestamp>,
    /// What its clock shows: when it was made, and in what [`greet`](super::greet::greet) gives,
    /// now.
    pub(crate) clock: ClockReading,
    /// The ids of its network keys, in its order. At most [`MAX_NETWORK_KEYS`].
    pub(crate) keys: Vec<[u8; 8]>,
    /// At most [`MAX_ADDRESSES`] of [`MAX_ADDRESS_BYTES`].
    pub(crate) addresses: Vec<String>,
}

impl Greeting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.put_u8(PROTOCOL_VERSION);
        let role = if self.role == Role::Anchor { ANCHOR } else { 0 };
        bytes.put_u8(role | if self.removals_since.is_some() { HAS_SINCE } else { 0 });
        bytes.put_slice(&self.nonce);
        bytes.put_u64(self.instance);
        bytes.put_u64(self.removals_since.map_or(0, Timestamp::as_millis));
        bytes.put_u64(self.clock.machine.as_millis());
        bytes.put_i64(self.clock.correction);
        let keys = self.keys.iter().take(MAX_NETWORK_KEYS);
        bytes.put_u8(u8::try_from(keys.len()).unwrap_or(0));
        keys.for_each(|id| bytes.put_slice(id));
        let fits = |address: &&String| address.len() <= MAX_ADDRESS_BYTES;
        let addresses: Vec<_> = self.addresses.iter().filter(fits).take(MAX_ADDRESSES).collect();
        bytes.put_u8(u8::try_from(addresses.len()).unwrap_or(0));
        for address in addresses {
            bytes.put_u16(u16::try_from(address.len()).unwrap_or(0));
            bytes.put_slice(address.as_bytes());
        }
        bytes
    }

    /// Bytes behind what is known are passed over: a later release says more.
    pub(crate) fn decode(mut bytes: &[u8]) -> Result<Self, Refused> {
        let rest = &mut bytes;
        let short = |_| Refused::Malformed;
        let version = rest.try_get_u8().map_err(short)?;
        if version != PROTOCOL_VERSION {
            return Err(Refused::Version(version));
        }
        let flags = rest.try_get_u8().map_err(short)?;
        let mut nonce = [0; 32];
        rest.try_copy_to_slice(&mut nonce).map_err(short)?;
        let instance = rest.try_get_u64().map_err(short)?;
        let since = rest.try_get_u64().map_err(short)?;
        let machine = Timestamp::from_millis(rest.try_get_u64().map_err(short)?);
        let clock = ClockReading { machine, correction: rest.try_get_i64().map_err(short)? };
        let keys = (0..bounded(rest, MAX_NETWORK_KEYS)?).map(|_| {
            let mut id = [0; 8];
            rest.try_copy_to_slice(&mut id).map_err(short)?;
            Ok(id)
        });
        let keys = keys.collect::<Result<_, _>>()?;
        let addresses =
            (0..bounded(rest, MAX_ADDRESSES)?).map(|_| address(rest)).collect::<Result<_, _>>()?;
        Ok(Self {
            role: if flags & ANCHOR == 0 { Role::Leaf } else { Role::Anchor },
            nonce,
            instance,
            removals_since: (flags & HAS_SINCE != 0).then_some(Timestamp::from_millis(since)),
            clock,
            keys,
            addresses,
        })
    }

    pub(crate) fn into_hello(self, writer: bool) -> Hello {
        Hello {
            role: self.role,
            writer,
            addresses: self.addresses,
            removals_since: self.removals_since,
            clock: self.clock,
        }
    }
}

fn bounded(rest: &mut &[u8], most: usize) -> Result<usize, Refused> {
    let count = usize::from(rest.try_get_u8().map_err(|_| Refused::Malformed)?);
    if count > most { Err(Refused::Malformed) } else { Ok(count) }
}

fn address(rest: &mut &[u8]) -> Result<String, Refused> {
    let length = usize::from(rest.try_get_u16().map_err(|_| Refused::Malformed)?);
    if length > MAX_ADDRESS_BYTES || length > rest.len() {
        return Err(Refused::Malformed);
    }
    let (text, after) = rest.split_at(length);
    *rest = after;
    std::str::from_utf8(text).map(str::to_owned).map_err(|_| Refused::Malformed)
}

/// Which side of the connection a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialler,
    Listener,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }

    const fn label(self) -> &'static [u8] {
        match self {
            Self::Dialler => b"peercache hello 1 dialler",
            Self::Listener => b"peercache hello 1 listener",
        }
    }
}

/// One party of a handshake, as both sides see it.
pub(crate) struct Party<'a> {
    pub(crate) peer: PeerKey,
    /// Its HELLO, byte for byte.
    pub(crate) hello: &'a [u8],
}

/// Everything that was said before, of which the proofs are made: a proof fits one connection
/// between these two peers, in one direction, and no other.
pub(crate) struct Transcript<'k> {
    key: &'k OneKey,
    digest: [u8; 32],
}

impl<'k> Transcript<'k> {
    /// `None` when the two have no key in common. Of several, the first in the dialler's order is
    /// used.
    pub(crate) fn new(
        ring: &'k NetworkKey,
        dialler: &Party<'_>,
        listener: &Party<'_>,
        keys: (&[[u8; 8]], &[[u8; 8]]),
    ) -> Option<Self> {
        let common = keys.0.iter().find(|id| keys.1.contains(id))?;
        let key = ring.ring().find(|key| key.id() == *common)?;
        let mut hash = Sha256::new();
        for party in [dialler, listener] {
            hash.update(party.peer.0);
            hash.update((party.hello.len() as u64).to_be_bytes());
            hash.update(party.hello);
        }
        Some(Self { key, digest: hash.finalize().into() })
    }

    /// What `side` sends.
    pub(crate) fn proof(&self, side: Side) -> [u8; PROOF_BYTES] {
        let mut proof = [0; PROOF_BYTES];
        proof[1..33].copy_from_slice(&self.tag(self.key.member_mac(), side));
        if let Some(mac) = self.key.writer_mac() {
            proof[0] = WRITER;
            proof[33..].copy_from_slice(&self.tag(mac, side));
        }
        proof
    }

    /// Whether the peer proved itself, and whether it proved that it may write. A node that has no
    /// writer's key cannot check the second, and treats no peer as a writer.
    pub(crate) fn verify(&self, mine: Side, proof: &[u8; PROOF_BYTES]) -> Result<bool, Refused> {
        let theirs = mine.other();
        let matches = |mac, given: &[u8]| bool::from(self.tag(mac, theirs).ct_eq(given));
        if !matches(self.key.member_mac(), &proof[1..33]) {
            return Err(Refused::Proof);
        }
        match self.key.writer_mac() {
            Some(mac) if proof[0] & WRITER != 0 => {
                if matches(mac, &proof[33..]) {
                    Ok(true)
                } else {
                    Err(Refused::Proof)
                }
            }
            _ => Ok(false),
        }
    }

    fn tag(&self, mac: Hmac<Sha256>, side: Side) -> [u8; 32] {
        mac.chain_update(side.label()).chain_update(self.digest).finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn greeting() -> impl Strategy<Value = Greeting> {
        let keys = prop::collection::vec(any::<[u8; 8]>(), 0..=MAX_NETWORK_KEYS);
        let addresses = prop::collection::vec("[ -~]{0,60}", 0..=MAX_ADDRESSES);
        let since = prop::option::of(any::<u64>());
        let clock = (any::<u64>(), any::<i64>());
        (any::<bool>(), any::<[u8; 32]>(), any::<u64>(), since, clock, keys, addresses).prop_map(
            |(anchor, nonce, instance, since, (machine, correction), keys, addresses)| Greeting {
                role: if anchor { Role::Anchor } else { Role::Leaf },
                nonce,
                instance,
                removals_since: since.map(Timestamp::from_millis),
                clock: ClockReading { machine: Timestamp::from_millis(machine), correction },
                keys,
                addresses,
            },
        )
    }

    proptest! {
        #[test]
        fn a_hello_survives_its_bytes_and_whatever_a_later_release_adds(
            greeting in greeting(), more in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut bytes = greeting.encode();
            prop_assert!(bytes.len() <= MAX_HELLO_BYTES);
            bytes.extend(more);
            prop_assert_eq!(Greeting::decode(&bytes), Ok(greeting));
        }

        #[test]
        fn any_bytes_are_a_hello_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Greeting::decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = PROTOCOL_VERSION;
            }
            let _ = Greeting::decode(&bytes);
        }

        #[test]
        fn a_hello_cut_short_is_refused(greeting in greeting(), cut in 1usize..60) {
            let bytes = greeting.encode();
            let cut = cut.min(bytes.len());
            prop_assert_eq!(Greeting::decode(&bytes[..bytes.len() - cut]), Err(Refused::Malformed));
        }
    }

    fn key(network: u8, writer: Option<u8>, id: u8) -> NetworkKey {
        NetworkKey::new([network; 32], writer.map(|byte| [byte; 32]), [id; 8])
    }

    const A: Party<'_> = Party { peer: PeerKey([1; 32]), hello: b"hello of a" };
    const B: Party<'_> = Party { peer: PeerKey([2; 32]), hello: b"hello of b" };

    fn transcript<'k>(key: &'k NetworkKey, dialler: &Party<'_>, listener: &Party<'_>) -> Transcript<'k> {
        let ids: Vec<_> = key.ring().map(OneKey::id).collect();
        Transcript::new(key, dialler, listener, (&ids, &ids)).unwrap()
    }

    #[test]
    fn a_proof_fits_its_own_connection_and_side_only() {
        let key = key(1, Some(2), 0);
        let proof = transcript(&key, &A, &B).proof(Side::Dialler);
        assert_eq!(transcript(&key, &A, &B).verify(Side::Listener, &proof), Ok(true));
        assert_eq!(transcript(&key, &A, &B).verify(Side::Dialler, &proof), Err(Refused::Proof), "sent back");
        assert_eq!(transcript(&key, &B, &A).verify(Side::Listener, &proof), Err(Refused::Proof), "turned");
        let later = Party { hello: b"hello of B", ..B };
        assert_eq!(
            transcript(&key, &A, &later).verify(Side::Listener, &proof),
            Err(Refused::Proof),
            "replayed"
        );
        let other = self::key(3, Some(2), 0);
        assert_eq!(
            transcript(&other, &A, &B).verify(Side::Listener, &proof),
            Err(Refused::Proof),
            "other key"
        );
    }

    #[test]
    fn every_bit_of_a_proof_counts() {
        let key = key(1, Some(2), 0);
        let transcript = transcript(&key, &A, &B);
        let proof = transcript.proof(Side::Dialler);
        for bit in 8..PROOF_BYTES * 8 {
            let mut altered = proof;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(transcript.verify(Side::Listener, &altered), Err(Refused::Proof), "bit {bit}");
        }
    }

    #[test]
    fn only_a_writer_is_taken_for_one_and_only_by_one_who_can_tell() {
        let (writer, reader, forger) = (key(1, Some(2), 0), key(1, None, 0), key(1, Some(3), 0));
        let judge = |judge: &NetworkKey, peer: &NetworkKey| {
            transcript(judge, &A, &B).verify(Side::Listener, &transcript(peer, &A, &B).proof(Side::Dialler))
        };
        assert_eq!(judge(&writer, &writer), Ok(true));
        assert_eq!(judge(&writer, &reader), Ok(false));
        assert_eq!(judge(&writer, &forger), Err(Refused::Proof));
        assert_eq!(judge(&reader, &writer), Ok(false));
    }

    #[test]
    fn old_keys_are_common_ground_and_strangers_have_none() {
        let (new, old) = (key(1, None, 1), key(2, None, 2));
        let both = new.clone().with_old(old.clone());
        let ids = |key: &NetworkKey| key.ring().map(OneKey::id).collect::<Vec<_>>();
        let meet = |a: &NetworkKey, b: &NetworkKey| {
            let keys = (ids(a), ids(b));
            Transcript::new(a, &A, &B, (&keys.0, &keys.1)).map(|transcript| transcript.key.id())
        };
        assert_eq!(meet(&both, &old), Some([2; 8]));
        assert_eq!(meet(&both, &both), Some([1; 8]));
        assert_eq!(meet(&new, &old), None);
    }
}
