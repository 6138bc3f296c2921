//! The network and its nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use peercache_api::{Entry, Key, NodeId, Timestamp, Version, envelope};

use super::RETRANSMIT;
use super::traffic::Traffic;
use crate::core::{Action, Event, Hello, Node, Now, OpId, Outcome, Role, Settings};
use crate::wire::{ClockReading, KeyId, Message, PeerKey};

/// When every simulation begins.
const EPOCH: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// A node without a connection to one of its bootstrap anchors tries again after about so long.
const REDIAL: Duration = Duration::from_millis(1_500);
/// How long it takes to find out that nobody answers a dial.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an operation may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);
const CAPACITY: usize = 64 << 20;

/// Repeatable chance. SplitMix64.
#[derive(Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    pub(super) fn percent(&mut self, chance: u32) -> bool {
        self.roll() % 100 < u64::from(chance)
    }

    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_nanos().max(1) as u64;
        least + Duration::from_nanos(self.roll() % span)
    }
}

/// How the network is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) least: Duration,
    pub(super) most: Duration,
    /// In percent.
    pub(super) loss: u32,
    /// How far clocks are off, at most.
    pub(super) skew: Duration,
}

#[derive(Debug)]
enum What {
    Deliver { from: usize, to: usize, link: u64, message: Message },
    Closed { at: usize, peer: usize, link: u64 },
    Arrive { by: usize, to: usize, born: u64, told: bool },
    Probed { by: usize, of: usize },
    Wake { at: usize, born: u64 },
    Redial { at: usize, born: u64 },
    Recalled { at: usize, born: u64, key: KeyId, envelope: Option<Bytes> },
}

struct Slot {
    node: Option<Node>,
    role: Role,
    key: PeerKey,
    /// By peer: the number of the connection, and whether it still carries.
    links: BTreeMap<usize, (u64, bool)>,
    wakes: Option<Duration>,
    /// Which incarnation this is: what was meant for an earlier one is dropped.
    born: u64,
    /// By how many milliseconds its clock is ahead.
    ahead: i64,
    bootstrap: Vec<usize>,
    ops: u64,
    versions: u32,
    /// What an anchor keeps; survives its process.
    disk: BTreeMap<KeyId, (Version, Bytes)>,
}

/// An operation that has ended: how, and when it began and ended.
#[derive(Clone, Debug)]
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

pub(super) struct World {
    pub(super) now: Duration,
    pub(super) rng: Rng,
    pub(super) weather: Weather,
    pub(super) traffic: Traffic,
    nodes: Vec<Slot>,
    index: BTreeMap<PeerKey, usize>,
    queue: BTreeMap<(Duration, u64), What>,
    order: u64,
    links: u64,
    /// The earliest time at which the next message of a direction may arrive.
    busy: BTreeMap<(usize, usize), Duration>,
    split: BTreeSet<usize>,
    began: BTreeMap<(usize, OpId), Duration>,
    done: BTreeMap<(usize, OpId), Done>,
    /// How often users were told of removals.
    pub(super) told: BTreeMap<KeyId, u64>,
    /// Whether what anchors hold is on disks, which outlive them.
    pub(super) anchors_keep: bool,
    /// The most that nodes wanted to do at one moment, for the bounds.
    pub(super) busiest: u64,
}

