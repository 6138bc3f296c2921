//! The Redis tier beside the other shared tiers, each over a real server of its own on this
//! machine, so that a user can choose (`docs/how-to/choose.md`).
//!
//! ```sh
//! cargo xtask bench redis            # or: cargo xtask bench redis 200
//! ```
//!
//! The number is how many rounds there are of each; the default suits a machine that does nothing
//! else. The same command runs the bench of the crate, which compares the tier with the `redis`
//! crate called directly.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use peercache::backend::peers::{NetworkKey, Peers, RoleChoice};
use peercache::backend::{NodeId, SystemClock, VersionClock};
use peercache::{Bytes, CacheBackend, Clock, Entry, Ipfs, Key, Redis, S3};
use peercache_testkit::servers::{Kubo, KuboOptions, RedisServer, SeaweedFs};

const DEFAULT_ROUNDS: usize = 500;
const IN_FLIGHT: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Get,
    Miss,
    Put,
}

/// One tier under its name.
struct Tier {
    name: &'static str,
    backend: Arc<dyn CacheBackend>,
}

struct Entries {
    versions: VersionClock,
    clock: SystemClock,
}

impl Entries {
    fn next(&self, value: &Bytes) -> Entry {
        let now = self.clock.now();
        let entry = Entry::builder(value.clone(), self.versions.next(now), now);
        entry.fresh_for(Duration::from_secs(3600)).build().unwrap()
    }
}

/// The median time of one operation on a tier, `in_flight` at a time.
async fn median(
    tier: &Tier,
    entries: &Entries,
    (operation, bytes): (Operation, usize),
    in_flight: usize,
    rounds: usize,
) -> Duration {
    let value = Bytes::from(vec![7; bytes]);
    let name = |n: usize| match operation {
        Operation::Miss => format!("absent {n}"),
        _ => format!("{bytes} bytes {n}"),
    };
    let keys: Vec<_> = (0..in_flight).map(|n| Key::new(name(n)).unwrap()).collect();
    if operation == Operation::Get {
        for key in &keys {
            tier.backend.put(key, entries.next(&value)).await.unwrap();
        }
    }
    let mut times = Vec::new();
    for _ in 0..rounds.div_ceil(in_flight).max(4) {
        let took: Vec<_> = stream::iter(&keys)
            .map(|key| {
                let value = &value;
                async move {
                    let began = Instant::now();
                    match operation {
                        Operation::Put => tier.backend.put(key, entries.next(value)).await.unwrap(),
                        Operation::Get => assert!(tier.backend.get(key).await.unwrap().is_some()),
                        Operation::Miss => assert!(tier.backend.get(key).await.unwrap().is_none()),
                    }
                    began.elapsed()
                }
            })
            .buffer_unordered(in_flight)
            .collect()
            .await;
        times.extend(took);
    }
    // The first ones make connections.
    let mut times = times.split_off(times.len() / 10);
    times.sort_unstable();
    times[times.len() / 2]
}

/// An anchor on loopback, and the tier of another machine that is connected to it.
async fn peers() -> (Peers, Peers) {
    let key = || NetworkKey::new([1; 32], Some([2; 32]), *b"benchnet");
    let anchor = Peers::builder(key()).role(RoleChoice::Anchor).listen_port(Some(0));
    let anchor = anchor.listen_ips(vec![Ipv4Addr::LOCALHOST.into()]).start().await.unwrap();
    let address = anchor.addresses()[0].parse().unwrap();
    let leaf = Peers::builder(key()).role(RoleChoice::Leaf).bootstrap(vec![address]);
    (anchor, leaf.start().await.unwrap())
}

fn shown(time: Duration) -> String {
    match time.as_micros() {
        micros @ 0..1_000 => format!("{micros} us"),
        micros => format!("{:.1} ms", micros as f64 / 1000.0),
    }
}

fn main() {
    let rounds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(DEFAULT_ROUNDS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(redis) = RedisServer::start().await.unwrap() else { return };
        let Some(bucket) = SeaweedFs::start().await.unwrap() else { return };
        let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
        let keys = bucket.credentials();
        let s3 = S3::builder(bucket.bucket()).endpoint(bucket.endpoint()).region("us-east-1");
        let s3 = s3.access_key(keys.id, keys.secret, None).open().await.unwrap();
        let (_anchor, leaf) = peers().await;
        let ipfs = Ipfs::builder(node.api()).allow_private(true).maintenance(false).open().unwrap();
        let tiers = [
            Tier { name: "redis", backend: Arc::new(Redis::builder(redis.url()).open().unwrap()) },
            Tier { name: "libp2p", backend: Arc::new(leaf) },
            Tier { name: "s3", backend: Arc::new(s3) },
            Tier { name: "ipfs", backend: Arc::new(ipfs) },
        ];
        let entries = Entries { versions: VersionClock::new(NodeId::random()), clock: SystemClock::new() };
        println!("p50 of the shared tiers, servers on this machine: Redis 7, an anchor, SeaweedFS, Kubo\n");
        print!("| operation | in flight |");
        tiers.iter().for_each(|tier| print!(" {} |", tier.name));
        println!("\n|---|---|{}", "---|".repeat(tiers.len()));
        let operations = [
            ("get of 1 KiB", (Operation::Get, 1024)),
            ("get of 64 KiB", (Operation::Get, 65_536)),
            ("miss", (Operation::Miss, 0)),
            ("put of 1 KiB", (Operation::Put, 1024)),
            ("put of 64 KiB", (Operation::Put, 65_536)),
        ];
        for (name, operation) in operations {
            for in_flight in [1, IN_FLIGHT] {
                print!("| {name} | {in_flight} |");
                for tier in &tiers {
                    let median = median(tier, &entries, operation, in_flight, rounds).await;
                    print!(" {} |", shown(median));
                }
                println!();
            }
        }
    });
}
