//! One node, and peers that say what the test wants.

use std::time::Duration;

use bytes::Bytes;
use peercache_api::{Entry, Key, MAX_CLOCK_SKEW, NodeId, Timestamp, Version, envelope};

use super::peers::{QUIET, SILENT};
use super::*;
use crate::wire::{AnchorInfo, ClockReading, KeyId, Message, PeerKey, PutReply};

mod clock;
mod recall;

const WALL: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const ME: PeerKey = PeerKey([9; 32]);
const A: PeerKey = PeerKey([1; 32]);
const B: PeerKey = PeerKey([2; 32]);
const C: PeerKey = PeerKey([3; 32]);
const SECOND: Duration = Duration::from_secs(1);

struct Alone {
    node: Node,
    mono: Duration,
    ops: u64,
}

impl Alone {
    fn new(role: Role) -> Self {
        Self::that_checks(role, true)
    }

    fn that_checks(role: Role, checks_writers: bool) -> Self {
        Self::with(role, checks_writers, false)
    }

    fn that_keeps() -> Self {
        Self::with(Role::Anchor, true, true)
    }

    fn with(role: Role, checks_writers: bool, keeps: bool) -> Self {
        let settings =
            Settings { me: ME, role, placement: [5; 16], capacity: 1 << 20, keeps, checks_writers, seed: 1 };
        Self { node: Node::new(settings, now(Duration::ZERO)), mono: Duration::ZERO, ops: 0 }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.node.step(now(self.mono), event, &mut actions);
        actions
    }

    fn connect(&mut self, peer: PeerKey, role: Role, writer: bool, dialled: bool) -> Vec<Action> {
        let clock = ClockReading { machine: now(self.mono).wall, correction: 0 };
        self.connect_with(peer, (role, writer, dialled), clock)
    }

    fn connect_with(
        &mut self,
        peer: PeerKey,
        (role, writer, dialled): (Role, bool, bool),
        clock: ClockReading,
    ) -> Vec<Action> {
        let hello = Hello { role, writer, addresses: vec!["/ip4/x".into()], removals_since: None, clock };
        self.step(Event::Connected { peer, hello, dialled })
    }

    fn hears(&mut self, peer: PeerKey, message: Message) -> Vec<Action> {
        self.step(Event::Message { peer, message })
    }

    fn passes(&mut self, time: Duration) -> Vec<Action> {
        let end = self.mono + time;
        let mut actions = Vec::new();
        while let Some(due) = self.node.wakes_at().filter(|due| *due <= end) {
            self.mono = self.mono.max(due);
            actions.extend(self.step(Event::Tick));
        }
        self.mono = end;
        actions
    }

    fn op(&mut self) -> OpId {
        self.ops += 1;
        OpId(self.ops)
    }

    fn get(&mut self, key: &Key) -> Vec<Action> {
        let op = self.op();
        self.step(Event::Get { op, key: key.into(), deadline: SECOND })
    }

    fn put(&mut self, envelope: Bytes) -> Vec<Action> {
        let op = self.op();
        self.step(Event::Put { op, envelope, deadline: SECOND })
    }
}

fn now(mono: Duration) -> Now {
    Now { mono, wall: WALL.saturating_add(mono) }
}

fn version(wall: Timestamp) -> Version {
    Version { wall, counter: 0, node: NodeId::from_u64(1) }
}

fn value(key: &Key, wall: Timestamp) -> Bytes {
    let entry = Entry::builder("value", version(wall), wall).fresh_for(Duration::from_secs(60)).build();
    envelope::encode(key, &entry.unwrap())
}

