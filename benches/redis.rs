//! The Redis tier beside the other shared tiers, each over a real server of its own on this
//! machine, so that a user can choose (`docs/how-to/choose.md`).
//!
//! ```sh
//! cargo xtask bench redis            # or: cargo xtask bench redis 200
//! ```
//!
//! The number is how many operations there are of each; a Storacha space has a tenth, one at a
//! time. The tiers take turns, so that what the machine does besides meets all of them. The same
//! command runs the bench of the crate, which compares the tier with the `redis` crate called
//! directly.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use peercache::backend::peers::{NetworkKey, Peers, RoleChoice};
use peercache::backend::storacha::Token;
use peercache::backend::{NodeId, SystemClock, VersionClock};
use peercache::{Bytes, CacheBackend, Clock, Entry, Ipfs, Key, Redis, S3, Storacha};
use peercache_testkit::servers::{Kubo, KuboOptions, RedisServer, SeaweedFs, StorachaService};

const DEFAULT_ROUNDS: usize = 500;
const IN_FLIGHT: usize = 64;
/// The default is short for a busy machine.
const SPACE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often each tier has its turn with an operation.
const TURNS: usize = 5;

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
    /// It makes one operation where the others make so many.
    slower: usize,
    most_in_flight: usize,
}

impl Tier {
    fn new(name: &'static str, backend: impl CacheBackend + 'static) -> Self {
        Self { name, backend: Arc::new(backend), slower: 1, most_in_flight: usize::MAX }
    }
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

/// The keys of a row: what a put writes, a get finds and a miss does not.
fn keys((operation, bytes): (Operation, usize), in_flight: usize) -> Vec<Key> {
    let name = |n: usize| match operation {
        Operation::Miss => format!("absent {n}"),
        _ => format!("{bytes} bytes {n}"),
    };
    (0..in_flight).map(|n| Key::new(name(n)).unwrap()).collect()
}

/// The times of one turn of a tier: `batches` times an operation on each key, all keys at once.
async fn turn(
    tier: &Tier,
    entries: &Entries,
    (operation, bytes): (Operation, usize),
    keys: &[Key],
    batches: usize,
) -> Vec<Duration> {
    let value = Bytes::from(vec![7; bytes]);
    let mut times = Vec::new();
    for _ in 0..batches {
        let took: Vec<_> = stream::iter(keys)
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
            .buffer_unordered(keys.len())
            .collect()
            .await;
        times.extend(took);
    }
    times
}

/// The median time of an operation on each tier, `in_flight` at a time; `None` for one that is not
/// asked so much at once.
async fn medians(
    tiers: &[Tier],
    entries: &Entries,
    row: (Operation, usize),
    in_flight: usize,
    rounds: usize,
) -> Vec<Option<Duration>> {
    let keys = keys(row, in_flight);
    let asked = |tier: &&Tier| tier.most_in_flight >= in_flight;
    // The first turn makes connections and what a get finds.
    for tier in tiers.iter().filter(asked) {
        if row.0 == Operation::Get {
            turn(tier, entries, (Operation::Put, row.1), &keys, 1).await;
        }
        turn(tier, entries, row, &keys, 1).await;
    }
    let mut times = vec![Vec::new(); tiers.len()];
    for _ in 0..TURNS {
        for (tier, times) in tiers.iter().zip(&mut times).filter(|(tier, _)| asked(tier)) {
            let batches = rounds.div_ceil(in_flight * TURNS * tier.slower);
            times.extend(turn(tier, entries, row, &keys, batches).await);
        }
    }
    for times in &mut times {
        times.sort_unstable();
    }
    times.iter().map(|times| times.get(times.len() / 2).copied()).collect()
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
        let Some(service) = StorachaService::start().await.unwrap() else { return };
        let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
        let keys = bucket.credentials();
        let s3 = S3::builder(bucket.bucket()).endpoint(bucket.endpoint()).region("us-east-1");
        let s3 = s3.access_key(keys.id, keys.secret, None).open().await.unwrap();
        let (_anchor, leaf) = peers().await;
        let ipfs = Ipfs::builder(node.api()).allow_private(true).maintenance(false).open().unwrap();
        let space = service.space().await.unwrap();
        let did = Some(service.did().to_owned());
        let token = Token::new(&space.key, &space.proof, Some(service.url()), did).unwrap();
        let storacha = Storacha::builder(token).allow_private(true).request_timeout(SPACE_TIMEOUT);
        let tiers = [
            Tier::new("peers", leaf),
            Tier::new("redis", Redis::builder(redis.url()).open().unwrap()),
            Tier::new("s3", s3),
            Tier::new("ipfs", ipfs),
            // The service is one thread of JavaScript, and its own requests to its storage node
            // fail when many puts keep it busy.
            Tier { slower: 10, most_in_flight: 1, ..Tier::new("storacha", storacha.open().unwrap()) },
        ];
        let entries = Entries { versions: VersionClock::new(NodeId::random()), clock: SystemClock::new() };
        println!("p50 of the shared tiers, each over a server on this machine: an anchor, Redis 7,");
        println!("SeaweedFS, Kubo, @storacha/upload-api 2.8.4\n");
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
                for median in medians(&tiers, &entries, operation, in_flight, rounds).await {
                    print!(" {} |", median.map_or("–".to_owned(), shown));
                }
                println!();
            }
        }
    });
}
