//! Broken tiers and closed caches: slower, never broken.

use std::sync::Arc;

use peercache::chain::Outcome;
use peercache::{ErrorKind, Ttl};

use crate::support::{Broken, World, key};

#[tokio::test]
async fn with_every_tier_broken_it_still_loads() {
    let world = World::default();
    let cache = world.builder().tier(Broken::new("first")).tier(Broken::new("second")).build().unwrap();
    for n in 0..3 {
        let load = async || Ok::<_, &str>(n);
        assert_eq!(cache.get_or_fetch(&key("k"), Ttl::default(), load).await.unwrap(), n);
    }
    let outcome = cache.put(&key("k"), &1, Ttl::default()).await.unwrap();
    assert!(!outcome.is_stored());
    assert_eq!(outcome.errors().count(), 2);
    let report = cache.report();
    assert_eq!((report.loads, report.load_errors, report.chain.misses), (3, 0, 3));
    assert_eq!(
        report.chain.tiers[1].last_error.as_deref(),
        Some("second: put failed (unavailable): pulled the plug")
    );
    assert_eq!(cache.close().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_cache_without_tiers_loads_every_time() {
    let cache = World::default().builder().build().unwrap();
    for n in 0..2 {
        let load = async || Ok::<_, &str>(n);
        assert_eq!(cache.get_or_fetch(&key("k"), Ttl::default(), load).await.unwrap(), n);
    }
    assert_eq!(cache.get::<u8>(&key("k")).await, None);
}

#[tokio::test]
async fn a_broken_tier_in_front_hides_nothing() {
    let world = World::default();
    let cache = world.builder().tier(Broken::new("first")).tier(world.memory()).build().unwrap();
    cache.put(&key("k"), &1, Ttl::default()).await.unwrap();
    assert_eq!(cache.get(&key("k")).await, Some(1));
    assert_eq!(cache.lookup(&key("k")).await.tier.as_deref(), Some("memory"));
}

#[tokio::test]
async fn a_closed_cache_misses_stores_nothing_and_still_loads() {
    let world = World::default();
    let store = world.memory();
    let cache = world.builder().tier(Arc::clone(&store)).build().unwrap();
    cache.put(&key("k"), &1, Ttl::default()).await.unwrap();
    cache.close().await.unwrap();
    cache.close().await.unwrap();
    assert_eq!(cache.lookup(&key("k")).await.outcome, Outcome::Miss);
    assert!(!cache.put(&key("k"), &1, Ttl::default()).await.unwrap().is_stored());
    assert!(!cache.remove(&key("k")).await.is_stored());
    let load = async || Ok::<_, &str>(2);
    assert_eq!(cache.get_or_fetch(&key("k"), Ttl::default(), load).await.unwrap(), 2);
}
