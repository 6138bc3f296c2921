//! The published suite, on the chain that most users have: memory over disk.

use std::sync::Arc;

use peercache::chain::Chain;
use peercache::{CacheBackend, Clock, Memory};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{Time, assert_conforms, from_fn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_over_disk() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let clock = Arc::new(ManualClock::default());
    let shared = || Arc::clone(&clock) as Arc<dyn Clock>;
    let (memory_clock, disk_clock, chain_clock) = (shared(), shared(), shared());
    let open = move || {
        let (memory, disk) = (Memory::builder().clock(Arc::clone(&memory_clock)), Arc::clone(&disk_clock));
        let (chain, dir) = (Chain::builder().clock(Arc::clone(&chain_clock)), Arc::clone(&dir));
        async move {
            let disk = peercache::Disk::builder(dir.path()).clock(disk).open()?;
            Ok(Arc::new(chain.tier(memory.build()).tier(disk).build()) as Arc<dyn CacheBackend>)
        }
    };
    assert_conforms(from_fn(Time::Manual(clock), open)).await;
}
