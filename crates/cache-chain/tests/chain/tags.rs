//! Tags: one small write removes many entries, on every tier and for every process that shares one.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{Entry, ErrorKind};
use peercache_chain::{Chain, Outcome};

use crate::support::{DURABLE, Mood, SHARED, Scripted, VOLATILE, World, assert_adds_up, key, steps, text};

fn tagged(world: &World, seconds: i64, tags: &[&str]) -> Entry {
    let entry = Entry::builder("value", world.version(seconds), world.at(seconds))
        .fresh_for(Duration::from_secs(3600));
    tags.iter().fold(entry, |entry, tag| entry.tag(*tag)).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_write_removes_every_entry_with_the_tag_and_no_other() {
    let world = World::default();
    let ([memory, disk, shared], chain) = world.usual();
    let write = async |name: &str, tags: &[&str]| {
        let _ = chain.write(&key(name), tagged(&world, 0, tags)).await;
    };
    for n in 0..20 {
        write(&format!("both {n}"), &["repo", "user"]).await;
    }
    write("user", &["user"]).await;
    write("none", &[]).await;
    chain.settle().await;
    let puts = [&memory, &disk, &shared].map(|tier| tier.calls().1);
    assert!(chain.invalidate_tag("repo", world.version(1)).await.unwrap().is_stored());
    chain.settle().await;
    let after = [&memory, &disk, &shared].map(|tier| tier.calls().1);
    assert_eq!(after, puts.map(|puts| puts + 1), "one write to each tier, however many entries");
    for n in 0..20 {
        let lookup = chain.lookup(&key(&format!("both {n}"))).await;
        assert_eq!(lookup.outcome, Outcome::Miss);
        assert_eq!(steps(&lookup), ["memory tagged", "disk tagged", "shared tagged"]);
        assert_eq!(lookup.newest, Some(world.version(1)), "what is made next is above it");
    }
    assert!(chain.lookup(&key("user")).await.is_hit() && chain.lookup(&key("none")).await.is_hit());
    let report = chain.report();
    assert_eq!((report.tags.invalidated, report.tiers[0].tagged), (1, 20));
    assert_adds_up(&report);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_after_the_invalidation_is_served_wherever_it_is() {
    let world = World::default();
    let ([memory, _, shared], chain) = world.usual();
    memory.plant(&key("k"), tagged(&world, 1, &["t"]));
    shared.plant(&key("k"), tagged(&world, 3, &["t"]));
    let _ = chain.invalidate_tag("t", world.version(2)).await.unwrap();
    let lookup = chain.lookup(&key("k")).await;
    assert_eq!((text(&lookup), lookup.tier.as_deref()), (Some("value"), Some("shared")));
    assert_eq!(steps(&lookup), ["memory tagged", "disk absent"]);
    assert_eq!(chain.lookup(&key("k")).await.tier.as_deref(), Some("memory"), "it was carried up");
    chain.settle().await;
    assert!(chain.peek_local(&key("k")).await.is_some());
    memory.plant(&key("k"), tagged(&world, 1, &["t"]));
    assert_eq!(chain.peek_local(&key("k")).await.map(|entry| entry.version()), Some(world.version(3)));
    assert_adds_up(&chain.report());
}

#[tokio::test(start_paused = true)]
async fn a_tagged_hit_in_memory_costs_no_more_io_within_a_second() {
    let world = World::default();
    let ([_, disk, shared], chain) = world.usual();
    assert!(chain.write(&key("k"), tagged(&world, 0, &["a", "b"])).await.is_stored());
    chain.settle().await;
    assert!(chain.lookup(&key("k")).await.is_hit());
    chain.settle().await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let reads = || [&disk, &shared].map(|tier| tier.calls().0);
    let before = reads();
    for _ in 0..1000 {
        assert!(chain.lookup(&key("k")).await.is_hit());
    }
    assert_eq!(reads(), before);
    world.pass(Duration::from_secs(1)).await;
    for _ in 0..1000 {
        assert!(chain.lookup(&key("k")).await.is_hit());
    }
    assert_eq!(reads(), [before[0] + 2, before[1]], "one read of the disk for each tag");
}

/// A process of its own on the same disk and with the same shared tier.
fn process(world: &World, disk: &Arc<Scripted>, shared: &Arc<Scripted>) -> Chain {
    world.chain(&[world.tier("memory", VOLATILE), Arc::clone(disk), Arc::clone(shared)])
}

#[tokio::test(start_paused = true)]
async fn another_process_notices_within_a_second_and_another_machine_within_half_a_minute() {
    let world = World::default();
    let shared = world.tier("shared", SHARED);
    let (here, there) = (world.tier("disk", DURABLE), world.tier("disk", DURABLE));
    let (one, two) = (process(&world, &here, &shared), process(&world, &here, &shared));
    let far = process(&world, &there, &shared);
    let all = [&one, &two, &far];
    for chain in all {
        assert!(chain.write(&key("k"), tagged(&world, 0, &["t"])).await.is_stored());
        chain.settle().await;
        assert!(chain.lookup(&key("k")).await.is_hit());
    }
    let _ = one.invalidate_tag("t", world.version(1)).await.unwrap();
    one.settle().await;
    assert!(!one.lookup(&key("k")).await.is_hit(), "at once where it was done");
    world.pass(Duration::from_secs(1)).await;
    assert!(!two.lookup(&key("k")).await.is_hit());
    world.pass(Duration::from_secs(29)).await;
    // A hit on this machine does not wait for another one: the read that finds out is the next.
    let _ = far.lookup(&key("k")).await;
    world.pass(Duration::from_millis(1)).await;
    assert!(!far.lookup(&key("k")).await.is_hit());
    // From then on it is known there without the shared tier.
    shared.reads(Mood::Fail(ErrorKind::Unavailable));
    let after = process(&world, &there, &shared);
    assert!(!after.lookup(&key("k")).await.is_hit());
    all.iter().for_each(|chain| assert_adds_up(&chain.report()));
}

#[tokio::test(start_paused = true)]
async fn what_comes_from_a_shared_tier_is_checked_there_before_it_is_served() {
    let world = World::default();
    let shared = world.tier("shared", SHARED);
    let (here, there) = (world.tier("disk", DURABLE), world.tier("disk", DURABLE));
    let (one, far) = (process(&world, &here, &shared), process(&world, &there, &shared));
    assert!(one.write(&key("k"), tagged(&world, 0, &["t"])).await.is_stored());
    let _ = one.invalidate_tag("t", world.version(1)).await.unwrap();
    one.settle().await;
    let lookup = far.lookup(&key("k")).await;
    assert_eq!(steps(&lookup), ["memory absent", "disk absent", "shared tagged"]);
    assert_adds_up(&far.report());
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_that_waits_for_an_outage_to_end_arrives() {
    let world = World::default();
    let ([_, _, shared], chain) = world.usual();
    assert!(chain.write(&key("k"), tagged(&world, 0, &["t"])).await.is_stored());
    chain.settle().await;
    shared.writes(Mood::Fail(ErrorKind::Unavailable));
    assert!(chain.invalidate_tag("t", world.version(1)).await.unwrap().is_queued());
    chain.settle().await;
    let far = process(&world, &world.tier("disk", DURABLE), &shared);
    assert!(far.lookup(&key("k")).await.is_hit(), "it cannot know yet");
    shared.writes(Mood::Well);
    for _ in 0..60 {
        world.pass(Duration::from_secs(1)).await;
        let _ = far.lookup(&key("k")).await;
    }
    assert!(!far.lookup(&key("k")).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn namespaces_have_tags_of_their_own_and_a_tag_is_bounded() {
    let world = World::default();
    let disk = world.tier("disk", DURABLE);
    let chain = |namespace: &str| {
        let tiers = [(Arc::clone(&disk), peercache_chain::TierOptions::default())];
        world.builder_with(tiers).namespace(namespace).build()
    };
    let (one, other) = (chain("one"), chain("other"));
    disk.plant(&key("k"), tagged(&world, 0, &["t"]));
    let _ = one.invalidate_tag("t", world.version(1)).await.unwrap();
    assert!(!one.lookup(&key("k")).await.is_hit());
    assert!(other.lookup(&key("k")).await.is_hit());
    for tag in [String::new(), "t".repeat(257)] {
        let error = one.invalidate_tag(&tag, world.version(2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_from_the_future_is_not_believed() {
    let world = World::default();
    let disk = world.tier("disk", DURABLE);
    let writer = world.chain(&[Arc::clone(&disk)]);
    let _ = writer.invalidate_tag("t", world.version(10_000)).await.unwrap();
    let reader = world.chain(&[Arc::clone(&disk)]);
    disk.plant(&key("k"), tagged(&world, 0, &["t"]));
    assert!(reader.lookup(&key("k")).await.is_hit(), "a wrong clock must not remove everything for ever");
}
