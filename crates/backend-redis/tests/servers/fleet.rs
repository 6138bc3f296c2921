//! Leases and notices between members, each with a connection of its own.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use peercache_api::{
    CacheBackend, CacheBackendExt, Clock, Entry, Key, LeaseAnswer, LeaseRequest, RemovalWatcher, SystemClock,
    Version,
};
use peercache_redis::Redis;
use peercache_testkit::servers::{RedisCluster, RedisServer};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::{entry, key, until, versions};

#[derive(Debug)]
struct Watcher(Mutex<Sender<([u8; 32], Version)>>);

impl RemovalWatcher for Watcher {
    fn removed(&self, key: &[u8; 32], tombstone: &Entry) {
        self.0.lock().unwrap().try_send((*key, tombstone.version())).unwrap();
    }
}

fn watch(tier: &Redis) -> (Arc<Watcher>, Receiver<([u8; 32], Version)>) {
    let (sender, receiver) = channel(1024);
    let watcher = Arc::new(Watcher(Mutex::new(sender)));
    let weak: Weak<dyn RemovalWatcher> = Arc::downgrade(&(Arc::clone(&watcher) as Arc<dyn RemovalWatcher>));
    tier.fleet().unwrap().watch(weak);
    (watcher, receiver)
}

async fn removals_arrive(url: &str) {
    let tiers: Vec<_> = (0..3).map(|_| Redis::builder(url).open().unwrap()).collect();
    let mut watching: Vec<_> = tiers.iter().map(watch).collect();
    until("every subscription", async || tiers.iter().all(|tier| tier.report().subscribed)).await;
    let versions = versions(1);
    let mut times = Vec::new();
    for n in 0..50 {
        let k = key(&format!("removed {n}"));
        tiers[0].put(&k, entry(&versions, "v")).await.unwrap();
        let now = SystemClock::new().now();
        let version = versions.next(now);
        let began = Instant::now();
        tiers[0].remove(&k, version, now).await.unwrap();
        for (_, receiver) in &mut watching[1..] {
            let heard =
                tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await.unwrap().unwrap();
            assert_eq!(heard, (*k.digest(), version));
            times.push(began.elapsed());
        }
    }
    times.sort_unstable();
    let (middle, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("50 removals to 2 members each: p50 {middle:?}, the longest {longest:?}");
    // A machine that is busy may hold up one of them.
    assert!(middle < Duration::from_millis(50), "{middle:?}");
    assert!(watching[0].1.try_recv().is_err(), "its own removals are not told to the member itself");
    // One that loses is no removal.
    let k = key("newer");
    let old = versions.next(SystemClock::new().now());
    tiers[0].put(&k, entry(&versions, "v")).await.unwrap();
    tiers[0].remove(&k, old, SystemClock::new().now()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(watching[1].1.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_reaches_the_other_members_within_50_ms() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    removals_arrive(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_reaches_the_members_of_a_cluster() {
    let Some(cluster) = RedisCluster::start().await.unwrap() else { return };
    removals_arrive(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_hears_of_removals_again_after_the_server_was_restarted() {
    let Some(mut server) = RedisServer::start().await.unwrap() else { return };
    let (one, other) =
        (Redis::builder(server.url()).open().unwrap(), Redis::builder(server.url()).open().unwrap());
    let (_watcher, mut heard) = watch(&other);
    until("the subscription", async || other.report().subscribed).await;
    server.kill();
    until("the loss of the connection", async || !other.report().subscribed).await;
    server.restart().await.unwrap();
    // Without a call: the member that only listens connects by itself.
    until("the subscription", async || other.report().subscribed).await;
    let now = SystemClock::new().now();
    one.remove(&key("k"), versions(1).next(now), now).await.unwrap();
    assert_eq!(heard.recv().await.unwrap().0, *key("k").digest());
}

/// Loads `k` as a chain does: under a lease, and whoever is answered with a value does not load.
async fn load(tier: &Redis, k: &Key, loads: &Mutex<u32>, node: u64) -> bytes::Bytes {
    let request = LeaseRequest::new(Duration::from_secs(30), Duration::from_secs(20));
    match tier.fleet().unwrap().lease(k, request).await.unwrap() {
        LeaseAnswer::Found(entry) => entry.value().clone(),
        LeaseAnswer::Granted(_) => {
            *loads.lock().unwrap() += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let loaded = entry(&versions(node), "loaded");
            tier.put(k, loaded.clone()).await.unwrap();
            loaded.value().clone()
        }
    }
}

async fn one_load(url: &str) {
    let loads = Arc::new(Mutex::new(0));
    let mut members = tokio::task::JoinSet::new();
    for node in 0..20 {
        let (tier, loads) = (Redis::builder(url).open().unwrap(), Arc::clone(&loads));
        members.spawn(async move { load(&tier, &key("missing"), &loads, node).await });
    }
    while let Some(value) = members.join_next().await {
        assert_eq!(value.unwrap(), "loaded");
    }
    assert_eq!(*loads.lock().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_members_load_a_missing_key_once() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    one_load(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_members_of_a_cluster_load_a_missing_key_once() {
    let Some(cluster) = RedisCluster::start().await.unwrap() else { return };
    one_load(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_of_a_member_that_died_ends_by_itself() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let dead = Redis::builder(server.url()).open().unwrap();
    let (ttl, wait) = (Duration::from_millis(300), Duration::from_secs(20));
    let request = LeaseRequest::new(ttl, wait);
    let first = dead.fleet().unwrap().lease(&key("k"), request).await.unwrap();
    assert!(matches!(first, LeaseAnswer::Granted(_)));
    drop(dead);
    let next = Redis::builder(server.url()).open().unwrap();
    let began = Instant::now();
    assert!(matches!(
        next.fleet().unwrap().lease(&key("k"), request).await.unwrap(),
        LeaseAnswer::Granted(_)
    ));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
