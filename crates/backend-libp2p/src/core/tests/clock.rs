//! Members whose clocks differ.

use super::*;

/// What a clock says that is so many milliseconds ahead.
fn ahead(node: &Alone, millis: i64) -> ClockReading {
    ClockReading { machine: now(node.mono).wall.shifted(millis), correction: 0 }
}

const MINUTE: i64 = 60_000;

#[test]
fn leaf_goes_by_the_time_of_its_anchor_from_the_greeting_on() {
    for millis in [-10 * MINUTE, 10 * MINUTE] {
        let mut leaf = Alone::new(Role::Leaf);
        let clock = ahead(&leaf, millis);
        leaf.connect_with(A, (Role::Anchor, true, true), clock);
        assert_eq!(leaf.node.correction(), millis);
        let report = leaf.node.report(now(leaf.mono));
        assert_eq!((report.correction, report.members[0].clock_ahead), (millis, Some(millis)));
        // What the anchor has is of its time.
        let envelope = value(&key("k"), now(leaf.mono).wall.shifted(millis));
        let question = asked(&leaf.get(&key("k")));
        let end = leaf.hears(A, Message::Hit { req: question[0].1, envelope: envelope.clone() });
        assert_eq!(outcome(&end), Some(Outcome::Found(envelope)));
        // It stays so while nobody is connected.
        leaf.step(Event::Disconnected { peer: A });
        assert_eq!(leaf.node.correction(), millis);
    }
}

#[test]
fn few_seconds_are_no_difference_and_a_clock_that_was_never_set_is_not_followed() {
    for millis in [4_000, -4_000, 48 * 60 * MINUTE, -1_700_000_000_000] {
        let mut leaf = Alone::new(Role::Leaf);
        let clock = ahead(&leaf, millis);
        leaf.connect_with(A, (Role::Anchor, true, true), clock);
        assert_eq!(leaf.node.correction(), 0, "{millis}");
        assert_eq!(leaf.node.report(now(leaf.mono)).members[0].clock_ahead, Some(millis));
    }
}

#[test]
fn only_anchors_that_were_dialled_set_the_time() {
    let mut anchor = Alone::new(Role::Anchor);
    let clock = ahead(&anchor, -10 * MINUTE);
    anchor.connect_with(A, (Role::Leaf, true, false), clock);
    anchor.connect_with(B, (Role::Anchor, true, false), clock);
    assert_eq!(anchor.node.correction(), 0);
    anchor.step(Event::Dialled { peer: B, reached: true });
    assert_eq!(anchor.node.correction(), -10 * MINUTE, "of two the one that is behind");
    let clock = ahead(&anchor, 10 * MINUTE);
    anchor.connect_with(C, (Role::Anchor, true, true), clock);
    assert_eq!(anchor.node.correction(), 0, "of three the one in the middle");
}

#[test]
fn an_answer_to_a_ping_tells_the_time_unless_it_took_long() {
    let mut leaf = Alone::new(Role::Leaf);
    leaf.connect(A, Role::Anchor, true, true);
    let nonce = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Send { message: Message::Ping { nonce }, .. } => Some(*nonce),
            _ => None,
        })
    };
    let first = nonce(&leaf.passes(QUIET)).unwrap();
    let late = ahead(&leaf, 10 * MINUTE);
    leaf.passes(SECOND);
    leaf.passes(SECOND * 3 / 2);
    leaf.hears(A, Message::Pong { nonce: first, clock: late });
    assert_eq!(leaf.node.correction(), 0);
    let second = nonce(&leaf.passes(QUIET)).unwrap();
    let clock = ClockReading { correction: 1_000, ..ahead(&leaf, 10 * MINUTE) };
    leaf.hears(A, Message::Pong { nonce: second, clock });
    assert_eq!(leaf.node.correction(), 10 * MINUTE + 1_000, "as the anchor itself corrects it");
}

#[test]
fn a_peer_that_is_never_quiet_is_asked_for_its_time() {
    let mut leaf = Alone::new(Role::Leaf);
    leaf.connect(A, Role::Anchor, true, true);
    let mut pings = 0;
    for _ in 0..90 {
        let actions = leaf.passes(SECOND);
        pings += actions
            .iter()
            .filter(|action| matches!(action, Action::Send { message: Message::Ping { .. }, .. }))
            .count();
        let clock = ahead(&leaf, 0);
        let ping = actions.iter().find_map(|action| match action {
            Action::Send { message: Message::Ping { nonce }, .. } => Some(*nonce),
            _ => None,
        });
        leaf.hears(
            A,
            ping.map_or(Message::Miss { req: 1, sure: true }, |nonce| Message::Pong { nonce, clock }),
        );
    }
    assert!((2..=4).contains(&pings), "{pings} in 90 s");
}

#[test]
fn whatever_a_clock_says_nothing_overflows() {
    for (machine, correction) in [(0, i64::MIN), (u64::MAX, i64::MAX), (u64::MAX, i64::MIN), (0, i64::MAX)] {
        for role in [Role::Leaf, Role::Anchor] {
            let mut node = Alone::new(role);
            let clock = ClockReading { machine: Timestamp::from_millis(machine), correction };
            node.connect_with(A, (Role::Anchor, true, true), clock);
            assert_eq!(node.node.correction(), 0, "{machine} {correction}");
            node.passes(SECOND);
        }
    }
}

#[test]
fn a_clock_that_is_set_while_the_process_runs_changes_the_time_of_nobody() {
    for millis in [-40 * MINUTE, 40 * MINUTE] {
        for role in [Role::Leaf, Role::Anchor] {
            let mut node = Alone::new(role);
            node.connect(A, Role::Anchor, true, true);
            node.connect(B, Role::Anchor, true, true);
            node.mono += SECOND;
            let set = Now { wall: now(node.mono).wall.shifted(millis), ..now(node.mono) };
            node.node.step(set, Event::Tick, &mut Vec::new());
            assert_eq!(node.node.correction(), -millis, "{role:?} still goes by the same time");
            let report = node.node.report(set);
            assert!(report.members.iter().all(|member| member.clock_ahead == Some(-millis)));
            // And is set right again.
            node.node.step(now(node.mono), Event::Tick, &mut Vec::new());
            assert_eq!(node.node.correction(), 0);
        }
    }
    // Alone there is nobody to go by.
    let mut alone = Alone::new(Role::Anchor);
    let set = Now { wall: now(SECOND).wall.shifted(40 * MINUTE), ..now(SECOND) };
    alone.node.step(set, Event::Tick, &mut Vec::new());
    assert_eq!(alone.node.correction(), 0);
}