impl World {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        Self {
            now: Duration::ZERO,
            rng: Rng::new(seed),
            weather,
            traffic: Traffic::default(),
            nodes: Vec::new(),
            index: BTreeMap::new(),
            queue: BTreeMap::new(),
            order: 0,
            links: 0,
            busy: BTreeMap::new(),
            split: BTreeSet::new(),
            began: BTreeMap::new(),
            done: BTreeMap::new(),
            told: BTreeMap::new(),
            anchors_keep: false,
            busiest: 0,
        }
    }

    /// A new node, which dials these anchors for as long as it lives.
    pub(super) fn add(&mut self, role: Role, bootstrap: Vec<usize>) -> usize {
        let at = self.nodes.len();
        let ahead = self.rng.between(Duration::ZERO, self.weather.skew).as_millis() as i64;
        let slot = Slot {
            node: None,
            role,
            key: PeerKey([0; 32]),
            links: BTreeMap::new(),
            wakes: None,
            born: 0,
            ahead,
            bootstrap,
            ops: 0,
            versions: 0,
            disk: BTreeMap::new(),
        };
        self.nodes.push(slot);
        self.start(at, true);
        at
    }

    /// Starts a node, again or for the first time; with a new identity where `fresh`.
    pub(super) fn start(&mut self, at: usize, fresh: bool) {
        let (seed, born) = (self.rng.roll(), self.rng.roll());
        let slot = &mut self.nodes[at];
        if fresh {
            self.index.remove(&slot.key);
            for part in slot.key.0.chunks_exact_mut(8) {
                part.copy_from_slice(&self.rng.roll().to_be_bytes());
            }
            self.index.insert(slot.key, at);
        }
        let settings = Settings {
            me: slot.key,
            role: slot.role,
            placement: [9; 16],
            capacity: CAPACITY,
            keeps: self.anchors_keep,
            checks_writers: true,
            seed,
        };
        let now = Now { mono: self.now, wall: EPOCH.saturating_add(self.now).shifted(slot.ahead) };
        let mut node = Node::new(settings, now);
        for (_, envelope) in slot.disk.values() {
            node.restore(now, envelope.clone(), false);
        }
        slot.node = Some(node);
        (slot.born, slot.wakes) = (born, None);
        slot.links.clear();
        self.later(Duration::ZERO, What::Redial { at, born });
        self.arm(at);
    }

    /// Ends a node at once. The others hear of it as of a process that was killed, or not at all.
    pub(super) fn kill(&mut self, at: usize, heard: bool) {
        self.nodes[at].node = None;
        let links = std::mem::take(&mut self.nodes[at].links);
        for (peer, (link, _)) in links {
            if heard {
                let wait = self.latency();
                self.later(wait, What::Closed { at: peer, peer: at, link });
            }
        }
    }

    pub(super) fn is_alive(&self, at: usize) -> bool {
        self.nodes[at].node.is_some()
    }

    pub(super) fn node(&self, at: usize) -> Option<&Node> {
        self.nodes[at].node.as_ref()
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn now_at(&self, at: usize) -> Now {
        let wall = EPOCH.saturating_add(self.now).shifted(self.nodes[at].ahead);
        Now { mono: self.now, wall }
    }

    /// The time that this node goes by: its machine's, as it corrects it.
    pub(super) fn time_at(&self, at: usize) -> Timestamp {
        self.now_at(at).wall.shifted(self.correction(at))
    }

    pub(super) fn correction(&self, at: usize) -> i64 {
        self.nodes[at].node.as_ref().map_or(0, Node::correction)
    }

    /// Sets the clock of a node's machine: so many milliseconds ahead of where all began.
    pub(super) fn set_clock(&mut self, at: usize, ahead: i64) {
        self.nodes[at].ahead = ahead;
    }

    /// Has a node dial these anchors, besides those that it found before.
    #[cfg(test)]
    pub(super) fn dial_from_now_on(&mut self, at: usize, bootstrap: Vec<usize>) {
        self.nodes[at].bootstrap = bootstrap;
    }

    /// Puts these nodes on the other side. What was connected across is broken from now on.
    pub(super) fn split(&mut self, nodes: impl IntoIterator<Item = usize>) {
        self.split = nodes.into_iter().collect();
        for at in 0..self.nodes.len() {
            let side = self.split.contains(&at);
            for (peer, (_, carries)) in &mut self.nodes[at].links {
                *carries &= self.split.contains(peer) == side;
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.split.clear();
    }

    fn together(&self, one: usize, other: usize) -> bool {
        self.split.contains(&one) == self.split.contains(&other)
    }

    /// A version as this node would make it now.
    pub(super) fn version(&mut self, at: usize) -> Version {
        let wall = self.time_at(at);
        let slot = &mut self.nodes[at];
        slot.versions += 1;
        Version { wall, counter: slot.versions, node: NodeId::from_u64(at as u64) }
    }

    /// The user of a node stores `value` or, without one, removes what is there.
    pub(super) fn put(&mut self, at: usize, key: &Key, value: Option<&[u8]>) -> (OpId, Version) {
        self.put_for(at, key, value, Duration::from_secs(24 * 3600))
    }

    /// As [`World::put`], for so long.
    pub(super) fn put_for(
        &mut self,
        at: usize,
        key: &Key,
        value: Option<&[u8]>,
        lifetime: Duration,
    ) -> (OpId, Version) {
        let (version, wall) = (self.version(at), self.time_at(at));
        let entry = match value {
            Some(value) => Entry::builder(Bytes::copy_from_slice(value), version, wall)
                .fresh_for(lifetime)
                .build()
                .unwrap_or_else(|_| Entry::tombstone(version, wall)),
            None => Entry::tombstone(version, wall),
        };
        let envelope = envelope::encode(key, &entry);
        let op = self.op(at);
        self.step(at, Event::Put { op, envelope, deadline: DEADLINE });
        (op, version)
    }

    pub(super) fn get(&mut self, at: usize, key: KeyId) -> OpId {
        let op = self.op(at);
        self.step(at, Event::Get { op, key, deadline: DEADLINE });
        op
    }

    #[cfg(test)]
    pub(super) fn lease(&mut self, at: usize, key: KeyId, ttl: Duration, wait: Duration) -> OpId {
        let op = self.op(at);
        self.step(at, Event::Lease { op, key, ttl, wait, newer_than: Version::ZERO });
        op
    }

    fn op(&mut self, at: usize) -> OpId {
        self.nodes[at].ops += 1;
        // Above what an earlier incarnation can have used and the core still remembers: it
        // remembers none.
        let op = OpId(self.nodes[at].ops);
        self.began.insert((at, op), self.now);
        op
    }

    /// How an operation ended, if it has.
    pub(super) fn take(&mut self, at: usize, op: OpId) -> Option<Done> {
        self.done.remove(&(at, op))
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((&(at, order), _)) = self.queue.first_key_value() {
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            if let Some(what) = self.queue.remove(&(at, order)) {
                self.happen(what);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Deliver { from, to, link, message } => {
                let carried =
                    self.nodes[to].links.get(&from).is_some_and(|(now, carries)| *now == link && *carries);
                if carried {
                    let peer = self.nodes[from].key;
                    self.step(to, Event::Message { peer, message });
                }
            }
            What::Closed { at, peer, link } => {
                if self.nodes[at].links.get(&peer).is_some_and(|(now, _)| *now == link) {
                    self.nodes[at].links.remove(&peer);
                    let peer = self.nodes[peer].key;
                    self.step(at, Event::Disconnected { peer });
                }
            }
            What::Arrive { by, to, born, told } => self.arrive(by, to, born, told),
            What::Probed { by, of } => {
                let reached =
                    self.nodes[of].role == Role::Anchor && self.is_alive(of) && self.together(by, of);
                let peer = self.nodes[of].key;
                self.step(by, Event::Dialled { peer, reached });
            }
            What::Wake { at, born } => {
                if self.nodes[at].born == born && self.nodes[at].wakes.is_some_and(|wakes| wakes <= self.now)
                {
                    self.nodes[at].wakes = None;
                    self.step(at, Event::Tick);
                }
            }
            What::Recalled { at, born, key, envelope } => {
                if self.nodes[at].born == born {
                    self.step(at, Event::Recalled { key, envelope });
                }
            }
            What::Redial { at, born } => {
                if self.nodes[at].born != born || self.nodes[at].node.is_none() {
                    return;
                }
                let missing: Vec<_> = self.nodes[at]
                    .bootstrap
                    .iter()
                    .copied()
                    .filter(|peer| *peer != at && !self.nodes[at].links.contains_key(peer))
                    .collect();
                for to in missing {
                    self.dial(at, to, false);
                }
                let wait = self.rng.between(REDIAL / 2, REDIAL);
                self.later(wait, What::Redial { at, born });
            }
        }
    }

    fn dial(&mut self, by: usize, to: usize, told: bool) {
        // TCP and the handshake: three ways there and back.
        let wait: Duration = (0..6).map(|_| self.latency()).sum();
        let born = self.nodes[by].born;
        self.later(wait, What::Arrive { by, to, born, told });
    }

    fn arrive(&mut self, by: usize, to: usize, born: u64, told: bool) {
        if self.nodes[by].born != born || self.nodes[by].node.is_none() {
            return;
        }
        let (mine, theirs) = (self.nodes[by].key, self.nodes[to].key);
        if self.nodes[by].links.contains_key(&to) {
            return;
        }
        let reached = self.nodes[to].role == Role::Anchor && self.is_alive(to) && self.together(by, to);
        if !reached {
            if told {
                self.step(by, Event::Dialled { peer: theirs, reached: false });
            }
            return;
        }
        if self.nodes[to].links.remove(&by).is_some() {
            // A connection of which only one end has noticed that it is gone.
            self.step(to, Event::Disconnected { peer: mine });
        }
        self.links += 1;
        let link = self.links;
        self.nodes[by].links.insert(to, (link, true));
        self.nodes[to].links.insert(by, (link, true));
        let (hello_by, hello_to) = (self.hello(by), self.hello(to));
        self.step(by, Event::Connected { peer: theirs, hello: hello_to, dialled: true });
        self.step(to, Event::Connected { peer: mine, hello: hello_by, dialled: false });
    }

    fn hello(&self, at: usize) -> Hello {
        let now = self.now_at(at);
        Hello {
            role: self.nodes[at].role,
            writer: true,
            addresses: vec![format!("/memory/{at}")],
            removals_since: self.nodes[at].node.as_ref().map(|node| node.removals_since(now)),
            clock: ClockReading { machine: now.wall, correction: self.correction(at) },
        }
    }

    fn step(&mut self, at: usize, event: Event) {
        let now = self.now_at(at);
        let Some(node) = self.nodes[at].node.as_mut() else { return };
        let mut actions = Vec::new();
        node.step(now, event, &mut actions);
        self.busiest = self.busiest.max(actions.len() as u64);
        for action in actions {
            self.act(at, action);
        }
        self.arm(at);
    }

    fn act(&mut self, at: usize, action: Action) {
        match action {
            Action::Send { peer, message } => self.carry(at, peer, message),
            Action::Done { op, outcome } => {
                if let Some(began) = self.began.remove(&(at, op)) {
                    self.done.insert((at, op), Done { outcome, took: self.now - began });
                }
            }
            Action::Dial { peer, .. } => match self.index.get(&peer).copied() {
                Some(to) if self.is_alive(to) && self.together(at, to) => self.dial(at, to, true),
                Some(to) => {
                    let born = self.nodes[at].born;
                    self.later(DIAL_TIMEOUT, What::Arrive { by: at, to, born, told: true });
                }
                None => self.step(at, Event::Dialled { peer, reached: false }),
            },
            Action::Probe { peer, .. } => {
                if let Some(of) = self.index.get(&peer).copied() {
                    let wait = 4 * self.latency();
                    self.later(wait, What::Probed { by: at, of });
                }
            }
            Action::Drop { peer, .. } => {
                let Some(to) = self.index.get(&peer).copied() else { return };
                if let Some((link, carries)) = self.nodes[at].links.remove(&to) {
                    if carries && self.together(at, to) {
                        let wait = self.latency();
                        self.later(wait, What::Closed { at: to, peer: at, link });
                    }
                    self.step(at, Event::Disconnected { peer });
                }
            }
            Action::Keep { envelope, is_first } => self.keep(at, envelope, is_first),
            Action::Recall { key } => {
                let envelope = self.nodes[at].disk.get(&key).map(|(_, envelope)| envelope.clone());
                let born = self.nodes[at].born;
                let wait = self.latency();
                self.later(wait, What::Recalled { at, born, key, envelope });
            }
            Action::Removed { key, .. } => *self.told.entry(key).or_default() += 1,
        }
    }

    /// As a disk does: the newest stays.
    fn keep(&mut self, at: usize, envelope: Bytes, is_first: bool) {
        let Ok((key, entry)) = envelope::decode_unkeyed(envelope.clone()) else { return };
        let (key, version) = (KeyId(key), entry.version());
        let disk = &mut self.nodes[at].disk;
        match disk.get(&key) {
            Some((stored, newer)) if *stored >= version => {
                if is_first && *stored > version {
                    let envelope = Some(newer.clone());
                    let born = self.nodes[at].born;
                    self.later(Duration::ZERO, What::Recalled { at, born, key, envelope });
                }
            }
            _ => {
                disk.insert(key, (version, envelope));
            }
        }
    }

    fn carry(&mut self, from: usize, peer: PeerKey, message: Message) {
        self.traffic.count(&message);
        let Some(to) = self.index.get(&peer).copied() else { return };
        let Some(&(link, carries)) = self.nodes[from].links.get(&to) else { return };
        if !carries || !self.together(from, to) {
            return;
        }
        let mut arrives = self.now + self.latency();
        if self.rng.percent(self.weather.loss) {
            arrives += RETRANSMIT;
        }
        let busy = self.busy.entry((from, to)).or_default();
        arrives = arrives.max(*busy);
        *busy = arrives;
        self.order += 1;
        self.queue.insert((arrives, self.order), What::Deliver { from, to, link, message });
    }

    fn arm(&mut self, at: usize) {
        let slot = &mut self.nodes[at];
        let Some(due) = slot.node.as_ref().and_then(Node::wakes_at) else { return };
        if slot.wakes.is_none_or(|wakes| wakes > due || wakes < self.now) {
            slot.wakes = Some(due);
            let born = slot.born;
            let wait = due.saturating_sub(self.now);
            self.later(wait, What::Wake { at, born });
        }
    }

    fn latency(&mut self) -> Duration {
        let Weather { least, most, .. } = self.weather;
        self.rng.between(least, most)
    }

    fn later(&mut self, wait: Duration, what: What) {
        self.order += 1;
        self.queue.insert((self.now + wait, self.order), what);
    }
}
