//! The Redis tier beside the `redis` crate called directly, on one server in one run.
//!
//! ```sh
//! cargo xtask bench redis            # or: cargo xtask bench redis 500
//! ```
//!
//! The number is how many rounds there are of each. In a round every side makes the same requests,
//! in turns, so that what the machine does besides meets both.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use peercache_api::{CacheBackend, Clock, Entry, Key, NodeId, SystemClock, VersionClock, envelope};
use peercache_redis::Redis;
use peercache_testkit::servers::RedisServer;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

/// The most that the tier may take, as a multiple of the crate's own time at p50.
const BAR: f64 = 1.2;
const DEFAULT_ROUNDS: usize = 2_000;
const IN_FLIGHT: usize = 64;
/// How often so many are sent at once: fewer say more about the machine than about either side.
const MIN_BATCHES: usize = 60;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Get,
    Miss,
    /// What follows a miss: nothing is there yet.
    Put,
    /// Something older is there, and versions have to be compared.
    Overwrite,
}

/// The script that compares versions, which the crate runs directly in [`Operation::Overwrite`].
const SCRIPT: &str = include_str!("../src/scripts/put.lua");

struct Bench {
    tier: Redis,
    direct: MultiplexedConnection,
    script: String,
    versions: VersionClock,
}

impl Bench {
    fn entry(&self, value: &Bytes) -> Entry {
        let now = SystemClock::new().now();
        let entry = Entry::builder(value.clone(), self.versions.next(now), now);
        entry.fresh_for(Duration::from_secs(600)).build().unwrap()
    }

    async fn ours(&self, operation: Operation, key: &Key, entry: Entry) {
        match operation {
            Operation::Get => assert!(self.tier.get(key).await.unwrap().is_some()),
            Operation::Miss => assert!(self.tier.get(key).await.unwrap().is_none()),
            Operation::Put | Operation::Overwrite => {
                self.tier.put(key, entry).await.unwrap();
            }
        }
    }

    async fn theirs(&self, operation: Operation, name: &str, value: &Bytes) {
        let mut connection = self.direct.clone();
        match operation {
            Operation::Get => {
                let found: Option<Vec<u8>> =
                    redis::cmd("GET").arg(name).query_async(&mut connection).await.unwrap();
                assert!(found.is_some());
            }
            Operation::Miss => {
                let found: Option<Vec<u8>> =
                    redis::cmd("GET").arg(name).query_async(&mut connection).await.unwrap();
                assert!(found.is_none());
            }
            Operation::Put => {
                let mut command = redis::cmd("SET");
                command.arg(name).arg(&value[..]).arg("PX").arg(600_000);
                command.query_async::<()>(&mut connection).await.unwrap();
            }
            Operation::Overwrite => {
                let now = SystemClock::new().now();
                let envelope = envelope::encode(&Key::new(name).unwrap(), &self.entry(value));
                let mut command = redis::cmd("EVALSHA");
                command.arg(&self.script).arg(2).arg(name).arg(format!("{{{name}}}:lease"));
                command.arg(&envelope[..]).arg(600_000).arg("newer").arg(&now.as_millis().to_be_bytes());
                command.arg("removed").arg("lease-ended").arg("directly");
                let stored: i64 = command.query_async(&mut connection).await.unwrap();
                assert_eq!(stored, 1);
            }
        }
    }

