//! `fetch`: what the loader is told, what it may say, and when it is not asked.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peercache::backend::Operation;
use peercache::fetch::{Codec, LoadReason};
use peercache::{
    Bytes, Cache, Error, ErrorKind, FetchError, FetchedFrom, Memory, Policy, Refresh, Ttl, Typed,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::support::{World, key};

static POLICY: Policy = Policy::fresh(Duration::from_secs(10))
    .stale(Duration::from_secs(100))
    .error_backoff(Duration::from_secs(2))
    .jitter(0.0);

/// Gives a number, and counts how often it was asked.
#[derive(Clone, Debug, Default)]
struct Origin(Arc<AtomicUsize>);

impl Origin {
    async fn give(self) -> Result<usize, io::Error> {
        Ok(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    async fn fail(self) -> Result<usize, io::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the origin is down"))
    }

    fn asked(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Lets tasks in the background run until they wait.
async fn breathe() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn forced_refresh_loads_although_the_value_is_fresh() {
    let (world, origin) = (World::default(), Origin::default());
    let cache = world.cache();
    let fetch = |refresh| {
        let origin = origin.clone();
        cache.fetch("k", &POLICY).refresh(refresh).load(|cx| async move {
            assert_eq!(cx.stale().is_some(), cx.reason() == LoadReason::Forced);
            origin.give().await
        })
    };
    assert_eq!(fetch(Refresh::Normal).await.unwrap().value, 1);
    assert_eq!(fetch(Refresh::Normal).await.unwrap().value, 1);
    let forced = fetch(Refresh::Force).await.unwrap();
    assert!(matches!(forced.from, FetchedFrom::Loaded) && forced.value == 2);
    assert_eq!(cache.get::<usize>("k").await, Some(2), "and replaces what was there");
    let down = origin.clone();
    let failed = cache.fetch("k", &POLICY).refresh(Refresh::Force).load(|_| down.fail()).await;
    assert!(matches!(failed, Err(FetchError::Load(_))), "who forces a load is told that it failed");
    assert_eq!(cache.get::<usize>("k").await, Some(2));
}

#[tokio::test]
async fn forced_refreshes_share_a_load_and_do_not_join_one_that_ran_before() {
    let (cache, origin, gate) = (World::default().cache(), Origin::default(), Arc::new(Notify::new()));
    let slow = tokio::spawn({
        let (cache, origin, gate) = (cache.clone(), origin.clone(), Arc::clone(&gate));
        async move {
            let load = |_| async move {
                let value = origin.give().await;
                gate.notified().await;
                value
            };
            cache.fetch("k", &POLICY).load(load).await.unwrap().value
        }
    });
    breathe().await;
    let forced: Vec<_> = (0..10)
        .map(|_| {
            let (cache, origin) = (cache.clone(), origin.clone());
            tokio::spawn(async move {
                let load = |_| async move {
                    let value = origin.give().await;
                    breathe().await;
                    value
                };
                cache.fetch("k", &POLICY).refresh(Refresh::Force).load(load).await.unwrap().value
            })
        })
        .collect();
    for forced in forced {
        assert_eq!(forced.await.unwrap(), 2);
    }
    gate.notify_one();
    assert_eq!(slow.await.unwrap(), 1, "whoever asked before gets what was loaded for it");
    assert_eq!(cache.get::<usize>("k").await, Some(2), "but the later load is kept");
    assert_eq!(origin.asked(), 2);
}

#[tokio::test]
async fn cache_only_never_loads() {
    let (world, origin) = (World::default(), Origin::default());
    let cache = world.cache();
    let fetch = || {
        let origin = origin.clone();
        cache.fetch("k", &POLICY).refresh(Refresh::CacheOnly).load(|_| origin.give())
    };
    assert!(matches!(fetch().await, Err(FetchError::NotCached)));
    cache.put("k", &7_usize, &POLICY).await.unwrap();
    let fresh = fetch().await.unwrap();
    assert!(matches!(fresh.from, FetchedFrom::Cache) && fresh.value == 7);
    world.clock.advance(Duration::from_secs(15));
    let stale = fetch().await.unwrap();
    assert!(matches!(stale.from, FetchedFrom::Stale) && stale.is_stale());
    assert_eq!((stale.value, stale.age), (7, Duration::from_secs(15)));
    let peeked = cache.peek::<usize>("k").await.unwrap();
    assert_eq!((peeked.value, peeked.age, peeked.tier.as_deref()), (7, stale.age, Some("memory")));
    assert!(peeked.is_stale());
    breathe().await;
    assert_eq!(origin.asked(), 0);
}

#[tokio::test]
async fn five_calls_in_an_outage_are_one_load_and_keep_the_type_of_the_error() {
    let (world, origin) = (World::default(), Origin::default());
    let cache = world.cache();
    let fetch = |key: &'static str| {
        let origin = origin.clone();
        cache.fetch(key, &POLICY).load(|_| origin.fail())
    };
    for _ in 0..5 {
        let error = fetch("k").await.unwrap_err();
        assert_eq!(error.loader().map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused));
    }
    assert_eq!((origin.asked(), cache.report().refresh.backed_off), (1, 4));
    fetch("other").await.unwrap_err();
    assert_eq!(origin.asked(), 2, "another key is another origin");
    world.clock.advance(Duration::from_secs(2));
    fetch("k").await.unwrap_err();
    assert_eq!(origin.asked(), 3);

    // A stale value is served meanwhile, and not refreshed.
    cache.put("stale", &7_usize, &POLICY).await.unwrap();
    world.clock.advance(Duration::from_secs(10));
    for _ in 0..5 {
        assert_eq!(fetch("stale").await.unwrap().value, 7);
        breathe().await;
    }
    assert_eq!(origin.asked(), 4);
    let waiting = POLICY.clone().stale_while_refreshing(false);
    let down = origin.clone();
    let stale = cache.fetch("stale", &waiting).load(|_| down.fail()).await.unwrap();
    let FetchedFrom::StaleOnError(failure) = stale.from else { panic!("{:?}", stale.from) };
    assert!(failure.loader::<io::Error>().is_some() && failure.loader::<std::fmt::Error>().is_none());
    assert_eq!(failure.to_string(), "the origin is down");
    assert_eq!(origin.asked(), 4);
    fetch("k").await.unwrap_err();
    let other = cache.fetch("k", &POLICY).load(|_| async { Err::<usize, _>(std::fmt::Error) }).await;
    assert!(matches!(other, Err(FetchError::OtherLoad(_))), "{other:?}");
}

#[tokio::test]
async fn a_loader_says_how_its_value_is_kept() {
    let world = World::default();
    let cache = world.cache();
    let load = |cx: peercache::LoadContext<u8>| async move {
        assert_eq!((cx.reason(), cx.stale()), (LoadReason::Miss, None));
        cx.ttl(Ttl::from_secs(3).with_stale(Duration::from_secs(50)));
        cx.tag("a");
        cx.etag("\"1\"");
        Ok::<_, io::Error>(1)
    };
    cache.fetch("k", &POLICY).tag("b").load(load).await.unwrap();
    let entry = cache.lookup(&key("k")).await.entry.unwrap();
    assert_eq!(entry.metadata().tags, ["b", "a"]);
    assert_eq!(entry.metadata().fresh_for, Duration::from_secs(3));
    world.clock.advance(Duration::from_secs(3));
    let load = |cx: peercache::LoadContext<u8>| async move {
        assert_eq!((cx.reason(), cx.stale()), (LoadReason::Stale, Some(1)));
        assert_eq!(cx.stale_metadata().unwrap().validators.etag.as_deref(), Some("\"1\""));
        cx.do_not_store();
        Ok::<_, io::Error>(2)
    };
    let waiting = POLICY.clone().stale_while_refreshing(false);
    assert_eq!(cache.fetch("k", &waiting).load(load).await.unwrap().value, 2);
    assert_eq!(cache.peek::<u8>("k").await.unwrap().value, 1, "what was there stays");
    assert_eq!(cache.report().loads_not_kept, 0);

    let load = |cx: peercache::LoadContext<u8>| async move {
        cx.tag("");
        Ok::<_, io::Error>(3)
    };
    assert_eq!(cache.fetch("other", &POLICY).load(load).await.unwrap().value, 3, "a bad tag loses no value");
    assert_eq!(cache.get::<u8>("other").await, None);
    assert_eq!(cache.report().loads_not_kept, 1);
}

#[tokio::test]
async fn a_loader_that_waits_for_its_own_key_is_an_error_and_not_a_deadlock() {
    let cache = World::default().cache();
    let inner = cache.clone();
    let load = |_| async move {
        inner
            .get_or_fetch("k", Ttl::default(), async || Ok::<u8, io::Error>(1))
            .await
            .map_err(io::Error::other)
    };
    let error = cache.fetch("k", &POLICY).load(load).await.unwrap_err();
    assert!(error.to_string().contains("the loader of this key waits for the same key"), "{error}");
}

#[tokio::test]
async fn two_loaders_that_wait_for_each_other_are_an_error_and_not_a_deadlock() {
    let cache = World::default().cache();
    let meet = Arc::new(tokio::sync::Barrier::new(2));
    let fetch = |own: &'static str, other: &'static str| {
        let (cache, meet) = (cache.clone(), Arc::clone(&meet));
        tokio::spawn(async move {
            let inner = cache.clone();
            let load = move |_| async move {
                meet.wait().await;
                let load = async || std::future::pending::<Result<u8, io::Error>>().await;
                inner.get_or_fetch(other, Ttl::default(), load).await.map_err(io::Error::other)
            };
            cache.fetch(own, Ttl::default()).load(load).await
        })
    };
    let (a, b) = (fetch("a", "b"), fetch("b", "a"));
    let (a, b) = (a.await.unwrap().unwrap_err(), b.await.unwrap().unwrap_err());
    assert!(a.to_string().contains("waits for the same key"), "{a}");
    assert!(b.to_string().contains("waits for the same key"), "{b}");
}

#[tokio::test]
async fn bytes_are_loaded_and_stored_as_they_are() {
    let cache = World::default().cache();
    let body = Bytes::from(vec![7; 1000]);
    let load = || {
        let body = body.clone();
        cache.fetch("k", &POLICY).load_bytes(|cx| async move {
            cx.content_type("application/zip");
            Ok::<_, io::Error>(body)
        })
    };
    assert!(matches!(load().await.unwrap().from, FetchedFrom::Loaded));
    let again = load().await.unwrap();
    assert!(matches!(again.from, FetchedFrom::Cache) && again.value == body);
    assert_eq!(again.value.as_ptr(), body.as_ptr(), "never copied");
    let entry = cache.lookup(&key("k")).await.entry.unwrap();
    assert_eq!(entry.value().len(), 1000);
    assert_eq!(entry.metadata().content_type.as_deref(), Some("application/zip"));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
}

/// Counts how often a value is decoded.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<AtomicUsize>);

impl Codec for Counting {
    const CONTENT_TYPE: &'static str = "application/x-counting";

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, Error> {
        peercache::fetch::Json.encode(value)
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        peercache::fetch::Json.decode(bytes)
    }
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn a_typed_value_is_decoded_once_however_often_it_is_read() {
    let (world, dir) = (World::default(), tempfile::tempdir().unwrap());
    let open = || {
        let disk = peercache::Disk::builder(dir.path()).clock(world.shared_clock()).open().unwrap();
        world.builder().tier(world.memory()).tier(disk).build().unwrap()
    };
    let codec = Counting::default();
    let cache = open();
    let users: Typed<User, _> = cache.typed("users", &POLICY).codec(codec.clone());
    users.put(7, User { name: "ferris".to_owned() }).await.unwrap();
    let (one, other) = (users.get(7).await.unwrap(), users.get(7).await.unwrap());
    assert!(Arc::ptr_eq(&one, &other));
    assert_eq!(codec.0.load(Ordering::SeqCst), 0, "what was put is kept as it was put");
    cache.close().await.unwrap();

    let cache = open();
    let users: Typed<User, _> = cache.typed("users", &POLICY).codec(codec.clone());
    for _ in 0..5 {
        assert_eq!(users.get(7).await.unwrap(), one);
    }
    let load = |_| async { Err::<User, _>("loaded") };
    assert_eq!(users.load(7, load).await.unwrap().value, one);
    assert_eq!(codec.0.load(Ordering::SeqCst), 1, "what comes from the disk is decoded once");
    assert_eq!(cache.get::<User>(("users", 7)).await, Some(User { name: "ferris".to_owned() }));
    let json: Typed<User> = cache.typed("users", &POLICY);
    assert_eq!(json.get(7).await, Some(one), "the same type, whatever the codec");
}

#[tokio::test]
async fn a_value_of_another_codec_is_a_miss_and_never_misread() {
    let cache = World::default().cache();
    cache.put(("users", 7), &User { name: "ferris".to_owned() }, &POLICY).await.unwrap();
    let users: Typed<User, _> = cache.typed("users", &POLICY).codec(Counting::default());
    assert_eq!(users.get(7).await, None);
    assert_eq!(cache.report().decode_errors, 1);
    let loaded = users.load(7, |_| async { Ok::<_, io::Error>(User { name: "bors".to_owned() }) }).await;
    assert_eq!(loaded.unwrap().value.name, "bors");
    let absent = users.load_optional(8, |_| async { Ok::<_, io::Error>(None) }).await.unwrap();
    assert_eq!(absent.value, None);
    assert_eq!(users.get(8).await, None);
}

#[tokio::test]
async fn a_read_of_a_bad_key_is_a_miss_that_is_counted() {
    let cache = World::default().cache();
    assert_eq!(cache.get::<u8>("").await, None);
    assert_eq!(cache.report().invalid_keys, 1);
    let error = cache.put("", &1, &POLICY).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Config, Operation::Encode));
    assert!(!cache.remove("").await.is_stored());
}

#[tokio::test]
async fn a_tier_with_another_clock_than_the_cache_is_refused() {
    let world = World::default();
    let memory = || Memory::with_capacity(1 << 20);
    let error = world.builder().tier(memory()).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("the memory tier goes by a clock that is"), "{error}");
    let cache = world.builder().memory(1 << 20).build().unwrap();
    cache.put("k", &1, Ttl::from_secs(10)).await.unwrap();
    world.clock.advance(Duration::from_secs(9));
    assert_eq!(cache.get("k").await, Some(1), "a tier that the builder makes goes by the cache's clock");
}

#[tokio::test]
async fn two_memory_tiers_have_names_and_numbers_of_their_own() {
    let cache = World::default().builder().memory(1 << 20).memory(16 << 20).build().unwrap();
    cache.put("k", &1, Ttl::default()).await.unwrap();
    let report = cache.report();
    let names: Vec<_> = report.chain.tiers.iter().map(|tier| tier.name.as_str()).collect();
    assert_eq!(names, ["memory", "memory-2"]);
    for (name, capacity) in [("memory", 1 << 20), ("memory-2", 16 << 20)] {
        let memory = &report.backends[name];
        assert_eq!((memory["entries"].as_u64(), memory["evicted"].as_u64()), (Some(1), Some(0)));
        assert!(memory["bytes"].as_u64() > Some(0) && memory["capacity"].as_u64() <= Some(capacity));
    }
}

#[test]
fn a_cache_without_a_runtime_is_an_error_that_says_so() {
    let build = || Cache::builder().tier(Memory::with_capacity(1 << 20)).build();
    let error = build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("tokio runtime"), "{error}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(async { build().unwrap_err() });
    assert!(error.to_string().contains("enable_time"), "{error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { build().unwrap() });
}
