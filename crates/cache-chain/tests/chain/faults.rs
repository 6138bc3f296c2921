//! A tier that fails, hangs or lies: the caller never notices more than its deadline.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Clock, Entry, ErrorKind, NodeId, Version, VersionClock};
use peercache_chain::{Chain, Outcome, TierOptions};
use peercache_testkit::chaos::{Chaos, Plan};
use tokio::time::Instant;

use crate::support::{DURABLE, Mood, SHARED, VOLATILE, World, assert_adds_up, key, steps, text};

const KINDS: [ErrorKind; 8] = [
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::RateLimited,
    ErrorKind::Denied,
    ErrorKind::Corrupt,
    ErrorKind::TooLarge,
    ErrorKind::Unsupported,
    ErrorKind::Config,
];

#[tokio::test(start_paused = true)]
async fn whatever_a_tier_fails_with_the_next_one_answers() {
    for kind in KINDS {
        let world = World::default();
        let ([memory, disk, _], chain) = world.usual();
        memory.reads(Mood::Fail(kind));
        disk.plant(&key("k"), world.entry(0, "value"));
        let lookup = chain.lookup(&key("k")).await;
        assert_eq!((lookup.outcome, text(&lookup)), (Outcome::Hit, Some("value")));
        assert_eq!(steps(&lookup), [format!("memory failed:{kind}")]);
        let report = chain.report();
        assert_eq!(report.tiers[0].errors, 1);
        assert_eq!(report.tiers[0].corrupt, u64::from(kind == ErrorKind::Corrupt));
        let last = format!("memory: get failed ({kind}): told to fail");
        assert_eq!(report.tiers[0].last_error.as_deref(), Some(last.as_str()));
        assert_adds_up(&report);
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_copy_is_replaced_by_the_hit_below() {
    let world = World::default();
    let tiers = [world.tier("unordered", peercache_api::Capabilities::local()), world.tier("shared", SHARED)];
    let chain = world.chain(&tiers);
    tiers[0].reads(Mood::Fail(ErrorKind::Corrupt));
    tiers[1].plant(&key("k"), world.entry(0, "value"));
    assert!(chain.lookup(&key("k")).await.is_hit());
    assert_eq!(tiers[0].held(&key("k")).unwrap().value(), "value", "though it cannot be compared");
    tiers[0].reads(Mood::Well);
    assert_eq!(chain.lookup(&key("k")).await.tier.as_deref(), Some("unordered"));
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_costs_its_deadline_and_no_more() {
    let world = World::default();
    let tiers = [("memory", VOLATILE), ("disk", DURABLE), ("shared", SHARED)].map(|(n, c)| world.tier(n, c));
    let [memory, disk, shared] = &tiers;
    let options = tiers.iter().map(|tier| (tier.clone(), TierOptions::default()));
    let chain = world.builder_with(options).read_budget(Duration::MAX).build();
    memory.reads(Mood::Hang);
    shared.reads(Mood::Hang);
    disk.plant(&key("k"), world.entry(0, "value"));
    let started = Instant::now();
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!((text(&lookup), started.elapsed()), (Some("value"), Duration::from_secs(2)));
    assert_eq!(steps(&lookup), ["memory timed out:2000"]);

    let started = Instant::now();
    let lookup = chain.lookup(&key("other")).await;
    assert_eq!(
        started.elapsed(),
        Duration::from_millis(2500),
        "2 s for a local tier, 500 ms for a shared one"
    );
    assert_eq!(steps(&lookup), ["memory timed out:2000", "disk absent", "shared timed out:500"]);
    let report = chain.report();
    assert_eq!([0, 1, 2].map(|tier| report.tiers[tier].timeouts), [2, 0, 1]);
    let last = report.tiers[2].last_error.as_deref();
    assert_eq!(last, Some("shared: get failed (timeout): no answer within 500 ms"));
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn a_slow_tier_is_waited_for_within_its_own_deadline_only() {
    let world = World::default();
    let shared = world.tier("shared", SHARED);
    shared.plant(&key("k"), world.entry(0, "value"));
    let deadline = Some(Duration::from_millis(40));
    let options = TierOptions { read_deadline: deadline, write_deadline: deadline, ..TierOptions::default() };
    let chain = world.chain_with([(shared.clone(), options)]);
    shared.reads(Mood::Slow(Duration::from_millis(39)));
    assert!(chain.lookup(&key("k")).await.is_hit());
    shared.reads(Mood::Slow(Duration::from_millis(41)));
    assert_eq!(steps(&chain.lookup(&key("k")).await), ["shared timed out:40"]);
    shared.writes(Mood::Hang);
    let started = Instant::now();
    let outcome = chain.write(&key("k"), world.entry(1, "value")).await;
    assert_eq!(started.elapsed(), Duration::from_millis(40));
    let error = outcome.errors().next().unwrap();
    assert_eq!(error.to_string(), "shared: put failed (timeout): no answer within 40 ms");
}

#[tokio::test(start_paused = true)]
async fn with_every_tier_down_a_read_is_a_miss_with_reasons_and_a_write_is_stored_nowhere() {
    let world = World::default();
    let (tiers, chain) = world.usual();
    for tier in &tiers {
        tier.reads(Mood::Fail(ErrorKind::Unavailable));
        tier.writes(Mood::Fail(ErrorKind::Unavailable));
        tier.rest(Mood::Fail(ErrorKind::Unavailable));
    }
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!(lookup.outcome, Outcome::Miss);
    assert_eq!(
        steps(&lookup),
        ["memory failed:unavailable", "disk failed:unavailable", "shared failed:unavailable"]
    );
    let outcome = chain.write(&key("k"), world.entry(0, "v")).await;
    assert!(!outcome.is_stored() && !outcome.is_durable());
    assert_eq!(outcome.errors().count(), 3);
    assert_eq!(chain.probe().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let report = chain.report();
    assert_eq!((report.puts, report.puts_stored), (1, 0));
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn a_chain_is_well_while_one_tier_is() {
    let world = World::default();
    let ([memory, disk, _], chain) = world.usual();
    memory.rest(Mood::Hang);
    disk.rest(Mood::Fail(ErrorKind::Denied));
    let started = Instant::now();
    chain.probe().await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_is_dropped_is_counted_where_it_was() {
    let world = World::default();
    let tiers = [world.tier("memory", VOLATILE), world.tier("shared", SHARED)];
    let chain = world.chain(&tiers);
    tiers[1].reads(Mood::Hang);
    let dropped = tokio::time::timeout(Duration::from_millis(1), chain.lookup(&key("k"))).await;
    assert!(dropped.is_err());
    let report = chain.report();
    assert_eq!((report.lookups, report.cancelled), (1, 1));
    assert_eq!([0, 1].map(|tier| report.tiers[tier].cancelled), [0, 1]);
    assert_eq!(report.tiers[0].misses, 1);
    assert_adds_up(&report);

    let tiers = [world.tier("memory", VOLATILE), world.tier("disk", DURABLE)];
    let chain = world.chain(&tiers);
    tiers[1].writes(Mood::Hang);
    let dropped =
        tokio::time::timeout(Duration::from_millis(1), chain.write(&key("k"), world.entry(0, "v"))).await;
    assert!(dropped.is_err());
    let report = chain.report();
    assert_eq!([0, 1].map(|tier| report.tiers[tier].put_cancelled), [0, 1]);
    assert_eq!(report.tiers[0].stored, 1);
}

#[tokio::test(start_paused = true)]
async fn panic_in_any_method_is_an_internal_error_of_that_tier() {
    let world = World::default();
    let [first, second] =
        [("first", DURABLE), ("second", DURABLE)].map(|(name, kind)| world.tier(name, kind));
    second.plant(&key("k"), world.entry(0, "value"));
    let broken = Chaos::new(first as Arc<dyn CacheBackend>, 1, Plan::panicking());
    let chain = Chain::builder()
        .clock(world.clock.clone())
        .tier(broken)
        .tier(second as Arc<dyn CacheBackend>)
        .build();
    for _ in 0..5 {
        let lookup = chain.lookup(&key("k")).await;
        assert_eq!(
            (text(&lookup), steps(&lookup)),
            (Some("value"), vec!["first failed:internal".to_owned()])
        );
    }
    assert_eq!(chain.report().tiers[0].breaker.state, "open", "panics feed the breaker");
    let outcome = chain.write(&key("k"), world.entry(1, "newer")).await;
    let kinds: Vec<_> = outcome.errors().map(peercache_api::Error::kind).collect();
    assert!(outcome.is_stored() && kinds == [ErrorKind::Internal], "{outcome:?}");
    chain.settle().await;
    chain.probe().await.unwrap();
    assert_eq!(chain.close().await.unwrap_err().kind(), ErrorKind::Internal);
    assert_adds_up(&chain.report());
}

/// A clock that was an hour ahead is corrected: what was written and removed meanwhile does not
/// keep anything from being cached.
#[tokio::test(start_paused = true)]
async fn clock_that_is_set_back_keeps_nothing_from_being_cached() {
    let world = World::default();
    let ([_, _, shared], chain) = world.usual();
    let now = world.clock.now();
    let entry = |version: Version| {
        let builder = Entry::builder("value", version, world.clock.now()).fresh_for(Duration::from_secs(60));
        builder.tag("tag").build().unwrap()
    };
    let versions = VersionClock::new(NodeId::from_u64(1));
    let next = || versions.next(world.clock.now());
    world.clock.set_wall(now.saturating_add(Duration::from_secs(3600)));
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    let _ = chain.write(&key("k"), entry(next())).await;
    let _ = chain.invalidate_tag("tag", next()).await.unwrap();
    let _ = chain.invalidate_all(next()).await;
    world.clock.set_wall(now);
    shared.writes(Mood::Well);
    let _ = chain.write(&key("k"), entry(next())).await;
    assert!(chain.lookup(&key("k")).await.is_hit());
    let _ = chain.invalidate_tag("tag", next()).await.unwrap();
    assert!(!chain.lookup(&key("k")).await.is_hit(), "an invalidation of now counts");
    let _ = chain.write(&key("k"), entry(next())).await;
    let _ = chain.invalidate_all(next()).await;
    assert!(!chain.lookup(&key("k")).await.is_hit());
    let _ = chain.write(&key("k"), entry(next())).await;
    assert!(chain.lookup(&key("k")).await.is_hit());
    assert_eq!(versions.corrections(), 1);
}