fn tombstone(key: &Key, wall: Timestamp) -> Bytes {
    envelope::encode(key, &Entry::tombstone(version(wall), wall))
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// What was sent, and to whom, but for membership and signs of life.
fn sent(actions: &[Action]) -> Vec<(PeerKey, Message)> {
    let talk = |message: &Message| {
        !matches!(
            message,
            Message::View { .. } | Message::Vouched | Message::Ping { .. } | Message::Summary { .. }
        )
    };
    let sends = actions.iter().filter_map(|action| match action {
        Action::Send { peer, message } if talk(message) => Some((*peer, message.clone())),
        _ => None,
    });
    sends.collect()
}

fn outcome(actions: &[Action]) -> Option<Outcome> {
    actions.iter().find_map(|action| match action {
        Action::Done { outcome, .. } => Some(outcome.clone()),
        _ => None,
    })
}

fn asked(actions: &[Action]) -> Vec<(PeerKey, u64)> {
    let gets = sent(actions).into_iter().filter_map(|(peer, message)| match message {
        Message::Get { req, .. } | Message::Put { req, .. } | Message::Lease { req, .. } => Some((peer, req)),
        _ => None,
    });
    gets.collect()
}

#[test]
fn a_leaf_with_nobody_fails_at_once_and_an_anchor_alone_serves_itself() {
    let mut leaf = Alone::new(Role::Leaf);
    assert_eq!(outcome(&leaf.get(&key("k"))), Some(Outcome::Failed(Failure::Unreachable)));
    assert_eq!(outcome(&leaf.put(value(&key("k"), WALL))), Some(Outcome::Failed(Failure::Unreachable)));
    let mut anchor = Alone::new(Role::Anchor);
    assert_eq!(outcome(&anchor.get(&key("k"))), Some(Outcome::Absent));
    assert_eq!(outcome(&anchor.put(value(&key("k"), WALL))), Some(Outcome::Stored(1)));
    assert_eq!(outcome(&anchor.get(&key("k"))), Some(Outcome::Found(value(&key("k"), WALL))));
}

#[test]
fn a_sure_miss_ends_a_lookup_and_an_unsure_one_asks_the_next() {
    let mut leaf = Alone::new(Role::Leaf);
    for peer in [A, B, C] {
        leaf.connect(peer, Role::Anchor, true, true);
    }
    let first = asked(&leaf.get(&key("k")));
    assert_eq!(first.len(), 1, "one question");
    let next = asked(&leaf.hears(first[0].0, Message::Miss { req: first[0].1, sure: false }));
    assert_eq!(next.len(), 1);
    assert_ne!(next[0].0, first[0].0);
    let end = leaf.hears(next[0].0, Message::Miss { req: next[0].1, sure: true });
    assert_eq!(outcome(&end), Some(Outcome::Absent));
    let first = asked(&leaf.get(&key("k")));
    let end = leaf.hears(first[0].0, Message::Miss { req: first[0].1, sure: true });
    assert_eq!(outcome(&end), Some(Outcome::Absent));
}

#[test]
fn a_slow_owner_is_hedged_and_the_loser_is_told() {
    let mut leaf = Alone::new(Role::Leaf);
    leaf.connect(A, Role::Anchor, true, true);
    leaf.connect(B, Role::Anchor, true, true);
    let first = asked(&leaf.get(&key("k")));
    let second = asked(&leaf.passes(Duration::from_millis(100)));
    assert_eq!((first.len(), second.len()), (1, 1));
    let envelope = value(&key("k"), WALL);
    let end = leaf.hears(second[0].0, Message::Hit { req: second[0].1, envelope: envelope.clone() });
    assert_eq!(outcome(&end), Some(Outcome::Found(envelope)));
    assert_eq!(sent(&end), [(first[0].0, Message::Cancel { req: first[0].1 })]);
}

#[test]
fn an_owner_that_goes_away_is_followed_by_the_next_and_silence_ends_at_the_deadline() {
    let mut leaf = Alone::new(Role::Leaf);
    leaf.connect(A, Role::Anchor, true, true);
    leaf.connect(B, Role::Anchor, true, true);
    let first = asked(&leaf.get(&key("k")));
    let next = asked(&leaf.step(Event::Disconnected { peer: first[0].0 }));
    assert_eq!(next.len(), 1);
    assert_eq!(outcome(&leaf.passes(SECOND)), Some(Outcome::Failed(Failure::Timeout)));
    let busy = asked(&leaf.get(&key("k")));
    let end = leaf.hears(busy[0].0, Message::Busy { req: busy[0].1, retry_ms: 10 });
    assert_eq!(outcome(&end), Some(Outcome::Failed(Failure::Busy)));
}

#[test]
fn an_answer_of_another_peer_or_to_no_question_is_not_heard() {
    let mut leaf = Alone::new(Role::Leaf);
    leaf.connect(A, Role::Anchor, true, true);
    leaf.connect(B, Role::Anchor, true, true);
    let first = asked(&leaf.get(&key("k")));
    let other = if first[0].0 == A { B } else { A };
    let forged = Message::Hit { req: first[0].1, envelope: value(&key("k"), WALL) };
    assert!(leaf.hears(other, forged.clone()).is_empty());
    assert!(leaf.hears(C, forged).is_empty(), "nobody knows it");
    // Another key's entry, and a damaged one, are no answer either.
    let end = leaf.hears(first[0].0, Message::Hit { req: first[0].1, envelope: value(&key("x"), WALL) });
    let second = asked(&end);
    let mut damaged = value(&key("k"), WALL).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let end = leaf.hears(second[0].0, Message::Hit { req: second[0].1, envelope: damaged.into() });
    assert_eq!(outcome(&end), Some(Outcome::Failed(Failure::Unreachable)));
    assert_eq!(leaf.node.counters.refused_entries, 2);
}

#[test]
fn who_may_not_write_stores_nothing_and_removes_nothing() {
    let mut anchor = Alone::new(Role::Anchor);
    anchor.connect(A, Role::Leaf, false, false);
    let (envelope, grave) = (value(&key("k"), WALL), tombstone(&key("k"), WALL));
    let put = Message::Put { req: 1, envelope: envelope.clone(), relay: false };
    let refused = Message::PutDone { req: 1, reply: PutReply::Refused };
    assert_eq!(sent(&anchor.hears(A, put.clone())), [(A, refused)]);
    anchor.put(envelope.clone());
    anchor.hears(A, Message::Removal { envelope: grave, forwarded: false });
    assert_eq!(outcome(&anchor.get(&key("k"))), Some(Outcome::Found(envelope)));
    let lease = Message::Lease {
        req: 2,
        key: (&key("x")).into(),
        ttl_ms: 1000,
        wait_ms: 1000,
        newer_than: Version::ZERO,
    };
    assert_eq!(sent(&anchor.hears(A, lease)), [(A, Message::Miss { req: 2, sure: true })]);
    anchor.connect(B, Role::Leaf, true, false);
    assert_eq!(sent(&anchor.hears(B, put)), [(B, Message::PutDone { req: 1, reply: PutReply::Stored })]);
}

#[test]
fn what_claims_to_be_from_the_future_is_neither_stored_nor_believed() {
    let future = WALL.saturating_add(MAX_CLOCK_SKEW + SECOND);
    let mut anchor = Alone::new(Role::Anchor);
    anchor.connect(A, Role::Leaf, true, false);
    let put = Message::Put { req: 1, envelope: value(&key("k"), future), relay: false };
    assert_eq!(sent(&anchor.hears(A, put)), [(A, Message::PutDone { req: 1, reply: PutReply::Refused })]);
    anchor.put(value(&key("k"), WALL));
    anchor.hears(A, Message::Removal { envelope: tombstone(&key("k"), future), forwarded: false });
    assert_eq!(outcome(&anchor.get(&key("k"))), Some(Outcome::Found(value(&key("k"), WALL))));
}

#[test]
fn a_removal_that_was_heard_of_hides_what_a_peer_still_has() {
    let mut leaf = Alone::new(Role::Leaf);
    leaf.connect(A, Role::Anchor, true, true);
    let later = WALL.saturating_add(SECOND);
    let heard = leaf.hears(A, Message::Removal { envelope: tombstone(&key("k"), later), forwarded: true });
    assert_eq!(heard, [Action::Removed { key: (&key("k")).into(), envelope: tombstone(&key("k"), later) }]);
    let first = asked(&leaf.get(&key("k")));
    let end = leaf.hears(A, Message::Hit { req: first[0].1, envelope: value(&key("k"), WALL) });
    assert_eq!(outcome(&end), Some(Outcome::Absent));
}

#[test]
fn who_claims_to_be_an_anchor_is_in_the_ring_only_once_it_was_dialled() {
    let mut anchor = Alone::new(Role::Anchor);
    let met = anchor.connect(A, Role::Anchor, true, false);
    assert!(met.iter().any(|action| matches!(action, Action::Probe { peer: A, .. })), "{met:?}");
    assert!(!anchor.node.ring.contains(A));
    let reached = anchor.step(Event::Dialled { peer: A, reached: true });
    assert!(reached.contains(&Action::Send { peer: A, message: Message::Vouched }));
    assert!(anchor.node.ring.contains(A));
    assert!(!anchor.node.is_in_ring(), "nobody has dialled this one, and there is another");
    anchor.hears(A, Message::Vouched);
    assert!(anchor.node.is_in_ring());
}

#[test]
fn a_quiet_peer_is_asked_for_a_sign_of_life_and_a_silent_one_given_up() {
    let mut leaf = Alone::new(Role::Leaf);
    leaf.connect(A, Role::Anchor, true, true);
    let pings = leaf.passes(QUIET);
    assert!(matches!(pings[..], [Action::Send { peer: A, message: Message::Ping { .. } }]), "{pings:?}");
    let clock = ClockReading { machine: now(leaf.mono).wall, correction: 0 };
    leaf.hears(A, Message::Pong { nonce: 0, clock });
    let end = leaf.passes(SILENT + QUIET);
    assert!(end.iter().any(|action| matches!(action, Action::Drop { peer: A, .. })), "{end:?}");
    assert_eq!(outcome(&leaf.get(&key("k"))), Some(Outcome::Failed(Failure::Unreachable)));
}

#[test]
fn a_value_on_its_way_is_found_where_it_comes_from() {
    let mut leaf = Alone::new(Role::Leaf);
    leaf.connect(A, Role::Anchor, true, true);
    let large = Entry::builder(vec![1; 100_000], version(WALL), WALL).fresh_for(SECOND * 60).build().unwrap();
    let envelope = envelope::encode(&key("k"), &large);
    let begun = sent(&leaf.put(envelope.clone()));
    assert!(matches!(begun[0].1, Message::Announce { .. }) && matches!(begun[1].1, Message::Put { .. }));
    let question = Message::Get { req: 7, key: (&key("k")).into(), deadline_ms: 100, forwarded: true };
    assert_eq!(sent(&leaf.hears(A, question)), [(A, Message::Hit { req: 7, envelope })]);

    let mut anchor = Alone::new(Role::Anchor);
    anchor.connect(B, Role::Leaf, true, false);
    anchor.connect(C, Role::Leaf, true, false);
    anchor.hears(B, Message::Announce { key: (&key("k")).into(), version: version(WALL) });
    let question = Message::Get { req: 8, key: (&key("k")).into(), deadline_ms: 100, forwarded: false };
    assert!(matches!(sent(&anchor.hears(C, question))[..], [(B, Message::Get { forwarded: true, .. })]));
}

#[test]
fn what_a_leaf_cannot_send_itself_is_relayed() {
    let mut leaf = Alone::new(Role::Leaf);
    leaf.connect(A, Role::Anchor, true, true);
    let far = |peer| AnchorInfo { peer, addresses: Vec::new() };
    leaf.hears(A, Message::View { full: true, anchors: vec![far(B), far(C)], gone: Vec::new() });
    assert_eq!(leaf.node.ring.anchors().len(), 3);
    let relayed = (0..20).filter(|number| {
        let put = sent(&leaf.put(value(&key(&format!("k{number}")), WALL)));
        assert!(matches!(put[..], [(A, Message::Put { .. })]));
        matches!(put[..], [(_, Message::Put { relay: true, .. })])
    });
    assert_eq!(relayed.count(), 20, "A alone never owns everything");
}

#[test]
fn operations_and_hints_are_bounded() {
    let mut anchor = Alone::new(Role::Anchor);
    anchor.connect(A, Role::Leaf, true, false);
    for number in 0..5_000 {
        let key = KeyId::from(&key(&format!("k{number}")));
        anchor.hears(A, Message::Announce { key, version: version(WALL) });
        let envelope = tombstone(&self::key(&format!("k{number}")), WALL);
        anchor.hears(A, Message::Removal { envelope, forwarded: false });
        let lease = Message::Lease { req: number, key, ttl_ms: 1, wait_ms: 1, newer_than: Version::ZERO };
        anchor.hears(A, lease);
    }
    assert!(anchor.node.hints.len() <= 1024);
    assert!(anchor.node.store.bytes() <= 1 << 20);
    anchor.passes(Duration::from_secs(2));
    assert!(anchor.node.leases.is_empty());
    anchor.step(Event::Disconnected { peer: A });
    assert!(anchor.node.hints.is_empty() && anchor.node.asks.is_empty());
}

#[test]
fn what_is_relayed_is_acknowledged_when_its_owners_have_it() {
    let mut anchor = Alone::new(Role::Anchor);
    for peer in [A, B, C] {
        anchor.connect(peer, Role::Anchor, true, true);
        anchor.hears(peer, Message::Vouched);
    }
    anchor.connect(PeerKey([7; 32]), Role::Leaf, true, false);
    let leaf = PeerKey([7; 32]);
    let mut relayed = 0;
    for number in 0..20 {
        let put =
            Message::Put { req: number, envelope: value(&key(&format!("k{number}")), WALL), relay: true };
        let sends = sent(&anchor.hears(leaf, put));
        assert!(sends.iter().all(|(peer, _)| *peer != leaf), "not before the owners have it: {sends:?}");
        let mut left = sends.len();
        for (owner, message) in sends {
            let Message::Put { req, .. } = message else { panic!("{message:?}") };
            left -= 1;
            let answers = sent(&anchor.hears(owner, Message::PutDone { req, reply: PutReply::Stored }));
            let done = (leaf, Message::PutDone { req: number, reply: PutReply::Stored });
            assert_eq!(answers, if left == 0 { vec![done] } else { vec![] });
        }
        relayed += 1;
    }
    assert_eq!(relayed, 20);
    assert!(anchor.node.writes.is_empty() && anchor.node.write_bytes == 0);
}

#[test]
fn who_cannot_tell_writers_believes_removals_of_anchors_it_has_dialled() {
    let mut reader = Alone::that_checks(Role::Leaf, false);
    reader.connect(A, Role::Anchor, false, true);
    reader.connect(B, Role::Leaf, false, false);
    let removal = |name: &str| Message::Removal { envelope: tombstone(&key(name), WALL), forwarded: true };
    assert!(matches!(reader.hears(A, removal("k"))[..], [Action::Removed { .. }]));
    assert!(reader.hears(B, removal("l")).is_empty());
    // Where writers can be told, one that may not write is no anchor either.
    let mut leaf = Alone::new(Role::Leaf);
    leaf.connect(A, Role::Anchor, false, true);
    assert!(leaf.node.ring.anchors().is_empty());
}
