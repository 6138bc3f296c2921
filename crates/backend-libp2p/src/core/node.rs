//! One node: all that it knows.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use peercache_api::Version;

use super::counters::Counters;
use super::event::{Action, Now, OpId, Role, Settings};
use super::ring::Ring;
use super::state::{Ask, Hint, Lease, Lookup, Parked, Peers, Purpose, Repair, Told, Write};
use super::store::Store;
use super::timers::Timers;
use crate::wire::{AnchorInfo, KeyId, Message, PeerKey};

/// One node.
pub(crate) struct Node {
    pub(super) me: PeerKey,
    pub(super) role: Role,
    pub(super) placement: [u8; 16],
    pub(super) checks_writers: bool,
    pub(super) keeps: bool,
    /// It said that it is about to go.
    pub(super) left: bool,
    pub(super) peers: Peers,
    pub(super) ring: Ring,
    pub(super) ring_changes: u64,
    /// The view as it was announced last.
    pub(super) told: BTreeMap<PeerKey, AnchorInfo>,
    /// When a message last arrived before the connection was lost.
    pub(super) last_heard: Option<Duration>,
    pub(super) store: Store,
    /// Who waits for what is kept outside, by key, and how many that are.
    pub(super) recalls: BTreeMap<KeyId, Vec<Parked>>,
    pub(super) parked: usize,
    pub(super) asks: BTreeMap<u64, Ask>,
    pub(super) ops: BTreeMap<OpId, Purpose>,
    pub(super) lookups: BTreeMap<u64, Lookup>,
    pub(super) lookups_of: BTreeMap<(PeerKey, u64), u64>,
    /// How many second questions may be asked.
    pub(super) hedges: f64,
    pub(super) writes: BTreeMap<u64, Write>,
    pub(super) write_bytes: usize,
    /// What this node is about to push. Peers that were sent an announcement can ask for it.
    pub(super) outgoing: BTreeMap<KeyId, (Version, Bytes)>,
    pub(super) hints: BTreeMap<KeyId, Hint>,
    pub(super) removed: BTreeMap<KeyId, Version>,
    pub(super) removed_order: VecDeque<(KeyId, Version)>,
    pub(super) told_again: Told,
    pub(super) leases: BTreeMap<KeyId, Lease>,
    /// The user's waits for leases: which operation, and the question at the owner.
    pub(super) lease_waits: BTreeMap<u64, (OpId, Option<u64>)>,
    pub(super) repair: Repair,
    /// With whom the latest comparison found nothing missing, and how often the ring had changed by
    /// then.
    pub(super) settled_with: BTreeMap<PeerKey, u64>,
    /// By how many milliseconds the machine's clock is corrected.
    pub(super) correction: i64,
    /// The time that has really passed by the clock that gives the wall time, where that is not
    /// what waiting is measured by; and what it was in the last step.
    pub(crate) passed: Option<Duration>,
    pub(super) machine_passed: Option<Duration>,
    /// What the machine's clocks showed last.
    pub(super) machine: Now,
    /// When a peer's clock was last logged.
    pub(super) clocks_logged: Option<Duration>,
    pub(super) timers: Timers,
    pub(super) counters: Counters,
    pub(super) number: u64,
    pub(super) chance: u64,
}

impl Node {
    pub(crate) fn new(settings: Settings, now: Now) -> Self {
        let Settings { me, role, placement, capacity, keeps, checks_writers, seed } = settings;
        let mut node = Self {
            me,
            role,
            placement,
            checks_writers,
            keeps,
            left: false,
            peers: Peers::default(),
            ring: Ring::new(placement),
            ring_changes: 0,
            told: BTreeMap::new(),
            last_heard: None,
            store: Store::new(capacity),
            recalls: BTreeMap::new(),
            parked: 0,
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
            correction: 0,
            passed: None,
            machine_passed: None,
            machine: now,
            clocks_logged: None,
            timers: Timers::default(),
            counters: Counters::default(),
            number: 0,
            chance: seed,
        };
        node.ring_may_have_changed(now);
        node
    }

    pub(super) fn send(&mut self, peer: PeerKey, message: Message, actions: &mut Vec<Action>) {
        if self.peers.link(peer).is_some() {
            self.counters.sent += 1;
            actions.push(Action::Send { peer, message });
        }
    }

    /// A number that this node has not given before: for requests, tokens and whatever needs a
    /// name.
    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Between 0 and 1. SplitMix64 (Steele, Lea and Flood, 2014): enough for jitter, and
    /// repeatable.
    pub(super) fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

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
