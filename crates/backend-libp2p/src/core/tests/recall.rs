//! An anchor that keeps what it holds outside of its memory.

use super::super::recall::RECALL_LASTS;
use super::*;

fn recalls(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Recall { .. })).count()
}

fn question(req: u64, forwarded: bool) -> Message {
    Message::Get { req, key: (&key("k")).into(), deadline_ms: 1000, forwarded }
}

fn found(envelope: Option<Bytes>) -> Event {
    Event::Recalled { key: (&key("k")).into(), envelope }
}

#[test]
fn key_that_is_kept_outside_is_found_there_once_for_all_that_ask() {
    let mut anchor = Alone::that_keeps();
    anchor.connect(A, Role::Leaf, true, false);
    let first = anchor.get(&key("k"));
    assert_eq!((recalls(&first), outcome(&first)), (1, None), "nobody is told that there is none");
    assert_eq!(anchor.hears(A, question(1, false)), [], "it waits for the same answer");
    let envelope = value(&key("k"), WALL);
    let told = anchor.step(found(Some(envelope.clone())));
    assert_eq!(outcome(&told), Some(Outcome::Found(envelope.clone())));
    assert_eq!(sent(&told), [(A, Message::Hit { req: 1, envelope: envelope.clone() })]);
    assert_eq!(anchor.node.counters.restored, 1);
    assert_eq!(outcome(&anchor.get(&key("k"))), Some(Outcome::Found(envelope)), "from memory now");

    let mut leaf = Alone::new(Role::Leaf);
    assert_eq!(recalls(&leaf.get(&key("k"))), 0, "a leaf keeps nothing");
}

#[test]
fn key_that_is_nowhere_is_a_sure_miss_and_a_slow_disk_is_not_waited_for() {
    let mut anchor = Alone::that_keeps();
    anchor.connect(A, Role::Leaf, true, false);
    anchor.hears(A, question(1, false));
    assert_eq!(sent(&anchor.step(found(None))), [(A, Message::Miss { req: 1, sure: true })]);
    anchor.hears(A, question(2, true));
    assert_eq!(sent(&anchor.passes(RECALL_LASTS)), [(A, Message::Miss { req: 2, sure: true })]);
    assert_eq!(anchor.step(found(Some(value(&key("k"), WALL)))), [], "later it is kept for the next one");
    assert!(matches!(sent(&anchor.hears(A, question(3, false)))[..], [(A, Message::Hit { .. })]));
}

#[test]
fn who_no_longer_waits_for_what_is_kept_is_not_answered() {
    let mut anchor = Alone::that_keeps();
    anchor.connect(A, Role::Leaf, true, false);
    anchor.connect(B, Role::Leaf, true, false);
    anchor.hears(A, question(1, false));
    anchor.hears(B, question(1, false));
    anchor.hears(A, Message::Cancel { req: 1 });
    anchor.step(Event::Disconnected { peer: B });
    let op = anchor.op();
    anchor.step(Event::Get { op, key: (&key("k")).into(), deadline: SECOND });
    anchor.step(Event::Cancel { op });
    assert_eq!(anchor.node.parked, 0);
    assert_eq!(anchor.step(found(Some(value(&key("k"), WALL)))), []);
    assert!(anchor.node.recalls.is_empty() && anchor.node.ops.is_empty());
}

#[test]
fn everything_that_is_stored_is_kept_and_an_older_write_gives_way_to_what_is_outside() {
    let mut anchor = Alone::that_keeps();
    anchor.connect(A, Role::Leaf, true, false);
    let (old, new) = (value(&key("k"), WALL), value(&key("k"), WALL.saturating_add(SECOND)));
    let kept = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Keep { envelope, is_first } => Some((envelope.clone(), *is_first)),
            _ => None,
        })
    };
    let put = |req, envelope: &Bytes| Message::Put { req, envelope: envelope.clone(), relay: false };
    assert_eq!(kept(&anchor.hears(A, put(1, &old))), Some((old.clone(), true)));
    assert_eq!(kept(&anchor.hears(A, put(2, &old))), None, "it is kept already");
    // The disk has something newer, of before the restart.
    anchor.step(found(Some(new.clone())));
    assert_eq!(outcome(&anchor.get(&key("k"))), Some(Outcome::Found(new)));
    let grave = tombstone(&key("k"), WALL.saturating_add(2 * SECOND));
    assert_eq!(kept(&anchor.hears(A, put(3, &grave))), Some((grave.clone(), false)));
    anchor.step(found(Some(old)));
    assert_eq!(outcome(&anchor.get(&key("k"))), Some(Outcome::Found(grave)), "nothing brings it back");
}

#[test]
fn what_was_kept_is_not_certain_before_the_other_owner_was_asked() {
    let mut anchor = Alone::that_keeps();
    let (old, new) = (value(&key("k"), WALL), value(&key("k"), WALL.saturating_add(SECOND)));
    let now = now(Duration::ZERO);
    assert!(anchor.node.restore(now, old.clone(), false));
    assert_eq!(outcome(&anchor.get(&key("k"))), Some(Outcome::Found(old)), "alone it is all there is");
    anchor.connect(B, Role::Anchor, true, true);
    anchor.hears(B, Message::Vouched);
    let asked = asked(&anchor.get(&key("k")));
    assert_eq!(asked.len(), 1, "the other one may have something newer");
    let end = anchor.hears(B, Message::Hit { req: asked[0].1, envelope: new.clone() });
    assert_eq!(outcome(&end), Some(Outcome::Found(new)));
}

#[test]
fn what_is_taken_back_drives_nothing_out_and_is_bounded() {
    let mut anchor = Alone::that_keeps();
    let now = now(Duration::ZERO);
    anchor.put(value(&key("own"), WALL));
    let large = |number: u64| {
        let entry = Entry::builder(vec![1; 100_000], version(WALL), WALL).fresh_for(SECOND * 60).build();
        envelope::encode(&key(&format!("k{number}")), &entry.unwrap())
    };
    let taken = (0..100).take_while(|number| anchor.node.restore(now, large(*number), false)).count();
    assert!((9..=10).contains(&taken), "{taken} of 1 MiB");
    assert!(matches!(outcome(&anchor.get(&key("own"))), Some(Outcome::Found(_))));
    assert!(anchor.node.store.bytes() <= 1 << 20);
}
