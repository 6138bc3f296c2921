//! Many writers on one key: the newest wins, readers never miss it, and superseded writes go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use peercache_api::CacheBackend as _;

use crate::support::{FOR_EVER, Space, Writer, key, official};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_overwrites_by_eight_writers_leave_the_newest_and_no_reader_misses_the_key() {
    let Some(space) = Space::start().await else { return };
    let key = key("contended");
    let writer = Arc::new(Writer::new(1));
    let tiers: Vec<_> = (0..8).map(|_| Arc::new(space.tier().open().unwrap())).collect();
    tiers[0].put(&key, writer.entry("0")).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (tier, key, done) = (space.tier().open().unwrap(), key.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let (mut reads, mut last) = (0_u32, None);
            while !done.load(Ordering::Acquire) {
                let found = tier.get(&key).await.unwrap();
                let version = found.expect("the key is missed while it is overwritten").version();
                assert!(last.is_none_or(|last| version >= last), "an older write after a newer one");
                last = Some(version);
                reads += 1;
            }
            reads
        })
    };
    let mut writes = Vec::new();
    for (index, tier) in tiers.iter().enumerate() {
        let (tier, key, writer) = (Arc::clone(tier), key.clone(), Arc::clone(&writer));
        writes.push(tokio::spawn(async move {
            let mut newest = None;
            for round in 0..13 {
                let entry = writer.entry(format!("{index} {round}"));
                newest = newest.max(Some(entry.version()));
                tier.put(&key, entry).await.unwrap();
            }
            newest
        }));
    }
    let mut newest = None;
    for write in writes {
        newest = newest.max(write.await.unwrap());
    }
    // Both roots have a slot within eight seconds, and a reader looks on meanwhile.
    let compacted = async {
        loop {
            let listed = official(&space.service, "shards.mjs", &[&space.printed.key, &space.printed.proof]);
            let most: usize = listed.parse().unwrap();
            if most <= 4 {
                break;
            }
            // The last writes of a burst may be compacted after the next write alone.
            tiers[0].put(&key, writer.entry("again")).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(FOR_EVER, compacted).await.expect("shards are never compacted");
    done.store(true, Ordering::Release);
    assert!(reader.await.unwrap() > 0);
    let found = tiers[3].get(&key).await.unwrap().unwrap();
    assert!(Some(found.version()) >= newest);
    let compactions: u64 = tiers.iter().map(|tier| tier.report().counts.compactions).sum();
    assert!(compactions > 0);
}
