//! The server goes away and comes back, in each way that servers do.

use std::time::{Duration, Instant};

use peercache_api::{CacheBackend, ErrorKind};
use peercache_redis::Redis;
use peercache_testkit::servers::{RedisSentinel, RedisServer};

use crate::{entry, key, until, versions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_server_fails_calls_at_once_and_is_used_again_when_it_is_back() {
    let Some(mut server) = RedisServer::start().await.unwrap() else { return };
    let (tier, versions, k) = (Redis::builder(server.url()).open().unwrap(), versions(1), key("k"));
    tier.put(&k, entry(&versions, "v")).await.unwrap();
    server.kill();
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(tier.get(&k).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    server.restart().await.unwrap();
    until("the connection", async || tier.probe().await.is_ok()).await;
    assert_eq!(tier.get(&k).await.unwrap(), None, "the server was restarted empty");
    // The script is sent again, and what was remembered does not keep the write out.
    tier.put(&k, entry(&versions, "w")).await.unwrap();
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "w");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_server_ends_calls_at_the_deadline_and_is_used_again() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let deadline = Duration::from_millis(500);
    let tier = Redis::builder(server.url()).request_timeout(deadline).open().unwrap();
    let (versions, k) = (versions(1), key("k"));
    tier.put(&k, entry(&versions, "v")).await.unwrap();
    server.pause().unwrap();
    // Longer than a connection may be stalled, so that it is also replaced.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        let asked = Instant::now();
        let error = tier.get(&k).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
        assert!(asked.elapsed() < deadline * 3, "{:?}", asked.elapsed());
    }
    server.resume().unwrap();
    until("an answer", async || tier.probe().await.is_ok()).await;
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "v");
    assert!(tier.report().stalled_connections >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn password_that_is_set_while_running_is_named_and_ends_with_it() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let (tier, versions, k) = (Redis::builder(server.url()).open().unwrap(), versions(1), key("k"));
    tier.put(&k, entry(&versions, "v")).await.unwrap();
    server.command(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
    server.command_with_password("secret", &["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    server.command_with_password("secret", &["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
    until("the refusal", async || {
        tier.get(&k).await.is_err_and(|error| error.message() == "the server asks for a password")
    })
    .await;
    server.command_with_password("secret", &["CONFIG", "SET", "requirepass", ""]).unwrap();
    until("an answer", async || tier.get(&k).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_server_is_empty_and_takes_writes() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let (tier, versions, k) = (Redis::builder(server.url()).open().unwrap(), versions(1), key("k"));
    let kept = entry(&versions, "v");
    tier.put(&k, kept.clone()).await.unwrap();
    server.command(&["FLUSHALL"]).unwrap();
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(tier.get(&k).await.unwrap(), None);
    tier.put(&k, kept.clone()).await.unwrap();
    assert_eq!(tier.get(&k).await.unwrap(), Some(kept));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_moves_the_tier_to_the_promoted_replica() {
    let Some(mut servers) = RedisSentinel::start().await.unwrap() else { return };
    let (tier, versions, k) = (Redis::builder(servers.url()).open().unwrap(), versions(1), key("k"));
    tier.put(&k, entry(&versions, "before")).await.unwrap();
    until("the replica's copy", async || {
        servers.first_replica().command(&["DBSIZE"]).is_ok_and(|size| size == "1")
    })
    .await;
    servers.first_primary().kill();
    let after = entry(&versions, "after");
    let began = Instant::now();
    until("a write to the new primary", async || tier.put(&k, after.clone()).await.is_ok()).await;
    println!("writes go on after {:?}", began.elapsed());
    assert_eq!(tier.get(&k).await.unwrap(), Some(after));
    assert!(servers.first_replica().command(&["INFO", "replication"]).unwrap().contains("role:master"));
}
