//! The messages.

use std::fmt;

use bytes::Bytes;
use peercache_api::{Key, Timestamp, Version};

/// The most anchors in one view, and so in one ring.
pub(crate) const MAX_ANCHORS: usize = 256;
/// The most addresses announced for one anchor.
pub(crate) const MAX_ADDRESSES: usize = 8;
/// The longest address, in bytes.
pub(crate) const MAX_ADDRESS_BYTES: usize = 256;
/// Into how many buckets keys fall when two anchors compare what they hold.
pub(crate) const BUCKETS: usize = 256;
/// The most versions listed in one message.
pub(crate) const MAX_LISTED: usize = 1024;

/// A node's identity: its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerKey(pub(crate) [u8; 32]);

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Peer({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// A key as peers know it: the digest of its text, which is blinded wherever entries are sealed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyId(pub(crate) [u8; 32]);

impl From<&Key> for KeyId {
    fn from(key: &Key) -> Self {
        Self(*key.digest())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Key({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// An anchor as another one, which holds a connection to it, knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnchorInfo {
    /// Who it is.
    pub(crate) peer: PeerKey,
    /// Where it can be dialled, as multiaddr texts; at most 8 of at most 256 bytes.
    pub(crate) addresses: Vec<String>,
}

/// What a node says of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockReading {
    /// What its machine's clock shows.
    pub(crate) machine: Timestamp,
    /// By how many milliseconds it corrects that.
    pub(crate) correction: i64,
}

/// What became of a put at the peer that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutReply {
    /// It is stored, or something newer is.
    Stored,
    /// The sender may not write, or the entry is not valid or from the future.
    Refused,
    /// It holds nothing for others.
    NotAnAnchor,
}

/// One message. `req` pairs an answer with its question; it is the asker's, and unique per
/// connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Asks for the entry under a key.
    Get {
        /// The number of the request.
        req: u64,
        /// Which entry.
        key: KeyId,
        /// After how many milliseconds nobody waits for the answer.
        deadline_ms: u32,
        /// Whether this was passed on already: then it is not passed on again.
        forwarded: bool,
    },
    /// The asker no longer waits for `req`.
    Cancel {
        /// The number of the request.
        req: u64,
    },
    /// The entry that was asked for, as an envelope.
    Hit {
        /// The number of the request.
        req: u64,
        /// The envelope.
        envelope: Bytes,
    },
    /// There is no such entry.
    Miss {
        /// The number of the request.
        req: u64,
        /// Whether the answer is authoritative: false while entries may still be missing there.
        sure: bool,
    },
    /// It has too much to do.
    Busy {
        /// The number of the request.
        req: u64,
        /// When to try again, in milliseconds.
        retry_ms: u32,
    },
    /// Stores an entry, or a tombstone.
    Put {
        /// The number of the request.
        req: u64,
        /// The envelope. It names its key.
        envelope: Bytes,
        /// Whether to pass it on to the other owners, which the sender cannot reach.
        relay: bool,
    },
    /// Answers a put.
    PutDone {
        /// The number of the request.
        req: u64,
        /// What became of it.
        reply: PutReply,
    },
    /// The sender holds an entry that it is about to push: until then, ask it.
    Announce {
        /// Which entry.
        key: KeyId,
        /// Which write.
        version: Version,
    },
    /// Something was removed. Carries the tombstone's envelope.
    Removal {
        /// The envelope. It names its key.
        envelope: Bytes,
        /// Whether this was passed on already.
        forwarded: bool,
    },
    /// The anchors that the sender is connected with, or what has changed since it last said.
    View {
        /// Whether this is all there is: it then replaces what was said before.
        full: bool,
        /// Those that are new or have changed; at most 256.
        anchors: Vec<AnchorInfo>,
        /// Those that are gone; at most 256.
        gone: Vec<PeerKey>,
    },
    /// Asks to be the one that loads a key, or to be given what another one loads.
    Lease {
        /// The number of the request.
        req: u64,
        /// Which key.
        key: KeyId,
        /// How long the load may take, in milliseconds.
        ttl_ms: u32,
        /// How long the asker would wait for another one's value, in milliseconds.
        wait_ms: u32,
        /// Only a value that is newer than this is of use.
        newer_than: Version,
    },
    /// The asker is to load the key.
    Granted {
        /// The number of the request.
        req: u64,
        /// Proves it.
        token: u64,
        /// For how long, in milliseconds.
        ttl_ms: u32,
    },
    /// The holder of a lease gives it back without a value.
    Release {
        /// Which key.
        key: KeyId,
        /// As it was granted.
        token: u64,
    },
    /// A digest of all that the sender and the receiver both own, bucket by bucket.
    Summary {
        /// The number of the request.
        req: u64,
        /// 256 digests.
        buckets: Vec<u64>,
    },
    /// Answers a summary: in how many buckets the two differ. As many lists of versions follow.
    Compared {
        /// The number of the request.
        req: u64,
        /// From 0 to 256.
        differing: u16,
    },
    /// What the sender holds in one bucket in which the digests differ.
    Versions {
        /// The number of the request that this answers.
        req: u64,
        /// Which bucket.
        bucket: u8,
        /// Whether the bucket holds more, above the last one listed: there was no room for it.
        more: bool,
        /// At most 1024, in order.
        listed: Vec<(KeyId, Version)>,
    },
    /// What the sender holds and no longer owns, and the receiver does.
    Offer {
        /// The number of the request.
        req: u64,
        /// At most 1024.
        listed: Vec<(KeyId, Version)>,
    },
    /// Answers an offer: what the sender lacks, or holds in an older version.
    Wanted {
        /// The number of the request.
        req: u64,
        /// At most 1024.
        keys: Vec<KeyId>,
    },
    /// Asks for a sign of life.
    Ping {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// Answers a ping.
    Pong {
        /// As in the ping.
        nonce: u64,
        /// What the sender's clock shows.
        clock: ClockReading,
    },
    /// Tells a leaf that claimed to be an anchor that it could be dialled, and is in the ring.
    Vouched,
    /// The sender is about to go: it is not to be asked any more.
    Leaving,
}
