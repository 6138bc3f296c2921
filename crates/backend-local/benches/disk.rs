//! What opening a directory costs, and what happens when a thousand processes use one at once.
//!
//! ```sh
//! cargo xtask bench disk             # or: cargo xtask bench disk 10000 100
//! ```
//!
//! The numbers are how many entries the directory holds, and how many processes start at once. Each
//! process opens the directory, puts an entry, gets one, and closes, as one command does.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use peercache_api::{CacheBackend as _, Clock as _, Entry, Key, NodeId, SystemClock, VersionClock};
use peercache_local::Disk;

const ENTRIES: usize = 100_000;
const PROCESSES: usize = 1_000;
const VALUE_BYTES: usize = 1024;
/// How often the directory is opened.
const ROUNDS: usize = 50;
/// The longest that opening may take.
const BAR: Duration = Duration::from_millis(20);
/// What this program is called with where it is one of the processes.
const ONE: &str = "--one-process";

fn key(number: usize) -> Key {
    Key::new(format!("bench/{number}")).unwrap()
}

fn entry(versions: &VersionClock, number: usize) -> Entry {
    let now = SystemClock::new().now();
    let value = vec![number as u8; VALUE_BYTES];
    Entry::builder(value, versions.next(now), now).fresh_for(Duration::from_secs(3600)).build().unwrap()
}

/// One command: how long opening and the first get took.
async fn one(dir: &Path, number: usize) -> Result<(Duration, Duration), peercache_api::Error> {
    let begin = Instant::now();
    let disk = Disk::open(dir)?;
    let opened = begin.elapsed();
    let found = disk.get(&key(number)).await?.is_some();
    let got = begin.elapsed();
    assert!(found, "entry {number} is there");
    let versions = VersionClock::new(NodeId::random());
    disk.put(&key(usize::MAX - number), entry(&versions, number)).await?;
    disk.close().await?;
    Ok((opened, got))
}

async fn fill(dir: &Path, entries: usize) {
    let disk = Disk::open(dir).unwrap();
    let versions = VersionClock::new(NodeId::random());
    for number in 0..entries {
        disk.put(&key(number), entry(&versions, number)).await.unwrap();
    }
    disk.close().await.unwrap();
}

fn median_and_most(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

fn row(what: &str, times: Vec<Duration>) -> Duration {
    let (median, most) = median_and_most(times);
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    println!("{what:<44} {:>9.2} ms {:>9.2} ms", millis(median), millis(most));
    median
}

/// Starts all processes, waits for them, and says how many failed.
fn all_at_once(dir: &Path, processes: usize) -> (usize, Duration) {
    let program = std::env::current_exe().unwrap();
    let begin = Instant::now();
    let start = |number: usize| {
        let mut command = Command::new(&program);
        command.arg(ONE).arg(dir).arg(number.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().unwrap()
    };
    let running: Vec<_> = (0..processes).map(start).collect();
    let failed = running.into_iter().filter_map(|mut process| {
        let status = process.wait().unwrap();
        (!status.success()).then_some(status)
    });
    (failed.count(), begin.elapsed())
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [first, dir, number] = &args[..]
        && first == ONE
    {
        return match one(Path::new(dir), number.parse().unwrap()).await {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let number = |at: usize, default| args.get(at).map_or(default, |text: &String| text.parse().unwrap());
    let (entries, processes) = (number(0, ENTRIES), number(1, PROCESSES));
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cache");
    let begin = Instant::now();
    fill(&dir, entries).await;
    println!("{entries} entries of {VALUE_BYTES} B, written in {:.1} s\n", begin.elapsed().as_secs_f64());
    println!("{:<44} {:>12} {:>12}", "", "median", "most");
    let (mut opened, mut got) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (open, get) = one(&dir, round * entries.max(ROUNDS) / ROUNDS % entries).await.unwrap();
        opened.push(open);
        got.push(get);
    }
    let median = row("open", opened);
    row("open and the first get", got);
    let (failed, took) = all_at_once(&dir, processes.min(entries));
    println!("\n{processes} processes at once: {failed} failed, {:.1} s in all", took.as_secs_f64());
    let (fast, sound) = (median <= BAR, failed == 0);
    let said = |met| if met { "met" } else { "MISSED" };
    println!("bar: opening takes at most {} ms: {}", BAR.as_millis(), said(fast));
    println!("bar: none of the processes fails: {}", said(sound));
    if fast && sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
