//! What waits to be written to a shared tier is seen by reads, and nothing that it replaced comes
//! back.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Capabilities, Entry, ErrorKind};
use peercache_chain::{Mode, Outcome, TierOptions, WriteBehind};

use crate::support::{DURABLE, Mood, SHARED, Scripted, World, assert_adds_up, key, steps, text};

#[tokio::test(start_paused = true)]
async fn what_waits_is_seen_by_reads_and_nothing_older_comes_back() {
    let world = World::default();
    let tiers = [world.tier("near", SHARED), world.tier("far", SHARED)];
    let chain = world.chain(&tiers);
    for tier in &tiers {
        tier.plant(&key("k"), world.entry(0, "old"));
        tier.plant(&key("removed"), world.entry(0, "old"));
        tier.writes(Mood::Fail(ErrorKind::Unavailable));
    }
    let outcome = chain.write(&key("k"), world.entry(1, "new")).await;
    assert_eq!(outcome.errors().count(), 2, "with no local tier it waits for one attempt at each");
    assert_eq!(text(&chain.lookup(&key("k")).await), Some("new"));
    let _ = chain.write(&key("removed"), world.tombstone(1)).await;
    let lookup = chain.lookup(&key("removed")).await;
    assert_eq!((lookup.outcome, lookup.newest), (Outcome::Miss, Some(world.version(1))));
    assert_eq!(steps(&lookup), ["near superseded", "far superseded"]);
    assert!(chain.get(&key("removed")).await.unwrap().unwrap().is_tombstone());
    // Who writes anew while the removal waits is served.
    tiers[1].plant(&key("removed"), world.entry(2, "newer than the removal"));
    assert_eq!(text(&chain.lookup(&key("removed")).await), Some("newer than the removal"));
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_served_although_the_first_shared_tier_is_never_read() {
    let world = World::default();
    let tiers = ["filled", "near", "far"].map(|name| world.tier(name, SHARED));
    let modes = [Mode::WriteOnly, Mode::ReadWrite, Mode::ReadWrite];
    let options = modes.map(|mode| TierOptions { mode, ..TierOptions::default() });
    let chain = world.chain_with(tiers.iter().cloned().zip(options));
    tiers.iter().for_each(|tier| tier.writes(Mood::Fail(ErrorKind::Unavailable)));
    tiers[2].plant(&key("k"), world.entry(0, "old"));
    let _ = chain.write(&key("k"), world.entry(1, "new")).await;
    let fresh = chain.lookup(&key("k")).await;
    assert_eq!((text(&fresh), fresh.tier.as_deref()), (Some("new"), Some("near")));
    world.clock.advance(Duration::from_secs(101));
    let stale = chain.lookup(&key("k")).await;
    assert_eq!((stale.outcome, text(&stale)), (Outcome::Stale, Some("new")));
    assert_eq!(stale.tier.as_deref(), Some("near"), "not the one that is not read");
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_was_away_while_its_keys_were_invalidated_never_serves_them_again() {
    // Whether the local tier stands above the shared one or below it.
    for local_first in [true, false] {
        let world = World::default();
        let (disk, shared) = (world.tier("disk", DURABLE), world.tier("shared", SHARED));
        let order = if local_first { [&disk, &shared] } else { [&shared, &disk] };
        let limits = WriteBehind { max_removal_age: Duration::from_secs(60), ..WriteBehind::default() };
        let build = || {
            let tiers = order.map(|tier| (Arc::clone(tier), TierOptions::default()));
            world.builder_with(tiers).write_behind(limits.clone()).build()
        };
        let chain = build();
        let keys: Vec<_> = (0..20).map(|n| key(&format!("k{n}"))).collect();
        for key in &keys {
            let _ = chain.write(key, world.entry(0, "value")).await;
        }
        chain.settle().await;
        assert!(keys.iter().all(|key| shared.held(key).is_some()));

        for set in [Scripted::reads, Scripted::writes, Scripted::rest] {
            set(&shared, Mood::Fail(ErrorKind::Unavailable));
        }
        for key in &keys {
            assert!(chain.write(key, world.tombstone(1)).await.is_stored());
        }
        // Half of the time they are given up before it comes back.
        if local_first {
            world.pass(Duration::from_secs(61)).await;
        }
        for set in [Scripted::reads, Scripted::writes, Scripted::rest] {
            set(&shared, Mood::Well);
        }
        assert!(keys.iter().all(|key| !shared.held(key).unwrap().is_tombstone()), "it still holds them");
        // With what is left of the process, and as the next one, of which only the disk remains.
        let next = build();
        for _ in 0..40 {
            for key in &keys {
                assert_eq!(chain.lookup(key).await.outcome, Outcome::Miss);
                assert_eq!(next.lookup(key).await.outcome, Outcome::Miss);
            }
            world.pass(Duration::from_secs(1)).await;
        }
        assert!(chain.report().tiers.iter().all(|tier| tier.hits == 0));
        assert_adds_up(&chain.report());
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_write_keeps_an_older_value_from_being_carried_up_over_it() {
    let world = World::default();
    let tiers = [world.tier("near", Capabilities::shared()), world.tier("far", SHARED)];
    let chain = Arc::new(world.chain(&tiers));
    tiers[1].plant(&key("k"), world.entry(1, "old"));
    tiers[1].reads(Mood::Slow(Duration::from_millis(100)));
    tiers[0].writes(Mood::Hang);
    let reader = Arc::clone(&chain);
    let lookup = tokio::spawn(async move { reader.lookup(&key("k")).await });
    world.pass(Duration::from_millis(60)).await;
    let _ = chain.write(&key("k"), world.tombstone(3)).await;
    assert_eq!(text(&lookup.await.unwrap()), Some("old"), "it was read before");
    assert_eq!(tiers[0].calls().1, 1, "only the removal is on its way to the tier above");
    let report = chain.report().promotions;
    assert_eq!((report.stored, report.errors, report.dropped), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_replaced_by_a_write_that_found_no_room_is_neither_served_nor_delivered() {
    let world = World::default();
    let shared = world.tier("shared", SHARED);
    let limits = WriteBehind { max_bytes: 2000, ..WriteBehind::default() };
    let tier = (Arc::clone(&shared), TierOptions::default());
    let chain = world.builder_with([tier]).write_behind(limits).seed(1).build();
    for set in [Scripted::reads, Scripted::writes, Scripted::rest] {
        set(&shared, Mood::Fail(ErrorKind::Unavailable));
    }
    let _ = chain.write(&key("k"), world.entry(0, "old")).await;
    assert_eq!(text(&chain.lookup(&key("k")).await), Some("old"));
    let large = Entry::builder(vec![b'x'; 2000], world.version(1), world.at(1));
    let large = large.fresh_for(Duration::from_secs(100)).build().unwrap();
    let outcome = chain.write(&key("k"), large).await;
    assert!(outcome.errors().next().unwrap().to_string().contains("too much waits"));
    assert_eq!(chain.lookup(&key("k")).await.outcome, Outcome::Miss);

    for set in [Scripted::reads, Scripted::writes, Scripted::rest] {
        set(&shared, Mood::Well);
    }
    for _ in 0..60 {
        world.pass(Duration::from_secs(1)).await;
    }
    assert!(shared.held(&key("k")).unwrap().is_tombstone(), "others do not see the replaced one either");
    assert_eq!(chain.lookup(&key("k")).await.outcome, Outcome::Miss);
    let behind = chain.report().tiers[0].queue.clone().unwrap();
    assert_eq!((behind.queued, behind.delivered, behind.dropped.queue_full), (2, 1, 1));
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_not_served_once_its_tag_is_invalidated_or_a_local_tier_knows_its_removal() {
    let world = World::default();
    let (shared, disk) = (world.tier("shared", SHARED), world.tier("disk", DURABLE));
    let chain = world.chain(&[Arc::clone(&shared), Arc::clone(&disk)]);
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    disk.writes(Mood::Fail(ErrorKind::Unavailable));
    let tagged = Entry::builder("tagged", world.version(1), world.at(1))
        .fresh_for(Duration::from_secs(100))
        .tag("acme")
        .build()
        .unwrap();
    let _ = chain.write(&key("tagged"), tagged).await;
    let _ = chain.write(&key("removed"), world.entry(1, "value")).await;
    for name in ["tagged", "removed"] {
        assert!(chain.lookup(&key(name)).await.is_hit());
    }
    let _ = chain.invalidate_tag("acme", world.version(2)).await.unwrap();
    // By another process with the same disk.
    disk.plant(&key("removed"), world.tombstone(2));
    for name in ["tagged", "removed"] {
        assert_eq!(chain.lookup(&key(name)).await.outcome, Outcome::Miss, "{name}");
        assert_eq!(chain.explain(&key(name)).await.outcome, Outcome::Miss, "{name}");
    }
    assert_adds_up(&chain.report());
}
