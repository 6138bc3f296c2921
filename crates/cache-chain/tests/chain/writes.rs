//! What a write does in each tier, and what it answers.

use std::sync::Arc;

use peercache_api::{CacheBackend, CacheBackendExt, Capabilities, Clock, ErrorKind};
use peercache_chain::{Chain, Mode, PutOutcome, TierOptions, TierPut};

use crate::support::{DURABLE, Mood, SHARED, VOLATILE, World, assert_adds_up, key, steps, text};

fn puts(outcome: &PutOutcome) -> Vec<String> {
    let word = |put: &TierPut| match put {
        TierPut::Failed(error) => format!("failed:{}", error.kind()),
        other => format!("{other:?}").to_lowercase(),
    };
    outcome.tiers.iter().map(|tier| format!("{} {}", tier.tier, word(&tier.put))).collect()
}

#[tokio::test(start_paused = true)]
async fn every_tier_says_how_it_took_the_write() {
    let world = World::default();
    let tiers = [
        world.tier("memory", VOLATILE),
        world.tier("small", VOLATILE.with_max_value_bytes(4)),
        world.tier("fixed", DURABLE.with_read_only()),
        world.tier("failing", DURABLE),
        world.tier("shared", SHARED),
    ];
    tiers[3].writes(Mood::Fail(ErrorKind::RateLimited));
    let chain = world.chain(&tiers);
    let outcome = chain.write(&key("k"), world.entry(0, "value")).await;
    assert_eq!(
        puts(&outcome),
        ["memory stored", "small toolarge", "fixed mode", "failing failed:rate limited", "shared queued"]
    );
    assert!(outcome.is_stored() && outcome.is_queued() && !outcome.is_durable());
    chain.settle().await;
    assert_eq!(tiers[2].calls(), (0, 0));
    let report = chain.report();
    assert_eq!((report.puts, report.puts_stored), (1, 1));
    assert_eq!([0, 1, 2, 3, 4].map(|n| report.tiers[n].stored), [1, 0, 0, 0, 1]);
    assert_eq!([0, 1, 2, 3, 4].map(|n| report.tiers[n].put_skipped), [0, 1, 1, 0, 0]);
    assert_eq!((report.tiers[3].put_errors, report.tiers[0].bytes_written), (1, 5));
}

#[tokio::test(start_paused = true)]
async fn only_memory_is_not_durable() {
    let world = World::default();
    let ([_, disk, shared], chain) = world.usual();
    disk.writes(Mood::Fail(ErrorKind::Denied));
    shared.writes(Mood::Fail(ErrorKind::Denied));
    let outcome = chain.write(&key("k"), world.entry(0, "v")).await;
    assert!(outcome.is_stored() && !outcome.is_durable());
}

