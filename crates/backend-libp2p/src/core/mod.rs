//! What a node decides: whom to ask, where to store, who is a member, who loads. No I/O, no clock,
//! no threads: [`Node::step`] is told what happened and when, and says what is to be done.
//!
//! The driver and the simulator call it alike.

mod asks;
mod counters;
mod lease;
mod lookup;
mod offer;
mod pace;
mod peers;
mod removal;
mod repair;
mod ring;
mod store;
mod timers;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use peercache_api::{Timestamp, Version};

use crate::wire::{AnchorInfo, KeyId, Message, PeerKey};

pub use counters::Counters;
pub(crate) use counters::{MemberState, NodeReport};

use asks::{Ask, Purpose};
use peers::Peers;
#[cfg(test)]
pub(crate) use peers::SMALL_RING;
use removal::{Hint, Told};
use repair::Repair;
use ring::Ring;
use store::{Checked, Store};
use timers::{Timer, Timers};

/// When something happens: time since some fixed moment, for waiting, and the wall clock, for
/// lifetimes and versions.
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
    /// Dials out only: is asked, fed and told over the connections that it opened.
    Leaf,
}

/// What a node said of itself, and proved, when a connection was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// What it claims to be.
    pub(crate) role: Role,
    /// Its share of the keys, relative to others; 100 is usual.
    pub(crate) weight: u16,
    /// Whether it proved that it may write.
    pub(crate) writer: bool,
    /// Where it says that it can be dialled. At most 8, at most 256 bytes each.
    pub(crate) addresses: Vec<String>,
    /// It wants to hear again of removals since then; `None` for a node that holds nothing old.
    pub(crate) removals_since: Option<Timestamp>,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// There is a connection with a peer that has proved itself. `dialled`: this node opened it, so
    /// the peer can be dialled. At most one connection with a peer is told at a time.
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
    /// The user is about to load a key and asks whether somebody else is.
    Lease { op: OpId, key: KeyId, ttl: Duration, wait: Duration, newer_than: Version },
    /// The user's load failed.
    Release { key: KeyId, token: u64 },
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
    /// Opens a connection to a peer that others told of, once, and says how that ended.
    Dial { peer: PeerKey, addresses: Vec<String> },
    /// Finds out whether a connected peer can be dialled where it says, without keeping the
    /// connection.
    Probe { peer: PeerKey, addresses: Vec<String> },
    /// Closes the connection with a peer that breaks the rules.
    Drop { peer: PeerKey, why: &'static str },
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

/// What a node is told when it is made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Who it is.
    pub(crate) me: PeerKey,
    pub(crate) role: Role,
    pub(crate) weight: u16,
    /// Places keys on anchors. The same for everyone of the group, and unknown outside.
    pub(crate) placement: [u8; 16],
    /// The most bytes that it stores, for others and itself.
    pub(crate) capacity: usize,
    /// Whether it can tell who may write; not with a read-only secret.
    pub(crate) checks_writers: bool,
    /// For whatever is left to chance.
    pub(crate) seed: u64,
}

/// One node.
pub(crate) struct Node {
    me: PeerKey,
    role: Role,
    weight: u16,
    placement: [u8; 16],
    checks_writers: bool,
    /// It said that it is about to go.
    left: bool,
    peers: Peers,
    ring: Ring,
    ring_changes: u64,
    /// The view as it was told last.
    told: BTreeMap<PeerKey, AnchorInfo>,
    /// When anybody was last heard before the connection was lost.
    last_heard: Option<Duration>,
    store: Store,
    asks: BTreeMap<u64, Ask>,
    ops: BTreeMap<OpId, Purpose>,
    lookups: BTreeMap<u64, lookup::Lookup>,
    lookups_of: BTreeMap<(PeerKey, u64), u64>,
    /// How many second questions may be asked.
    hedges: f64,
    writes: BTreeMap<u64, write::Write>,
    write_bytes: usize,
    /// What this node is about to push: whoever hears of it can ask for it.
    outgoing: BTreeMap<KeyId, (Version, Bytes)>,
    hints: BTreeMap<KeyId, Hint>,
    removed: BTreeMap<KeyId, Version>,
    removed_order: VecDeque<(KeyId, Version)>,
    told_again: Told,
    leases: BTreeMap<KeyId, lease::Lease>,
    /// The user's waits for leases: which operation, and the question at the owner.
    lease_waits: BTreeMap<u64, (OpId, Option<u64>)>,
    repair: Repair,
    /// With whom the latest comparison found nothing missing, and how often the ring had changed by
    /// then.
    settled_with: BTreeMap<PeerKey, u64>,
    timers: Timers,
    counters: Counters,
    number: u64,
    chance: u64,
}

