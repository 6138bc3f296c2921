//! Typed values, lifetimes, namespaces, removal.

use std::collections::BTreeMap;
use std::time::Duration;

use peercache::backend::{Freshness, MAX_LIFETIME, MAX_VALUE_BYTES, NodeId, Version};
use peercache::chain::Outcome;
use peercache::{Cache, ErrorKind, Ttl};
use serde::{Deserialize, Serialize};

use crate::support::{World, key};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Repo {
    name: String,
    stars: u64,
    topics: Vec<String>,
}

fn repo() -> Repo {
    Repo { name: "rust".to_owned(), stars: 99, topics: vec!["compiler".to_owned()] }
}

#[tokio::test]
async fn a_typed_value_comes_back_until_it_is_removed() {
    let cache = World::default().cache();
    assert_eq!(cache.get::<Repo>(&key("k")).await, None);
    assert!(cache.put(&key("k"), &repo(), Ttl::default()).await.unwrap().is_stored());
    assert_eq!(cache.get(&key("k")).await, Some(repo()));
    let lookup = cache.lookup(&key("k")).await;
    assert_eq!(lookup.entry.unwrap().metadata().content_type.as_deref(), Some("application/json"));
    assert!(cache.remove(&key("k")).await.is_stored());
    assert_eq!(cache.get::<Repo>(&key("k")).await, None);
    cache.put(&key("k"), &repo(), Ttl::default()).await.unwrap();
    assert_eq!(cache.get(&key("k")).await, Some(repo()), "what is put after a removal is there");
}

#[tokio::test]
async fn bytes_are_kept_as_they_are() {
    let cache = World::default().cache();
    let bytes: Vec<u8> = (0..=255).collect();
    cache.put_bytes(&key("k"), bytes.clone(), Ttl::default()).await.unwrap();
    let found = cache.get_bytes(&key("k")).await.unwrap();
    assert_eq!(found, bytes);
    let again = cache.get_bytes(&key("k")).await.unwrap();
    assert_eq!(found.as_ptr(), again.as_ptr(), "never copied");
}

#[tokio::test]
async fn nothing_false_zero_and_empty_are_values() {
    let cache = World::default().cache();
    macro_rules! kept {
        ($($value:expr => $kind:ty),* $(,)?) => {$(
            let value: $kind = $value;
            cache.put(&key("k"), &value, Ttl::default()).await.unwrap();
            assert_eq!(cache.get::<$kind>(&key("k")).await, Some(value.clone()));
            let loaded = cache
                .get_or_fetch(&key("k"), Ttl::default(), async || -> Result<$kind, &str> { Err("loaded again") })
                .await;
            assert_eq!(loaded.unwrap(), value);
        )*};
    }
    kept! {
        None => Option<u8>,
        () => (),
        false => bool,
        0 => u64,
        String::new() => String,
        Vec::new() => Vec<u8>,
        BTreeMap::new() => BTreeMap<String, u8>,
    }
    cache.put_bytes(&key("k"), "", Ttl::default()).await.unwrap();
    assert_eq!(cache.get_bytes(&key("k")).await.unwrap(), "");
}

#[tokio::test]
async fn a_value_is_fresh_then_stale_then_gone() {
    let world = World::default();
    let cache = world.builder().default_ttl(Duration::from_secs(7)).tier(world.memory()).build().unwrap();
    let ttl = Ttl::from_secs(10).with_stale(Duration::from_secs(20));
    cache.put(&key("given"), "v", ttl).await.unwrap();
    cache.put(&key("default"), "v", Ttl::default()).await.unwrap();
    world.clock.advance(Duration::from_millis(6_999));
    assert_eq!(cache.get::<String>(&key("default")).await.as_deref(), Some("v"));
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(cache.get::<String>(&key("default")).await, None);
    assert_eq!(cache.lookup(&key("given")).await.age, Duration::from_secs(7));
    world.clock.advance(Duration::from_secs(3));
    assert_eq!(cache.get::<String>(&key("given")).await, None, "stale is not served by `get`");
    let lookup = cache.lookup(&key("given")).await;
    assert_eq!(lookup.outcome, Outcome::Stale);
    assert_eq!(lookup.entry.unwrap().freshness(cache.now()), Freshness::Stale);
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(cache.lookup(&key("given")).await.outcome, Outcome::Miss);
}

