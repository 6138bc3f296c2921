//! The read budget: what a read waits in all, and how the tiers share it.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{Capabilities, Entry};
use peercache_chain::{Chain, LookupOptions, Outcome, TierOptions};
use tokio::time::Instant;

use crate::support::{DURABLE, Mood, SHARED, Scripted, VOLATILE, World, assert_adds_up, key, steps, text};

const MS: Duration = Duration::from_millis(1);

fn named<const N: usize>(world: &World, tiers: [(&'static str, Capabilities); N]) -> [Arc<Scripted>; N] {
    tiers.map(|(name, capabilities)| world.tier(name, capabilities))
}

fn within(world: &World, tiers: &[Arc<Scripted>], budget: Duration) -> Chain {
    let options = tiers.iter().map(|tier| (tier.clone(), TierOptions::default()));
    world.builder_with(options).read_budget(budget).racing(false).build()
}

async fn read(chain: &Chain, name: &str, times: usize) {
    for _ in 0..times {
        let _ = chain.lookup(&key(name)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_never_waits_longer_than_its_budget_however_many_tiers_hang() {
    for count in 1..=6 {
        let world = World::default();
        let tiers: Vec<_> = (0..count).map(|_| world.tier("far", SHARED)).collect();
        tiers.iter().for_each(|tier| tier.reads(Mood::Hang));
        let chain = within(&world, &tiers, 600 * MS);
        let started = Instant::now();
        assert_eq!(chain.lookup(&key("k")).await.outcome, Outcome::Miss);
        // Timers have whole milliseconds.
        assert!(started.elapsed() <= 600 * MS + count * MS, "{count} tiers: {:?}", started.elapsed());
        assert_eq!(tiers.last().unwrap().calls().0, 1, "the last one had its chance");
        assert_adds_up(&chain.report());
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_leaves_those_below_it_what_they_need() {
    let world = World::default();
    let tiers = named(&world, [("memory", VOLATILE), ("disk", DURABLE), ("shared", SHARED)]);
    let chain = world.chain(&tiers);
    tiers[1].reads(Mood::Hang);
    tiers[2].plant(&key("k"), world.entry(0, "value"));
    tiers[2].reads(Mood::Slow(90 * MS));
    let started = Instant::now();
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!(steps(&lookup), ["memory absent", "disk timed out:900"], "a second less what is kept");
    assert_eq!((text(&lookup), started.elapsed()), (Some("value"), 990 * MS));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_a_tier_follows_what_it_usually_takes() {
    let world = World::default();
    let tiers = named(&world, [("near", SHARED), ("far", SHARED)]);
    let chain = within(&world, &tiers, 600 * MS);
    tiers[1].reads(Mood::Slow(150 * MS));
    read(&chain, "absent", 10).await;
    tiers[0].reads(Mood::Fail(peercache_api::ErrorKind::Unavailable));
    read(&chain, "absent", 1).await;
    tiers[0].reads(Mood::Hang);
    tiers[1].plant(&key("k"), world.entry(0, "value"));
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!((text(&lookup), steps(&lookup)), (Some("value"), vec!["near timed out:300".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_tier_much_slower_than_usual_is_given_up_early_if_another_is_below() {
    let world = World::default();
    let tiers = named(&world, [("near", SHARED), ("far", SHARED)]);
    let chain = within(&world, &tiers, Duration::from_secs(1));
    tiers[0].reads(Mood::Slow(20 * MS));
    read(&chain, "absent", 10).await;
    tiers[0].reads(Mood::Slow(200 * MS));
    tiers[1].plant(&key("k"), world.entry(0, "value"));
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!(steps(&lookup), ["near timed out:80"], "four times its 99th percentile");
    let lookup = chain.lookup(&key("other")).await;
    assert_eq!(steps(&lookup), ["near absent", "far absent"], "what is usual has changed: waited for");

    tiers[1].reads(Mood::Slow(300 * MS));
    let lookup = chain.lookup(&key("k")).await;
    assert!(lookup.is_hit(), "the last tier has as long as there is");
    assert_eq!(chain.report().tiers.iter().map(|tier| tier.breaker.openings).sum::<u64>(), 0);
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_takes_longer_than_what_is_left_is_skipped_until_its_slowness_is_old() {
    let world = World::default();
    let tiers = named(&world, [("near", SHARED), ("far", SHARED)]);
    let chain = within(&world, &tiers, 300 * MS);
    tiers[1].reads(Mood::Slow(200 * MS));
    read(&chain, "k", 10).await;
    assert_eq!(chain.report().tiers[1].misses, 10);
    tiers[0].reads(Mood::Slow(140 * MS));
    // While nothing warns of it, the first is waited for until it leaves the second too little.
    let mut slow = 0;
    for _ in 0..10 {
        let started = Instant::now();
        let lookup = chain.lookup(&key("k")).await;
        assert!(started.elapsed() <= 302 * MS);
        slow += usize::from(steps(&lookup).contains(&"far tooslow".to_owned()));
    }
    assert!(slow > 0, "{:#?}", chain.report().tiers[1]);
    let report = chain.report();
    assert_eq!(report.tiers[1].too_slow, slow as u64);
    assert_adds_up(&report);

    // It is quick again, and found out to be.
    tiers[0].reads(Mood::Well);
    tiers[1].reads(Mood::Well);
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(steps(&chain.lookup(&key("k")).await), ["near absent", "far absent"]);
}

#[tokio::test(start_paused = true)]
async fn without_shared_tiers_there_is_no_budget_but_the_deadlines() {
    let world = World::default();
    let tiers = named(&world, [("memory", VOLATILE), ("disk", DURABLE)]);
    let chain = world.chain(&tiers);
    tiers.iter().for_each(|tier| tier.reads(Mood::Hang));
    let started = Instant::now();
    let _ = chain.lookup(&key("k")).await;
    assert_eq!(started.elapsed(), Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn what_a_tier_holds_longer_than_its_cap_is_stale_there_and_fresh_below() {
    let world = World::default();
    let tiers = named(&world, [("memory", VOLATILE), ("disk", DURABLE)]);
    let capped = TierOptions { max_ttl: Some(Duration::from_secs(10)), ..TierOptions::default() };
    let chain =
        world.chain_with([(tiers[0].clone(), capped.clone()), (tiers[1].clone(), TierOptions::default())]);
    for tier in &tiers {
        tier.plant(&key("both"), world.entry(0, "value"));
    }
    tiers[0].plant(&key("alone"), world.entry(0, "value"));
    tiers[0].plant(&key("removed"), world.tombstone(1));
    tiers[1].plant(&key("removed"), world.entry(0, "value"));
    tiers[1].plant(&key("older"), world.entry(-5, "older"));
    tiers[0].plant(&key("older"), world.entry(0, "value"));
    let at = async |name: &str| {
        let lookup = chain.lookup(&key(name)).await;
        (lookup.outcome, lookup.tier.map(|tier| tier.into_owned()))
    };
    assert_eq!(at("both").await, (Outcome::Hit, Some("memory".to_owned())));
    world.clock.advance(Duration::from_secs(10));
    let writes = tiers[0].calls().1;
    assert_eq!(at("both").await, (Outcome::Hit, Some("disk".to_owned())), "the same write, longer");
    chain.settle().await;
    assert_eq!(tiers[0].calls().1, writes, "too old to be of use there");
    assert_eq!(at("alone").await, (Outcome::Stale, Some("memory".to_owned())));
    assert_eq!(at("older").await, (Outcome::Stale, Some("memory".to_owned())), "never an older value");
    assert_eq!(at("removed").await, (Outcome::Miss, None), "a removal is not capped");
    world.clock.advance(Duration::from_secs(100));
    assert_eq!(at("alone").await, (Outcome::Miss, None), "stale for 100 s, as the entry says");
    assert_adds_up(&chain.report());

    let alone = world.chain_with([(tiers[0].clone(), capped)]);
    let entry = Entry::builder("v", world.version(110), world.at(110))
        .fresh_for(Duration::from_secs(100))
        .content_type("text/plain")
        .etag("\"e\"")
        .last_modified("then")
        .tag("a")
        .tag("b")
        .build()
        .unwrap();
    tiers[0].plant(&key("shown"), entry.clone());
    let shown = alone.lookup(&key("shown")).await.hit().unwrap();
    let mut expected = entry.metadata().clone();
    expected.fresh_for = Duration::from_secs(10);
    assert_eq!((shown.metadata(), shown.value()), (&expected, entry.value()), "all else is kept");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_to_be_large_may_take_longer_and_no_longer_than_that() {
    let world = World::default();
    let tiers = named(&world, [("near", SHARED), ("far", SHARED)]);
    let chain = within(&world, &tiers, Duration::from_secs(1));
    tiers[0].reads(Mood::Slow(20 * MS));
    read(&chain, "absent", 10).await;
    tiers[0].plant(&key("k"), world.entry(0, "value"));
    tiers[0].reads(Mood::Slow(1500 * MS));
    let lookup = chain.lookup_with(&key("k"), LookupOptions::new().extra_time(2000 * MS)).await;
    assert_eq!((text(&lookup), steps(&lookup).len()), (Some("value"), 0));
    assert_eq!(chain.lookup(&key("k")).await.outcome, Outcome::Miss, "others wait as ever");

    tiers.iter().for_each(|tier| tier.reads(Mood::Hang));
    let started = Instant::now();
    assert_eq!(
        chain.lookup_with(&key("k"), LookupOptions::new().extra_time(2000 * MS)).await.outcome,
        Outcome::Miss
    );
    assert!(started.elapsed() <= 3002 * MS, "the budget of a second and those two: {:?}", started.elapsed());
    assert_adds_up(&chain.report());
}
