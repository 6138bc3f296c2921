//! Racing shared tiers: the first usable answer wins, what is known still counts, nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::ErrorKind;
use peercache_chain::{Chain, Mode, Outcome, TierOptions};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::support::{DURABLE, Mood, SHARED, Scripted, World, assert_adds_up, key, steps, text};

const MS: Duration = Duration::from_millis(1);

/// Three shared tiers of which it is known that they usually take 10 ms.
async fn known(world: &World, racing: bool) -> ([Arc<Scripted>; 3], Chain) {
    let tiers = ["a", "b", "c"].map(|name| world.tier(name, SHARED));
    let options = tiers.iter().map(|tier| (tier.clone(), TierOptions::default()));
    let chain = world.builder_with(options).racing(racing).build();
    tiers.iter().for_each(|tier| tier.reads(Mood::Slow(10 * MS)));
    for _ in 0..10 {
        let _ = chain.lookup(&key("absent")).await;
    }
    (tiers, chain)
}

#[tokio::test(start_paused = true)]
async fn the_next_tier_is_asked_when_the_first_exceeds_what_is_usual_and_may_win() {
    let world = World::default();
    let (tiers, chain) = known(&world, true).await;
    tiers[0].reads(Mood::Slow(40 * MS));
    tiers.iter().for_each(|tier| tier.plant(&key("k"), world.entry(0, "value")));
    let started = Instant::now();
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!((text(&lookup), lookup.tier.as_deref()), (Some("value"), Some("b")));
    assert_eq!(started.elapsed(), 20 * MS, "10 of patience and 10 of the second");
    assert_eq!(steps(&lookup), ["a overtaken"]);
    let report = chain.report();
    assert_eq!((report.tiers[0].overtaken, report.tiers[0].skipped, report.tiers[1].hits), (1, 1, 1));
    assert_eq!((tiers[1].calls().0, tiers[2].calls().0), (11, 10), "one read of the tier that answers");
    assert_eq!(report.promotions.stored, 0, "who was overtaken may well hold it");
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn within_what_is_usual_only_one_is_asked() {
    let world = World::default();
    let (tiers, chain) = known(&world, true).await;
    tiers[0].plant(&key("k"), world.entry(0, "value"));
    assert!(chain.lookup(&key("k")).await.is_hit());
    assert_eq!(tiers.each_ref().map(|tier| tier.calls().0), [11, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn the_first_may_still_win_and_the_second_was_spare() {
    let world = World::default();
    let (tiers, chain) = known(&world, true).await;
    tiers[0].reads(Mood::Slow(16 * MS));
    tiers[0].plant(&key("k"), world.entry(0, "value"));
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!((lookup.tier.as_deref(), lookup.trace.len()), (Some("a"), 0));
    let report = chain.report();
    assert_eq!((report.tiers[1].spare, report.tiers[1].lookups, tiers[1].calls().0), (1, 11, 11));
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn an_older_value_never_wins_over_what_is_known_to_be_newer() {
    let world = World::default();
    let (tiers, chain) = known(&world, true).await;
    tiers[0].reads(Mood::Slow(40 * MS));
    tiers[1].plant(&key("removed"), world.tombstone(5));
    tiers[0].plant(&key("removed"), world.entry(1, "older"));
    tiers[2].plant(&key("removed"), world.entry(2, "older too"));
    let lookup = chain.lookup(&key("removed")).await;
    assert_eq!(lookup.outcome, Outcome::Miss);
    assert_eq!(steps(&lookup), ["a superseded", "b removed", "c superseded"], "in their order");
    assert_eq!(lookup.newest, Some(world.version(5)));
    assert_adds_up(&chain.report());

    // An answer that is known to be old does not end the race.
    let world = World::default();
    let (tiers, chain) = known(&world, true).await;
    tiers[0].reads(Mood::Slow(40 * MS));
    tiers[0].plant(&key("replaced"), world.entry(9, "newest"));
    tiers[1].plant(&key("replaced"), world.tombstone(5));
    let lookup = chain.lookup(&key("replaced")).await;
    assert_eq!((text(&lookup), lookup.tier.as_deref()), (Some("newest"), Some("a")));
    let report = chain.report();
    assert_eq!((report.tiers[1].spare, report.tiers[2].spare), (1, 1));
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn who_was_overtaken_is_followed_to_its_end() {
    let world = World::default();
    let (tiers, chain) = known(&world, true).await;
    tiers[0].reads(Mood::Hang);
    tiers[0].rest(Mood::Hang);
    tiers[1].plant(&key("k"), world.entry(0, "value"));
    let started = Instant::now();
    let mut reads = 0;
    while chain.report().tiers[0].breaker.state == "closed" {
        assert!(chain.lookup(&key("k")).await.is_hit());
        reads += 1;
        world.pass(50 * MS).await;
    }
    assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
    let report = chain.report();
    assert_eq!(report.tiers[0].overtaken, reads, "no reader waited for it to time out");
    assert_adds_up(&report);
    let started = Instant::now();
    assert_eq!(steps(&chain.lookup(&key("k")).await), ["a open"]);
    assert_eq!(started.elapsed(), 10 * MS, "no time is lost for it any more");
}

#[tokio::test(start_paused = true)]
async fn what_is_followed_is_bounded_and_ends() {
    let world = World::default();
    let (tiers, chain) = known(&world, true).await;
    tiers[0].reads(Mood::Slow(200 * MS));
    tiers[1].plant(&key("k"), world.entry(0, "value"));
    let k = key("k");
    let lookups = futures_util::future::join_all((0..200).map(|_| chain.lookup(&k))).await;
    assert!(lookups.iter().all(peercache_chain::Lookup::is_hit));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 64);
    world.pass(Duration::from_secs(1)).await;
    assert!(Handle::current().metrics().num_alive_tasks() <= 1, "only the breaker's probe may be left");
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_in_a_race_is_counted_once() {
    let world = World::default();
    let (tiers, chain) = known(&world, true).await;
    tiers.iter().for_each(|tier| tier.reads(Mood::Hang));
    let dropped = tokio::time::timeout(35 * MS, chain.lookup(&key("k"))).await;
    assert!(dropped.is_err());
    assert_eq!(tiers.each_ref().map(|tier| tier.calls().0), [11, 11, 11], "each in its turn");
    let report = chain.report();
    assert_eq!([0, 1, 2].map(|n| report.tiers[n].cancelled), [1, 0, 0]);
    assert_eq!([0, 1, 2].map(|n| report.tiers[n].spare), [0, 1, 1]);
    assert_adds_up(&report);

    tiers[0].reads(Mood::Fail(ErrorKind::Corrupt));
    let dropped = tokio::time::timeout(5 * MS, chain.lookup(&key("k"))).await;
    assert!(dropped.is_err());
    let report = chain.report();
    assert_eq!((report.tiers[0].corrupt, report.tiers[1].cancelled), (1, 1));
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_may_not_be_read_or_is_unwell_takes_no_part() {
    let world = World::default();
    let tiers = ["a", "b", "c"].map(|name| world.tier(name, SHARED));
    let modes = [Mode::ReadWrite, Mode::WriteOnly, Mode::ReadWrite];
    let options = modes.map(|mode| TierOptions { mode, ..TierOptions::default() });
    let chain = world.chain_with(tiers.iter().cloned().zip(options));
    tiers[0].reads(Mood::Fail(ErrorKind::Unavailable));
    for _ in 0..5 {
        let _ = chain.lookup(&key("absent")).await;
    }
    tiers[2].plant(&key("k"), world.entry(0, "value"));
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!((text(&lookup), steps(&lookup)), (Some("value"), vec!["a open".into(), "b mode".into()]));
    assert_eq!(tiers[1].calls().0, 0);
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn racing_can_be_turned_off_and_never_concerns_local_tiers() {
    let world = World::default();
    let (tiers, chain) = known(&world, false).await;
    tiers[0].reads(Mood::Slow(40 * MS));
    tiers[1].plant(&key("k"), world.entry(0, "value"));
    let started = Instant::now();
    assert_eq!(steps(&chain.lookup(&key("k")).await), ["a absent"]);
    assert_eq!(started.elapsed(), 50 * MS);

    let world = World::default();
    let tiers = [world.tier("disk", DURABLE), world.tier("shared", SHARED)];
    let chain = world.chain(&tiers);
    tiers[0].reads(Mood::Slow(2 * MS));
    for _ in 0..10 {
        let _ = chain.lookup(&key("absent")).await;
    }
    tiers[0].reads(Mood::Slow(40 * MS));
    tiers[1].plant(&key("k"), world.entry(0, "value"));
    assert_eq!(steps(&chain.lookup(&key("k")).await), ["disk absent"]);
}
