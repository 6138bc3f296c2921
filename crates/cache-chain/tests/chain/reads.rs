//! Which tier answers a read, and what the trace says of the others.

use std::time::Duration;

use peercache_api::{CacheBackend, Entry, Freshness, MAX_CLOCK_SKEW, TOMBSTONE_LIFETIME};
use peercache_chain::{Chain, Mode, Outcome, TierOptions};

use crate::support::{SHARED, VOLATILE, World, assert_adds_up, key, steps, text};

#[tokio::test(start_paused = true)]
async fn the_first_tier_that_holds_it_answers_and_those_below_are_not_asked() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    for (tier, value) in [(&disk, "disk"), (&shared, "shared")] {
        tier.plant(&key("k"), world.entry(0, value));
    }
    world.clock.advance(Duration::from_secs(7));

    let lookup = chain.lookup(&key("k")).await;
    assert_eq!((lookup.outcome, text(&lookup)), (Outcome::Hit, Some("disk")));
    assert_eq!((lookup.tier.as_deref(), lookup.age), (Some("disk"), Duration::from_secs(7)));
    assert_eq!(lookup.newest, Some(world.version(0)));
    assert_eq!(steps(&lookup), ["memory absent"]);
    assert_eq!([memory.calls().0, disk.calls().0, shared.calls().0], [1, 1, 0]);

    let again = chain.lookup(&key("k")).await;
    assert_eq!((again.tier.as_deref(), again.trace.len()), (Some("memory"), 0));
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn a_miss_names_every_tier() {
    let world = World::default();
    let (_, chain) = world.usual();
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!(lookup.outcome, Outcome::Miss);
    assert_eq!((lookup.tier.is_none(), lookup.newest, lookup.age), (true, None, Duration::ZERO));
    assert_eq!(steps(&lookup), ["memory absent", "disk absent", "shared absent"]);
    assert!(lookup.hit().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_chain_without_tiers_is_a_miss() {
    let chain = Chain::builder().build();
    assert_eq!(chain.lookup(&key("k")).await.outcome, Outcome::Miss);
    assert!(chain.get(&key("k")).await.unwrap().is_none());
    assert_eq!(chain.report().misses, 2);
}

#[tokio::test(start_paused = true)]
async fn a_removal_hides_what_is_older_further_down_and_not_what_is_newer() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    memory.plant(&key("k"), world.tombstone(2));
    disk.plant(&key("k"), world.entry(1, "before"));
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!(lookup.outcome, Outcome::Miss);
    assert_eq!(lookup.newest, Some(world.version(2)), "a writer must go above the removal");
    assert_eq!(steps(&lookup), ["memory removed", "disk superseded", "shared absent"]);
    assert!(
        chain.get(&key("k")).await.unwrap().unwrap().is_tombstone(),
        "for a chain above, it is an answer"
    );

    shared.plant(&key("k"), world.entry(3, "after"));
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!((text(&lookup), lookup.tier.as_deref()), (Some("after"), Some("shared")));
    chain.settle().await;
    assert_eq!(memory.held(&key("k")).unwrap().value(), "after");
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn stale_is_served_only_where_nothing_newer_is_fresh() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    world.clock.advance(Duration::from_secs(150));
    memory.plant(&key("older below"), world.entry(20, "stale"));
    disk.plant(&key("older below"), world.entry(10, "older"));
    memory.plant(&key("newer below"), world.entry(20, "stale"));
    disk.plant(&key("newer below"), world.entry(100, "fresh"));
    memory.plant(&key("removed below"), world.entry(20, "stale"));
    shared.plant(&key("removed below"), world.tombstone(30));
    memory.plant(&key("expired below"), world.entry(20, "stale"));
    let brief = Entry::builder("brief", world.version(30), world.at(30)).build().unwrap();
    disk.plant(&key("expired below"), brief);

    let lookup = chain.lookup(&key("older below")).await;
    assert_eq!((lookup.outcome, text(&lookup)), (Outcome::Stale, Some("stale")));
    assert_eq!((lookup.tier.as_deref(), lookup.age), (Some("memory"), Duration::from_secs(130)));
    assert_eq!(steps(&lookup), ["memory stale", "disk superseded", "shared absent"]);
    assert!(lookup.hit().is_none(), "stale is not a hit");

    let lookup = chain.lookup(&key("newer below")).await;
    assert_eq!((lookup.outcome, text(&lookup)), (Outcome::Hit, Some("fresh")));

    let lookup = chain.lookup(&key("removed below")).await;
    assert_eq!(lookup.outcome, Outcome::Miss);
    assert_eq!(steps(&lookup), ["memory stale", "disk absent", "shared removed"]);

    let lookup = chain.lookup(&key("expired below")).await;
    assert_eq!(lookup.outcome, Outcome::Miss, "it was replaced, if only for a while");
    assert_eq!(steps(&lookup), ["memory stale", "disk expired", "shared absent"]);
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn a_fresh_value_that_is_older_than_a_stale_one_is_not_served() {
    let world = World::default();
    let ([memory, disk, _], chain) = world.usual();
    let long = Entry::builder("older but long-lived", world.version(0), world.at(0))
        .fresh_for(Duration::from_secs(1000))
        .build()
        .unwrap();
    memory.plant(&key("k"), world.entry(1, "newer"));
    disk.plant(&key("k"), long.clone());
    world.clock.advance(Duration::from_secs(150));
    assert_eq!(long.freshness(world.at(150)), Freshness::Fresh);
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!((lookup.outcome, text(&lookup)), (Outcome::Stale, Some("newer")));
}

#[tokio::test(start_paused = true)]
async fn expired_is_a_miss_and_still_hides_what_is_older() {
    let world = World::default();
    let ([memory, disk, _], chain) = world.usual();
    let long = Entry::builder("long-lived", world.version(0), world.at(0))
        .fresh_for(Duration::from_secs(1000))
        .build()
        .unwrap();
    memory.plant(&key("k"), world.entry(1, "gone"));
    disk.plant(&key("k"), long);
    world.clock.advance(Duration::from_secs(201));
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!(lookup.outcome, Outcome::Miss);
    assert_eq!(steps(&lookup), ["memory expired", "disk superseded", "shared absent"]);
    assert!(chain.get(&key("k")).await.unwrap().is_none(), "native expiry is declared, so it is kept");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_was_written_over_is_no_answer() {
    let world = World::default();
    let ([memory, disk, _], chain) = world.usual();
    memory.plant(&key("k"), world.tombstone(0));
    disk.plant(&key("k"), world.entry(1, "gone"));
    world.clock.advance(Duration::from_secs(201));
    assert_eq!(steps(&chain.lookup(&key("k")).await), ["memory removed", "disk expired", "shared absent"]);
    assert!(chain.get(&key("k")).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_removal_expires_too() {
    let world = World::default();
    let ([memory, _, _], chain) = world.usual();
    memory.plant(&key("k"), world.tombstone(0));
    world.clock.advance(TOMBSTONE_LIFETIME);
    assert_eq!(steps(&chain.lookup(&key("k")).await)[0], "memory expired");
    assert!(chain.get(&key("k")).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_comes_from_the_future_is_passed_over_until_its_time() {
    let world = World::default();
    let ([memory, disk, _], chain) = world.usual();
    let ahead = i64::try_from(MAX_CLOCK_SKEW.as_secs()).unwrap() + 1;
    memory.plant(&key("k"), world.entry(ahead, "not yet"));
    disk.plant(&key("k"), world.entry(0, "now"));
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!(text(&lookup), Some("now"));
    assert_eq!(steps(&lookup), ["memory fromfuture"]);
    assert_eq!(lookup.newest, Some(world.version(0)), "a wrong clock drags nobody along");
    assert_eq!(memory.held(&key("k")).unwrap().value(), "now", "an honest write replaces it");
    let report = chain.report();
    assert_eq!((report.tiers[0].from_future, report.tiers[0].misses), (1, 1));

    memory.plant(&key("slightly ahead"), world.entry(ahead - 1, "fine"));
    let lookup = chain.lookup(&key("slightly ahead")).await;
    assert_eq!((text(&lookup), lookup.age), (Some("fine"), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_write_only_tier_is_filled_and_never_asked() {
    let world = World::default();
    let tiers = [world.tier("memory", VOLATILE), world.tier("shared", SHARED)];
    let only = TierOptions { mode: Mode::WriteOnly, ..TierOptions::default() };
    let chain = world.chain_with([(tiers[0].clone(), TierOptions::default()), (tiers[1].clone(), only)]);
    assert!(chain.write(&key("k"), world.entry(0, "v")).await.is_queued());
    chain.settle().await;
    assert_eq!(tiers[1].held(&key("k")).unwrap().value(), "v");
    assert_eq!(steps(&chain.lookup(&key("other")).await), ["memory absent", "shared mode"]);
    assert_eq!(tiers[1].calls().0, 0);
    let report = chain.report();
    assert_eq!((report.tiers[1].mode, report.tiers[1].skipped), ("write-only", 1));
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn a_peek_asks_only_local_tiers_and_leaves_no_mark() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    shared.plant(&key("far"), world.entry(0, "v"));
    disk.plant(&key("near"), world.entry(0, "v"));
    assert!(chain.peek_local(&key("far")).await.is_none());
    assert_eq!(chain.peek_local(&key("near")).await.unwrap().value(), "v");
    memory.plant(&key("near"), world.tombstone(1));
    assert!(chain.peek_local(&key("near")).await.is_none());
    assert_eq!((shared.calls().0, chain.report().lookups, memory.calls().1), (0, 0, 0));
}
