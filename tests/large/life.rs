//! Replacing, removing, expiring and sharing.

use std::time::Duration;

use peercache::Ttl;
use peercache::backend::MAX_LIFETIME;
use peercache::chain::Outcome;
use peercache::stream::{CHUNK_BYTES, PLAIN_BYTES};

use crate::support::{bytes, drain, key, world};

const LARGE: usize = PLAIN_BYTES + 1;

#[tokio::test]
async fn large_and_small_replace_each_other() {
    let (cache, _, _) = world();
    let (large, other) = (bytes(1, LARGE), bytes(2, LARGE + CHUNK_BYTES));
    for value in [large.clone(), "small".into(), other, large, "".into()] {
        cache.put_bytes(&key("k"), value.clone(), Ttl::from_secs(60)).await.unwrap();
        assert_eq!(cache.get_bytes(&key("k")).await, Some(value.clone()));
        let found = cache.get_stream(&key("k")).await.unwrap();
        assert_eq!(drain(found.into_stream()).await, (value.to_vec(), None));
    }
}

#[tokio::test]
async fn a_removed_value_is_gone_and_those_that_share_its_chunks_are_not() {
    let (cache, drawer, _) = world();
    let value = bytes(1, LARGE);
    for name in ["a", "b"] {
        cache.put_bytes(&key(name), value.clone(), Ttl::from_secs(60)).await.unwrap();
    }
    assert_eq!(drawer.entries(), 2 + 5, "equal chunks are stored once");
    cache.remove(&key("a")).await;
    assert!(cache.get_stream(&key("a")).await.is_none());
    assert_eq!(cache.lookup(&key("a")).await.outcome, Outcome::Miss);
    assert_eq!(cache.get_bytes(&key("b")).await, Some(value));
}

#[tokio::test]
async fn a_value_is_whole_until_it_expires() {
    for ttl in [1, 300, 960, 961, 7200, MAX_LIFETIME.as_secs()] {
        let (cache, _, clock) = world();
        let value = bytes(1, LARGE);
        cache.put_bytes(&key("k"), value.clone(), Ttl::from_secs(ttl)).await.unwrap();
        clock.advance(Duration::from_secs(ttl) - Duration::from_millis(1));
        assert_eq!(cache.get_bytes(&key("k")).await, Some(value), "{ttl}");
        clock.advance(Duration::from_millis(1));
        assert_eq!(cache.get_bytes(&key("k")).await, None, "{ttl}");
        assert_eq!(cache.report().large.chunks_missing, 0);
    }
}

#[tokio::test]
async fn whoever_shares_chunks_never_shortens_their_life() {
    let (cache, _, clock) = world();
    let value = bytes(1, LARGE);
    cache.put_bytes(&key("day"), value.clone(), Ttl::from_secs(86_400)).await.unwrap();
    cache.put_bytes(&key("minute"), value.clone(), Ttl::from_secs(60)).await.unwrap();
    clock.advance(Duration::from_secs(1000));
    // A clock that was set back must not shorten it either.
    let now = cache.now();
    clock.set_wall(now.saturating_sub(Duration::from_secs(900)));
    cache.put_bytes(&key("another day"), value.clone(), Ttl::from_secs(86_400)).await.unwrap();
    clock.set_wall(now);
    clock.advance(Duration::from_secs(86_400 - 1001));
    assert_eq!(cache.get_bytes(&key("minute")).await, None);
    assert_eq!(cache.get_bytes(&key("day")).await, Some(value));
}

#[tokio::test]
async fn a_stale_value_can_be_opened() {
    let (cache, _, clock) = world();
    let value = bytes(1, LARGE);
    let ttl = Ttl::from_secs(1000).with_stale(Duration::from_secs(5000));
    cache.put_bytes(&key("k"), value.clone(), ttl).await.unwrap();
    clock.advance(Duration::from_secs(5999));
    assert!(cache.get_stream(&key("k")).await.is_none());
    let lookup = cache.lookup(&key("k")).await;
    assert_eq!(lookup.outcome, Outcome::Stale);
    let found = cache.open_entry(lookup.entry.unwrap()).await.unwrap();
    assert_eq!(drain(found.into_stream()).await, (value.to_vec(), None));
}

#[tokio::test]
async fn namespaces_share_nothing() {
    let (_, drawer, clock) = world();
    let cache = |namespace: &str| {
        peercache::Cache::builder()
            .clock(clock.clone())
            .namespace(namespace)
            .tier(drawer.clone())
            .build()
            .unwrap()
    };
    let value = bytes(1, LARGE);
    cache("a").put_bytes(&key("k"), value.clone(), Ttl::from_secs(60)).await.unwrap();
    assert_eq!(drawer.entries(), 6);
    assert!(cache("b").get_stream(&key("k")).await.is_none());
    cache("b").put_bytes(&key("k"), value, Ttl::from_secs(60)).await.unwrap();
    assert_eq!(drawer.entries(), 12);
}
