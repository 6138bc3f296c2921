//! Several real nodes in a private swarm: what is written at one is at the others.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use peercache_api::CacheBackend as _;
use peercache_ipfs::Ipfs;
use peercache_seal::{Sealed, Secret};
use peercache_testkit::servers::{Kubo, KuboOptions};
use support::{FOR_EVER, Writer, add, builder, files_of, key, noise, rpc, until, until_or, value};

/// A swarm key of this test's own.
fn swarm() -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&u64::from(std::process::id()).to_be_bytes());
    key[8..16].copy_from_slice(&peercache_api::NodeId::random().as_u64().to_be_bytes());
    key
}

async fn start(key: [u8; 32]) -> Option<Kubo> {
    Kubo::start(KuboOptions::swarm(key)).await.unwrap()
}

fn tier(node: &Kubo, secret: &Secret) -> Arc<Ipfs> {
    let secret = secret.clone();
    let tier = builder(node, "sync").sync(move |inner| Arc::new(Sealed::new(secret.clone(), inner)));
    Arc::new(tier.open().unwrap())
}

async fn peer_id(node: &Kubo) -> String {
    let identity: serde_json::Value = serde_json::from_str(&rpc(node, "id").await).unwrap();
    identity["ID"].as_str().unwrap().to_owned()
}

/// Connects two nodes, as whoever runs them would set up once.
async fn connect(one: &Kubo, other: &Kubo) {
    let address = format!("{}/p2p/{}", other.swarm_address(), peer_id(other).await);
    let answer = rpc(one, &format!("swarm/connect?arg={address}&timeout=5s")).await;
    assert!(answer.contains("success"), "{answer}");
}

