//! What one machine removes is gone on the others at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use peercache::backend::{CacheBackendExt, Version};
use peercache::chain::Outcome;
use peercache::seal::Secret;
use peercache::{CacheBackend, Clock, Entry, Ttl};

use crate::support::{BOTH, Machine, Origin, Sharing, World, key};

/// What it answers from its own tiers alone.
async fn alone(machine: &Machine, name: &str) -> Option<String> {
    machine.member.cut(true);
    let value = machine.get(&key(name)).await;
    machine.member.cut(false);
    value
}

#[tokio::test]
async fn a_removal_elsewhere_is_a_miss_in_memory_at_once() {
    for sharing in BOTH {
        let world = World::new(sharing);
        let (one, other) = (world.machine(), world.machine());
        one.put(&key("k"), "v").await;
        one.put(&key("kept"), "v").await;
        assert_eq!(other.get(&key("k")).await.as_deref(), Some("v"));
        assert_eq!(other.get(&key("kept")).await.as_deref(), Some("v"));
        assert_eq!(alone(&other, "k").await.as_deref(), Some("v"), "it is in this machine's memory");

        one.cache.remove(&key("k")).await;
        one.settle().await;
        // No time has passed, and nothing can be asked.
        assert_eq!(alone(&other, "k").await, None, "{sharing:?}");
        assert_eq!(alone(&other, "kept").await.as_deref(), Some("v"));
        let report = other.cache.report().chain.removals;
        assert_eq!((report.received, report.persisted, report.not_persisted), (1, 1, 0), "{report:?}");

        // Whoever writes it again is seen.
        one.put(&key("k"), "new").await;
        assert_eq!(other.get(&key("k")).await.as_deref(), Some("new"));
        assert_eq!(alone(&other, "k").await.as_deref(), Some("new"));
    }
}

#[tokio::test]
async fn a_removal_is_believed_before_any_tier_has_it() {
    let world = World::new(Sharing::Sealed);
    let (one, other) = (world.machine(), world.machine());
    one.put(&key("k"), "v").await;
    assert_eq!(other.get(&key("k")).await.as_deref(), Some("v"));
    one.cache.remove(&key("k")).await;
    while world.hub.stats().told == 0 {
        tokio::task::yield_now().await;
    }
    let lookup = other.cache.lookup(&key("k")).await;
    assert_eq!(lookup.outcome, Outcome::Miss, "{lookup:?}");
    assert!(lookup.newest.is_some(), "whoever loads it now writes above the removal");
}

#[tokio::test]
async fn a_removal_outlives_the_process_that_heard_of_it() {
    for sharing in BOTH {
        let world = World::new(sharing);
        let (one, dir) = (world.machine(), tempfile::tempdir().unwrap());
        one.put(&key("k"), "v").await;
        // The value is on the disk of a machine whose next process has never asked for it.
        let before = world.machine_at(dir.path());
        assert_eq!(before.get(&key("k")).await.as_deref(), Some("v"));
        before.cache.close().await.unwrap();
        let heard = world.machine_at(dir.path());
        one.cache.remove(&key("k")).await;
        one.settle().await;
        heard.settle().await;
        heard.cache.close().await.unwrap();

        let after = world.machine_at(dir.path());
        assert_eq!(alone(&after, "k").await, None, "{sharing:?}");
    }
}

#[tokio::test]
async fn a_tag_that_is_invalidated_elsewhere_is_gone_at_once() {
    for sharing in BOTH {
        let world = World::new(sharing);
        let (one, other) = (world.machine(), world.machine());
        for name in ["a", "b"] {
            let entry = one.cache.new_entry("\"v\"").fresh_for(std::time::Duration::from_secs(300));
            one.cache.put_entry(&key(name), entry.tag(name).build().unwrap()).await;
            one.settle().await;
            assert_eq!(other.get(&key(name)).await.as_deref(), Some("v"));
        }
        one.cache.invalidate(peercache::By::Tag("a")).await.unwrap();
        one.settle().await;
        assert_eq!(alone(&other, "a").await, None, "{sharing:?}");
        assert_eq!(alone(&other, "b").await.as_deref(), Some("v"));
    }
}

