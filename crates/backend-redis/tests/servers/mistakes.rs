//! Each mistake has an error of its own, and none shows a password.

use peercache_api::{CacheBackend, Error, ErrorKind};
use peercache_redis::{Finding, Redis};
use peercache_testkit::servers::{RedisCluster, RedisServer};

use crate::{entry, key, until, versions};

/// What a user of the cache needs to be allowed, as docs/how-to/redis.md says it.
pub(crate) const PERMISSIONS: &str = "resetkeys resetchannels -@all ~peercache:* &peercache:* \
    +get +set +del +getrange +exists +strlen +pttl +eval +evalsha +publish +subscribe +hello +ping";

async fn get(url: &str) -> Error {
    let error = Redis::builder(url).open().unwrap().get(&key("k")).await.unwrap_err();
    assert!(!error.to_string().contains("hush"), "{error}");
    error
}

#[track_caller]
fn says(error: &Error, kind: ErrorKind, message: &str) {
    assert_eq!((error.kind(), error.message()), (kind, message), "{error}");
    assert!(error.context("server").is_some(), "{error}");
}

#[tokio::test]
async fn login_that_is_missing_or_wrong_is_named() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    server.command(&["CONFIG", "SET", "requirepass", "right"]).unwrap();
    says(&get(&server.url()).await, ErrorKind::Denied, "the server asks for a password");
    let wrong = get(&server.url_with_login("default", "hush")).await;
    says(&wrong, ErrorKind::Denied, "the server refuses the user name or the password");
    let tier = Redis::builder(server.url_with_login("", "right")).open().unwrap();
    assert_eq!(tier.get(&key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn user_that_may_only_read_makes_a_read_only_tier() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let words = "ACL SETUSER reader on >hush resetkeys resetchannels -@all %R~peercache:* &peercache:* +get \
        +getrange +subscribe +hello";
    server.command(&words.split_whitespace().collect::<Vec<_>>()).unwrap();
    let (k, versions) = (key("k"), versions(1));
    let writer = Redis::builder(server.url()).open().unwrap();
    writer.put(&k, entry(&versions, "v")).await.unwrap();
    let reader = Redis::builder(server.url_with_login("reader", "hush")).open().unwrap();
    let mut sent = 0;
    for round in 0..2 {
        let error = reader.put(&k, entry(&versions, "w")).await.unwrap_err();
        says(&error, ErrorKind::Denied, "this user may not do this on the server");
        assert!(!error.to_string().contains("hush"), "{error}");
        if round == 1 {
            assert_eq!(reader.report().commands, sent, "the second is refused here");
        }
        sent = reader.report().commands;
    }
    assert_eq!(reader.report().writable, Finding::No);
    assert_eq!(reader.get(&k).await.unwrap().unwrap().value(), "v", "reads go on");
}

#[tokio::test]
async fn server_that_is_away_or_something_else_is_named() {
    says(&get("redis://:hush@127.0.0.1:1").await, ErrorKind::Unavailable, "the server cannot be reached");
    let missing = get("unix:///nonexistent/redis.sock").await;
    says(&missing, ErrorKind::Unavailable, "the server cannot be reached");
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let database = get(&format!("{}/99", server.url())).await;
    let message = "the server does not have the database that REDIS_URL names";
    says(&database, ErrorKind::Config, message);
}

#[tokio::test]
async fn node_of_a_cluster_named_as_a_single_server_is_told_so() {
    let Some(mut cluster) = RedisCluster::start().await.unwrap() else { return };
    let tier = Redis::builder(cluster.nodes()[0].url()).open().unwrap();
    let mut told = Vec::new();
    for n in 0..20 {
        told.extend(tier.get(&key(&n.to_string())).await.err());
    }
    let message = "the server is a node of a cluster, and REDIS_URL names a single server";
    says(&told[0], ErrorKind::Config, message);
    assert!(told[0].help().unwrap().contains("redis+cluster://"));
    // As a cluster, one node is enough.
    let url = cluster.nodes()[0].url().replace("redis://", "redis+cluster://");
    let tier = Redis::builder(url).open().unwrap();
    for n in 0..20 {
        assert_eq!(tier.get(&key(&n.to_string())).await.unwrap(), None);
    }
}

#[tokio::test]
async fn full_memory_is_named_and_reads_go_on() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let (tier, versions, k) = (Redis::builder(server.url()).open().unwrap(), versions(1), key("k"));
    tier.put(&k, entry(&versions, "v")).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let error = tier.put(&k, entry(&versions, "w")).await.unwrap_err();
    says(&error, ErrorKind::Denied, "the server's memory is full, and its policy evicts nothing");
    assert!(error.is_retryable(), "it is tried again once there is room");
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "v");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    tier.put(&k, entry(&versions, "w")).await.unwrap();
}

