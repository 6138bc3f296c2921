//! A value that is far larger than the memory which it may take on its way.

use std::io;
use std::process::Command;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use peercache::stream::CHUNK_BYTES;
use peercache::{Bytes, Cache, Disk, Memory, Ttl};
use peercache_testkit::memory::{peak_kib, resident_kib};
use tokio::io::AsyncReadExt as _;

use crate::support::{bytes, key};

/// Set in the process that does it: a process of its own, so that no other test's memory is
/// counted.
const CHILD: &str = "PEERCACHE_LARGE_CHILD";
/// How many MiB the value has. `PEERCACHE_LARGE_MIB=1024` takes the full gibibyte; without
/// optimisation that takes minutes.
const MIB: &str = "PEERCACHE_LARGE_MIB";
const DEFAULT_MIB: u64 = 160;
const MEMORY_TIER: usize = 16 << 20;
/// The most that it may take above what the idle process has, the memory tier included.
pub(crate) const MOST_KIB: u64 = 64 << 10;
pub(crate) const PIECE: usize = 256 << 10;

/// Piece `number` of the value. All are different, and cheap to make: they share what follows the
/// first eight bytes.
pub(crate) fn piece(pattern: &[u8], number: u64) -> Vec<u8> {
    [&number.to_le_bytes()[..], &pattern[8..]].concat()
}

/// What this process has in memory, in KiB.
pub(crate) fn resident() -> u64 {
    resident_kib(std::process::id()).unwrap()
}

/// The most that it ever had.
pub(crate) fn peak() -> u64 {
    peak_kib(std::process::id()).unwrap()
}

async fn through_memory_and_disk(mib: u64) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::builder(dir.path()).capacity((mib + mib / 2 + 64) << 20).open().unwrap();
    let cache = Cache::builder().tier(Memory::with_capacity(MEMORY_TIER)).tier(disk).build().unwrap();
    in_and_out(cache, mib, CHUNK_BYTES, "memory and disk").await;
}

/// Streams a value of `mib` MiB into `cache` and out again, compares every byte, and watches the
/// memory of this process.
pub(crate) async fn in_and_out(cache: Cache, mib: u64, chunk_bytes: usize, tiers: &str) {
    cache.put_bytes(&key("warm"), "up", Ttl::default()).await.unwrap();
    let idle = resident();

    let pattern = bytes(7, PIECE);
    let numbers = 0..mib << 20 >> PIECE.trailing_zeros();
    let source =
        stream::iter(numbers.clone()).map(|number| Ok::<_, io::Error>(Bytes::from(piece(&pattern, number))));
    let put = cache.put_stream(&key("k"), source, Ttl::from_secs(3600)).await.unwrap();
    assert!(put.stored && put.outcome.is_durable(), "{put:?}");
    assert_eq!((put.len, put.chunks), (mib << 20, (mib << 20).div_ceil(chunk_bytes as u64)));
    let written = peak();

    let mut reader = cache.get_stream(&key("k")).await.unwrap().into_stream().into_reader();
    let mut read = vec![0; PIECE];
    for number in numbers {
        reader.read_exact(&mut read).await.unwrap();
        assert!(read == piece(&pattern, number), "piece {number} is another");
    }
    assert_eq!(reader.read(&mut read).await.unwrap(), 0, "it goes on after its end");
    let peak = peak();
    println!(
        "{mib} MiB, {tiers}: idle {idle} KiB, {} KiB above it after writing, {} KiB after reading",
        written - idle,
        peak - idle
    );
    assert!(peak - idle < MOST_KIB, "it took {} KiB above the idle {idle} KiB", peak - idle);
    cache.close().await.unwrap();
}

/// Runs `work` in a process of its own, so that no other test's memory is counted. `test` is the
/// name of the test that asks, and `said` what the work prints when it has been done.
pub(crate) fn alone<W: Future<Output = ()>>(test: &str, said: &str, work: impl FnOnce() -> W) {
    alone_with(&[], test, said, work);
}

/// As [`alone`], with these variables besides.
pub(crate) fn alone_with<W: Future<Output = ()>>(
    variables: &[(&str, &str)],
    test: &str,
    said: &str,
    work: impl FnOnce() -> W,
) {
    if std::env::var_os(CHILD).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        println!("{printed}\n{complained}");
        assert!(output.status.success(), "{complained}");
        // Where a test must not be skipped, the child fails instead.
        let skipped = complained.lines().any(|line| line.starts_with("skipped: "));
        assert!(printed.contains(said) || skipped, "the child did not run it");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work());
    runtime.shutdown_timeout(Duration::from_secs(10));
}

/// How many MiB the value has.
pub(crate) fn mib(unless_set: u64) -> u64 {
    std::env::var(MIB).map_or(unless_set, |mib| mib.parse().unwrap())
}

#[test]
fn memory_is_bounded_however_large_the_value() {
    alone("memory_use::memory_is_bounded_however_large_the_value", "after reading", || {
        through_memory_and_disk(mib(DEFAULT_MIB))
    });
}
