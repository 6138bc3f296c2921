//! The tier over real servers: conformance, order under contention, leases, notices, and what users
//! read when something is wrong.

#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod contended;
mod fleet;
mod mistakes;
mod outages;

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Clock, Entry, Key, NodeId, SystemClock, VersionClock};
use peercache_redis::{Redis, RedisBuilder};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};
use peercache_testkit::servers::{RedisCluster, RedisSentinel, RedisServer};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn entry(versions: &VersionClock, value: impl Into<bytes::Bytes>) -> Entry {
    let now = SystemClock::new().now();
    Entry::builder(value, versions.next(now), now).fresh_for(Duration::from_secs(600)).build().unwrap()
}

fn versions(node: u64) -> VersionClock {
    VersionClock::new(NodeId::from_u64(node))
}

/// Waits until `done` holds.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "this never came: {what}");
}

async fn conforms(builder: RedisBuilder) {
    let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
    let builder = builder.clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let harness = conformance::from_fn(Time::Manual(clock), move || {
        let opened = builder.clone().open();
        async move { Ok(Arc::new(opened?) as Arc<dyn CacheBackend>) }
    });
    conformance::assert_conforms(harness.with_members()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backend_conforms_over_tcp_and_a_unix_socket() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    conforms(Redis::builder(server.url())).await;
    conforms(Redis::builder(format!("{}?db=3", server.socket_url())).prefix("socket")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backend_conforms_over_tls() {
    let Some(server) = RedisServer::start_with_tls().await.unwrap() else { return };
    let root = server.root_certificate().unwrap();
    conforms(Redis::builder(server.tls_url()).root_certificate(root)).await;
    // Without the authority the server is not believed.
    let stranger = Redis::builder(server.tls_url()).open().unwrap();
    let error = stranger.get(&key("k")).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backend_conforms_with_the_permissions_that_the_documents_name() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let mut words = vec!["ACL", "SETUSER", "ci", "on", ">ci-secret"];
    words.extend(mistakes::PERMISSIONS.split(' '));
    server.command(&words).unwrap();
    conforms(Redis::builder(server.url_with_login("ci", "ci-secret"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backend_conforms_over_a_cluster_of_three() {
    let Some(cluster) = RedisCluster::start().await.unwrap() else { return };
    conforms(Redis::builder(cluster.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backend_conforms_over_sentinel() {
    let Some(servers) = RedisSentinel::start().await.unwrap() else { return };
    conforms(Redis::builder(servers.url())).await;
}

/// How many commands the server has processed, as its own statistics count them.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]).unwrap();
    let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
    let count = line.and_then(|line| line.split("calls=").nth(1)?.split(',').next());
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn get_is_one_command_and_put_is_one_command() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let (tier, versions) = (Redis::builder(server.url()).open().unwrap(), versions(1));
    for value in ["first", "second"] {
        tier.put(&key("warm"), entry(&versions, value)).await.unwrap();
    }
    // The script was sent once, as the server did not know it.
    assert_eq!((calls(&server, "evalsha"), calls(&server, "eval")), (1, 1));
    let sent = tier.report().commands;
    for n in 0..10 {
        tier.put(&key(&format!("k{n}")), entry(&versions, "v")).await.unwrap();
    }
    assert_eq!(tier.report().commands - sent, 10);
    assert_eq!(calls(&server, "evalsha"), 1, "where nothing is, no versions are compared");
    for n in 0..20 {
        let found = tier.get(&key(&format!("k{n}"))).await.unwrap();
        assert_eq!(found.is_some(), n < 10);
    }
    assert_eq!(tier.report().commands - sent, 30);
    for n in 0..10 {
        tier.put(&key(&format!("k{n}")), entry(&versions, "w")).await.unwrap();
    }
    assert_eq!(tier.report().commands - sent, 40);
    assert_eq!((calls(&server, "evalsha"), calls(&server, "eval")), (11, 1));
}

#[tokio::test]
async fn key_has_the_time_to_live_of_its_entry() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let tier = Redis::builder(server.url()).prefix("p").open().unwrap();
    tier.put(&key("k"), entry(&versions(1), "v")).await.unwrap();
    let keys = server.command(&["KEYS", "*"]).unwrap();
    assert!(keys.starts_with("p:{") && keys.ends_with('}') && !keys.contains('\n'), "{keys}");
    let left: u64 = server.command(&["PTTL", &keys]).unwrap().parse().unwrap();
    assert!((590_000..=600_000).contains(&left), "{left}");
}
