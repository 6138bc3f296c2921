//! When a write returns, and processes that may not write for others.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, ErrorKind};
use peercache_chain::{Chain, Mode, PutOutcome, TierOptions, TierPut, WritePolicy};
use tokio::time::Instant;

use crate::support::{Mood, SHARED, Scripted, VOLATILE, World, assert_adds_up, key};

/// `memory` over the shared tiers `a`, `b`, `c`, which take 1, 2 and 3 s for a write.
fn staggered(world: &World, policy: WritePolicy) -> ([Arc<Scripted>; 4], Chain) {
    let tiers = [("memory", VOLATILE), ("a", SHARED), ("b", SHARED), ("c", SHARED)]
        .map(|(name, capabilities)| world.tier(name, capabilities));
    for (tier, seconds) in tiers[1..].iter().zip(1..) {
        tier.writes(Mood::Slow(Duration::from_secs(seconds)));
    }
    let options = tiers.iter().cloned().map(|tier| (tier, TierOptions::default()));
    let chain = world.builder_with(options).write_policy(policy).build();
    (tiers, chain)
}

fn words(outcome: &PutOutcome) -> Vec<&'static str> {
    let word = |put: &TierPut| match put {
        TierPut::Stored => "stored",
        TierPut::Queued => "queued",
        TierPut::Failed(_) => "failed",
        _ => "other",
    };
    outcome.tiers.iter().map(|tier| word(&tier.put)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_as_many_shared_tiers_as_the_policy_asks_for() {
    for (policy, seconds, expected) in [
        (WritePolicy::Local, 0, ["stored", "queued", "queued", "queued"]),
        (WritePolicy::Quorum(1), 1, ["stored", "stored", "queued", "queued"]),
        (WritePolicy::Quorum(2), 2, ["stored", "stored", "stored", "queued"]),
        (WritePolicy::All, 3, ["stored"; 4]),
        (WritePolicy::Quorum(9), 3, ["stored"; 4]),
    ] {
        let world = World::default();
        let (tiers, chain) = staggered(&world, policy);
        let started = Instant::now();
        let outcome = chain.write(&key("k"), world.entry(0, "v")).await;
        assert_eq!(
            (started.elapsed().as_secs(), words(&outcome)),
            (seconds, expected.to_vec()),
            "{policy:?}"
        );
        chain.settle().await;
        assert!(tiers.iter().all(|tier| tier.held(&key("k")).is_some()), "all have it in the end");
        assert_adds_up(&chain.report());
    }
}

#[tokio::test(start_paused = true)]
async fn a_quorum_is_reached_without_the_tier_that_fails_and_given_up_without_waiting_for_ever() {
    let world = World::default();
    let (tiers, chain) = staggered(&world, WritePolicy::Quorum(2));
    tiers[1].writes(Mood::Fail(ErrorKind::Unavailable));
    let outcome = chain.write(&key("k"), world.entry(0, "v")).await;
    assert_eq!(words(&outcome), ["stored", "failed", "stored", "stored"]);

    tiers[2].writes(Mood::Hang);
    tiers[3].writes(Mood::Hang);
    let started = Instant::now();
    let outcome = chain.write(&key("other"), world.entry(0, "v")).await;
    assert_eq!(started.elapsed(), Duration::from_secs(5), "the write deadline of a shared tier");
    assert_eq!(words(&outcome)[2..], ["failed", "failed"]);
    assert!(outcome.is_stored(), "no policy turns a failure of a tier into one of the caller");
}

#[tokio::test(start_paused = true)]
async fn a_tier_whose_breaker_is_open_is_not_waited_for() {
    let world = World::default();
    let (tiers, chain) = staggered(&world, WritePolicy::All);
    for set in [Scripted::reads, Scripted::writes, Scripted::rest] {
        set(&tiers[1], Mood::Fail(ErrorKind::Unavailable));
    }
    for n in 0..6 {
        let _ = chain.lookup(&key(&format!("absent {n}"))).await;
    }
    assert_eq!(chain.report().tiers[1].breaker.state, "open");
    let outcome = chain.write(&key("k"), world.entry(0, "v")).await;
    assert_eq!(words(&outcome), ["stored", "queued", "stored", "stored"]);
}

#[tokio::test(start_paused = true)]
async fn what_no_local_tier_takes_waits_for_one_shared_tier() {
    let world = World::default();
    let (tiers, chain) = staggered(&world, WritePolicy::Local);
    tiers[0].writes(Mood::Fail(ErrorKind::Denied));
    let started = Instant::now();
    let outcome = chain.write(&key("k"), world.entry(0, "v")).await;
    assert_eq!(
        (started.elapsed().as_secs(), words(&outcome)),
        (1, vec!["failed", "stored", "queued", "queued"])
    );
    let (_, chain) = {
        let shared = world.tier("shared", SHARED);
        shared.writes(Mood::Fail(ErrorKind::Unavailable));
        let chain = world.chain(std::slice::from_ref(&shared));
        (shared, chain)
    };
    let error = chain.put(&key("k"), world.entry(0, "v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "a chain around this one is not told that it is stored");
}

#[tokio::test(start_paused = true)]
async fn a_read_only_process_writes_to_no_shared_tier_and_to_local_ones_as_usual() {
    let world = World::default();
    let tiers = [("memory", VOLATILE), ("a", SHARED), ("b", SHARED)]
        .map(|(name, capabilities)| world.tier(name, capabilities));
    let only = |mode| TierOptions { mode, ..TierOptions::default() };
    let modes = [Mode::ReadWrite, Mode::ReadWrite, Mode::WriteOnly].map(only);
    let chain = world.builder_with(tiers.iter().cloned().zip(modes)).read_only(true).build();
    tiers[1].plant(&key("shared"), world.entry(0, "read"));
    assert!(chain.lookup(&key("shared")).await.is_hit());
    assert!(chain.write(&key("k"), world.entry(0, "v")).await.is_stored());
    assert!(chain.write(&key("shared"), world.tombstone(1)).await.is_stored());
    let outcome = chain.invalidate_tag("tag", world.version(2)).await.unwrap();
    assert!(!outcome.is_queued());
    chain.settle().await;
    chain.close().await.unwrap();
    assert_eq!([0, 1, 2].map(|n| tiers[n].calls().1), [4, 0, 0]);
    let report = chain.report();
    assert_eq!(report.tiers[1].mode, "read-only");
    assert!(report.tiers.iter().all(|tier| tier.queue.is_none()));
    assert_eq!([0, 1, 2].map(|n| report.tiers[n].put_skipped), [0, 3, 3]);
    assert_adds_up(&report);
}
