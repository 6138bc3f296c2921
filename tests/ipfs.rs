//! A cache with a real Kubo node below its memory: a node that dies and comes back, one that fails
//! at random, and several that share.
#![cfg(all(feature = "memory", feature = "ipfs"))]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use peercache::chain::{BreakerOptions, Outcome, Skip, TierOptions, WriteBehind};
use peercache::report::TierReport;
use peercache::seal::{Sealed, Secret};
use peercache::{By, Cache, CacheBackend, Config, ErrorKind, Ipfs, Key, Memory, Ttl};
use peercache_testkit::chaos::{Chaos, Plan};
use peercache_testkit::servers::{Kubo, KuboOptions};

const TTL: Ttl = Ttl::from_secs(600);

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    })
    .take(bytes)
    .collect()
}

/// Waits until `done` holds.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(120), waiting).await.is_ok(), "this never came: {what}");
}

/// A machine that shares a node: a memory of its own, and the node below it.
struct Machine {
    cache: Cache,
    tier: &'static str,
}

impl Machine {
    fn new(node: &Kubo, prefix: &str, secret: Option<&Secret>) -> Self {
        let ipfs = Ipfs::builder(node.api()).prefix(prefix).allow_private(true).open().unwrap();
        Self::over(Arc::new(ipfs), secret, |backend| backend)
    }

    /// A machine whose node is wrapped: by a seal if there is a secret, and by what `wrap` makes of
    /// it.
    fn over(
        ipfs: Arc<Ipfs>,
        secret: Option<&Secret>,
        wrap: impl FnOnce(Arc<dyn CacheBackend>) -> Arc<dyn CacheBackend>,
    ) -> Self {
        let soon = Duration::from_secs(1);
        let breaker = BreakerOptions { max_backoff: soon, ..BreakerOptions::default() };
        let options = TierOptions { breaker, ..TierOptions::default() };
        let (tier, backend) = match secret {
            Some(secret) => (
                "sealed(ipfs)",
                Arc::new(Sealed::new(secret.clone(), Arc::clone(&ipfs))) as Arc<dyn CacheBackend>,
            ),
            None => ("ipfs", Arc::clone(&ipfs) as Arc<dyn CacheBackend>),
        };
        let cache = Cache::builder()
            .tier(Memory::with_capacity(1 << 24))
            .tier_with(wrap(backend), options)
            .write_behind(WriteBehind { max_backoff: soon, ..WriteBehind::default() })
            .ipfs(ipfs)
            .build()
            .unwrap();
        Self { cache, tier }
    }

    fn report(&self) -> TierReport {
        self.cache.report().chain.tiers.into_iter().find(|tier| tier.name == self.tier).unwrap()
    }

    async fn put(&self, name: &str, value: Vec<u8>) {
        self.cache.put_bytes(&key(name), value, TTL).await.unwrap();
    }

    async fn delivered(&self) {
        until("the delivery of what waits", async || self.report().queue.unwrap().waiting == 0).await;
    }

    /// What the node has under a name, once it answers.
    async fn find_on_node(&self, name: &str) -> Vec<u8> {
        let mut value = Vec::new();
        until("an answer of the node", async || {
            let lookup = self.cache.lookup(&key(name)).await;
            let found = lookup.tier.as_deref() == Some(self.tier);
            value = lookup.hit().filter(|_| found).map(|entry| entry.value().to_vec()).unwrap_or_default();
            found
        })
        .await;
        value
    }
}

