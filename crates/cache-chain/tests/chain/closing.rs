//! Closing: what was accepted is written, every tier is closed, and nothing hangs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use peercache_api::{CacheBackend, ErrorKind};
use peercache_chain::Outcome;
use tokio::time::Instant;

use crate::support::{Mood, World, assert_adds_up, key, steps};

#[tokio::test(start_paused = true)]
async fn closing_writes_out_what_is_being_carried_up_and_then_refuses() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    shared.plant(&key("k"), world.entry(0, "value"));
    disk.writes(Mood::Slow(Duration::from_secs(3)));
    assert!(chain.lookup(&key("k")).await.is_hit());
    chain.close().await.unwrap();
    assert_eq!(disk.held(&key("k")).unwrap().value(), "value");

    let lookup = chain.lookup(&key("k")).await;
    assert_eq!(lookup.outcome, Outcome::Miss);
    assert_eq!(steps(&lookup)[0], "memory failed:unavailable");
    assert!(!chain.write(&key("k"), world.entry(1, "v")).await.is_stored());
    assert_eq!(chain.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(chain.put(&key("k"), world.entry(1, "v")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    chain.close().await.unwrap();
    assert_eq!([memory, disk, shared].map(|tier| tier.closes.load(Ordering::SeqCst)), [2, 2, 2]);
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn one_tier_that_cannot_be_closed_leaves_no_other_open() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    memory.rest(Mood::Fail(ErrorKind::Denied));
    disk.rest(Mood::Slow(Duration::from_secs(3)));
    let error = chain.close().await.unwrap_err();
    assert_eq!(error.to_string(), "memory: close failed (denied): told to fail");
    for tier in [disk, shared] {
        assert_eq!(tier.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_when_closed_is_left_at_its_deadline() {
    let world = World::default();
    let ([_, _, shared], chain) = world.usual();
    shared.rest(Mood::Hang);
    let started = Instant::now();
    let error = chain.close().await.unwrap_err();
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert_eq!(error.to_string(), "shared: close failed (timeout): no answer within 5000 ms");
}
