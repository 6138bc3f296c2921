//! The IPFS tier beside the same calls of the RPC made directly, on the same Kubo node, taking
//! turns; and how a lookup's time depends on how many entries there are.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

use std::time::{Duration, Instant};

use peercache_api::{CacheBackend as _, Clock as _, Entry, Key, NodeId, SystemClock, VersionClock};
use peercache_ipfs::{Ipfs, IpfsClientKind};
use peercache_testkit::servers::{Kubo, KuboOptions};

/// What every value has.
const BYTES: usize = 4096;
/// At most this many times the direct calls, at p50.
const BAR: f64 = 1.2;

/// The calls, made directly over a client that keeps its connections.
struct Direct {
    client: reqwest::Client,
    base: String,
}

impl Direct {
    async fn call(&self, path: &str, body: Option<Vec<u8>>) -> Vec<u8> {
        let mut request = self.client.post(format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.header("content-type", "multipart/form-data; boundary=x7b0").body(body);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status() == 200 || path.starts_with("files/ls"), "{path}");
        answer.bytes().await.unwrap().to_vec()
    }

    async fn put(&self, path: &str, value: &[u8]) {
        let mut body = b"--x7b0\r\nContent-Disposition: form-data; name=\"data\"; filename=\"d\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n"
            .to_vec();
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n--x7b0--\r\n");
        let stored = self.call("block/put?cid-codec=raw&pin=false", Some(body)).await;
        let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
        let cid = stored["Key"].as_str().unwrap();
        self.call(&format!("files/cp?arg=/ipfs/{cid}&arg={path}&parents=true&offline=true"), None).await;
    }

    async fn get(&self, path: &str) -> Option<usize> {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let listed = self.call(&format!("files/ls?arg={folder}&long=true&U=true"), None).await;
        let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
        let entry = listed["Entries"].as_array()?.iter().find(|entry| entry["Name"] == name)?.clone();
        let cid = entry["Hash"].as_str().unwrap();
        Some(self.call(&format!("block/get?arg={cid}&offline=true"), None).await.len())
    }
}

fn value(seed: usize) -> Vec<u8> {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(BYTES + 8);
    while bytes.len() < BYTES {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(BYTES);
    bytes
}

/// Where the direct calls put what the tier would put under a key.
fn path(key: &Key) -> String {
    let digits: String = key.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    let rest = format!("{}.{:040x}.{:012x}.{:016x}.0001", &digits[4..], 7, 7, 7);
    format!("/direct/entries/{}/{}/{rest}", &digits[..2], &digits[2..4])
}

#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn part(&mut self, part: f64) -> f64 {
        self.0.sort_unstable();
        let index = ((self.0.len() - 1) as f64 * part) as usize;
        self.0[index].as_secs_f64() * 1000.0
    }
}

struct Maker {
    versions: VersionClock,
    clock: SystemClock,
}

impl Maker {
    fn entry(&self, seed: usize) -> Entry {
        let now = self.clock.now();
        let entry = Entry::builder(value(seed), self.versions.next(now), now);
        entry.fresh_for(Duration::from_secs(36_000)).build().unwrap()
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (rounds, entries) = if quick { (200, 1_000) } else { (1_000, 10_000) };
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let direct = Direct {
        client: reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap(),
        base: format!("http://{}/api/v0/", node.address()),
    };
    let open = |prefix: &str, client| {
        let tier = Ipfs::builder(node.api()).prefix(prefix).allow_private(true).client(client);
        tier.maintenance(false).open().unwrap()
    };
    let kept = open("kept", IpfsClientKind::KeepAlive);
    let each = open("each", IpfsClientKind::PerCall);
    let maker = Maker { versions: VersionClock::new(NodeId::from_u64(1)), clock: SystemClock::new() };
    println!("Kubo 0.43.1 with go-libp2p 0.50.0, values of {BYTES} bytes, {rounds} rounds, one at a time\n");

    let mut rows: Vec<(&str, [Times; 3])> =
        ["put", "get", "miss"].into_iter().map(|name| (name, Default::default())).collect();
    for round in 0..rounds {
        let key = Key::new(format!("key {round}")).unwrap();
        let absent = Key::new(format!("absent {round}")).unwrap();
        let (path, nowhere, bytes) = (path(&key), path(&absent), value(round));
        // In another order each time, so that none always comes after the same one.
        for turn in 0..3 {
            let who = (round + turn) % 3;
            let tier = if who == 1 { &kept } else { &each };
            let began = Instant::now();
            match who {
                0 => direct.put(&path, &bytes).await,
                _ => tier.put(&key, maker.entry(round)).await.unwrap(),
            }
            rows[0].1[who].0.push(began.elapsed());
            let began = Instant::now();
            match who {
                0 => assert_eq!(direct.get(&path).await, Some(BYTES)),
                _ => assert!(tier.get(&key).await.unwrap().is_some()),
            }
            rows[1].1[who].0.push(began.elapsed());
            let began = Instant::now();
            match who {
                0 => assert_eq!(direct.get(&nowhere).await, None),
                _ => assert!(tier.get(&absent).await.unwrap().is_none()),
            }
            rows[2].1[who].0.push(began.elapsed());
        }
    }
    println!("| ms at p50 (p95) | direct calls | tier, keep-alive | ratio | tier, per call | ratio | bar |");
    println!("|---|---|---|---|---|---|---|");
    for (name, [direct, kept, each]) in &mut rows {
        let (d, k, e) = (direct.part(0.5), kept.part(0.5), each.part(0.5));
        let met = if k / d <= BAR { "met" } else { "not met" };
        println!(
            "| {name} | {d:.2} ({:.2}) | {k:.2} ({:.2}) | {:.2} | {e:.2} ({:.2}) | {:.2} | {BAR}: {met} |",
            direct.part(0.95),
            kept.part(0.95),
            k / d,
            each.part(0.95),
            e / d
        );
    }

    println!(
        "\n| entries | get p50 ms | get p95 ms | miss p50 ms | puts per second |\n|---|---|---|---|---|"
    );
    let grown = open("grown", IpfsClientKind::KeepAlive);
    let mut made = 0;
    for goal in [entries / 100, entries / 10, entries] {
        let (began, before) = (Instant::now(), made);
        while made < goal {
            grown.put(&Key::new(format!("grown {made}")).unwrap(), maker.entry(made)).await.unwrap();
            made += 1;
        }
        let rate = (made - before) as f64 / began.elapsed().as_secs_f64();
        let (mut gets, mut misses) = (Times::default(), Times::default());
        for round in 0..300 {
            let key = Key::new(format!("grown {}", round * 7919 % goal)).unwrap();
            let began = Instant::now();
            assert!(grown.get(&key).await.unwrap().is_some());
            gets.0.push(began.elapsed());
            let absent = Key::new(format!("not grown {round}")).unwrap();
            let began = Instant::now();
            assert!(grown.get(&absent).await.unwrap().is_none());
            misses.0.push(began.elapsed());
        }
        println!(
            "| {goal} | {:.2} | {:.2} | {:.2} | {rate:.0} |",
            gets.part(0.5),
            gets.part(0.95),
            misses.part(0.5)
        );
    }
}
