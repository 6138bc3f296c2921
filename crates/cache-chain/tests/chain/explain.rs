//! `explain`: says what a read would do, and leaves no mark.

use std::time::Duration;

use peercache_api::{Entry, ErrorKind};
use peercache_chain::{Mode, Outcome, TierOptions};

use crate::support::{DURABLE, Mood, SHARED, VOLATILE, World, key, text};

#[tokio::test(start_paused = true)]
async fn it_says_tier_by_tier_what_a_read_would_do_and_why() {
    let world = World::default();
    let names =
        [("memory", VOLATILE), ("disk", DURABLE), ("filled", SHARED), ("near", SHARED), ("far", SHARED)];
    let tiers = names.map(|(name, capabilities)| world.tier(name, capabilities));
    let mut options: Vec<_> = tiers.iter().map(|tier| (tier.clone(), TierOptions::default())).collect();
    options[2].1.mode = Mode::WriteOnly;
    let chain = world.chain_with(options);
    tiers[3].reads(Mood::Fail(ErrorKind::Unavailable));
    for _ in 0..10 {
        let _ = chain.lookup(&key("absent")).await;
    }
    let tagged = Entry::builder("a secret value", world.version(1), world.at(1))
        .fresh_for(Duration::from_secs(100))
        .stale_for(Duration::from_secs(20))
        .tag("acme/hidden")
        .build()
        .unwrap();
    tiers[1].plant(&key("a private key"), world.entry(-150, "old"));
    tiers[4].plant(&key("a private key"), tagged);
    world.clock.advance(Duration::from_secs(2));

    let explanation = chain.explain(&key("a private key")).await;
    assert_eq!((explanation.outcome, explanation.tier.as_deref()), (Outcome::Hit, Some("far")));
    let shown = explanation.to_string();
    let expected = "\
1. memory (local, read-write, breaker closed, waits at most 50 ms, usually 0.0 ms): absent
2. disk (local, read-write, breaker closed, waits at most 50 ms, usually 0.0 ms): stale: served only \
if no tier below has something fresh; holds a stale value of 3 bytes, 0 tags, written 152000 ms ago, \
fresh until 1799999950000, stale until 1800000050000
3. filled (shared, write-only, breaker closed): not asked: its mode does not allow reading
4. near (shared, read-write, breaker open): not asked: its breaker is open
5. far (shared, read-write, breaker closed, waits at most 500 ms, usually 0.0 ms): hit; holds a fresh \
value of 14 bytes, 1 tags, written 1000 ms ago, fresh until 1800000101000, stale until 1800000121000
=> hit in far";
    assert_eq!(shown, expected);
    let json = serde_json::to_string(&explanation).unwrap();
    for secret in ["private", "secret", "hidden"] {
        assert!(!shown.contains(secret) && !json.contains(secret), "{shown} {json}");
    }
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["outcome"], &json["budget_ms"]), (&"hit".into(), &1000.into()));
    assert_eq!(json["tiers"][3]["breaker"]["state"], "open");
    assert_eq!(
        (&json["tiers"][3]["deadline_ms"], &json["tiers"][4]["holds"]["tags"]),
        (&().into(), &1.into())
    );

    let lookup = chain.lookup(&key("a private key")).await;
    assert_eq!((text(&lookup), lookup.tier.as_deref()), (Some("a secret value"), Some("far")), "as foretold");
    let explanation = chain.explain(&key("a private key")).await;
    assert_eq!(explanation.tier.as_deref(), Some("memory"));
    assert_eq!(explanation.tiers[4].decision, "not reached: a tier above answers");
    assert!(explanation.tiers[4].holds.is_some() && explanation.tiers[4].deadline_ms.is_none());
}

#[tokio::test(start_paused = true)]
async fn it_counts_nothing_carries_nothing_up_and_tells_no_breaker() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    shared.plant(&key("k"), world.entry(0, "value"));
    disk.reads(Mood::Fail(ErrorKind::Unavailable));
    let before = chain.report();
    for _ in 0..10 {
        let explanation = chain.explain(&key("k")).await;
        assert_eq!(explanation.outcome, Outcome::Hit);
        assert_eq!(explanation.tiers[1].decision, "failed: disk: get failed (unavailable): told to fail");
    }
    chain.settle().await;
    assert_eq!(chain.report(), before);
    assert_eq!([memory.calls().1, disk.calls().1, shared.calls().1], [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn every_end_has_its_words() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    memory.plant(&key("removed"), world.tombstone(1));
    disk.plant(&key("removed"), world.entry(0, "value"));
    shared.reads(Mood::Hang);
    let removed = chain.explain(&key("removed")).await;
    assert_eq!((removed.outcome, removed.tier), (Outcome::Miss, None));
    let words: Vec<_> = removed.tiers.iter().map(|tier| tier.decision.as_str()).collect();
    assert_eq!(
        words,
        [
            "removed: hides what is older below",
            "superseded by what a tier above holds, or by a write that this one missed",
            "no answer within 500 ms"
        ]
    );
    assert_eq!(removed.tiers[0].holds.as_ref().unwrap().kind, "tombstone");

    shared.reads(Mood::Well);
    memory.plant(&key("stale"), world.entry(-150, "value"));
    memory.plant(&key("expired"), world.entry(-500, "value"));
    memory.plant(&key("future"), world.entry(500, "value"));
    let stale = chain.explain(&key("stale")).await;
    assert!(stale.to_string().ends_with("=> stale, from memory"), "{stale}");
    assert_eq!(chain.explain(&key("expired")).await.tiers[0].decision, "expired");
    let future = chain.explain(&key("future")).await;
    assert_eq!(future.tiers[0].decision, "passed over: it claims to come from the future");
    assert!(future.to_string().ends_with("=> miss"), "{future}");
}

#[tokio::test(start_paused = true)]
async fn it_knows_what_waits_to_be_written() {
    let world = World::default();
    let tiers = [world.tier("near", SHARED), world.tier("far", SHARED)];
    let chain = world.chain(&tiers);
    for tier in &tiers {
        tier.plant(&key("k"), world.entry(0, "old"));
        tier.writes(Mood::Fail(ErrorKind::Unavailable));
    }
    let _ = chain.write(&key("k"), world.entry(1, "newer")).await;
    let explanation = chain.explain(&key("k")).await;
    assert_eq!((explanation.outcome, explanation.tier.as_deref()), (Outcome::Hit, Some("near")));
    assert_eq!(explanation.tiers[0].decision, "hit: it waits to be written to a shared tier");
    assert_eq!(explanation.tiers[1].decision, "not reached: a tier above answers");
    assert_eq!(
        explanation.tiers.iter().map(|tier| tier.waits.as_ref().unwrap().bytes).collect::<Vec<_>>(),
        [5, 5]
    );
    assert_eq!(text(&chain.lookup(&key("k")).await), Some("newer"), "as foretold");

    let _ = chain.write(&key("k"), world.tombstone(2)).await;
    let explanation = chain.explain(&key("k")).await;
    assert_eq!(explanation.outcome, Outcome::Miss);
    assert!(explanation.to_string().contains("a fresh tombstone of 0 bytes"), "{explanation}");
    assert_eq!(chain.lookup(&key("k")).await.outcome, Outcome::Miss, "as foretold");
}
