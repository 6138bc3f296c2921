//! Whole machines over a real Redis: each fault of the server while they are at work, and many
//! processes that miss one key at once.
#![cfg(all(feature = "memory", feature = "redis"))]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{TryStreamExt as _, stream};
use peercache::backend::redis::RedisBuilder;
use peercache::chain::{BreakerOptions, TierOptions, WriteBehind, WritePolicy};
use peercache::seal::{Sealed, Secret};
use peercache::{Bytes, Cache, Key, Lookup, Memory, Redis, Ttl};
use peercache_testkit::servers::{RedisCluster, RedisSentinel, RedisServer};

/// How the server's tier is called, behind its seal.
const TIER: &str = "sealed(redis)";
/// A lookup may take so long, whatever the server does: the chain's own budget, and a busy machine.
const LONGEST: Duration = Duration::from_secs(3);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Waits until `done` holds.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(90), waiting).await.is_ok(), "this never came: {what}");
}

/// A machine that knows nothing yet. The deadlines are the default ones; it only looks again
/// sooner.
fn machine(url: &str, secret: &Secret) -> Cache {
    machine_over(Redis::builder(url).open().unwrap(), secret)
}

fn machine_over(shared: Redis, secret: &Secret) -> Cache {
    let soon = Duration::from_secs(1);
    let breaker = BreakerOptions { max_backoff: soon, ..BreakerOptions::default() };
    let options = TierOptions { breaker, ..TierOptions::default() };
    let behind = WriteBehind { max_backoff: soon, ..WriteBehind::default() };
    Cache::builder()
        .tier(Memory::with_capacity(1 << 24))
        .tier_with(Sealed::new(secret.clone(), shared), options)
        .write_behind(behind)
        .build()
        .unwrap()
}

async fn put(cache: &Cache, name: &str, value: &str) {
    let outcome = cache.put_bytes(&key(name), value.to_owned(), Ttl::from_secs(600)).await.unwrap();
    assert!(outcome.is_stored(), "{outcome:?}");
}

async fn found(cache: &Cache, name: &str) -> (Lookup, Duration) {
    let began = Instant::now();
    let lookup = cache.lookup(&key(name)).await;
    (lookup, began.elapsed())
}

