//! `cargo xtask bench peers`: reads from a peer in another process, against raw tokio TCP with the
//! same frames and against a real Redis over TLS, on loopback and in one run. Sides take turns, so
//! that what the machine does besides hits both; what counts are the ratios. `-- --quick` is
//! shorter, `-- --load` is for a profiler.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on has nothing to say")]

#[path = "peers/alone.rs"]
mod alone;
#[path = "peers/load.rs"]
mod load;
#[path = "peers/node.rs"]
mod node;
#[path = "peers/profile.rs"]
mod profile;
#[path = "peers/raw.rs"]
mod raw;
#[path = "peers/redis.rs"]
mod redis;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use load::{Load, Side, measure};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A process that ends with this.
struct Server {
    child: Child,
    says: String,
}

impl Server {
    /// This program again, as the other side; the line that it says first is where it is.
    fn start(kind: &str) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut child = Command::new(this).args(["--server", kind]).stdout(Stdio::piped()).spawn().unwrap();
        let mut says = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut says).unwrap();
        Self { child, says: says.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn main() {
    let args: Vec<_> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(at) = args.iter().position(|arg| arg == "--load") {
        return runtime.block_on(profile::run(&args[at + 1..]));
    }
    match args.iter().position(|arg| arg == "--server").and_then(|at| args.get(at + 1)).map(String::as_str) {
        Some("raw") => runtime.block_on(raw::serve()),
        Some("peer") => runtime.block_on(node::serve()),
        _ => runtime.block_on(bench(args.iter().any(|arg| arg == "--quick"))),
    }
}

async fn bench(quick: bool) {
    let (span, rounds) = if quick { (Duration::from_millis(400), 3) } else { (Duration::from_secs(1), 5) };
    let (raw_server, peer_server) = (Server::start("raw"), Server::start("peer"));
    let raw = Arc::new(raw::Client::connect(&raw_server.says).await);
    let peer = Arc::new(node::Client::connect(&peer_server.says, &[KIB, 64 * KIB, MIB]).await);
    println!("two processes on loopback; medians of {rounds} rounds of {span:?}, sides in turn");
    println!("{:44} {:>12} {:>12} {:>8}   bar", "what", "peers", "reference", "ratio");

    let sides = |bytes: usize| -> [Side; 2] {
        let (peer, raw) = (Arc::clone(&peer), Arc::clone(&raw));
        [
            Side::new(move || {
                let peer = Arc::clone(&peer);
                async move { peer.hit(bytes).await }
            }),
            Side::new(move || {
                let raw = Arc::clone(&raw);
                async move { raw.get(bytes).await }
            }),
        ]
    };
    let miss = {
        let peer = Arc::clone(&peer);
        Side::new(move || {
            let peer = Arc::clone(&peer);
            async move { peer.miss().await }
        })
    };
    let small_raw = {
        let raw = Arc::clone(&raw);
        Side::new(move || {
            let raw = Arc::clone(&raw);
            async move { raw.get(0).await }
        })
    };

    let [hit, raw_hit] = &measure(&sides(KIB), 1, span, rounds).await[..] else { unreachable!() };
    latency_row("hit, 1 KiB, one at a time, p50", hit, raw_hit, "at most 3, try for 2");
    let [missed, raw_miss] = &measure(&[miss, small_raw], 1, span, rounds).await[..] else { unreachable!() };
    latency_row("authoritative miss, p50", missed, raw_miss, "at most 3, try for 2");
    for (bytes, name) in [(64 * KIB, "64 KiB"), (MIB, "1 MiB")] {
        for in_flight in [1, 16] {
            let [ours, theirs] = &measure(&sides(bytes), in_flight, span, rounds).await[..] else {
                unreachable!()
            };
            let bar = match (bytes, in_flight) {
                (MIB, 1) => "at least 0.15, try for 0.25",
                (MIB, _) => "at least 0.2, try for 0.25",
                _ => "",
            };
            rate_row(&format!("hit, {name}, {in_flight} in flight"), ours, theirs, bytes, bar);
        }
    }
    let mixed = node::mixed(&peer, span).await;
    println!(
        "{:44} {:>12} {:>12} {:>8}   p99 under 10 ms",
        "hit, 1 KiB, while four of 1 MiB run, p50/p99",
        format!("{:.2?}", mixed.p50),
        format!("{:.2?}", mixed.p99),
        ""
    );
    let alone = alone::reads(span, rounds).await;
    println!(
        "{:44} {:>12} {:>12} {:>8}   p50 under 50 us",
        "read, nobody reachable, p50",
        format!("{:.1?}", alone.p50),
        "",
        ""
    );
    match redis::start() {
        Ok(server) => {
            let redis = Arc::new(server.connect(KIB).await);
            let peer = Arc::clone(&peer);
            let sides = [
                Side::new(move || {
                    let peer = Arc::clone(&peer);
                    async move { peer.hit(KIB).await }
                }),
                Side::new(move || {
                    let redis = Arc::clone(&redis);
                    async move { redis.get().await }
                }),
            ];
            for in_flight in [1, 64] {
                let [ours, theirs] = &measure(&sides, in_flight, span, rounds).await[..] else {
                    unreachable!()
                };
                let bar = if in_flight == 64 { "at least 1" } else { "" };
                rate_row(
                    &format!("hit, 1 KiB, {in_flight} in flight, against Redis over TLS"),
                    ours,
                    theirs,
                    KIB,
                    bar,
                );
            }
        }
        Err(why) => println!("against Redis over TLS: NOT MEASURED: {why}"),
    }
}

fn latency_row(what: &str, ours: &Load, theirs: &Load, bar: &str) {
    let ratio = ours.p50.as_secs_f64() / theirs.p50.as_secs_f64();
    println!(
        "{what:44} {:>12} {:>12} {ratio:>8.2}   {bar}",
        format!("{:.1?}", ours.p50),
        format!("{:.1?}", theirs.p50)
    );
}

fn rate_row(what: &str, ours: &Load, theirs: &Load, bytes: usize, bar: &str) {
    let ratio = ours.rate / theirs.rate;
    let text = |load: &Load| match bytes {
        KIB => format!("{:.0}/s", load.rate),
        _ => format!("{:.0} MiB/s", load.rate * bytes as f64 / MIB as f64),
    };
    println!("{what:44} {:>12} {:>12} {ratio:>8.2}   {bar}", text(ours), text(theirs));
}
