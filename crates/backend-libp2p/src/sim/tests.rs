//! Fleets of 10 to 1,000 nodes. `cargo xtask bench sim` runs 10,000.

use std::time::Duration;

use peercache_api::Key;

use super::world::{Weather, World};
use super::*;
use crate::core::{Outcome, Role};
use crate::wire::KeyId;

/// Tells how to see a failure again.
fn holds(name: &str, fleet: Fleet, outcomes: &Outcomes, is_right: bool) {
    assert!(is_right, "{name} {fleet:?}: {outcomes}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(churn(Fleet::of(20, 7)), churn(Fleet::of(20, 7)));
    assert_ne!(churn(Fleet::of(20, 7)), churn(Fleet::of(20, 8)));
}

#[test]
fn a_calm_fleet_finds_everything_and_its_messages_do_not_grow() {
    let all: Vec<_> =
        [10, 100, 1_000].map(|nodes| Fleet::of(nodes, 1)).map(|fleet| (fleet, steady(fleet))).into();
    for (fleet, it) in &all {
        let bad = it.lost + it.stale + it.resurrected + it.failed + it.apart;
        holds("steady", *fleet, it, bad == 0 && it.hits > 0);
        holds("steady", *fleet, it, it.messages_per_hit < 4.5 && it.messages_per_miss < 4.5);
        holds("steady", *fleet, it, it.messages_per_put < 6.5);
        // Each anchor tells its own leaves, so a leaf hears of it once from each that it is
        // connected with.
        let links = fleet.anchors.min(crate::core::SMALL_RING) as f64;
        holds("steady", *fleet, it, it.messages_per_removal_and_node < links + 1.5);
    }
}

#[test]
fn churn_loses_little_and_brings_nothing_back() {
    for seed in 0..4 {
        let fleet = Fleet::of(100, seed);
        let it = churn(fleet);
        holds("churn", fleet, &it, it.stale + it.resurrected + it.failed + it.apart == 0);
        holds("churn", fleet, &it, it.lost * 100 <= it.hits);
    }
}

#[test]
fn a_healed_partition_agrees_on_the_newest_and_brings_nothing_back() {
    for (nodes, seed) in [(10, 0), (10, 1), (100, 2), (100, 3), (100, 4), (60, 5), (60, 6), (1_000, 1)] {
        let fleet = Fleet::of(nodes, seed);
        let it = partition(fleet);
        let bad = it.lost + it.stale + it.resurrected + it.failed + it.apart;
        holds("partition", fleet, &it, bad == 0 && it.hits > 0);
    }
}

#[test]
fn clocks_that_are_set_lose_nothing_and_bring_nothing_back() {
    for (nodes, seed) in [(10, 0), (60, 1), (60, 2), (60, 3), (60, 4), (60, 5), (100, 6), (100, 7)] {
        let fleet = Fleet::of(nodes, seed);
        let it = clocks(fleet);
        let bad = it.lost + it.stale + it.resurrected + it.failed + it.apart;
        holds("clocks", fleet, &it, bad == 0 && it.hits > 100);
    }
}

fn calm() -> Weather {
    let millisecond = Duration::from_millis(1);
    Weather { least: millisecond, most: 2 * millisecond, loss: 0, skew: Duration::ZERO }
}

#[test]
fn twenty_that_miss_at_once_load_once() {
    let mut world = World::new(3, calm());
    world.add(Role::Anchor, vec![]);
    let leaves: Vec<_> = (0..20).map(|_| world.add(Role::Leaf, vec![0])).collect();
    world.run(Duration::from_secs(3));
    let key = Key::new("wanted by all").unwrap();
    let (ttl, wait) = (Duration::from_secs(5), Duration::from_secs(10));
    let ops: Vec<_> = leaves.iter().map(|at| (*at, world.lease(*at, KeyId::from(&key), ttl, wait))).collect();
    world.run(Duration::from_millis(100));
    let granted: Vec<_> = ops.iter().filter_map(|(at, op)| Some((*at, world.take(*at, *op)?))).collect();
    assert_eq!(granted.len(), 1, "the others wait");
    assert!(matches!(granted[0].1.outcome, Outcome::Granted { .. }));
    // The one that loads dies; the next one is given the lease.
    world.kill(granted[0].0, true);
    world.run(Duration::from_millis(100));
    let next: Vec<_> = ops.iter().filter_map(|(at, op)| Some((*at, world.take(*at, *op)?))).collect();
    assert_eq!(next.len(), 1);
    world.put(next[0].0, &key, Some(b"loaded"));
    world.run(Duration::from_millis(100));
    let given = ops.iter().filter_map(|(at, op)| world.take(*at, *op));
    assert_eq!(given.filter(|done| matches!(done.outcome, Outcome::Found(_))).count(), 18);
}

#[test]
fn a_removal_reaches_everyone_and_those_who_were_away_on_return() {
    let mut world = World::new(4, calm());
    for _ in 0..3 {
        world.add(Role::Anchor, vec![0]);
    }
    for leaf in 0..10 {
        world.add(Role::Leaf, vec![leaf % 3]);
    }
    world.run(Duration::from_secs(3));
    let (key, other) = (Key::new("a").unwrap(), Key::new("b").unwrap());
    world.put(5, &key, Some(b"value"));
    world.put(5, &other, Some(b"value"));
    world.run(Duration::from_millis(200));
    world.put(6, &key, None);
    world.run(Duration::from_millis(50));
    assert_eq!(world.told[&KeyId::from(&key)], 12, "all but the one who removed it");
    world.split([7, 8]);
    world.put(6, &other, None);
    world.run(Duration::from_secs(20));
    assert_eq!(world.told[&KeyId::from(&other)], 10);
    world.heal();
    world.run(Duration::from_secs(5));
    assert_eq!(world.told[&KeyId::from(&other)], 12);
}

#[test]
fn nobody_reachable_fails_at_once_and_an_anchor_that_vanishes_costs_a_deadline_at_most() {
    let mut world = World::new(5, calm());
    let leaf = world.add(Role::Leaf, vec![]);
    let op = world.get(leaf, KeyId([1; 32]));
    assert_eq!(world.take(leaf, op).unwrap().took, Duration::ZERO);

    let anchor = world.add(Role::Anchor, vec![]);
    let other = world.add(Role::Leaf, vec![anchor]);
    world.run(Duration::from_secs(3));
    world.split([anchor]);
    for _ in 0..4 {
        let op = world.get(other, KeyId([1; 32]));
        world.run(Duration::from_secs(3));
        let took = world.take(other, op).unwrap().took;
        assert!(took <= super::world::DEADLINE, "{took:?}");
    }
    let op = world.get(other, KeyId([1; 32]));
    assert_eq!(world.take(other, op).unwrap().took, Duration::ZERO, "it is known to be gone");
    world.heal();
    world.run(Duration::from_secs(5));
    let op = world.get(other, KeyId([1; 32]));
    world.run(Duration::from_millis(100));
    assert_eq!(world.take(other, op).unwrap().outcome, Outcome::Absent, "a member again within 5 s");
}

fn found(world: &mut World, at: usize, key: &Key) -> Outcome {
    let op = world.get(at, KeyId::from(key));
    world.run(Duration::from_secs(3));
    world.take(at, op).unwrap().outcome
}

#[test]
fn restart_of_the_only_anchor_loses_nothing_that_it_kept() {
    let mut world = World::new(6, calm());
    world.anchors_keep = true;
    let anchor = world.add(Role::Anchor, vec![]);
    let leaf = world.add(Role::Leaf, vec![anchor]);
    world.run(Duration::from_secs(3));
    let keys: Vec<_> = (0..100).map(|number| Key::new(format!("k{number}")).unwrap()).collect();
    for key in &keys {
        world.put(leaf, key, Some(b"value"));
    }
    world.run(Duration::from_secs(1));
    world.put(leaf, &keys[0], None);
    world.run(Duration::from_secs(1));
    world.kill(leaf, true);
    world.kill(anchor, false);
    world.run(Duration::from_secs(1));
    world.start(anchor, false);
    let new = world.add(Role::Leaf, vec![anchor]);
    world.run(Duration::from_secs(5));
    for (number, key) in keys.iter().enumerate() {
        let outcome = found(&mut world, new, key);
        let Outcome::Found(envelope) = outcome else { panic!("{key:?} {number}: {outcome:?}") };
        let (_, entry) = peercache_api::envelope::decode_unkeyed(envelope).unwrap();
        assert_eq!(entry.is_tombstone(), number == 0, "removals hold across the restart");
    }
}

#[test]
fn anchor_that_was_away_brings_nothing_back_of_what_it_kept() {
    let mut world = World::new(7, calm());
    world.anchors_keep = true;
    let (one, other) = (world.add(Role::Anchor, vec![1]), world.add(Role::Anchor, vec![0]));
    let leaf = world.add(Role::Leaf, vec![one, other]);
    world.run(Duration::from_secs(5));
    let (removed, changed) = (Key::new("removed").unwrap(), Key::new("changed").unwrap());
    world.put(leaf, &removed, Some(b"old"));
    world.put(leaf, &changed, Some(b"old"));
    world.run(Duration::from_secs(1));
    world.kill(one, true);
    world.run(Duration::from_secs(1));
    world.put(leaf, &removed, None);
    world.put(leaf, &changed, Some(b"new"));
    world.run(Duration::from_secs(30));
    world.start(one, false);
    for _ in 0..20 {
        for key in [&removed, &changed] {
            let op = world.get(leaf, KeyId::from(key));
            world.run(Duration::from_millis(100));
            let outcome = world.take(leaf, op).map(|done| done.outcome);
            let Some(Outcome::Found(envelope)) = outcome else { panic!("{outcome:?}") };
            let (_, entry) = peercache_api::envelope::decode_unkeyed(envelope).unwrap();
            assert!(entry.is_tombstone() || entry.value().as_ref() == b"new", "old answers come back");
        }
    }
}

/// Minutes in milliseconds.
const MINUTE: i64 = 60_000;

#[test]
fn clocks_ten_minutes_off_either_way_share_values() {
    for ahead in [-10 * MINUTE, 10 * MINUTE] {
        let mut world = World::new(8, calm());
        let anchor = world.add(Role::Anchor, vec![]);
        let (off, right) = (world.add(Role::Leaf, vec![]), world.add(Role::Leaf, vec![anchor]));
        world.set_clock(off, ahead);
        world.dial_from_now_on(off, vec![anchor]);
        world.run(Duration::from_secs(3));
        assert!((world.correction(off) + ahead).abs() < 1_000, "{}", world.correction(off));
        assert_eq!((world.correction(anchor), world.correction(right)), (0, 0));
        for (writer, reader, name) in [(off, right, "from it"), (right, off, "to it")] {
            let key = Key::new(name).unwrap();
            world.put_for(writer, &key, Some(b"value"), Duration::from_secs(300));
            world.run(Duration::from_secs(1));
            let outcome = found(&mut world, reader, &key);
            assert!(matches!(outcome, Outcome::Found(_)), "{ahead} {name}: {outcome:?}");
        }
        // The clock is set right while the process runs.
        world.set_clock(off, 0);
        world.run(Duration::from_secs(40));
        assert_eq!(world.correction(off), 0);
    }
}

#[test]
fn anchors_of_which_one_is_off_agree_on_one_time() {
    for (ahead, shared) in [(10 * MINUTE, 0), (-10 * MINUTE, -10 * MINUTE)] {
        let mut world = World::new(9, calm());
        let (one, other) = (world.add(Role::Anchor, vec![1]), world.add(Role::Anchor, vec![]));
        world.set_clock(other, ahead);
        let leaf = world.add(Role::Leaf, vec![one, other]);
        let far = world.add(Role::Leaf, vec![other]);
        world.run(Duration::from_secs(60));
        for (at, own) in [(one, 0), (other, ahead), (leaf, 0), (far, 0)] {
            let goes_by = own + world.correction(at);
            assert!((goes_by - shared).abs() < 2_000, "node {at} goes by {goes_by}, not {shared}");
        }
    }
}
