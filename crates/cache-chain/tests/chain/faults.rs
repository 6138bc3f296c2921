//! A tier that fails, hangs or lies: the caller never notices more than its deadline.

use std::time::Duration;

use peercache_api::{CacheBackend, ErrorKind};
use peercache_chain::{Outcome, TierOptions};
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
