//! A chain is a tier of another chain.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Clock, ErrorKind};
use peercache_chain::{Chain, Outcome, TierOptions};
use tokio::time::Instant;

use crate::support::{DURABLE, Mood, SHARED, Scripted, VOLATILE, World, assert_adds_up, key, steps, text};

/// `memory` over the chain `far` of `near` and `remote`.
fn nested(world: &World) -> ([Arc<Scripted>; 3], Arc<Chain>, Chain) {
    let clock = || Arc::clone(&world.clock) as Arc<dyn Clock>;
    let tiers = [("memory", VOLATILE), ("near", SHARED), ("remote", SHARED)]
        .map(|(name, capabilities)| world.tier(name, capabilities));
    let [memory, near, remote] = tiers.each_ref().map(|tier| Arc::clone(tier) as Arc<dyn CacheBackend>);
    let inner = Chain::builder()
        .name("far")
        .clock(clock())
        .tier_with(near, TierOptions::default())
        .tier_with(remote, TierOptions::default())
        .build();
    let inner = Arc::new(inner);
    let outer = Chain::builder()
        .clock(clock())
        .tier_with(memory, TierOptions::default())
        .tier_with(Arc::clone(&inner) as Arc<dyn CacheBackend>, TierOptions::default())
        .build();
    (tiers, inner, outer)
}

#[tokio::test(start_paused = true)]
async fn a_hit_travels_up_through_both() {
    let world = World::default();
    let ([memory, near, remote], inner, outer) = nested(&world);
    remote.plant(&key("k"), world.entry(0, "value"));
    let lookup = outer.lookup(&key("k")).await;
    assert_eq!((text(&lookup), lookup.tier.as_deref()), (Some("value"), Some("far")));
    inner.settle().await;
    for tier in [&memory, &near] {
        assert_eq!(
            tier.held(&key("k")).unwrap().value().as_ptr(),
            lookup.entry.as_ref().unwrap().value().as_ptr()
        );
    }
    assert_eq!(remote.calls(), (1, 0));
    assert_adds_up(&outer.report());
    assert_adds_up(&inner.report());
}

#[tokio::test(start_paused = true)]
async fn absence_that_was_not_established_is_an_error_inside_and_a_miss_outside() {
    let world = World::default();
    let ([_, near, remote], inner, outer) = nested(&world);
    near.reads(Mood::Fail(ErrorKind::RateLimited));
    assert_eq!(inner.get(&key("k")).await.unwrap_err().kind(), ErrorKind::RateLimited);
    let lookup = outer.lookup(&key("k")).await;
    assert_eq!(lookup.outcome, Outcome::Miss);
    assert_eq!(steps(&lookup), ["memory absent", "far failed:rate limited"]);

    remote.plant(&key("k"), world.tombstone(1));
    assert_eq!(
        steps(&outer.lookup(&key("k")).await),
        ["memory absent", "far removed"],
        "a removal is an answer"
    );
    remote.plant(&key("k"), world.entry(2, "value"));
    assert!(outer.lookup(&key("k")).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn removals_and_stale_values_pass_through() {
    let world = World::default();
    let ([memory, near, remote], inner, outer) = nested(&world);
    memory.plant(&key("k"), world.entry(0, "old"));
    remote.plant(&key("stale"), world.entry(0, "stale"));
    near.plant(&key("removed"), world.tombstone(5));
    remote.plant(&key("removed"), world.entry(4, "old"));
    assert!(outer.write(&key("k"), world.tombstone(1)).await.is_queued());
    outer.settle().await;
    inner.settle().await;
    for tier in [&memory, &near, &remote] {
        assert!(tier.held(&key("k")).unwrap().is_tombstone());
    }
    world.clock.advance(Duration::from_secs(150));
    let lookup = outer.lookup(&key("stale")).await;
    assert_eq!((lookup.outcome, text(&lookup)), (Outcome::Stale, Some("stale")));
    assert_eq!(outer.lookup(&key("removed")).await.newest, Some(world.version(5)));
}

#[tokio::test(start_paused = true)]
async fn what_a_chain_cannot_place_hides_what_it_replaces_also_in_a_tier_below() {
    let world = World::default();
    let small = VOLATILE.with_max_value_bytes(4);
    let within = [world.tier("smaller", small), world.tier("unwell", VOLATILE)];
    let inner: Arc<dyn CacheBackend> = Arc::new(world.chain(&within));
    let disk = world.tier("disk", DURABLE);
    let outer = Chain::builder()
        .clock(Arc::clone(&world.clock) as Arc<dyn Clock>)
        .tier_with(Arc::clone(&inner), TierOptions::default())
        .tier_with(Arc::clone(&disk) as Arc<dyn CacheBackend>, TierOptions::default())
        .build();
    disk.plant(&key("k"), world.entry(0, "old"));
    // Another process that shares the inner chain's stores writes a newer value, which fits nowhere
    // there.
    within[1].writes(Mood::Fail(ErrorKind::Unavailable));
    assert!(inner.put(&key("k"), world.entry(1, "newer and large")).await.is_err());
    let lookup = outer.lookup(&key("k")).await;
    assert_eq!(
        (lookup.outcome, steps(&lookup)),
        (Outcome::Miss, vec!["chain removed".to_owned(), "disk superseded".to_owned()])
    );
    assert_adds_up(&outer.report());
}

#[tokio::test(start_paused = true)]
async fn the_outer_deadline_ends_the_inner_read_and_both_count_it() {
    let world = World::default();
    let ([_, near, remote], inner, outer) = nested(&world);
    near.reads(Mood::Slow(Duration::from_millis(300)));
    remote.reads(Mood::Hang);
    let started = Instant::now();
    assert_eq!(steps(&outer.lookup(&key("k")).await), ["memory absent", "far timed out:500"]);
    assert_eq!(started.elapsed(), Duration::from_millis(500));
    assert_eq!((inner.report().cancelled, inner.report().tiers[1].cancelled), (1, 1));
    assert_adds_up(&outer.report());
    assert_adds_up(&inner.report());
}
