//! The breaker: an unwell tier costs nothing, is looked at in the background, and always comes
//! back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use peercache_api::{CacheBackend, ErrorKind};
use peercache_chain::{BreakerOptions, BreakerReport, Chain, Mode, TierOptions};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::support::{DURABLE, Mood, SHARED, Scripted, VOLATILE, World, assert_adds_up, breathe, key, steps};

const LONGEST: Duration = Duration::from_secs(30);

fn breaker(chain: &Chain, tier: usize) -> BreakerReport {
    chain.report().tiers[tier].breaker.clone()
}

/// A shared tier below a well one, and the chain over both.
fn pair(world: &World) -> ([Arc<Scripted>; 2], Chain) {
    let tiers = [world.tier("memory", VOLATILE), world.tier("shared", SHARED)];
    let options = tiers.iter().map(|tier| (tier.clone(), TierOptions::default()));
    let chain = world.builder_with(options).seed(7).build();
    (tiers, chain)
}

async fn fail_five_times(chain: &Chain) {
    for _ in 0..5 {
        let _ = chain.lookup(&key("k")).await;
    }
}

/// Lets time pass in small steps until the tier's breaker is closed, and says how much.
async fn until_closed(world: &World, chain: &Chain, tier: usize, at_most: Duration) -> Duration {
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while breaker(chain, tier).state != "closed" {
        assert!(waited <= at_most, "still {:?} after {waited:?}", breaker(chain, tier));
        world.pass(step).await;
        waited += step;
    }
    waited
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_never_answers_costs_a_read_its_budget_once_and_then_nothing() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world);
    shared.reads(Mood::Hang);
    shared.rest(Mood::Hang);
    let started = Instant::now();
    for _ in 0..100 {
        let _ = chain.lookup(&key("k")).await;
    }
    assert_eq!(started.elapsed(), Duration::from_secs(1), "the budget of one read, over all reads");
    let report = chain.report();
    let tier = &report.tiers[1];
    assert_eq!((tier.timeouts, tier.open, tier.skipped, shared.calls().0), (2, 98, 98, 2));
    assert_eq!((tier.breaker.state, tier.breaker.openings), ("open", 1));
    let cause = "shared: get failed (timeout): no answer within 500 ms";
    assert_eq!(tier.breaker.last_cause.as_deref(), Some(cause));
    assert_eq!(steps(&chain.lookup(&key("k")).await), ["memory absent", "shared open"]);
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn readers_and_writers_that_come_at_once_wait_for_a_tier_that_never_answers_once_and_side_by_side() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world);
    for set in [Scripted::reads, Scripted::writes, Scripted::rest] {
        set(&shared, Mood::Hang);
    }
    let started = Instant::now();
    let names: Vec<_> = (0..200).map(|n| key(&format!("k{n}"))).collect();
    join_all(names.iter().map(|key| chain.lookup(key))).await;
    assert_eq!(started.elapsed(), Duration::from_millis(500), "each its deadline, all at the same time");
    let started = Instant::now();
    for key in &names {
        let _ = chain.lookup(key).await;
        assert!(chain.write(key, world.entry(0, "v")).await.is_stored());
    }
    assert_eq!(started.elapsed(), Duration::ZERO, "left alone, it costs nobody anything");
    assert_eq!(shared.calls().1, 0, "nor does what waits for it try");

    // It comes back by itself, and gets what was written meanwhile.
    for set in [Scripted::reads, Scripted::writes, Scripted::rest] {
        set(&shared, Mood::Well);
    }
    until_closed(&world, &chain, 1, LONGEST).await;
    world.pass(Duration::from_secs(1)).await;
    chain.settle().await;
    assert!(names.iter().all(|key| shared.held(key).is_some()));
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_was_quick_before_costs_no_more_when_it_hangs() {
    let world = World::default();
    let tiers = [world.tier("near", SHARED), world.tier("far", SHARED)];
    let options = tiers.iter().map(|tier| (tier.clone(), TierOptions::default()));
    let chain = world.builder_with(options).racing(false).build();
    for _ in 0..20 {
        let _ = chain.lookup(&key("k")).await;
    }
    tiers[0].reads(Mood::Hang);
    let started = Instant::now();
    for _ in 0..20 {
        let _ = chain.lookup(&key("k")).await;
    }
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    assert_eq!((breaker(&chain, 0).state, breaker(&chain, 1).state), ("open", "closed"));
    let report = chain.report();
    assert_eq!(report.tiers[0].timeouts, 3, "given up early once, and then waited for in full");
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn it_comes_back_by_itself_when_it_heals_without_any_read() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world);
    shared.plant(&key("k"), world.entry(0, "value"));
    shared.reads(Mood::Fail(ErrorKind::Unavailable));
    fail_five_times(&chain).await;
    assert_eq!(breaker(&chain, 1).state, "open");
    assert_eq!(breaker(&chain, 1).since_ms, world.at(0).as_millis());
    for _ in 0..60 {
        world.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(breaker(&chain, 1).state, "open", "its own probe is content, but reads still fail");
    let looks = shared.probes.load(Ordering::SeqCst);
    // 0.5, 1, 2, 4, 8, 16 and 30 s at the longest, half of each at the shortest.
    assert!((6..=10).contains(&looks), "{looks} looks in a minute");

    shared.reads(Mood::Well);
    until_closed(&world, &chain, 1, LONGEST).await;
    assert_eq!(breaker(&chain, 1).since_ms, peercache_api::Clock::now(&*world.clock).as_millis());
    assert!(chain.lookup(&key("k")).await.is_hit());
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn a_blip_at_any_moment_never_disables_it_for_longer_than_the_longest_backoff() {
    for seed in 0..4 {
        let world = World::default();
        let shared = world.tier("shared", SHARED);
        let options = [(shared.clone(), TierOptions::default())];
        let chain = world.builder_with(options).seed(seed).build();
        // Blip after blip, each as long as it takes to open, so that the backoff grows to its end.
        for blip in 0..12 {
            let mood = if blip % 2 == 0 { Mood::Fail(ErrorKind::RateLimited) } else { Mood::Hang };
            shared.reads(mood);
            shared.rest(mood);
            for _ in 0..5 {
                let _ = chain.lookup(&key("k")).await;
            }
            assert_eq!(breaker(&chain, 0).state, "open");
            shared.reads(Mood::Well);
            shared.rest(Mood::Well);
            until_closed(&world, &chain, 0, LONGEST).await;
        }
        assert_eq!(breaker(&chain, 0).openings, 12);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_when_the_tier_heals_adds_nothing_to_the_wait() {
    let world = World::default();
    let shared = world.tier("shared", SHARED);
    let options = TierOptions { read_deadline: Some(Duration::from_secs(9)), ..TierOptions::default() };
    let chain = world.builder_with([(shared.clone(), options)]).build();
    shared.reads(Mood::Hang);
    shared.rest(Mood::Hang);
    let _ = chain.lookup(&key("k")).await;
    // Far enough for the backoff to be at its longest.
    while shared.probes.load(Ordering::SeqCst) < 9 {
        world.pass(Duration::from_millis(100)).await;
    }
    assert_eq!(breaker(&chain, 0).state, "half-open");
    shared.reads(Mood::Well);
    shared.rest(Mood::Well);
    until_closed(&world, &chain, 0, LONGEST).await;
}

#[tokio::test(start_paused = true)]
async fn flapping_lengthens_the_backoff_and_staying_well_forgets_it() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world);
    let mut waits = Vec::new();
    for round in 0..10 {
        if round == 9 {
            world.pass(2 * LONGEST).await;
        }
        shared.reads(Mood::Fail(ErrorKind::Unavailable));
        fail_five_times(&chain).await;
        shared.reads(Mood::Well);
        waits.push(until_closed(&world, &chain, 1, LONGEST).await.as_millis());
    }
    for (round, wait) in waits.iter().enumerate().take(9) {
        let longest = (500_u128 << round).min(30_000);
        assert!((longest / 2..=longest + 50).contains(wait), "{waits:?}");
    }
    assert!(waits[9] <= 550, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_waits_the_same() {
    let mut waits = Vec::new();
    for _ in 0..2 {
        let world = World::default();
        let ([_, shared], chain) = pair(&world);
        shared.reads(Mood::Fail(ErrorKind::Unavailable));
        fail_five_times(&chain).await;
        shared.reads(Mood::Well);
        waits.push(until_closed(&world, &chain, 1, LONGEST).await);
    }
    assert_eq!(waits[0], waits[1]);
}

#[tokio::test(start_paused = true)]
async fn only_kinds_that_say_that_the_tier_is_unwell_open_it() {
    for (kind, opens) in [
        (ErrorKind::Unavailable, true),
        (ErrorKind::Timeout, true),
        (ErrorKind::RateLimited, true),
        (ErrorKind::Denied, false),
        (ErrorKind::Corrupt, false),
        (ErrorKind::TooLarge, false),
        (ErrorKind::Unsupported, false),
        (ErrorKind::Config, false),
    ] {
        for tier in 0..3 {
            let world = World::default();
            let (tiers, chain) = world.usual();
            tiers[tier].reads(Mood::Fail(kind));
            fail_five_times(&chain).await;
            assert_eq!(breaker(&chain, tier).state == "open", opens, "{kind} in tier {tier}");
            let others = (0..3).filter(|other| *other != tier);
            assert!(others.into_iter().all(|other| breaker(&chain, other).state == "closed"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_failures_in_a_row_count() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world);
    for _ in 0..10 {
        shared.reads(Mood::Fail(ErrorKind::Unavailable));
        for _ in 0..4 {
            let _ = chain.lookup(&key("k")).await;
        }
        shared.reads(Mood::Well);
        let _ = chain.lookup(&key("k")).await;
        shared.reads(Mood::Hang);
        let _ = chain.lookup(&key("k")).await;
        shared.reads(Mood::Fail(ErrorKind::Corrupt));
        let _ = chain.lookup(&key("k")).await;
    }
    assert_eq!(breaker(&chain, 1).openings, 0);
}

#[tokio::test(start_paused = true)]
async fn thresholds_can_be_set() {
    let world = World::default();
    let shared = world.tier("shared", SHARED);
    let breaking =
        BreakerOptions { failures: 2, max_backoff: Duration::from_secs(3), ..BreakerOptions::default() };
    let options = TierOptions { breaker: breaking, ..TierOptions::default() };
    let chain = world.chain_with([(shared.clone(), options)]);
    shared.reads(Mood::Fail(ErrorKind::Unavailable));
    let _ = chain.lookup(&key("k")).await;
    assert_eq!(breaker(&chain, 0).state, "closed");
    let _ = chain.lookup(&key("k")).await;
    assert_eq!(breaker(&chain, 0).state, "open");
    world.pass(Duration::from_secs(60)).await;
    shared.reads(Mood::Well);
    until_closed(&world, &chain, 0, Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_and_no_caller_waits_for_it() {
    let world = World::default();
    let ([_, shared], chain) = pair(&world);
    shared.reads(Mood::Fail(ErrorKind::Unavailable));
    shared.rest(Mood::Hang);
    fail_five_times(&chain).await;
    while shared.probes.load(Ordering::SeqCst) == 0 {
        world.pass(Duration::from_millis(10)).await;
    }
    assert_eq!(breaker(&chain, 1).state, "half-open");
    let started = Instant::now();
    for _ in 0..100 {
        assert_eq!(steps(&chain.lookup(&key("k")).await)[1], "shared open");
    }
    assert_eq!((started.elapsed(), shared.probes.load(Ordering::SeqCst)), (Duration::ZERO, 1));
    assert_eq!(shared.calls().0, 5);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_may_not_be_read_is_probed_without_a_read() {
    let world = World::default();
    let tiers = [world.tier("memory", VOLATILE), world.tier("shared", SHARED)];
    let only = TierOptions { mode: Mode::WriteOnly, ..TierOptions::default() };
    let chain = world.chain_with([(tiers[0].clone(), TierOptions::default()), (tiers[1].clone(), only)]);
    fail_five_times(&chain).await;
    assert_eq!((tiers[1].calls().0, breaker(&chain, 1).state), (0, "closed"));
    assert_eq!(chain.report().tiers[1].open, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_in_the_background_but_while_it_is_open_and_nothing_outlives_the_chain() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    for hang in [false, true] {
        for close in [false, true] {
            let world = World::default();
            let ([_, shared], chain) = pair(&world);
            assert_eq!(tasks(), 0);
            shared.reads(Mood::Fail(ErrorKind::Unavailable));
            fail_five_times(&chain).await;
            assert_eq!(tasks(), 1);
            if hang {
                shared.rest(Mood::Hang);
                world.pass(Duration::from_secs(1)).await;
                assert_eq!(breaker(&chain, 1).state, "half-open");
            }
            if close {
                shared.rest(Mood::Well);
                chain.close().await.unwrap();
            } else {
                drop(chain);
            }
            breathe().await;
            assert_eq!(tasks(), 0, "hang {hang}, close {close}");
            assert_eq!(Arc::strong_count(&shared), if close { 3 } else { 1 });
        }
    }
    let world = World::default();
    let ([_, shared], chain) = pair(&world);
    shared.reads(Mood::Fail(ErrorKind::Unavailable));
    fail_five_times(&chain).await;
    shared.reads(Mood::Well);
    until_closed(&world, &chain, 1, LONGEST).await;
    assert_eq!(tasks(), 0);
}

#[test]
fn a_tier_is_not_left_out_for_good_when_the_runtime_that_probed_it_ends() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = World::default();
    let ([_, shared], chain) = pair(&world);
    shared.reads(Mood::Fail(ErrorKind::Unavailable));
    runtime().block_on(fail_five_times(&chain));
    assert_eq!(breaker(&chain, 1).state, "closed", "nobody is left to probe it");
    shared.plant(&key("k"), world.entry(0, "value"));
    shared.reads(Mood::Well);
    assert!(runtime().block_on(chain.lookup(&key("k"))).is_hit());
}

#[tokio::test(start_paused = true)]
async fn in_a_chain_of_chains_one_tier_that_is_down_leaves_the_others_in_use() {
    let world = World::default();
    let tiers = [world.tier("near", SHARED), world.tier("remote", SHARED)];
    let inner = Arc::new(world.chain(&tiers));
    let outer =
        Chain::builder().clock(world.clock.clone()).tier_with(inner.clone(), TierOptions::default()).build();
    tiers[1].plant(&key("there"), world.entry(0, "value"));
    tiers[0].reads(Mood::Fail(ErrorKind::Unavailable));
    for _ in 0..20 {
        let lookup = outer.lookup(&key("absent")).await;
        assert_eq!(steps(&lookup), ["chain failed:unavailable"], "absence was not established");
    }
    assert_eq!((breaker(&inner, 0).state, breaker(&outer, 0).state), ("open", "closed"));
    assert!(outer.lookup(&key("there")).await.is_hit());
    let error = inner.get(&key("absent")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "chain: get failed (unavailable): no tier that was asked holds the key: chain: get failed \
         (unavailable): a tier was not asked, because its breaker is open or it is too slow"
    );

    tiers[1].reads(Mood::Fail(ErrorKind::Unavailable));
    fail_five_times(&outer).await;
    assert_eq!(breaker(&outer, 0).state, "open", "now nobody in it answers");
    assert_adds_up(&outer.report());
    assert_adds_up(&inner.report());
}

#[tokio::test(start_paused = true)]
async fn a_second_look_does_not_wait_for_a_tier_that_is_left_alone() {
    let world = World::default();
    let disk = world.tier("disk", DURABLE);
    let chain = world.chain(std::slice::from_ref(&disk));
    disk.reads(Mood::Hang);
    for _ in 0..2 {
        let _ = chain.lookup(&key("k")).await;
    }
    let started = Instant::now();
    assert!(chain.peek_local(&key("k")).await.is_none());
    assert_eq!(started.elapsed(), Duration::ZERO);
}