async fn root(node: &Kubo) -> String {
    let stat: serde_json::Value =
        serde_json::from_str(&rpc(node, "files/stat?arg=/sync/entries").await).unwrap();
    stat["Hash"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the roots of the nodes are equal. Says what the tiers did if they never are.
async fn until_equal(nodes: &[&Kubo], tiers: &[&Arc<Ipfs>]) {
    let mut roots = Vec::new();
    let equal = until_or(async || {
        // Asking for a root costs the node something.
        tokio::time::sleep(Duration::from_millis(100)).await;
        roots.clear();
        for node in nodes {
            roots.push(root(node).await);
        }
        roots.iter().all(|one| *one == roots[0])
    });
    if !equal.await {
        let reports: Vec<_> = tiers.iter().map(|tier| tier.report()).collect();
        panic!("the roots differ: {roots:?}: {reports:#?}");
    }
}

/// Waits until each of the tiers hears the others, so that a test measures what it says.
async fn acquainted(tiers: &[&Arc<Ipfs>]) {
    let writer = Writer::new(u64::MAX);
    for (index, from) in tiers.iter().enumerate() {
        let name = key(&format!("hello {index}"));
        from.put(&name, writer.entry("hello")).await.unwrap();
        for to in tiers {
            until("the first entry of another node", async || value(to, &name).await.is_some()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn put_overwrite_and_removal_reach_the_other_node() {
    let network = swarm();
    let (Some(a), Some(b)) = (start(network).await, start(network).await) else { return };
    connect(&a, &b).await;
    let secret = Secret::generate().unwrap();
    let (one, two) = (tier(&a, &secret), tier(&b, &secret));
    acquainted(&[&one, &two]).await;

    let writer = Writer::new(1);
    let mut times = Vec::new();
    for number in 0..40_u64 {
        let (name, bytes) = (key(&format!("put {number}")), noise(number, 4096));
        one.put(&name, writer.entry(bytes.clone())).await.unwrap();
        let began = Instant::now();
        until("an entry of another node", async || value(&two, &name).await.as_ref() == Some(&bytes)).await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!("visible on the other node after p50 {:?}, p95 {:?}", times[20], times[38]);

    let name = key("put 0");
    one.put(&name, writer.entry("newer")).await.unwrap();
    until("an overwrite", async || value(&two, &name).await.as_deref() == Some(b"newer")).await;
    // The older one is removed here too, once the newer one is linked.
    until("one file", async || files_of(&b, "sync", &name).await == 1).await;
    two.put(&name, Writer::new(2).entry("from the other side")).await.unwrap();
    until("an overwrite of the other side", async || {
        value(&one, &name).await.as_deref() == Some(b"from the other side")
    })
    .await;
    one.put(&name, writer.tombstone()).await.unwrap();
    until("a removal", async || two.get(&name).await.unwrap().is_some_and(|entry| entry.is_tombstone()))
        .await;
    let large = noise(7, 2 * 1024 * 1024 + 5);
    one.put(&key("large"), writer.entry(large.clone())).await.unwrap();
    until("a value of several blocks", async || value(&two, &key("large")).await.as_ref() == Some(&large))
        .await;
    until_equal(&[&a, &b], &[&one, &two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn node_that_missed_updates_is_equal_soon_and_one_that_is_lost_holds_nobody_up() {
    let network = swarm();
    let (Some(a), Some(mut b), Some(c)) = (start(network).await, start(network).await, start(network).await)
    else {
        return;
    };
    connect(&a, &b).await;
    connect(&a, &c).await;
    connect(&b, &c).await;
    let secret = Secret::generate().unwrap();
    let (one, two, three) = (tier(&a, &secret), tier(&b, &secret), tier(&c, &secret));
    acquainted(&[&one, &two, &three]).await;

    b.kill();
    let writer = Writer::new(1);
    for number in 0..250_u64 {
        let to = if number.is_multiple_of(2) { &one } else { &three };
        to.put(&key(&format!("missed {number}")), writer.entry(noise(number, 2048))).await.unwrap();
    }
    one.put(&key("hello 0"), writer.tombstone()).await.unwrap();
    b.restart().await.unwrap();
    let began = Instant::now();
    until_equal(&[&a, &b, &c], &[&one, &two, &three]).await;
    let took = began.elapsed();
    println!("250 missed updates: equal after {took:?}, {:?}", two.report().sync);
    assert_eq!(value(&two, &key("missed 249")).await, Some(noise(249, 2048)));
    assert!(two.get(&key("hello 0")).await.unwrap().unwrap().is_tombstone());

    // Lost for good, in the middle of a burst that it had announced.
    for number in 0..20_u64 {
        one.put(&key(&format!("last {number}")), writer.entry(noise(number, 100_000))).await.unwrap();
    }
    drop(a);
    assert!(one.get(&key("last 1")).await.is_err());
    let began = Instant::now();
    for number in 0..20 {
        let name = key(&format!("after {number}"));
        two.put(&name, writer.entry("still here")).await.unwrap();
        until("an entry of the node that is left", async || value(&three, &name).await.is_some()).await;
    }
    println!("20 puts after a node was lost: {:?}", began.elapsed());
    for node in [&b, &c] {
        let answer = tokio::time::timeout(FOR_EVER, rpc(node, "files/stat?arg=/")).await.unwrap();
        assert!(answer.contains("Hash"), "{answer}");
    }
    until_equal(&[&b, &c], &[&two, &three]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stranger_in_the_swarm_makes_a_node_fetch_and_link_nothing() {
    let network = swarm();
    let (Some(a), Some(b)) = (start(network).await, start(network).await) else { return };
    connect(&a, &b).await;
    let ours = tier(&a, &Secret::generate().unwrap());
    // It has a secret of its own and the same prefix, so it speaks the language.
    let theirs = tier(&b, &Secret::generate().unwrap());
    let writer = Writer::new(3);
    ours.put(&key("ours"), writer.entry("ours")).await.unwrap();
    theirs.put(&key("theirs"), writer.entry("theirs")).await.unwrap();
    // And it says in clear what it would have linked.
    let bait = add(&b, "pin=true&raw-leaves=true", noise(5, 5000)).await;
    until("messages of a stranger on both sides", async || {
        let text = format!("peercache-ipfs 1\nL ab/cd/x {bait}\nR {}\n", root(&b).await);
        publish(&b, &text).await;
        let foreign = |tier: &Ipfs| tier.report().sync.unwrap().foreign;
        foreign(&ours) >= 5 && foreign(&theirs) >= 2
    })
    .await;
    let sync = ours.report().sync.unwrap();
    assert_eq!((sync.received, sync.adopted, sync.walks, sync.failed), (0, 0, 0, 0), "{sync:?}");
    assert_eq!(value(&ours, &key("theirs")).await, None);
    assert!(!rpc(&a, &format!("block/stat?arg={bait}&offline=true")).await.contains("Size"));
}

/// Publishes text on the tier's topic, as anybody in the swarm can.
async fn publish(node: &Kubo, text: &str) {
    let url = format!("http://{}/api/v0/pubsub/pub?arg=ucGVlcmNhY2hlL3N5bmMvMQ", node.address());
    let body = format!(
        "--x\r\nContent-Disposition: form-data; name=\"data\"; filename=\"d\"\r\n\r\n{text}\r\n--x--\r\n"
    );
    let request = support::client().post(url);
    request.header("content-type", "multipart/form-data; boundary=x").body(body).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_without_pubsub_is_named_and_serves_alone() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let tier = tier(&node, &Secret::generate().unwrap());
    tier.put(&key("k"), Writer::new(1).entry("v")).await.unwrap();
    until("a report", async || tier.report().sync_error.is_some()).await;
    let error = tier.report().sync_error.unwrap();
    assert!(error.contains("IPFS_SYNC"), "{error}");
    assert_eq!(value(&tier, &key("k")).await.as_deref(), Some(&b"v"[..]));
    let closing = Instant::now();
    tier.close().await.unwrap();
    assert!(closing.elapsed() < Duration::from_secs(5));
}