impl Node {
    pub(crate) fn new(settings: Settings, now: Now) -> Self {
        let Settings { me, role, weight, placement, capacity, checks_writers, seed } = settings;
        let mut node = Self {
            me,
            role,
            weight: weight.max(1),
            placement,
            checks_writers,
            left: false,
            peers: Peers::default(),
            ring: Ring::new(placement),
            ring_changes: 0,
            told: BTreeMap::new(),
            last_heard: None,
            store: Store::new(capacity),
            asks: BTreeMap::new(),
            ops: BTreeMap::new(),
            lookups: BTreeMap::new(),
            lookups_of: BTreeMap::new(),
            hedges: 5.0,
            writes: BTreeMap::new(),
            write_bytes: 0,
            outgoing: BTreeMap::new(),
            hints: BTreeMap::new(),
            removed: BTreeMap::new(),
            removed_order: VecDeque::new(),
            told_again: Told::default(),
            leases: BTreeMap::new(),
            lease_waits: BTreeMap::new(),
            repair: Repair::default(),
            settled_with: BTreeMap::new(),
            timers: Timers::default(),
            counters: Counters::default(),
            number: 0,
            chance: seed,
        };
        node.ring_may_have_changed(now);
        node
    }

    /// Takes note of `event` and adds what is to be done to `actions`. Never blocks; takes
    /// microseconds.
    pub(crate) fn step(&mut self, now: Now, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Connected { peer, hello, dialled } => self.connected(now, peer, hello, dialled, actions),
            Event::Disconnected { peer } => self.disconnected(now, peer, actions),
            Event::Message { peer, message } => {
                if self.heard_from(now, peer) {
                    self.message(now, peer, message, actions);
                }
            }
            Event::NotSent { peer, message } => self.not_sent(now, peer, &message, actions),
            Event::Dialled { peer, reached } => self.dialled(now, peer, reached, actions),
            Event::Get { op, key, deadline } => self.get(now, op, key, deadline, actions),
            Event::Put { op, envelope, deadline } => self.put(now, op, envelope, deadline, actions),
            Event::Lease { op, key, ttl, wait, newer_than } => {
                self.lease(now, op, (key, ttl, wait, newer_than), actions);
            }
            Event::Release { key, token } => self.released(now, None, key, token, actions),
            Event::Cancel { op } => self.cancel(op, actions),
            Event::Leave => self.leave(now, actions),
            Event::Tick => {}
        }
        self.tick(now, actions);
    }

    /// When [`Event::Tick`] is due, as [`Now::mono`]; `None` while nothing waits.
    pub(crate) fn wakes_at(&self) -> Option<Duration> {
        self.timers.first()
    }

    fn tick(&mut self, now: Now, actions: &mut Vec<Action>) {
        while let Some(timer) = self.timers.pop(now.mono) {
            match timer {
                Timer::LookupEnds(id) => self.lookup_ends(now, id, actions),
                Timer::Hedge(id) => self.hedge(now, id, actions),
                Timer::WriteEnds(id) => self.write_ends(now, id, actions),
                Timer::LeaseWaitEnds(id) => {
                    self.end_lease_wait(id, Outcome::Failed(Failure::Timeout), actions);
                }
                Timer::LeaseEnds(key) => self.lease_ends(now, key, actions),
                Timer::RepairEnds(req) => self.repair_ended(now, req, false, actions),
                Timer::Pulse(peer) => self.pulse(now, peer, actions),
                Timer::GiveUp(peer) => self.give_up(now, peer),
                Timer::Dial(peer) => self.dial(peer, actions),
                Timer::TellView => self.tell_view(actions),
                Timer::TellAll(peer) => self.send_view(peer, actions),
                Timer::Walk => self.walk(now, actions),
                Timer::ForgetHints => self.forget_hints(now),
            }
        }
    }

    fn message(&mut self, now: Now, peer: PeerKey, message: Message, actions: &mut Vec<Action>) {
        match message {
            Message::Get { req, key, deadline_ms, forwarded } => {
                let deadline = Duration::from_millis(u64::from(deadline_ms));
                self.asked(now, peer, (req, key, deadline, forwarded), actions);
            }
            Message::Cancel { req } => {
                self.abandon_lookup_of(peer, req, actions);
                self.cancel_lease_of(now, peer, req, actions);
            }
            answer @ (Message::Hit { .. }
            | Message::Miss { .. }
            | Message::Busy { .. }
            | Message::PutDone { .. }
            | Message::Granted { .. }) => self.answer(now, peer, answer, actions),
            Message::Put { req, envelope, relay } => {
                self.stored_by(now, peer, (req, envelope, relay), actions)
            }
            Message::Announce { key, version } => self.announced(now, peer, key, version),
            Message::Removal { envelope, forwarded } => self.removal(now, peer, envelope, forwarded, actions),
            Message::View { full, anchors, gone } => self.viewed(now, peer, (full, anchors, gone)),
            Message::Lease { req, key, ttl_ms, wait_ms, newer_than } => {
                self.lease_asked_by(now, peer, (req, key, ttl_ms, wait_ms, newer_than), actions);
            }
            Message::Release { key, token } => self.released(now, Some(peer), key, token, actions),
            Message::Summary { req, buckets } => self.summed_up(now, peer, req, buckets, actions),
            Message::Compared { req, differing } => self.compared(now, peer, req, differing),
            Message::Versions { req, bucket, more, listed } => {
                self.listed(now, peer, (req, bucket, more, listed), actions);
            }
            Message::Offer { req, listed } => self.offered(now, peer, (req, listed), actions),
            Message::Wanted { req, keys } => self.wanted(now, peer, req, keys, actions),
            Message::Ping { nonce } => self.send(peer, Message::Pong { nonce }, actions),
            Message::Pong { nonce } => self.pong(now, peer, nonce),
            Message::Vouched => self.vouched(now, peer),
            Message::Leaving => self.leaves(now, peer, actions),
        }
    }

    fn cancel(&mut self, op: OpId, actions: &mut Vec<Action>) {
        match self.ops.remove(&op) {
            Some(Purpose::Lookup(id)) => self.abandon_lookup(id, actions),
            Some(Purpose::Write(id)) => self.abandon_write(id),
            Some(Purpose::Lease(id)) => {
                let mut unheard = Vec::new();
                self.end_lease_wait(id, Outcome::Failed(Failure::Timeout), &mut unheard);
                actions.extend(unheard.into_iter().filter(|action| !matches!(action, Action::Done { .. })));
            }
            Some(Purpose::Repair) | None => {}
        }
    }

    /// Tells everyone that this node is about to go.
    fn leave(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.left = true;
        let everyone: Vec<_> = self.peers.connected().map(|(peer, _)| peer).collect();
        for peer in everyone {
            self.send(peer, Message::Leaving, actions);
        }
        self.ring_may_have_changed(now);
    }

    /// Stores an entry here, and gives it to those who wait for it. Says whether it was news.
    fn keep(&mut self, now: Now, entry: Checked, actions: &mut Vec<Action>) -> bool {
        let removed = self.removed.get(&entry.key).is_some_and(|removed| *removed >= entry.version);
        if removed && !entry.tombstone {
            return false;
        }
        if entry.tombstone {
            self.learn_removal(now, &entry, None, actions);
        }
        let news = self.store.put(entry.clone());
        if !entry.tombstone {
            self.lease_fulfilled(now, entry.key, actions);
        }
        news
    }

    fn send(&mut self, peer: PeerKey, message: Message, actions: &mut Vec<Action>) {
        if self.peers.link(peer).is_some() {
            self.counters.sent += 1;
            actions.push(Action::Send { peer, message });
        }
    }

    /// A number that this node has not given before: for requests, tokens and whatever needs a
    /// name.
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Between 0 and 1. SplitMix64 (Steele, Lea and Flood, 2014): enough for jitter, and
    /// repeatable.
    fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("me", &self.me)
            .field("role", &self.role)
            .field("anchors", &self.ring.anchors().len())
            .field("records", &self.store.len())
            .finish_non_exhaustive()
    }
}