#[tokio::test]
async fn a_value_of_another_type_is_a_miss_and_loaded_anew() {
    let cache = World::default().cache();
    cache.put(&key("k"), "text", Ttl::default()).await.unwrap();
    assert_eq!(cache.get::<Repo>(&key("k")).await, None);
    assert_eq!(cache.report().decode_errors, 1);
    let load = async || Ok::<_, &str>(repo());
    assert_eq!(cache.get_or_fetch(&key("k"), Ttl::default(), load).await.unwrap(), repo());
    assert_eq!(cache.get(&key("k")).await, Some(repo()), "and replaced");
    assert_eq!((cache.report().loads, cache.report().decode_errors), (1, 2));
}

#[tokio::test]
async fn namespaces_share_a_store_and_no_key() {
    let world = World::default();
    let store = world.memory();
    let open = |namespace: &str| world.builder().namespace(namespace).tier(store.clone()).build().unwrap();
    let (plain, one, two) = (open(""), open("one"), open("two"));
    for (cache, value) in [(&plain, 0), (&one, 1), (&two, 2)] {
        cache.put(&key("k"), &value, Ttl::default()).await.unwrap();
    }
    one.remove(&key("k")).await;
    assert_eq!(plain.get(&key("k")).await, Some(0));
    assert_eq!(one.get::<u8>(&key("k")).await, None);
    assert_eq!(two.get(&key("k")).await, Some(2));
    assert_eq!(open("two").get(&key("k")).await, Some(2), "the same name is the same namespace");
    assert_eq!(store.stats().entries, 3);
}

#[tokio::test]
async fn bounds_are_checked_when_it_is_built_or_put() {
    let world = World::default();
    let kind = |built: Result<Cache, peercache::Error>| built.err().map(|error| error.kind());
    assert_eq!(kind(world.builder().namespace("n".repeat(128)).build()), None);
    assert_eq!(kind(world.builder().namespace("n".repeat(129)).build()), Some(ErrorKind::Config));
    assert_eq!(kind(world.builder().default_ttl(MAX_LIFETIME).build()), None);
    let longer = MAX_LIFETIME + Duration::from_secs(1);
    assert_eq!(kind(world.builder().default_ttl(longer).build()), Some(ErrorKind::Config));

    let cache = world.cache();
    let error = cache.put(&key("k"), "v", Ttl::new(longer)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let entry = cache.new_entry(vec![0; MAX_VALUE_BYTES + 1]).build();
    assert_eq!(entry.unwrap_err().kind(), ErrorKind::TooLarge);
    let entry = cache.new_entry(vec![0; MAX_VALUE_BYTES]).fresh_for(MAX_LIFETIME).build().unwrap();
    assert!(cache.put_entry(&key("k"), entry).await.is_stored());
}

#[tokio::test]
async fn what_is_written_after_another_node_was_seen_is_above_it() {
    let world = World::default();
    let cache = world.cache();
    let ahead = Version {
        wall: cache.now().saturating_add(Duration::from_secs(200)),
        counter: 0,
        node: NodeId::from_u64(9),
    };
    cache.put_entry(&key("k"), peercache::Entry::tombstone(ahead, cache.now())).await;
    let load = async || Ok::<_, &str>(1);
    assert_eq!(cache.get_or_fetch(&key("k"), Ttl::default(), load).await.unwrap(), 1);
    assert_eq!(cache.get(&key("k")).await, Some(1), "loaded after the removal was seen, so it is newer");
}

#[tokio::test]
async fn clones_are_handles_to_one_cache() {
    let cache = World::default().cache();
    cache.clone().put(&key("k"), &1, Ttl::default()).await.unwrap();
    assert_eq!(cache.get(&key("k")).await, Some(1));
    assert_eq!(cache.clone().report(), cache.report());
}