/// The story of a node that dies while a machine is at work.
async fn outlives_its_node(secret: Option<Secret>) {
    let Some(mut node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let secret = secret.as_ref();
    let other = Machine::new(&node, "life", secret);
    for name in ["kept", "seen", "replaced", "removed"] {
        other.put(name, noise(1, 40_000)).await;
    }
    other.delivered().await;
    let machine = Machine::new(&node, "life", secret);
    assert_eq!(machine.find_on_node("seen").await, noise(1, 40_000));

    node.kill();
    let lookup = machine.cache.lookup(&key("seen")).await;
    assert_eq!((lookup.outcome, lookup.tier.as_deref()), (Outcome::Hit, Some("memory")));
    let lookup = machine.cache.lookup(&key("kept")).await;
    assert_eq!(lookup.outcome, Outcome::Miss);
    let skip = lookup.trace.iter().find(|trace| trace.tier == machine.tier).map(|trace| trace.skip.clone());
    assert!(matches!(&skip, Some(Skip::Failed(error)) if error.kind() == ErrorKind::Unavailable), "{skip:?}");
    until("an open breaker", async || {
        let _warm = machine.cache.lookup(&key("kept")).await;
        machine.report().breaker.state != "closed"
    })
    .await;
    machine.put("replaced", noise(2, 40_000)).await;
    machine.cache.remove(&key("removed")).await;
    assert_eq!(machine.cache.get_bytes(&key("replaced")).await.unwrap(), noise(2, 40_000));
    let report = machine.report();
    assert!(report.queue.as_ref().unwrap().waiting > 0, "{report:?}");
    let told = [report.last_error.clone(), report.breaker.last_cause.clone()];
    assert!(told.iter().flatten().any(|text| text.contains("the IPFS node does not answer")), "{report:?}");

    node.restart().await.unwrap();
    // Nobody asks for anything, and yet everything arrives.
    machine.delivered().await;
    assert_eq!(machine.find_on_node("kept").await, noise(1, 40_000));
    assert_eq!(machine.report().breaker.state, "closed");
    let late = Machine::new(&node, "life", secret);
    assert_eq!(late.find_on_node("replaced").await, noise(2, 40_000));
    until("the removal", async || {
        let lookup = late.cache.lookup(&key("removed")).await;
        assert!(lookup.entry.is_none(), "{lookup:?}");
        lookup.trace.iter().any(|trace| matches!(trace.skip, Skip::Removed))
    })
    .await;
    assert!(late.cache.report().backends["ipfs"]["counts"]["hits"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chain_outlives_its_node_and_takes_it_back() {
    outlives_its_node(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chain_outlives_its_sealed_node_and_takes_it_back() {
    outlives_its_node(Some(Secret::generate().unwrap())).await;
}

/// A node that fails, stalls and lies as a seed says: no error to a caller, and no wrong byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chain_over_a_node_on_a_bad_day_gives_no_error_and_no_wrong_byte() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let secret = Secret::generate().unwrap();
    for seed in 0..8_u64 {
        let prefix = format!("chaos{seed}");
        let machine = |flaky: bool| {
            let ipfs = Ipfs::builder(node.api()).prefix(&prefix).allow_private(true).open().unwrap();
            Machine::over(Arc::new(ipfs), Some(&secret), |backend| match flaky {
                true => Arc::new(Chaos::new(backend, seed, Plan::flaky())),
                false => backend,
            })
        };
        let (one, two) = (machine(true), machine(true));
        for round in 0..30_u64 {
            let name = format!("k{}", round % 7);
            let value = noise(round, 500);
            one.put(&name, value.clone()).await;
            let own = one.cache.get_bytes(&key(&name)).await;
            assert_eq!(own.as_deref(), Some(&value[..]), "seed {seed}, round {round}");
            // Whatever the other one finds was written under this key, and whole.
            if let Some(found) = two.cache.get_bytes(&key(&name)).await {
                let written = (0..=round).filter(|made| made % 7 == round % 7);
                assert!(
                    written.into_iter().any(|made| noise(made, 500) == found),
                    "seed {seed}, round {round}"
                );
            }
            if round % 10 == 9 {
                one.cache.remove(&key(&name)).await;
                assert_eq!(one.cache.get_bytes(&key(&name)).await, None, "seed {seed}, round {round}");
            }
        }
        one.delivered().await;
        let third = machine(false);
        for round in 23..29_u64 {
            let name = format!("k{}", round % 7);
            if let Some(found) = third.cache.get_bytes(&key(&name)).await {
                assert!((0..30).any(|made| made % 7 == round % 7 && noise(made, 500) == found));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invalidate_all_on_one_node_reaches_the_caches_of_another() {
    let mut swarm = [7; 32];
    swarm[..4].copy_from_slice(&std::process::id().to_be_bytes());
    let start = async || Kubo::start(KuboOptions::swarm(swarm)).await.unwrap();
    let (Some(a), Some(b)) = (start().await, start().await) else { return };
    rustls_provider();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let rpc = async |node: &Kubo, call: String| {
        client
            .post(format!("http://{}/api/v0/{call}", node.address()))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    };
    let identity: serde_json::Value = serde_json::from_str(&rpc(&b, "id".to_owned()).await).unwrap();
    let address = format!("{}/p2p/{}", b.swarm_address(), identity["ID"].as_str().unwrap());
    let connected = rpc(&a, format!("swarm/connect?arg={address}&timeout=5s")).await;
    assert!(connected.contains("success"), "{connected}");

    let secret = Secret::generate().unwrap();
    let machine = |node: &Kubo| {
        let shared = secret.clone();
        let ipfs = Ipfs::builder(node.api())
            .prefix("all")
            .allow_private(true)
            .sync(move |inner| Arc::new(Sealed::new(shared.clone(), inner)));
        Machine::over(Arc::new(ipfs.open().unwrap()), Some(&secret), |backend| backend)
    };
    let (one, two) = (machine(&a), machine(&b));
    for name in ["x", "y"] {
        one.put(name, noise(1, 2000)).await;
    }
    for name in ["x", "y"] {
        assert_eq!(two.find_on_node(name).await, noise(1, 2000));
    }
    one.cache.invalidate(By::All).await.unwrap();
    one.delivered().await;
    until("the invalidation on the other node", async || {
        // A cache that has just been opened, so that nothing that it remembers is in the way.
        let late = machine(&b);
        late.cache.lookup(&key("x")).await.entry.is_none()
            && late.cache.lookup(&key("y")).await.entry.is_none()
    })
    .await;
    // What is written after it is there again, on both.
    two.put("x", noise(2, 2000)).await;
    two.delivered().await;
    until("a write after the invalidation", async || {
        one.cache.get_bytes(&key("x")).await.as_deref() == Some(&noise(2, 2000)[..])
    })
    .await;
}

fn rustls_provider() {
    // Another test of this process may be faster, which is as good.
    let _either = rustls::crypto::ring::default_provider().install_default();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_open_the_tier_and_name_the_one_at_fault() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let secret = Secret::generate().unwrap().to_text().to_string();
    let with = |more: &'static [(&'static str, &'static str)]| {
        let (api, secret) = (node.api(), secret.clone());
        Config::from_vars("peercache", move |name| {
            let given = more.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            given.or_else(|| match name {
                "CACHE_BACKEND" => Some("memory,ipfs".to_owned()),
                "CACHE_CONFIG" => Some("none".to_owned()),
                "IPFS_API" => Some(api.clone()),
                "IPFS_ALLOW_PRIVATE" => Some("true".to_owned()),
                "CACHE_SECRET" => Some(secret.clone()),
                _ => None,
            })
        })
    };
    let cache = with(&[("IPFS_PREFIX", "settings")]).unwrap().open().await.unwrap();
    cache.put_bytes(&key("k"), "v", TTL).await.unwrap();
    cache.close().await.unwrap();
    let again = with(&[("IPFS_PREFIX", "settings")]).unwrap().open().await.unwrap();
    let lookup = again.lookup(&key("k")).await;
    assert_eq!(lookup.tier.as_deref(), Some("sealed(ipfs)"), "{lookup:?}");

    for (more, variable) in [
        (&[("IPFS_API", "127.0.0.1:5001")][..], "IPFS_API"),
        (&[("IPFS_API_AUTH", "hush")][..], "IPFS_API_AUTH"),
        (&[("IPFS_PREFIX", "a b")][..], "IPFS_PREFIX"),
        (&[("IPFS_SYNC", "gossip")][..], "IPFS_SYNC"),
        (&[("IPFS_MAX_BYTES", "1KiB")][..], "IPFS_MAX_BYTES"),
        (&[("CACHE_SECRET", "")][..], "CACHE_SECRET"),
    ] {
        let error = match with(more) {
            Ok(config) => config.open().await.map(drop).unwrap_err(),
            Err(error) => error,
        }
        .to_string();
        assert!(error.contains(variable) && !error.contains("hush"), "{variable}: {error}");
    }
}
