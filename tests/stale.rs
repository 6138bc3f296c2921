//! Stale values, refreshes in the background, absence, and tags, as a user of the cache sees them.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peercache::backend::NodeId;
use peercache::chain::Outcome;
use peercache::{By, Cache, Clock, FetchError, FetchedFrom, Key, Memory, Policy, Ttl};
use peercache_testkit::ManualClock;
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct World {
    clock: Arc<ManualClock>,
}

impl World {
    fn cache(&self) -> Cache {
        let clock = || Arc::clone(&self.clock) as Arc<dyn Clock>;
        let memory = Memory::builder().clock(clock()).build();
        Cache::builder().clock(clock()).node(NodeId::from_u64(1)).tier(memory).build().unwrap()
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn key() -> Key {
    Key::new("k").unwrap()
}

/// Fresh for exactly 10 s, then stale for 100 s.
fn policy() -> Policy {
    Policy::fresh(Duration::from_secs(10)).stale(Duration::from_secs(100)).jitter(0.0)
}

/// The same, where the caller waits for a refresh.
fn waiting() -> Policy {
    policy().stale_while_refreshing(false)
}

async fn give(value: u32) -> Result<u32, io::Error> {
    Ok(value)
}

async fn fail() -> Result<u32, io::Error> {
    Err(io::Error::other("the origin is down"))
}

/// Lets tasks in the background run until they wait.
async fn breathe() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn when_the_loader_fails_a_stale_value_is_served_and_flagged() {
    let world = World::default();
    let cache = world.cache();
    let first = cache.fetch(&key(), waiting()).load(|_| give(1)).await.unwrap();
    assert!(matches!(first.from, FetchedFrom::Loaded));
    let again = cache.fetch(&key(), waiting()).load(|_| fail()).await.unwrap();
    assert!(matches!(again.from, FetchedFrom::Cache) && !again.from.is_stale());
    world.pass(10);
    let stale = cache.fetch(&key(), waiting()).load(|_| fail()).await.unwrap();
    assert_eq!(stale.value, 1);
    assert!(stale.from.is_stale());
    let FetchedFrom::StaleOnError(error) = stale.from else { panic!("{:?}", stale.from) };
    assert!(error.loader::<io::Error>().is_some());
    assert_eq!(cache.get_or_fetch(&key(), Ttl::default(), fail).await.unwrap(), 1, "without the flag too");

    let strict = waiting().stale_if_error(false);
    let error = cache.fetch(&key(), strict).load(|_| fail()).await.unwrap_err();
    assert!(matches!(error, FetchError::Load(_)));
    world.pass(100);
    let error = cache.fetch(&key(), waiting()).load(|_| fail()).await.unwrap_err();
    assert!(matches!(error, FetchError::Load(_)), "its stale time is over");
    let report = cache.report();
    assert_eq!((report.refresh.stale_on_error, report.load_errors), (2, 4));
}

#[tokio::test]
async fn a_stale_value_is_replaced_when_the_loader_works() {
    let world = World::default();
    let cache = world.cache();
    cache.fetch(&key(), waiting()).load(|_| give(1)).await.unwrap();
    world.pass(10);
    let loaded = cache.fetch(&key(), waiting()).load(|_| give(2)).await.unwrap();
    assert!(matches!(loaded.from, FetchedFrom::Loaded) && loaded.value == 2);
    assert_eq!(cache.get::<u32>(&key()).await, Some(2));
}

#[tokio::test]
async fn a_stale_value_is_served_at_once_and_refreshed_once_in_the_background() {
    let world = World::default();
    let cache = world.cache();
    cache.fetch(&key(), policy()).load(|_| give(1)).await.unwrap();
    world.pass(10);
    let (loads, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let slow = || {
        let (loads, gate) = (Arc::clone(&loads), Arc::clone(&gate));
        move |_| async move {
            loads.fetch_add(1, Ordering::SeqCst);
            gate.notified().await;
            Ok::<_, io::Error>(2_u32)
        }
    };
    for _ in 0..100 {
        let fetched = cache.fetch(&key(), policy()).load(slow()).await.unwrap();
        assert!(matches!(fetched.from, FetchedFrom::StaleWhileRefreshing) && fetched.value == 1);
        breathe().await;
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1, "one refresh for each key");
    gate.notify_one();
    breathe().await;
    let fetched = cache.fetch(&key(), policy()).load(slow()).await.unwrap();
    assert!(matches!(fetched.from, FetchedFrom::Cache) && fetched.value == 2);
    let report = cache.report().refresh;
    assert_eq!((report.refreshes, report.errors, report.stale_while_refreshing), (1, 0, 100));
}

#[tokio::test]
async fn a_refresh_that_fails_or_panics_leaves_the_stale_value_and_the_next_one_tries_again() {
    let world = World::default();
    let cache = world.cache();
    cache.fetch(&key(), policy()).load(|_| give(1)).await.unwrap();
    world.pass(10);
    assert_eq!(cache.fetch(&key(), policy()).load(|_| fail()).await.unwrap().value, 1);
    breathe().await;
    assert_eq!(cache.report().refresh.errors, 1);
    let panics =
        |_| async { Err::<u32, io::Error>(if true { panic!("boom") } else { io::Error::other("") }) };
    assert_eq!(cache.fetch(&key(), policy()).load(panics).await.unwrap().value, 1);
    breathe().await;
    assert_eq!(cache.report().refresh.errors, 2, "a panic is an error");
    assert_eq!(cache.fetch(&key(), policy()).load(|_| give(3)).await.unwrap().value, 1);
    breathe().await;
    assert_eq!(cache.get::<u32>(&key()).await, Some(3));
}

#[tokio::test]
async fn refreshes_in_the_background_are_bounded() {
    let world = World::default();
    let cache = world.cache();
    let keys: Vec<_> = (0..100).map(|n| Key::new(format!("k{n}")).unwrap()).collect();
    for key in &keys {
        cache.fetch(key, policy()).load(|_| give(1)).await.unwrap();
    }
    world.pass(10);
    for key in &keys {
        let never = |_| std::future::pending::<Result<u32, io::Error>>();
        assert_eq!(cache.fetch(key, policy()).load(never).await.unwrap().value, 1);
    }
    breathe().await;
    let report = cache.report().refresh;
    assert_eq!((report.refreshes, report.skipped), (64, 36));
    cache.close().await.unwrap();
    assert_eq!(cache.report().refresh.cancelled, 64, "what runs is ended when the cache is closed");
}

#[tokio::test]
async fn a_removal_wins_over_a_refresh_that_runs() {
    let world = World::default();
    let cache = world.cache();
    cache.fetch(&key(), policy()).load(|_| give(1)).await.unwrap();
    world.pass(10);
    let gate = Arc::new(Notify::new());
    let slow = {
        let gate = Arc::clone(&gate);
        move |_| async move {
            gate.notified().await;
            Ok::<_, io::Error>(2_u32)
        }
    };
    cache.fetch(&key(), policy()).load(slow).await.unwrap();
    breathe().await;
    cache.remove(&key()).await;
    gate.notify_one();
    breathe().await;
    assert_eq!(cache.lookup(&key()).await.outcome, Outcome::Miss);
    let fetched = cache.fetch(&key(), policy()).load(|_| give(3)).await.unwrap();
    assert!(matches!(fetched.from, FetchedFrom::Loaded) && fetched.value == 3);
}

#[tokio::test]
async fn a_value_past_its_early_part_is_refreshed_while_it_is_fresh() {
    let world = World::default();
    let cache = world.cache();
    let eager = || policy().refresh_early_at(0.8);
    cache.fetch(&key(), eager()).load(|_| give(1)).await.unwrap();
    world.pass(7);
    cache.fetch(&key(), eager()).load(|_| give(2)).await.unwrap();
    breathe().await;
    assert_eq!(cache.get::<u32>(&key()).await, Some(1), "not yet");
    world.pass(1);
    let fetched = cache.fetch(&key(), policy()).load(|_| give(2)).await.unwrap();
    breathe().await;
    assert!(matches!(fetched.from, FetchedFrom::Cache), "off unless asked for");
    assert_eq!(cache.report().refresh.refreshes, 0);
    let fetched = cache.fetch(&key(), eager()).load(|_| give(2)).await.unwrap();
    assert!(matches!(fetched.from, FetchedFrom::Cache) && fetched.value == 1, "nobody waits for it");
    breathe().await;
    assert_eq!(cache.get::<u32>(&key()).await, Some(2));
    world.pass(7);
    assert_eq!(cache.get::<u32>(&key()).await, Some(2), "it lives anew");
}

#[tokio::test]
async fn what_is_loaded_lives_up_to_a_twentieth_shorter_and_what_is_put_exactly_as_long() {
    let world = World::default();
    let cache = world.cache();
    let mut lives = Vec::new();
    for n in 0..200 {
        let key = Key::new(format!("k{n}")).unwrap();
        cache.get_or_fetch(&key, Ttl::from_secs(1000), || give(1)).await.unwrap();
        lives.push(cache.lookup(&key).await.entry.unwrap().metadata().fresh_for.as_millis());
    }
    assert!(lives.iter().all(|life| (950_000..=1_000_000).contains(life)));
    lives.sort_unstable();
    lives.dedup();
    assert!(lives.len() > 150, "they do not expire together");
    cache.put(&key(), &1, Ttl::from_secs(1000)).await.unwrap();
    assert_eq!(cache.lookup(&key()).await.entry.unwrap().metadata().fresh_for, Duration::from_secs(1000));
}

#[tokio::test]
async fn absence_is_kept_for_its_own_shorter_time() {
    let world = World::default();
    let cache = world.cache();
    let loads = Arc::new(AtomicUsize::new(0));
    let absent = || {
        let loads = Arc::clone(&loads);
        move |_| async move {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok::<_, io::Error>(None::<u32>)
        }
    };
    let policy = || policy().negative_stale(Duration::ZERO);
    let short = || policy().negative(Duration::from_secs(2));
    for _ in 0..3 {
        assert_eq!(cache.fetch(&key(), policy()).load_optional(absent()).await.unwrap().value, None);
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(cache.get::<u32>(&key()).await, None, "it is no value");
    assert!(cache.get_bytes(&key()).await.is_none() && cache.get_stream(&key()).await.is_none());
    assert_eq!(cache.report().decode_errors, 0, "nor a value of another type");
    world.pass(10);
    assert_eq!(cache.fetch(&key(), short()).load_optional(absent()).await.unwrap().value, None);
    world.pass(2);
    let present = |_| async { Ok::<_, io::Error>(Some(7_u32)) };
    assert_eq!(cache.fetch(&key(), short()).load_optional(present).await.unwrap().value, Some(7));
    world.pass(9);
    assert_eq!(cache.fetch(&key(), short()).load_optional(absent()).await.unwrap().value, Some(7));
    assert_eq!(loads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_stale_absence_is_served_at_once_and_refreshed() {
    let world = World::default();
    let cache = world.cache();
    let absent = |_| async { Ok::<_, io::Error>(None::<u32>) };
    cache.fetch(&key(), policy()).load_optional(absent).await.unwrap();
    world.pass(10);
    let present = |_| async { Ok::<_, io::Error>(Some(7_u32)) };
    let stale = cache.fetch(&key(), policy()).load_optional(present).await.unwrap();
    assert!(matches!(stale.from, FetchedFrom::StaleWhileRefreshing) && stale.value.is_none());
    breathe().await;
    assert_eq!(cache.get::<u32>(&key()).await, Some(7));
}

#[tokio::test]
async fn a_tag_removes_what_was_loaded_with_it_and_what_is_loaded_meanwhile() {
    let world = World::default();
    let cache = world.cache();
    let tagged = || policy().tag("repo");
    let other = Key::new("other").unwrap();
    cache.fetch(&key(), tagged()).load(|_| give(1)).await.unwrap();
    cache.put(&other, &1_u32, Ttl::default()).await.unwrap();
    assert!(cache.invalidate(By::Tag("repo")).await.unwrap().is_stored());
    assert_eq!(cache.get::<u32>(&key()).await, None);
    assert_eq!(cache.get::<u32>(&other).await, Some(1));

    let inner = cache.clone();
    let load = |_| async move {
        inner.invalidate(By::Tag("repo")).await.unwrap();
        Ok::<_, io::Error>(2_u32)
    };
    assert_eq!(cache.fetch(&key(), tagged()).load(load).await.unwrap().value, 2);
    assert_eq!(cache.get::<u32>(&key()).await, None, "its loader began before the invalidation");
    cache.fetch(&key(), tagged()).load(|_| give(3)).await.unwrap();
    assert_eq!(cache.get::<u32>(&key()).await, Some(3));
    assert!(cache.invalidate(By::Tag("")).await.is_err());
}

#[tokio::test]
async fn a_stale_value_whose_tag_was_invalidated_is_not_served_on_error() {
    let world = World::default();
    let cache = world.cache();
    cache.fetch(&key(), policy().tag("repo")).load(|_| give(1)).await.unwrap();
    world.pass(10);
    cache.invalidate(By::Tag("repo")).await.unwrap();
    assert!(cache.fetch(&key(), waiting()).load(|_| fail()).await.is_err());
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn another_process_on_the_same_disk_notices_an_invalidated_tag_within_a_second() {
    let world = World::default();
    let dir = tempfile::tempdir().unwrap();
    let process = |node| {
        let clock = || Arc::clone(&world.clock) as Arc<dyn Clock>;
        let disk = peercache::Disk::builder(dir.path()).clock(clock()).open().unwrap();
        let memory = Memory::builder().clock(clock()).build();
        let builder = Cache::builder().clock(clock()).node(NodeId::from_u64(node)).namespace("ns");
        builder.tier(memory).tier(disk).build().unwrap()
    };
    let (one, two) = (process(1), process(2));
    one.fetch(&key(), policy().tag("repo")).load(|_| give(1)).await.unwrap();
    assert_eq!(two.get::<u32>(&key()).await, Some(1));
    world.clock.advance(Duration::from_millis(1));
    one.invalidate(By::Tag("repo")).await.unwrap();
    world.pass(1);
    assert_eq!(two.get::<u32>(&key()).await, None);
    two.fetch(&key(), policy().tag("repo")).load(|_| give(2)).await.unwrap();
    assert_eq!(two.get::<u32>(&key()).await, Some(2), "what is loaded next is above the invalidation");
}
