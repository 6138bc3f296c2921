//! `kill -9` at any moment: what was acknowledged is there, and nothing is torn.
//!
//! The test starts its own binary again as writers, each printing a line after every put that
//! succeeded, kills them at seeded moments, and opens the directory anew after each round.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use peercache_api::VersionClock;

use super::*;

const ROUNDS: u64 = 50;
const WRITERS: u64 = 2;
const KEYS: u64 = 12;
const DIR: &str = "PEERCACHE_TEST_KILL_DIR";
const SEED: &str = "PEERCACHE_TEST_KILL_SEED";

/// The value of a write follows from its version alone.
fn entry_of(version: Version) -> Entry {
    let seed = version.wall.as_millis() ^ (u64::from(version.counter) << 42) ^ version.node.as_u64();
    let bytes = [0, 20, 4000, 65_000, 66_000, 250_000][seed as usize % 6];
    Entry::builder(noise(seed, bytes), version, version.wall)
        .fresh_for(Duration::from_secs(3600))
        .build()
        .unwrap()
}

fn node(seed: u64) -> NodeId {
    NodeId::from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Not a test of its own: the writer that the test below starts and kills.
#[tokio::test]
#[ignore = "started by `acknowledged_puts_survive_kill_9`"]
async fn writer() {
    let (Some(dir), Some(seed)) = (std::env::var_os(DIR), std::env::var(SEED).ok()) else {
        return;
    };
    let seed: u64 = seed.parse().unwrap();
    let disk = Disk::builder(dir).open().unwrap();
    let (clock, versions) = (SystemClock::new(), VersionClock::new(node(seed)));
    // Bounded, in case nobody is left to kill it.
    for n in 0..20_000_u64 {
        let version = versions.next(clock.now());
        let name = noise(seed ^ n, 8)[0] as u64 % KEYS;
        disk.put(&key(name), entry_of(version)).await.unwrap();
        // One write per line, begun on a line of its own: the test harness prints here as well.
        let line = format!("\nack {name} {} {}\n", version.wall.as_millis(), version.counter);
        if std::io::stdout().write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

struct Writer {
    child: Child,
    node: NodeId,
    lines: BufReader<std::process::ChildStdout>,
}

impl Writer {
    fn start(dir: &Path, seed: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "disk::tests::kill::writer", "--nocapture"])
            .env(DIR, dir)
            .env(SEED, seed.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, node: node(seed), lines }
    }

    /// The next acknowledged put; `None` when the writer is gone. A line cut off by the kill is
    /// none.
    fn next(&mut self) -> Option<(u64, Version)> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                return None;
            }
            let Some(rest) = line.strip_prefix("ack ") else { continue };
            let numbers: Vec<u64> = rest.split_whitespace().map(|number| number.parse().unwrap()).collect();
            let [name, wall, counter] = numbers[..] else { panic!("a strange line: {line:?}") };
            let wall = Timestamp::from_millis(wall);
            return Some((name, Version { wall, counter: counter.try_into().unwrap(), node: self.node }));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Gone already is fine; anything else the next line would not mend either.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn acknowledged_puts_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: HashMap<u64, Version> = HashMap::new();
    let mut total = 0_u64;
    for round in 0..ROUNDS {
        let mut writers: Vec<_> =
            (0..WRITERS).map(|n| Writer::start(dir.path(), 1 + round * WRITERS + n)).collect();
        let mut note = |(name, version): (u64, Version)| {
            total += 1;
            let newest = acknowledged.entry(name).or_default();
            *newest = version.max(*newest);
        };
        for (index, writer) in writers.iter_mut().enumerate() {
            // Some are killed while they open the directory, some after a few puts.
            for _ in 0..noise(round * WRITERS + index as u64, 8)[3] % 24 {
                note(writer.next().expect("the writer ended by itself"));
            }
            writer.child.kill().unwrap();
        }
        for writer in &mut writers {
            while let Some(ack) = writer.next() {
                note(ack);
            }
        }
        drop(writers);

        let disk = Disk::open(dir.path()).unwrap();
        for (name, version) in &acknowledged {
            let found = disk.get(&key(name)).await.unwrap();
            let found = found.unwrap_or_else(|| panic!("round {round}: key {name} at {version:?} is gone"));
            assert!(
                found.version() >= *version,
                "round {round}: key {name} fell back to {:?}",
                found.version()
            );
            assert_eq!(found, entry_of(found.version()), "round {round}: key {name} is torn");
        }
        let stats = disk.stats().await.unwrap();
        assert_eq!((stats.corrupt_dropped, stats.healed, stats.evicted), (0, 0, 0), "round {round}");
        disk.close().await.unwrap();
    }
    assert!(total > ROUNDS * 10, "only {total} puts were acknowledged: the test tests nothing");
}