#[tokio::test(start_paused = true)]
async fn one_read_only_tier_changes_nobody_elses_mode() {
    // Because it was asked to be, or because its backend cannot be written.
    for (fixed, by_mode) in [(0, true), (1, true), (2, true), (0, false), (1, false), (2, false)] {
        let world = World::default();
        let tiers: Vec<_> = [("memory", VOLATILE), ("disk", DURABLE), ("shared", SHARED)]
            .into_iter()
            .enumerate()
            .map(|(index, (name, capabilities))| {
                let writable = index != fixed || by_mode;
                world.tier(name, if writable { capabilities } else { capabilities.with_read_only() })
            })
            .collect();
        let chain = world.chain_with(tiers.iter().enumerate().map(|(index, tier)| {
            let mode = if index == fixed && by_mode { Mode::ReadOnly } else { Mode::ReadWrite };
            (tier.clone(), TierOptions { mode, ..TierOptions::default() })
        }));
        assert!(chain.info().capabilities.writable);
        let outcome = chain.write(&key("k"), world.entry(0, "v")).await;
        assert!(outcome.is_stored());
        chain.settle().await;
        for (index, tier) in tiers.iter().enumerate() {
            assert_eq!(tier.held(&key("k")).is_some(), index != fixed);
        }
        let modes: Vec<_> = chain.report().tiers.iter().map(|tier| tier.mode).collect();
        assert_eq!(modes.iter().filter(|mode| **mode == "read-only").count(), 1);
        assert_eq!(modes[fixed], "read-only");
        // What only the read-only tier holds is found there and carried up, past nobody.
        tiers[fixed].plant(&key("theirs"), world.entry(0, "v"));
        assert_eq!(
            chain.lookup(&key("theirs")).await.tier.as_deref(),
            Some(tiers[fixed].info().name.as_ref())
        );
        chain.settle().await;
        for (index, tier) in tiers.iter().enumerate() {
            assert_eq!(tier.held(&key("theirs")).is_some(), index <= fixed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_only_tier_within_a_chain_within_a_chain_changes_nobody_elses_mode() {
    let world = World::default();
    let within = [world.tier("frozen", DURABLE.with_read_only()), world.tier("free", DURABLE)];
    let inner: Arc<dyn CacheBackend> = Arc::new(world.chain(&within));
    let memory: Arc<dyn CacheBackend> = world.tier("memory", VOLATILE);
    let chain = Chain::builder()
        .clock(Arc::clone(&world.clock) as Arc<dyn Clock>)
        .tier_with(memory, TierOptions::default())
        .tier_with(inner, TierOptions::default())
        .build();
    assert_eq!(puts(&chain.write(&key("k"), world.entry(0, "v")).await), ["memory stored", "chain stored"]);
    assert!(within[0].held(&key("k")).is_none() && within[1].held(&key("k")).is_some());
    assert!(chain.report().tiers.iter().all(|tier| tier.mode == "read-write"));
}

#[tokio::test(start_paused = true)]
async fn a_value_too_large_for_an_upper_tier_buries_the_older_one_there() {
    let world = World::default();
    let tiers = [world.tier("small", VOLATILE.with_max_value_bytes(4)), world.tier("disk", DURABLE)];
    let chain = world.chain(&tiers);
    assert!(chain.write(&key("k"), world.entry(0, "old")).await.is_stored());
    let outcome = chain.write(&key("k"), world.entry(1, "new and large")).await;
    assert_eq!(puts(&outcome), ["small toolarge", "disk stored"]);
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!(text(&lookup), Some("new and large"));
    assert_eq!(steps(&lookup), ["small removed"]);
    assert!(chain.write(&key("k"), world.entry(2, "tiny")).await.is_stored());
    assert_eq!(chain.lookup(&key("k")).await.tier.as_deref(), Some("small"));

    tiers[0].writes(Mood::Fail(ErrorKind::Unavailable));
    let outcome = chain.write(&key("k"), world.entry(3, "large again")).await;
    assert_eq!(puts(&outcome), ["small failed:unavailable", "disk stored"], "the old one may still be there");
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn a_tier_without_order_is_compared_before_it_is_written() {
    let world = World::default();
    let plain = world.tier("plain", Capabilities::local());
    let chain = world.chain(std::slice::from_ref(&plain));
    assert!(chain.write(&key("k"), world.entry(5, "newer")).await.is_stored());
    assert_eq!(plain.calls(), (1, 1));
    let outcome = chain.write(&key("k"), world.entry(4, "older")).await;
    assert!(outcome.is_stored(), "what is there is newer, which is as good");
    assert_eq!(plain.calls(), (2, 1));
    assert_eq!(plain.held(&key("k")).unwrap().value(), "newer");

    chain.remove(&key("k"), world.version(6), world.at(6)).await.unwrap();
    assert!(plain.held(&key("k")).unwrap().is_tombstone());
    let _ = chain.write(&key("k"), world.entry(5, "newer")).await;
    assert!(plain.held(&key("k")).unwrap().is_tombstone());

    plain.plant(&key("k"), world.entry(1_000, "from the future"));
    let _ = chain.write(&key("k"), world.entry(7, "honest")).await;
    assert_eq!(plain.held(&key("k")).unwrap().value(), "honest");

    plain.reads(Mood::Fail(ErrorKind::Unavailable));
    let outcome = chain.write(&key("k"), world.entry(8, "blind")).await;
    assert_eq!(puts(&outcome), ["plain failed:unavailable"], "not written blindly");
    plain.reads(Mood::Fail(ErrorKind::Corrupt));
    let outcome = chain.write(&key("k"), world.entry(8, "repaired")).await;
    assert_eq!(puts(&outcome), ["plain stored"], "damage does not stand in the way of what replaces it");
}

#[tokio::test(start_paused = true)]
async fn as_a_backend_a_chain_fails_only_when_no_tier_took_it() {
    let world = World::default();
    let put = async |chain: &Chain| chain.put(&key("k"), world.entry(0, "value")).await;
    let ([memory, disk, shared], chain) = world.usual();
    memory.writes(Mood::Fail(ErrorKind::Denied));
    disk.writes(Mood::Fail(ErrorKind::Unavailable));
    put(&chain).await.unwrap();
    shared.writes(Mood::Fail(ErrorKind::Timeout));
    let error = put(&chain).await.unwrap_err();
    assert_eq!(error.to_string(), "memory: put failed (denied): told to fail");

    let small = world.chain(&[world.tier("small", VOLATILE.with_max_value_bytes(4))]);
    assert_eq!(
        put(&small).await.unwrap_err().to_string(),
        "chain: put failed (too large): no tier of the chain takes a value of this size [bytes=5]"
    );
    let fixed = world.chain(&[world.tier("fixed", VOLATILE.with_read_only())]);
    assert!(!fixed.info().capabilities.writable);
    assert_eq!(
        put(&fixed).await.unwrap_err().to_string(),
        "chain: put failed (denied): no tier of the chain may be written"
    );
}

#[test]
fn a_chain_declares_what_its_writers_can() {
    let world = World::default();
    let declared = |tiers: &[Capabilities]| {
        let tiers: Vec<_> = tiers.iter().map(|capabilities| world.tier("t", *capabilities)).collect();
        world.chain(&tiers).info().capabilities
    };
    assert_eq!(declared(&[VOLATILE]), VOLATILE.with_native_expiry());
    assert_eq!(declared(&[VOLATILE, DURABLE]), DURABLE.with_native_expiry());
    assert_eq!(declared(&[VOLATILE, SHARED]), SHARED.with_native_expiry());
    let mixed = declared(&[VOLATILE, Capabilities::shared()]);
    assert!(!mixed.ordered_writes && !mixed.durable && mixed.native_expiry);
    let sizes = declared(&[VOLATILE.with_max_value_bytes(4), DURABLE.with_max_value_bytes(9)]);
    assert_eq!(sizes.max_value_bytes, 9);
    let fixed = declared(&[VOLATILE.with_max_value_bytes(4), DURABLE.with_read_only()]);
    assert_eq!((fixed.max_value_bytes, fixed.durable, fixed.writable), (4, false, true));
}