#[tokio::test]
async fn a_burst_of_removals_is_taken_in_whole() {
    for sharing in BOTH {
        let world = World::new(sharing);
        let (one, other) = (world.machine(), world.machine());
        for n in 0..1000 {
            one.cache.put(&key(n), "v", Ttl::from_secs(300)).await.unwrap();
        }
        one.settle().await;
        for n in 0..1000 {
            assert_eq!(other.cache.get::<String>(&key(n)).await.as_deref(), Some("v"));
        }
        for n in 0..1000 {
            one.cache.remove(&key(n)).await;
        }
        one.settle().await;
        other.member.cut(true);
        for n in 0..1000 {
            assert_eq!(other.cache.get::<String>(&key(n)).await, None, "{sharing:?} {n}");
        }
        other.settle().await;
        let report = other.cache.report().chain.removals;
        assert_eq!((report.received, report.persisted, report.not_persisted), (1000, 1000, 0), "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_a_removal_is_not_given_what_was_loaded_before() {
    let world = World::new(Sharing::Sealed);
    let (one, other) = (world.machine(), world.machine());
    let origin = Arc::new(Origin::default());
    let ask = |cache: peercache::Cache| {
        let origin = Arc::clone(&origin);
        tokio::spawn(async move {
            cache.get_or_fetch(&key("k"), Ttl::from_secs(60), || async move { origin.ask().await }).await
        })
    };
    let before = ask(other.cache.clone());
    while origin.asked() == 0 {
        tokio::task::yield_now().await;
    }
    // A moment later: of two writes in the same millisecond either may win.
    world.pass(1);
    one.cache.remove(&key("k")).await;
    one.settle().await;
    let after = ask(other.cache.clone());
    assert_eq!(before.await.unwrap().unwrap(), 1);
    assert_eq!(after.await.unwrap().unwrap(), 2, "what was loaded before the removal is not its answer");
    assert_eq!(other.cache.get::<usize>(&key("k")).await, Some(2));
}

#[tokio::test]
async fn nobody_without_the_secret_to_write_can_have_a_key_forgotten() {
    let world = World::new(Sharing::Sealed);
    let (one, other) = (world.machine(), world.machine());
    one.put(&key("k"), "v").await;
    assert_eq!(other.get(&key("k")).await.as_deref(), Some("v"));

    let now = world.clock.now();
    let later = Version { wall: now, counter: u32::MAX, ..Version::ZERO };
    let stranger = Arc::new(world.hub.member("stranger"));
    // In clear, under the key's own name and under any other; and sealed with a secret of its own.
    stranger.remove(&key("k"), later, now).await.unwrap();
    let foreign = world.sealed(&Secret::generate().unwrap(), &stranger);
    foreign.remove(&key("k"), later, now).await.unwrap();
    // And what a holder of the read-only secret can do: put something where it knows the key to be.
    assert!(world.sealed(&world.secret.read_only(), &stranger).remove(&key("k"), later, now).await.is_err());
    assert!(world.hub.stats().told >= 2, "the notices arrive");
    assert_eq!(alone(&other, "k").await.as_deref(), Some("v"));
    assert_eq!(other.cache.report().chain.removals.received, 0);
}

#[tokio::test]
async fn a_removal_from_the_future_is_not_believed() {
    let world = World::new(Sharing::Plain);
    let (one, other) = (world.machine(), world.machine());
    one.put(&key("k"), "v").await;
    assert_eq!(other.get(&key("k")).await.as_deref(), Some("v"));
    let wrong = world.clock.now().saturating_add(std::time::Duration::from_secs(3600));
    let tombstone = Entry::tombstone(Version { wall: wrong, ..Version::ZERO }, wrong);
    world.hub.member("wrong clock").put(&key("other"), tombstone.clone()).await.unwrap();
    assert_eq!(other.cache.report().chain.removals.received, 0);
    assert_eq!(alone(&other, "k").await.as_deref(), Some("v"));
    assert_eq!(world.hub.stats().told, 2, "both machines were told");
}

#[tokio::test]
async fn a_chain_within_a_chain_hears_too() {
    let world = World::new(Sharing::Plain);
    let one = world.machine();
    let member = Arc::new(world.hub.member("inner"));
    let inner = peercache::chain::Chain::builder()
        .clock(world.clock())
        .tier(world.memory())
        .tier(Arc::clone(&member))
        .build();
    let cache =
        peercache::Cache::builder().clock(world.clock()).tier(world.memory()).tier(inner).build().unwrap();
    one.put(&key("k"), "v").await;
    assert_eq!(cache.get::<String>(&key("k")).await.as_deref(), Some("v"));
    one.cache.remove(&key("k")).await;
    one.settle().await;
    member.cut(true);
    assert_eq!(cache.get::<String>(&key("k")).await, None);
    assert_eq!(cache.report().chain.removals.received, 1);

    member.cut(false);
    let origin = Origin::default();
    cache.get_or_fetch(&key("k"), Ttl::from_secs(60), || origin.ask()).await.unwrap();
    assert_eq!((origin.asked.load(Ordering::SeqCst), cache.report().chain.leases.granted), (1, 1));
}
