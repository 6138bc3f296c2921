//! A hit further down is carried up: with the same bytes, once, bounded, and in nobody's way.

use std::time::Duration;

use peercache_api::{Bytes, Entry, ErrorKind};
use peercache_chain::{LookupOptions, Outcome};
use tokio::time::Instant;

use crate::support::{DURABLE, Mood, SHARED, VOLATILE, World, assert_adds_up, key, text};

#[tokio::test(start_paused = true)]
async fn a_hit_below_is_read_once_and_fills_the_tiers_above_with_the_same_bytes() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    shared.plant(&key("k"), world.entry(0, "value"));
    let lookup = chain.lookup(&key("k")).await;
    let served = lookup.entry.unwrap().into_value();

    assert_eq!(memory.held(&key("k")).unwrap().value().as_ptr(), served.as_ptr(), "memory is filled at once");
    chain.settle().await;
    assert_eq!(disk.held(&key("k")).unwrap().value().as_ptr(), served.as_ptr());
    assert_eq!(shared.calls(), (1, 0), "read once, not written back");

    let again = chain.lookup(&key("k")).await;
    assert_eq!(again.entry.unwrap().value().as_ptr(), served.as_ptr());
    assert_eq!((shared.calls().0, disk.calls().0), (1, 1));
    let report = chain.report();
    assert_eq!((report.promotions.stored, report.promotions.errors, report.promotions.dropped), (2, 0, 0));
    assert_eq!([0, 1, 2].map(|tier| report.tiers[tier].stored), [1, 1, 0]);
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn lookup_that_only_looks_fills_no_tier_whatever_its_capacity() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    shared.plant(&key("k"), world.entry(0, "value"));
    assert!(chain.lookup_with(&key("k"), LookupOptions::new().look_only()).await.is_hit());
    chain.settle().await;
    assert!(memory.held(&key("k")).is_none() && disk.held(&key("k")).is_none());
    assert_eq!(chain.report().promotions.stored, 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_written_is_bounded_and_what_does_not_fit_is_counted() {
    let world = World::default();
    let tiers = [world.tier("disk", DURABLE), world.tier("shared", SHARED)];
    let chain = world.chain(&tiers);
    tiers[0].writes(Mood::Slow(Duration::from_secs(1)));
    let large = Bytes::from(vec![7; 8 << 20]);
    for n in 0..10 {
        let entry = Entry::builder(large.clone(), world.version(0), world.at(0))
            .fresh_for(Duration::from_secs(100))
            .build()
            .unwrap();
        tiers[1].plant(&key(&n.to_string()), entry);
    }
    let started = Instant::now();
    for n in 0..10 {
        assert!(chain.lookup(&key(&n.to_string())).await.is_hit());
    }
    assert_eq!(started.elapsed(), Duration::ZERO, "no read waits for the slow tier");
    chain.settle().await;
    let report = chain.report();
    // 64 MiB hold seven values of 8 MiB and their small change.
    assert_eq!((report.promotions.stored, report.promotions.dropped), (7, 3));
    assert!(chain.lookup(&key("9")).await.is_hit(), "what was dropped is still read from below");
    chain.settle().await;
    assert_eq!(chain.report().promotions.stored, 8, "and the next hit tries again");
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_when_written_holds_up_no_read() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    memory.writes(Mood::Hang);
    disk.writes(Mood::Fail(ErrorKind::Denied));
    shared.plant(&key("k"), world.entry(0, "value"));
    let started = Instant::now();
    assert_eq!(text(&chain.lookup(&key("k")).await), Some("value"));
    assert_eq!(started.elapsed(), Duration::ZERO);
    chain.settle().await;
    assert_eq!(started.elapsed(), Duration::from_secs(30), "given up at its deadline");
    let report = chain.report();
    assert_eq!((report.promotions.stored, report.promotions.errors), (0, 2));
    assert_eq!((report.tiers[0].put_timeouts, report.tiers[1].put_errors), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn neither_stale_nor_too_large_nor_forbidden_is_carried_up() {
    let world = World::default();
    let tiers = [
        world.tier("small", VOLATILE.with_max_value_bytes(4)),
        world.tier("fixed", DURABLE.with_read_only()),
        world.tier("shared", SHARED),
    ];
    let chain = world.chain(&tiers);
    tiers[2].plant(&key("large"), world.entry(0, "value"));
    assert!(chain.lookup(&key("large")).await.is_hit());
    world.clock.advance(Duration::from_secs(150));
    assert_eq!(chain.lookup(&key("large")).await.outcome, Outcome::Stale);
    chain.settle().await;
    assert_eq!([tiers[0].calls().1, tiers[1].calls().1], [0, 0]);
    assert_eq!(chain.report().promotions.dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_arrives_late_does_not_undo_a_removal() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    shared.plant(&key("k"), world.entry(0, "value"));
    disk.writes(Mood::Slow(Duration::from_secs(2)));
    assert!(chain.lookup(&key("k")).await.is_hit());
    disk.writes(Mood::Well);
    let _ = chain.write(&key("k"), world.tombstone(1)).await;
    chain.settle().await;
    for tier in [memory, disk, shared] {
        assert!(tier.held(&key("k")).unwrap().is_tombstone());
    }
}