/// What a machine goes through while the server has a fault: it answers from what it has, in time,
/// and delivers what it wrote once the fault is over. `kept`: whether the server still has what was
/// written before.
async fn outlives(
    server: &mut RedisServer,
    what: &str,
    fault: impl AsyncFnOnce(&mut RedisServer),
    mend: impl AsyncFnOnce(&mut RedisServer),
) {
    let secret = Secret::generate().unwrap();
    let (one, other) = (machine(&server.url(), &secret), machine(&server.url(), &secret));
    put(&one, "before", "v").await;
    until("what was written before", async || found(&other, "before").await.0.entry.is_some()).await;
    assert_eq!(found(&other, "before").await.0.tier.as_deref(), Some("memory"), "it was promoted");

    fault(server).await;
    for n in 0..5 {
        let (lookup, took) = found(&one, "before").await;
        assert_eq!(lookup.tier.as_deref(), Some("memory"), "{what}: {lookup:?}");
        assert!(took < LONGEST, "{what}: {took:?}");
        let (lookup, took) = found(&one, &format!("absent {n}")).await;
        assert!(lookup.entry.is_none() && took < LONGEST, "{what}: {took:?} {lookup:?}");
        let began = Instant::now();
        put(&one, &format!("during {n}"), "w").await;
        assert!(began.elapsed() < LONGEST, "{what}: {:?}", began.elapsed());
    }

    mend(server).await;
    // Not a word to the machine: it finds out by itself.
    for n in 0..5 {
        let name = format!("during {n}");
        until(&format!("{what}: {name}"), async || {
            found(&other, &name).await.0.tier.as_deref() == Some(TIER)
                || found(&other, &name).await.0.entry.is_some()
        })
        .await;
    }
    one.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chain_outlives_every_fault_of_its_server_and_takes_it_back() {
    let Some(mut server) = RedisServer::start().await.unwrap() else { return };
    let command = |words: &'static [&'static str]| {
        async move |server: &mut RedisServer| drop(server.command(words).unwrap())
    };
    outlives(&mut server, "killed", async |s| s.kill(), async |s| s.restart().await.unwrap()).await;
    outlives(&mut server, "paused", async |s| s.pause().unwrap(), async |s| s.resume().unwrap()).await;
    outlives(
        &mut server,
        "full",
        command(&["CONFIG", "SET", "maxmemory", "1"]),
        command(&["CONFIG", "SET", "maxmemory", "0"]),
    )
    .await;
    outlives(&mut server, "flushed", command(&["FLUSHALL"]), async |_| {}).await;
    outlives(
        &mut server,
        "password",
        async |server| {
            server.command(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
            server.command_with_password("secret", &["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
            server.command_with_password("secret", &["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
        },
        async |server| {
            server.command_with_password("secret", &["CONFIG", "SET", "requirepass", ""]).unwrap();
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chain_outlives_a_failover() {
    let Some(mut servers) = RedisSentinel::start().await.unwrap() else { return };
    let secret = Secret::generate().unwrap();
    let (one, other) = (machine(&servers.url(), &secret), machine(&servers.url(), &secret));
    put(&one, "before", "v").await;
    until("what was written before", async || found(&other, "before").await.0.entry.is_some()).await;
    servers.first_primary().kill();
    put(&one, "during", "w").await;
    until("what was written meanwhile", async || found(&other, "during").await.0.entry.is_some()).await;
}

/// The day of three machines that share what `builder` leads to.
async fn machines_share(builder: RedisBuilder) {
    let secret = Secret::generate().unwrap();
    let machines: Vec<_> = (0..3).map(|_| machine_over(builder.clone().open().unwrap(), &secret)).collect();
    let [one, two, three] = &machines[..] else { panic!("three were made") };
    put(one, "k", "v").await;
    until("the value", async || found(two, "k").await.0.entry.is_some()).await;
    until("its promotion", async || found(two, "k").await.0.tier.as_deref() == Some("memory")).await;
    // Replaced by another machine, and found by one that has just come.
    put(two, "k", "newer").await;
    // A machine that read before the write was delivered would keep the older value for its time.
    two.settle().await;
    until("the newer value", async || {
        found(three, "k").await.0.entry.is_some_and(|entry| entry.value() == "newer")
    })
    .await;
    // Removed: also from memories.
    one.remove(&key("k")).await;
    for machine in &machines {
        until("the removal", async || found(machine, "k").await.0.entry.is_none()).await;
    }
    // Large values are chunks, and each is an entry.
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let source = stream::iter([Ok::<_, std::io::Error>(Bytes::from(large.clone()))]);
    one.put_stream(&key("large"), source, Ttl::from_secs(600)).await.unwrap();
    until("the large value", async || {
        let Some(found) = three.get_stream(&key("large")).await else { return false };
        found.into_stream().try_collect::<Vec<Bytes>>().await.is_ok_and(|parts| parts.concat() == large)
    })
    .await;
    // All miss at once: one loads.
    let loads = AtomicU64::new(0);
    let load = async |cache: &Cache| {
        let loaded: String = cache
            .get_or_fetch("missing", Ttl::from_secs(600), async || {
                loads.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(200)).await;
                Ok::<_, std::io::Error>("loaded".to_owned())
            })
            .await
            .unwrap();
        assert_eq!(loaded, "loaded");
    };
    futures_util::future::join3(load(one), load(two), load(three)).await;
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    for machine in machines {
        machine.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_share_one_server_over_tcp_and_a_unix_socket() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    machines_share(Redis::builder(server.url())).await;
    machines_share(Redis::builder(format!("{}?db=3", server.socket_url())).prefix("socket")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_share_a_server_over_tls() {
    let Some(server) = RedisServer::start_with_tls().await.unwrap() else { return };
    let root = server.root_certificate().unwrap();
    machines_share(Redis::builder(server.tls_url()).root_certificate(root)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_share_a_server_as_a_user_with_few_permissions() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    // As docs/how-to/redis.md says it.
    let words = "ACL SETUSER ci on >hush resetkeys resetchannels -@all ~peercache:* &peercache:* \
        +get +set +del +getrange +exists +strlen +pttl +eval +evalsha +publish +subscribe +hello +ping";
    server.command(&words.split_whitespace().collect::<Vec<_>>()).unwrap();
    machines_share(Redis::builder(server.url_with_login("ci", "hush"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_share_a_cluster_of_three() {
    let Some(cluster) = RedisCluster::start().await.unwrap() else { return };
    machines_share(Redis::builder(cluster.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_on_one_machine_is_gone_from_the_memory_of_another_within_50_ms() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let secret = Secret::generate().unwrap();
    let (one, other) = (machine(&server.url(), &secret), machine(&server.url(), &secret));
    let mut times = Vec::new();
    for n in 0..21 {
        let name = format!("k{n}");
        put(&one, &name, "v").await;
        until("the value", async || found(&other, &name).await.0.tier.as_deref() == Some("memory")).await;
        let began = Instant::now();
        one.remove(&key(&name)).await;
        while found(&other, &name).await.0.entry.is_some() {
            assert!(began.elapsed() < LONGEST, "the removal never came");
            tokio::task::yield_now().await;
        }
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!("21 removals, seen by the other machine after p50 {:?}, at most {:?}", times[10], times[20]);
    // A machine that is busy may hold up one of them.
    assert!(times[10] < Duration::from_millis(50), "{times:?}");
}

/// The variables of a child process of [`twenty_processes_load_a_missing_key_once`].
const CHILD: [&str; 2] = ["PEERCACHE_TEST_CHILD_URL", "PEERCACHE_TEST_CHILD_SECRET"];

/// Not a test by itself: what each of the processes does.
#[tokio::test]
async fn child_process() {
    let (Ok(url), Ok(secret)) = (std::env::var(CHILD[0]), std::env::var(CHILD[1])) else { return };
    let shared = Redis::builder(url).open().unwrap();
    let cache = Cache::builder()
        .tier(Sealed::new(Secret::parse(&secret).unwrap(), shared))
        .write_policy(WritePolicy::All)
        .build()
        .unwrap();
    let loaded = std::cell::Cell::new(false);
    let value: String = cache
        .get_or_fetch("missing", Ttl::from_secs(600), async || {
            loaded.set(true);
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok::<_, std::io::Error>("value".to_owned())
        })
        .await
        .unwrap();
    println!("child: {} {value}", if loaded.get() { "loaded" } else { "found" });
    cache.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_processes_load_a_missing_key_once() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let secret = Secret::generate().unwrap().to_text().to_string();
    let children: Vec<_> = (0..20)
        .map(|_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "child_process", "--nocapture"]);
            command.env(CHILD[0], server.url()).env(CHILD[1], &secret);
            command.stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut loads = 0;
    for child in children {
        let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(" value"), "{text}");
        loads += usize::from(text.contains("child: loaded"));
    }
    assert_eq!(loads, 1);
}
