//! What the chain costs: each operation beside the library that does the work, called directly.
//!
//! ```sh
//! cargo xtask bench chain              # about a minute
//! cargo xtask bench chain -- --quick   # a few seconds, coarse
//! ```
//!
//! Memory is compared with `quick_cache`, and a typed hit; disk with SQLite (one table, blob by
//! key, write-ahead log, prepared statements, a connection per thread). Both sides hold the same
//! values and take turns. What the parts of the chain cost is compared with the same chain without
//! them, or with the least that could do the work.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has nothing to say")]

#[path = "chain/libraries.rs"]
mod libraries;
#[path = "chain/parts.rs"]
mod parts;
#[path = "chain/references.rs"]
mod references;
#[path = "chain/runner.rs"]
mod runner;

use std::sync::Arc;
use std::time::Duration;

use peercache::{Bytes, Cache, CacheBackend, Disk, Key, Memory, Ttl};
use tokio::runtime::{Handle, Runtime};

use references::{Direct, Sqlite};
use runner::{Runner, Side};

/// The value sizes, and how many values of each there are: enough to miss the processor's caches
/// for small ones, and not to fill memory with large ones.
const SIZES: [(usize, &str, usize); 3] =
    [(1 << 10, "1 KiB", 4096), (64 << 10, "64 KiB", 256), (1 << 20, "1 MiB", 32)];
const TTL: Ttl = Ttl::from_secs(24 * 3600);
const CAPACITY: usize = 512 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let given = |name: &str| arguments.iter().any(|argument| argument == name);
    // `cargo test --benches` passes no `--bench`: then it is enough that everything runs.
    let budget = match (given("--bench"), given("--quick")) {
        (true, false) => Duration::from_millis(1100),
        _ => Duration::from_millis(80),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Caches are built inside of a runtime.
    let _inside = runtime.enter();
    let mut runner = Runner::new(budget);
    for (bytes, size, count) in SIZES {
        let values = values(bytes, count);
        memory(&mut runner, &runtime, size, &values);
        disk(&mut runner, &runtime, size, &values);
        parts::sealed(&mut runner, &runtime, size, &values);
    }
    let (bytes, _, count) = SIZES[0];
    let values = values(bytes, count);
    libraries::compare(&mut runner, &runtime, &values);
    parts::flights(&mut runner, &runtime);
    parts::breaker(&mut runner, &runtime, &values);
    parts::write_behind(&mut runner, &runtime, &values);
    runner.summary();
}

/// Keys and values that no compression would shrink, the same on every run.
fn values(bytes: usize, count: usize) -> Arc<[(Key, Bytes)]> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..count)
        .map(|index| {
            let value: Vec<u8> = (0..bytes.div_ceil(8))
                .flat_map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state.to_le_bytes()
                })
                .take(bytes)
                .collect();
            (Key::from_parts(["repos", "owner", &index.to_string()]).unwrap(), Bytes::from(value))
        })
        .collect()
}

fn memory(runner: &mut Runner, runtime: &Runtime, size: &'static str, values: &Arc<[(Key, Bytes)]>) {
    let handle = runtime.handle();
    let cache = Cache::builder().tier(Memory::with_capacity(CAPACITY)).build().unwrap();
    fill(runtime, &cache, values);
    let direct = Direct::filled(CAPACITY as u64, values);

    for threads in [1, 2] {
        let reference = || direct.reading(values);
        runner.pair(
            "memory hit, lookup",
            size,
            threads,
            looking_up(handle, &cache, values),
            reference(),
            true,
        );
        runner.pair(
            "memory hit, get_bytes",
            size,
            threads,
            getting(handle, &cache, values),
            reference(),
            true,
        );
        runner.pair(
            "memory put",
            size,
            threads,
            putting(handle, &cache, values),
            direct.writing(values),
            false,
        );
    }
}

fn disk(runner: &mut Runner, runtime: &Runtime, size: &'static str, values: &Arc<[(Key, Bytes)]>) {
    let handle = runtime.handle();
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tier = Arc::new(Disk::builder(ours.path()).capacity(4 * CAPACITY as u64).open().unwrap());
    let cache = Cache::builder().tier(Arc::clone(&tier)).build().unwrap();
    fill(runtime, &cache, values);
    let sqlite = Sqlite::filled(&theirs.path().join("reference.sqlite"), values);

    for threads in [1, 2] {
        let reference = || sqlite.reading(values);
        runner.pair("disk hit, backend", size, threads, reading(handle, &tier, values), reference(), false);
        runner.pair("disk hit, chain", size, threads, getting(handle, &cache, values), reference(), false);
        runner.pair(
            "disk put, chain",
            size,
            threads,
            putting(handle, &cache, values),
            sqlite.writing(values),
            false,
        );
    }
    runtime.block_on(cache.close()).unwrap();
}

fn fill(runtime: &Runtime, cache: &Cache, values: &[(Key, Bytes)]) {
    runtime.block_on(async {
        for (key, value) in values {
            assert!(cache.put_bytes(key, value.clone(), TTL).await.unwrap().is_stored());
        }
        for (key, value) in values {
            assert_eq!(cache.get_bytes(key).await.as_ref(), Some(value), "every read must be a hit");
        }
    });
}

/// Visits the values in an order that the processor does not foresee.
fn spread(step: usize, values: &[(Key, Bytes)]) -> &(Key, Bytes) {
    &values[step.wrapping_mul(0x9E37_79B1) % values.len()]
}

fn looking_up(handle: &Handle, cache: &Cache, values: &Arc<[(Key, Bytes)]>) -> Side {
    let (handle, cache, values) = (handle.clone(), cache.clone(), Arc::clone(values));
    Side::new(move |steps| {
        handle.block_on(async {
            for step in steps {
                assert!(cache.lookup(&spread(step, &values).0).await.is_hit());
            }
        });
    })
}

fn getting(handle: &Handle, cache: &Cache, values: &Arc<[(Key, Bytes)]>) -> Side {
    let (handle, cache, values) = (handle.clone(), cache.clone(), Arc::clone(values));
    Side::new(move |steps| {
        handle.block_on(async {
            for step in steps {
                assert!(cache.get_bytes(&spread(step, &values).0).await.is_some());
            }
        });
    })
}

fn putting(handle: &Handle, cache: &Cache, values: &Arc<[(Key, Bytes)]>) -> Side {
    let (handle, cache, values) = (handle.clone(), cache.clone(), Arc::clone(values));
    Side::new(move |steps| {
        handle.block_on(async {
            for step in steps {
                let (key, value) = spread(step, &values);
                assert!(cache.put_bytes(key, value.clone(), TTL).await.unwrap().is_stored());
            }
        });
    })
}

fn reading(handle: &Handle, tier: &Arc<Disk>, values: &Arc<[(Key, Bytes)]>) -> Side {
    let (handle, tier, values) = (handle.clone(), Arc::clone(tier), Arc::clone(values));
    Side::new(move |steps| {
        handle.block_on(async {
            for step in steps {
                assert!(tier.get(&spread(step, &values).0).await.unwrap().is_some());
            }
        });
    })
}
