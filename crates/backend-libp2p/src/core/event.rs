//! What a node is told and what it says in return: events, actions, outcomes.

use std::time::Duration;

use bytes::Bytes;
use peercache_api::{Timestamp, Version};

use crate::wire::{ClockReading, KeyId, Message, PeerKey};

/// When something happens: time since some fixed moment, for waiting, and the wall clock, for
/// lifetimes and versions. Outside of the node that is the machine's clock, within it the corrected
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) mono: Duration,
    pub(crate) wall: Timestamp,
}

/// Names an operation of this node's own user while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OpId(pub(crate) u64);

/// What a node is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Long-lived and dialable: stores for others.
    Anchor,
    /// Dials out only, and does everything over the connections that it opened.
    Leaf,
}

/// What a node said of itself, and proved, when a connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// What it claims to be.
    pub(crate) role: Role,
    /// Whether it proved that it may write.
    pub(crate) writer: bool,
    /// Where it says that it can be dialled. At most 8, at most 256 bytes each.
    pub(crate) addresses: Vec<String>,
    /// Removals since then are to be repeated to it; `None` for a node that holds nothing old.
    pub(crate) removals_since: Option<Timestamp>,
    /// What its clock shows now.
    pub(crate) clock: ClockReading,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// There is a connection with a peer that has proved itself. `dialled`: this node opened it, so
    /// the peer can be dialled. At most one connection with a peer is reported at a time.
    Connected { peer: PeerKey, hello: Hello, dialled: bool },
    /// The connection is gone.
    Disconnected { peer: PeerKey },
    /// A peer said something.
    Message { peer: PeerKey, message: Message },
    /// What was to be sent found no room in the peer's queue, or no connection.
    NotSent { peer: PeerKey, message: Message },
    /// A dial or a probe that was asked for ended: whether the peer can be reached.
    Dialled { peer: PeerKey, reached: bool },
    /// The user wants an entry, within `deadline`.
    Get { op: OpId, key: KeyId, deadline: Duration },
    /// The user stores an entry or a tombstone, within `deadline`. Its envelope is well-formed.
    Put { op: OpId, envelope: Bytes, deadline: Duration },
    /// The user is about to load a key and asks whether another member does.
    Lease { op: OpId, key: KeyId, ttl: Duration, wait: Duration, newer_than: Version },
    /// The user's load failed.
    Release { key: KeyId, token: u64 },
    /// What is kept outside under a key, as [`Action::Recall`] asked, or something newer than was
    /// to be kept.
    Recalled { key: KeyId, envelope: Option<Bytes> },
    /// The user no longer waits.
    Cancel { op: OpId },
    /// This node is about to go.
    Leave,
    /// Time passed; see [`Node::wakes_at`].
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Says something to a connected peer.
    Send { peer: PeerKey, message: Message },
    /// An operation has ended.
    Done { op: OpId, outcome: Outcome },
    /// Opens a connection to a peer that others announced, once, and reports how that ended.
    Dial { peer: PeerKey, addresses: Vec<String> },
    /// Finds out whether a connected peer can be dialled where it says, without keeping the
    /// connection.
    Probe { peer: PeerKey, addresses: Vec<String> },
    /// Closes the connection with a peer that breaks the rules.
    Drop { peer: PeerKey, why: &'static str },
    /// Keeps an entry or a tombstone outside of the memory. Where `is_first`, this node held none
    /// under that key: what is kept outside may be newer, and is to be reported if it is.
    Keep { envelope: Bytes, is_first: bool },
    /// Looks outside for a key, and reports it with [`Event::Recalled`].
    Recall { key: KeyId },
    /// Something was removed elsewhere: tiers above must forget it. With the tombstone's envelope.
    Removed { key: KeyId, envelope: Bytes },
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Get and lease: the envelope that was found. Not verified beyond its checksum.
    Found(Bytes),
    /// Get: there is none.
    Absent,
    /// Put: so many nodes have it, this one included.
    Stored(u8),
    /// Lease: the user is to load, and to give `token` back if that fails.
    Granted { token: u64, ttl: Duration },
    /// It could not be done.
    Failed(Failure),
}

/// Why an operation could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No anchor is connected.
    Unreachable,
    /// Nobody answered in time.
    Timeout,
    /// Those who could have answered have too much to do.
    Busy,
    /// Those who could store it do not take it from this node.
    Refused,
    /// Too many operations wait already.
    Overloaded,
}

/// The settings of a node.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Who it is.
    pub(crate) me: PeerKey,
    pub(crate) role: Role,
    /// Places keys on anchors. The same for everyone of the group, and unknown outside.
    pub(crate) placement: [u8; 16],
    /// The most bytes that it stores, for others and itself.
    pub(crate) capacity: usize,
    /// Whether [`Action::Keep`] and [`Action::Recall`] are carried out: of use to an anchor.
    pub(crate) keeps: bool,
    /// Whether it can tell who may write; not with a read-only secret.
    pub(crate) checks_writers: bool,
    /// For whatever is left to chance.
    pub(crate) seed: u64,
}
