//! Writes to shared tiers that wait: delivered after an outage, or counted as dropped with the
//! reason.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Capabilities, ErrorKind, Version};
use peercache_chain::{BreakerOptions, Chain, Outcome, QueueReport, TierOptions, TierPut, WriteBehind};

use crate::support::{DURABLE, Mood, SHARED, Scripted, VOLATILE, World, assert_adds_up, key};

fn behind(chain: &Chain, tier: usize) -> QueueReport {
    assert_adds_up(&chain.report());
    chain.report().tiers[tier].queue.clone().unwrap()
}

/// `memory` over `shared`, whose breaker never opens, so that only the queue itself decides.
fn pair(world: &World, limits: WriteBehind) -> ([Arc<Scripted>; 2], Chain) {
    let tiers = [world.tier("memory", VOLATILE), world.tier("shared", SHARED)];
    let breaker = BreakerOptions { failures: u32::MAX, timeouts: u32::MAX, ..BreakerOptions::default() };
    let options = [TierOptions::default(), TierOptions { breaker, ..TierOptions::default() }];
    let chain = world.builder_with(tiers.iter().cloned().zip(options)).write_behind(limits).seed(1).build();
    (tiers, chain)
}

/// Lets time pass until nothing waits any more, or a minute of it has passed.
async fn deliver(world: &World, chain: &Chain, tier: usize) {
    for _ in 0..120 {
        if behind(chain, tier).waiting == 0 {
            break;
        }
        world.pass(Duration::from_millis(500)).await;
        chain.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_returns_before_the_shared_tier_has_it_and_the_tier_gets_it() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world, WriteBehind::default());
    shared.writes(Mood::Slow(Duration::from_secs(3)));
    let started = tokio::time::Instant::now();
    let outcome = chain.write(&key("k"), world.entry(0, "value")).await;
    assert!(started.elapsed().is_zero() && outcome.is_stored() && outcome.is_queued());
    assert!(matches!(outcome.tiers[1].put, TierPut::Queued));
    assert!(shared.held(&key("k")).is_none());
    assert_eq!((behind(&chain, 1).queued, behind(&chain, 1).waiting), (1, 1));
    chain.settle().await;
    assert_eq!(shared.held(&key("k")).unwrap().value(), "value");
    let report = behind(&chain, 1);
    assert_eq!((report.delivered, report.retried, report.waiting, report.waiting_bytes), (1, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_written_during_an_outage_is_delivered_after_it() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world, WriteBehind::default());
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    for n in 0..50 {
        let outcome = chain.write(&key(&format!("k{n}")), world.entry(n, "v")).await;
        assert!(outcome.is_queued(), "nobody is told of a failure that is being mended");
    }
    chain.settle().await;
    world.pass(Duration::from_secs(30)).await;
    chain.settle().await;
    assert_eq!(behind(&chain, 1).waiting, 50);
    let attempts = shared.calls().1;
    assert!(attempts < 30, "{attempts} attempts at a tier that is down");
    shared.writes(Mood::Well);
    deliver(&world, &chain, 1).await;
    let report = behind(&chain, 1);
    assert_eq!((report.queued, report.delivered, report.dropped.total()), (50, 50, 0));
    assert!(report.retried >= 1);
    assert!((0..50).all(|n| shared.held(&key(&format!("k{n}"))).is_some()));
}

#[tokio::test(start_paused = true)]
async fn while_the_breaker_is_open_entries_wait_and_cost_no_attempt() {
    let world = World::default();
    let ([_, _, shared], chain) = world.usual();
    shared.reads(Mood::Fail(ErrorKind::Unavailable));
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    shared.rest(Mood::Fail(ErrorKind::Unavailable));
    for n in 0..5 {
        assert_eq!(chain.lookup(&key(&format!("absent {n}"))).await.outcome, Outcome::Miss);
    }
    assert_eq!(chain.report().tiers[2].breaker.state, "open");
    let before = shared.calls().1;
    assert!(chain.write(&key("k"), world.entry(0, "v")).await.is_queued());
    world.pass(Duration::from_secs(20)).await;
    assert_eq!(shared.calls().1, before);
    assert_eq!(behind(&chain, 2).waiting, 1);
    for set in [Scripted::reads, Scripted::writes, Scripted::rest] {
        set(&shared, Mood::Well);
    }
    for _ in 0..100 {
        world.pass(Duration::from_millis(500)).await;
    }
    assert_eq!(behind(&chain, 2).delivered, 1, "it comes back by itself");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_dropped_and_counted_and_a_removal_is_kept() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world, WriteBehind::default());
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    assert!(chain.write(&key("removed"), world.tombstone(0)).await.is_queued());
    let long = peercache_api::Entry::builder("v", world.version(0), world.at(0))
        .fresh_for(Duration::from_secs(3600))
        .build()
        .unwrap();
    assert!(chain.write(&key("value"), long).await.is_queued());
    assert!(chain.write(&key("expires"), world.entry(0, "for 200 s")).await.is_queued());
    chain.settle().await;
    world.pass(Duration::from_secs(300)).await;
    chain.settle().await;
    assert_eq!((behind(&chain, 1).dropped.too_old, behind(&chain, 1).waiting), (1, 2));
    world.pass(Duration::from_secs(301)).await;
    chain.settle().await;
    assert_eq!((behind(&chain, 1).dropped.too_old, behind(&chain, 1).waiting), (2, 1));
    world.pass(Duration::from_secs(24 * 3600)).await;
    shared.writes(Mood::Well);
    deliver(&world, &chain, 1).await;
    assert!(shared.held(&key("removed")).unwrap().is_tombstone(), "a day later");
    assert!(shared.held(&key("value")).is_none() && shared.held(&key("expires")).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_values_for_removals_and_counts_them() {
    let world = World::default();
    let limits = WriteBehind { max_entries: 3, ..WriteBehind::default() };
    let ([_, shared], chain) = pair(&world, limits);
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    for n in 0..3 {
        assert!(chain.write(&key(&format!("value {n}")), world.entry(n, "v")).await.is_queued());
    }
    chain.settle().await;
    for n in 0..3 {
        assert!(chain.write(&key(&format!("removed {n}")), world.tombstone(n)).await.is_queued());
    }
    let outcome = chain.write(&key("one more"), world.entry(9, "v")).await;
    let error = outcome.errors().next().unwrap();
    assert_eq!(
        error.to_string(),
        "shared: put failed (unavailable): too much waits to be written to this tier already"
    );
    assert_eq!((behind(&chain, 1).dropped.queue_full, behind(&chain, 1).waiting), (4, 3));
    shared.writes(Mood::Well);
    deliver(&world, &chain, 1).await;
    assert!((0..3).all(|n| shared.held(&key(&format!("removed {n}"))).unwrap().is_tombstone()));
    assert_eq!(behind(&chain, 1).delivered, 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_tier_refuses_for_good_is_not_tried_again() {
    for kind in [ErrorKind::Denied, ErrorKind::TooLarge, ErrorKind::Unsupported] {
        let world = World::default();
        let ([_, shared], chain) = pair(&world, WriteBehind::default());
        shared.writes(Mood::Fail(kind));
        assert!(chain.write(&key("k"), world.entry(0, "v")).await.is_queued());
        world.pass(Duration::from_secs(60)).await;
        chain.settle().await;
        assert_eq!(shared.calls().1, 1);
        assert_eq!((behind(&chain, 1).dropped.refused, behind(&chain, 1).waiting), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_counts_requests_is_left_alone_for_longer() {
    let world = World::default();
    let attempts_within_10_s = async |kind| {
        let ([_, shared], chain) = pair(&world, WriteBehind::default());
        shared.writes(Mood::Fail(kind));
        assert!(chain.write(&key("k"), world.tombstone(0)).await.is_queued());
        for _ in 0..100 {
            chain.settle().await;
            world.pass(Duration::from_millis(100)).await;
        }
        shared.calls().1
    };
    assert_eq!(attempts_within_10_s(ErrorKind::RateLimited).await, 2 - 1, "15 s, of which at least half");
    let blip = attempts_within_10_s(ErrorKind::Unavailable).await;
    assert!((4..10).contains(&blip), "{blip}");
}

#[tokio::test(start_paused = true)]
async fn writes_of_one_key_coalesce_and_the_newest_arrives() {
    let world = World::default();
    for capabilities in [SHARED, Capabilities::shared()] {
        let tiers = [world.tier("memory", VOLATILE), world.tier("shared", capabilities)];
        let chain = world.chain(&tiers);
        tiers[1].writes(Mood::Slow(Duration::from_secs(2)));
        for n in [1, 2, 3, 5, 4] {
            assert!(chain.write(&key("k"), world.entry(n, "v")).await.is_stored());
            tokio::task::yield_now().await;
        }
        chain.settle().await;
        assert_eq!(tiers[1].held(&key("k")).unwrap().version(), world.version(5));
        let report = behind(&chain, 1);
        assert_eq!((report.queued, report.delivered, report.coalesced), (5, 1, 4));
        assert_eq!(tiers[1].calls().1, 2, "the first one, and the newest");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_writes_run_at_once_than_allowed() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world, WriteBehind { concurrency: 3, ..WriteBehind::default() });
    shared.writes(Mood::Hang);
    for n in 0..20 {
        let _ = chain.write(&key(&format!("k{n}")), world.entry(n, "v")).await;
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shared.calls().1, 3);
}

#[tokio::test(start_paused = true)]
async fn closing_writes_what_it_can_and_counts_the_rest_as_dropped() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world, WriteBehind { concurrency: 1, ..WriteBehind::default() });
    shared.writes(Mood::Slow(Duration::from_millis(1200)));
    for n in 0..10 {
        assert!(chain.write(&key(&format!("k{n}")), world.entry(n, "v")).await.is_queued());
    }
    let started = tokio::time::Instant::now();
    chain.close().await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(5), "the flush deadline");
    let report = behind(&chain, 1);
    assert_eq!((report.delivered, report.dropped.shutdown, report.waiting), (4, 6, 0));
    let outcome = chain.write(&key("late"), world.entry(11, "v")).await;
    assert!(!outcome.is_stored() && !outcome.is_queued());
    assert_eq!(behind(&chain, 1).dropped.shutdown, 7);
}

#[tokio::test(start_paused = true)]
async fn closing_during_an_outage_does_not_wait_for_a_tier_that_is_left_alone() {
    let world = World::default();
    let ([_, _, shared], chain) = world.usual();
    for set in [Scripted::reads, Scripted::writes, Scripted::rest] {
        set(&shared, Mood::Fail(ErrorKind::Unavailable));
    }
    for n in 0..5 {
        let _ = chain.lookup(&key(&format!("absent {n}"))).await;
    }
    assert!(chain.write(&key("k"), world.entry(0, "v")).await.is_queued());
    let started = tokio::time::Instant::now();
    assert!(chain.close().await.is_err(), "the tier cannot be closed either");
    assert!(started.elapsed().is_zero());
    assert_eq!(behind(&chain, 2).dropped.shutdown, 1);
}

#[test]
fn what_waits_survives_the_end_of_a_runtime() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world, WriteBehind::default());
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    shared.writes(Mood::Hang);
    runtime().block_on(async {
        let _ = chain.write(&key("k"), world.entry(0, "v")).await;
        tokio::task::yield_now().await;
        assert_eq!(shared.calls().1, 1);
    });
    shared.writes(Mood::Well);
    assert_eq!(behind(&chain, 1).waiting, 1);
    runtime().block_on(async { chain.settle().await });
    assert_eq!((behind(&chain, 1).delivered, behind(&chain, 1).retried), (1, 1));
    assert_ne!(shared.held(&key("k")).unwrap().version(), Version::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_copy_in_a_tier_with_a_cap_lives_shorter_and_is_extended_by_nobody() {
    let world = World::default();
    let tiers = [world.tier("memory", VOLATILE), world.tier("disk", DURABLE), world.tier("shared", SHARED)];
    let caps = [None, Some(Duration::from_secs(20)), Some(Duration::from_secs(50))];
    let options = caps.map(|max_ttl| TierOptions { max_ttl, ..TierOptions::default() });
    let chain = world.chain_with(tiers.iter().cloned().zip(options));
    assert!(chain.write(&key("k"), world.entry(0, "v")).await.is_stored());
    chain.settle().await;
    let fresh = |n: usize| tiers[n].held(&key("k")).unwrap().metadata().fresh_for.as_secs();
    assert_eq!([0, 1, 2].map(fresh), [100, 20, 50], "as others see it who do not know the cap");
    assert!(tiers.iter().all(|tier| tier.held(&key("k")).unwrap().version() == world.version(0)));
    // A copy of the capped one does not live longer than it.
    let other = world.tier("memory", VOLATILE);
    let reader = world.chain(&[other.clone(), tiers[2].clone()]);
    assert!(reader.lookup(&key("k")).await.is_hit());
    assert_eq!(other.held(&key("k")).unwrap().metadata().fresh_for.as_secs(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_threads_race_no_write_is_left_lying() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world, WriteBehind { concurrency: 1, ..WriteBehind::default() });
    let chain = Arc::new(chain);
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (world, chain) = (world.clone(), Arc::clone(&chain));
            tokio::spawn(async move {
                for n in 0..500 {
                    let _ = chain.write(&key(&format!("{writer} {n}")), world.entry(0, "v")).await;
                    // Gives the only worker time to find nothing to do.
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // Not `settle`, which would start a worker: nobody comes by any more.
    while behind(&chain, 1).waiting > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((behind(&chain, 1).delivered, shared.calls().1), (2000, 2000));
}