#[tokio::test]
async fn replica_is_named_and_the_connection_is_made_anew() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let (tier, versions, k) = (Redis::builder(server.url()).open().unwrap(), versions(1), key("k"));
    tier.put(&k, entry(&versions, "v")).await.unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let error = tier.put(&k, entry(&versions, "w")).await.unwrap_err();
    says(&error, ErrorKind::Unavailable, "the server is a replica and takes no writes");
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "v");
    assert_eq!(tier.report().connections, 2);
    server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    tier.put(&k, entry(&versions, "w")).await.unwrap();
}

#[tokio::test]
async fn replica_without_its_primary_is_named() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let (tier, k) = (Redis::builder(server.url()).open().unwrap(), key("k"));
    tier.put(&k, entry(&versions(1), "v")).await.unwrap();
    server.command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let error = tier.get(&k).await.unwrap_err();
    let message = "the replica has lost its primary and does not answer";
    says(&error, ErrorKind::Unavailable, message);
    server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_loads_its_data_is_named_and_waited_for() {
    let (Some(primary), Some(server)) =
        (RedisServer::start().await.unwrap(), RedisServer::start().await.unwrap())
    else {
        return;
    };
    // A replica that is made anew loads what its primary has; so it takes about five seconds.
    let filler = "x".repeat(4096);
    for n in 0..100 {
        primary.command(&["SET", &format!("filler {n}"), &filler]).unwrap();
    }
    for (name, value) in [("key-load-delay", "50000"), ("loading-process-events-interval-bytes", "1024")] {
        server.command(&["CONFIG", "SET", name, value]).unwrap();
    }
    let tier = Redis::builder(server.url()).open().unwrap();
    assert_eq!(tier.get(&key("k")).await.unwrap(), None);
    let port = primary.address().port().to_string();
    server.command(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
    let mut told = None;
    until("the refusal", async || {
        told = tier.get(&key("k")).await.err();
        told.is_some()
    })
    .await;
    says(&told.unwrap(), ErrorKind::Unavailable, "the server is still loading its data");
    until("the end of loading", async || tier.get(&key("k")).await.is_ok()).await;
}

#[tokio::test]
async fn server_that_evicts_makes_misses_and_no_errors() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    server.command(&["CONFIG", "SET", "maxmemory", "8mb"]).unwrap();
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    let (tier, versions) = (Redis::builder(server.url()).open().unwrap(), versions(1));
    let (mut hits, all) = (0, 200);
    for n in 0..all {
        tier.put(&key(&n.to_string()), entry(&versions, vec![7; 100_000])).await.unwrap();
    }
    for n in 0..all {
        hits += u32::from(tier.get(&key(&n.to_string())).await.unwrap().is_some());
    }
    assert!((1..all).contains(&hits), "{hits}");
}

#[tokio::test]
async fn key_of_another_type_is_named() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let (tier, k) = (Redis::builder(server.url()).open().unwrap(), key("k"));
    tier.put(&k, entry(&versions(1), "v")).await.unwrap();
    let name = server.command(&["KEYS", "*"]).unwrap();
    server.command(&["DEL", &name]).unwrap();
    server.command(&["LPUSH", &name, "x"]).unwrap();
    says(
        &tier.get(&k).await.unwrap_err(),
        ErrorKind::Corrupt,
        "a key of this prefix holds another kind of value",
    );
}

#[tokio::test]
async fn damaged_value_is_corrupt_until_the_next_put() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let (tier, k, versions) = (Redis::builder(server.url()).open().unwrap(), key("k"), versions(1));
    let old = entry(&versions, "old");
    tier.put(&k, entry(&versions, "v")).await.unwrap();
    let name = server.command(&["KEYS", "*"]).unwrap();
    // The value is damaged, and the header still claims its version.
    let last = server.command(&["STRLEN", &name]).unwrap().parse::<usize>().unwrap() - 1;
    server.command(&["SETRANGE", &name, &last.to_string(), "x"]).unwrap();
    assert_eq!(tier.get(&k).await.unwrap_err().kind(), ErrorKind::Corrupt);
    // Another process does not know it yet; also an older write replaces what is damaged.
    let other = Redis::builder(server.url()).open().unwrap();
    other.put(&k, old).await.unwrap();
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "old");
}
