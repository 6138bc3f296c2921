//! Many writers of one key over one real node, and a node that is killed while they write.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use peercache_api::{CacheBackend as _, ErrorKind, Version};
use peercache_testkit::servers::{Kubo, KuboOptions};
use support::{Writer, builder, files_of, key, noise, rpc, until};
use tokio::task::JoinSet;

const WRITERS: u64 = 16;
const ROUNDS: u64 = 20;

fn value_of(version: Version) -> Vec<u8> {
    noise(version.wall.as_millis() ^ version.node.as_u64() << 48 ^ u64::from(version.counter), 4096)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_writers_of_one_key_leave_the_newest_and_one_file() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let hot = key("hot");
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let (tier, hot, done) = (builder(&node, "order").open().unwrap(), hot.clone(), Arc::clone(&done));
        readers.spawn(async move {
            let (mut reads, mut last) = (0_u64, Version::ZERO);
            while !done.load(Ordering::Acquire) {
                let found = tier.get(&hot).await.unwrap();
                let Some(entry) = found else {
                    assert_eq!(last, Version::ZERO, "an entry vanished while it was replaced");
                    continue;
                };
                assert_eq!(entry.value()[..], value_of(entry.version()), "a value was torn");
                assert!(entry.version() >= last, "an older write came back");
                last = entry.version();
                reads += 1;
            }
            reads
        });
    }
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        // A process of its own would not differ: nothing is shared but the node.
        let (tier, hot) = (builder(&node, "order").open().unwrap(), hot.clone());
        writers.spawn(async move {
            let writer = Writer::new(number);
            let mut last = Version::ZERO;
            for _ in 0..ROUNDS {
                let made = writer.entry("");
                let now = made.metadata().created;
                let entry = peercache_api::Entry::builder(value_of(made.version()), made.version(), now);
                let entry = entry.fresh_for(Duration::from_secs(3600)).build().unwrap();
                tier.put(&hot, entry.clone()).await.unwrap();
                let found = tier.get(&hot).await.unwrap().unwrap();
                assert!(found.version() >= entry.version(), "an own write is not seen");
                last = entry.version();
            }
            // Until then, what was replaced may still be there.
            tier.close().await.unwrap();
            last
        });
    }
    let greatest = writers.join_all().await.into_iter().max().unwrap();
    done.store(true, Ordering::Release);
    let reads: u64 = readers.join_all().await.into_iter().sum();
    assert!(reads > 0);
    let tier = builder(&node, "order").open().unwrap();
    assert_eq!(tier.get(&hot).await.unwrap().unwrap().version(), greatest);
    assert_eq!(files_of(&node, "order", &hot).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn value_of_many_blocks_is_replaced_whole_and_leaves_its_blocks_alone() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let tier = builder(&node, "large").open().unwrap();
    let (large, writer) = (key("large"), Writer::new(1));
    for seed in 0..3 {
        let bytes = noise(seed, 3 * 1024 * 1024 + 17);
        tier.put(&large, writer.entry(bytes.clone())).await.unwrap();
        assert_eq!(tier.get(&large).await.unwrap().unwrap().value()[..], bytes);
        until("four blocks", async || files_of(&node, "large", &large).await == 4).await;
    }
    tier.put(&large, writer.entry("small")).await.unwrap();
    assert_eq!(tier.get(&large).await.unwrap().unwrap().value()[..], b"small"[..]);
    tier.close().await.unwrap();
    assert_eq!(files_of(&node, "large", &large).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn node_killed_five_times_under_load_loses_no_acknowledged_key() {
    let Some(mut node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let tier = Arc::new(builder(&node, "kill").open().unwrap());
    let mut acknowledged = Vec::new();
    for round in 0..5_u64 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for number in 0..4_u64 {
            let (tier, stop) = (Arc::clone(&tier), Arc::clone(&stop));
            writers.spawn(async move {
                let writer = Writer::new(number);
                let mut written = Vec::new();
                for index in 0.. {
                    if stop.load(Ordering::Acquire) {
                        break;
                    }
                    let name = format!("{round}/{number}/{index}");
                    if tier.put(&key(&name), writer.entry(name.clone())).await.is_ok() {
                        written.push(name);
                    }
                }
                written
            });
        }
        // Enough to be in the middle of something, counted rather than timed.
        let before = tier.report().counts.puts;
        until("some writes", async || tier.report().counts.puts >= before + 40).await;
        node.kill();
        let error = tier.get(&key("any")).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
        stop.store(true, Ordering::Release);
        for written in writers.join_all().await {
            acknowledged.extend(written);
        }
        node.restart().await.unwrap();
        // Nobody tells the tier that it is back.
        tier.probe().await.unwrap();
    }
    assert!(acknowledged.len() >= 200, "{}", acknowledged.len());
    for name in &acknowledged {
        let found = tier.get(&key(name)).await.unwrap();
        assert_eq!(found.map(|entry| entry.value().to_vec()), Some(name.clone().into_bytes()), "{name}");
    }
    assert!(rpc(&node, "repo/verify").await.contains("verify complete"));
}
