//! The doors through which the fuzzers in `fuzz/` reach what peers can send. In no ordinary build.

use std::time::Duration;

use bytes::Bytes;
use peercache_api::Timestamp;

use crate::core::{Action, Event, Hello, Node, Now, OpId, Role, Settings};
use crate::wire::{ClockReading, KeyId, Message, PeerKey};

const CAPACITY: usize = 1 << 20;
/// Kind, flags and number.
const HEADER: usize = 10;
/// What one message may make a node do at most, with all that became due by then.
const MOST_ACTIONS: usize = 4096;

/// A message is what its bytes say, and writes them again.
pub fn message(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(Some(message)) = Message::decode(bytes.clone()) else { return };
    let (head, body) = message.encode();
    let written = Bytes::from([head, body].concat());
    assert_eq!(written.len(), bytes.len());
    // Flags and a number that the kind does not have are ignored, so that a later release can use
    // them.
    assert_eq!((written[0], &written[HEADER..]), (bytes[0], &bytes[HEADER..]));
    assert_eq!(Message::decode(written), Ok(Some(message)));
}

/// A node that three peers tell whatever `data` says, an anchor or a leaf. Each message has a
/// length of two bytes, the peer that sends it, and the milliseconds that pass before.
pub fn node(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let role = if first & 1 == 0 { Role::Anchor } else { Role::Leaf };
    let mut now = Now { mono: Duration::ZERO, wall: Timestamp::from_millis(1_800_000_000_000) };
    let settings = Settings {
        me: PeerKey([9; 32]),
        role,
        placement: [1; 16],
        capacity: CAPACITY,
        keeps: false,
        checks_writers: first & 2 == 0,
        seed: u64::from(first),
    };
    let mut node = Node::new(settings, now);
    let mut actions = Vec::new();
    for (number, role) in [(1, Role::Anchor), (2, Role::Leaf), (3, Role::Anchor)] {
        let hello = Hello {
            role,
            writer: number != 2,
            addresses: Vec::new(),
            removals_since: None,
            clock: ClockReading { machine: Timestamp::EPOCH, correction: 0 },
        };
        let peer = PeerKey([number; 32]);
        node.step(now, Event::Connected { peer, hello, dialled: number == 1 }, &mut actions);
    }
    let mut op = 0;
    while let Some((head, tail)) = rest.split_at_checked(4) {
        let length = usize::from(u16::from_be_bytes([head[0], head[1]])).min(tail.len());
        let (bytes, after) = tail.split_at(length);
        rest = after;
        let step = Duration::from_millis(u64::from(head[3]));
        now = Now { mono: now.mono + step, wall: now.wall.saturating_add(step) };
        let peer = PeerKey([1 + head[2] % 3; 32]);
        let event = match head[2] >> 4 {
            0 => Event::Disconnected { peer },
            1 => {
                op += 1;
                Event::Get { op: OpId(op), key: KeyId([head[3]; 32]), deadline: Duration::from_millis(50) }
            }
            _ => match Message::decode(Bytes::copy_from_slice(bytes)) {
                Ok(Some(message)) => Event::Message { peer, message },
                _ => Event::Tick,
            },
        };
        actions.clear();
        node.step(now, event, &mut actions);
        let dropped = actions.iter().filter(|action| matches!(action, Action::Drop { .. })).count();
        assert!(actions.len() <= MOST_ACTIONS, "{} actions, {dropped} of them drops", actions.len());
        assert!(node.report(now).bytes <= CAPACITY);
    }
}