    /// The times of `rounds` requests of each side, `in_flight` at a time.
    async fn compare(
        &self,
        operation: Operation,
        bytes: usize,
        in_flight: usize,
        rounds: usize,
    ) -> [Vec<Duration>; 2] {
        let value = Bytes::from(vec![7; bytes]);
        // As many bytes on the wire and in the server as ours has.
        let head = envelope::encode(&Key::new("k").unwrap(), &self.entry(&Bytes::new())).len();
        let theirs = match operation {
            Operation::Overwrite => value.clone(),
            _ => Bytes::from(vec![7; bytes + head]),
        };
        let keys_of = |round: usize| {
            let names: Vec<_> = (0..in_flight)
                .map(|n| match operation {
                    Operation::Miss => format!("absent {n}"),
                    Operation::Put => format!("{bytes} {in_flight} {rounds} {round} {n}"),
                    Operation::Get | Operation::Overwrite => format!("{bytes} {n}"),
                })
                .collect();
            let keys: Vec<_> = names.iter().map(|name| Key::new(name.as_str()).unwrap()).collect();
            (names, keys)
        };
        if matches!(operation, Operation::Get | Operation::Overwrite) {
            let (names, keys) = keys_of(0);
            for (key, name) in keys.iter().zip(&names) {
                self.ours(Operation::Put, key, self.entry(&value)).await;
                self.theirs(Operation::Put, name, &theirs).await;
            }
        }
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..rounds.div_ceil(in_flight).max(MIN_BATCHES) {
            let (names, keys) = keys_of(round);
            for side in [round % 2, (round + 1) % 2] {
                let took: Vec<_> = stream::iter(0..in_flight)
                    .map(|n| {
                        let (value, theirs, key, name) = (&value, &theirs, &keys[n], &names[n]);
                        // Making an entry is its caller's work, and storing it the tier's.
                        let entry = self.entry(value);
                        async move {
                            let began = Instant::now();
                            if side == 0 {
                                self.ours(operation, key, entry).await;
                            } else {
                                self.theirs(operation, name, theirs).await;
                            }
                            began.elapsed()
                        }
                    })
                    .buffer_unordered(in_flight)
                    .collect()
                    .await;
                times[side].extend(took);
            }
        }
        times
    }
}

fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * part) as usize]
}

fn main() {
    let rounds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(DEFAULT_ROUNDS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(server) = RedisServer::start().await.unwrap() else { return };
        let client = redis::Client::open(server.url()).unwrap();
        // As it comes, but for its half second: it has the tier's deadline, which costs a timer
        // here as there. With a later one the tier's timer would be the next one of the runtime
        // again and again, and wake its driver for each call.
        let timeout = Some(Redis::DEFAULT_REQUEST_TIMEOUT);
        let config = AsyncConnectionConfig::new().set_response_timeout(timeout);
        let direct = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut direct = direct.unwrap();
        let mut load = redis::cmd("SCRIPT");
        let script: String = load.arg("LOAD").arg(SCRIPT).query_async(&mut direct).await.unwrap();
        let bench = Bench {
            tier: Redis::builder(server.url()).open().unwrap(),
            direct,
            script,
            versions: VersionClock::new(NodeId::random()),
        };
        println!("operation  bytes  in flight     ours p50      its p50  ratio p50  ratio p99");
        for (name, operation, sizes) in [
            ("get", Operation::Get, &[1024, 65536][..]),
            ("miss", Operation::Miss, &[0]),
            ("put", Operation::Put, &[1024, 65536]),
            ("overwrite", Operation::Overwrite, &[1024, 65536]),
        ] {
            for &bytes in sizes {
                for in_flight in [1, IN_FLIGHT] {
                    server.command(&["FLUSHALL"]).unwrap();
                    bench.compare(operation, bytes, in_flight, rounds / 10).await;
                    let [mut ours, mut theirs] = bench.compare(operation, bytes, in_flight, rounds).await;
                    let [mine, its] =
                        [&mut ours, &mut theirs].map(|times| [0.5, 0.99].map(|part| quantile(times, part)));
                    let ratio = |n: usize| mine[n].as_secs_f64() / its[n].as_secs_f64();
                    println!(
                        "{name:<9} {bytes:>6} {in_flight:>10} {:>12} {:>12} {:>10.2} {:>10.2}  {}",
                        format!("{} us", mine[0].as_micros()),
                        format!("{} us", its[0].as_micros()),
                        ratio(0),
                        ratio(1),
                        if ratio(0) <= BAR { "ok" } else { "above 1.2" },
                    );
                }
            }
        }
        println!(
            "\nThe bar: at most {BAR} times at p50. Beside get, miss and put the crate sends GET and SET,"
        );
        println!("beside overwrite the same script that compares versions.");
    });
}
