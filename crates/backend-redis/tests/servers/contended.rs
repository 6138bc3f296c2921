//! Many writers on one key: the newest wins, always.

use std::sync::Arc;

use peercache_api::{CacheBackend, Clock, Entry, NodeId, SystemClock, Version};
use peercache_redis::Redis;
use peercache_testkit::servers::RedisServer;
use tokio::sync::Barrier;

use crate::key;

const WRITERS: u64 = 16;
const ROUNDS: u32 = 1_000;

/// Each writer has a connection of its own, as each machine has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_on_one_key_leave_the_newest_of_each_round() {
    let Some(server) = RedisServer::start().await.unwrap() else { return };
    let barrier = Arc::new(Barrier::new(WRITERS as usize));
    let start = SystemClock::new().now();
    let k = key("contended");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let tier = Redis::builder(server.url()).open().unwrap();
        let (barrier, k) = (Arc::clone(&barrier), k.clone());
        writers.spawn(async move {
            for round in 0..ROUNDS {
                // In each round another one is the newest, and all write at once.
                let counter = round * WRITERS as u32 + (writer as u32 + round) % WRITERS as u32;
                let version = Version { wall: start, counter, node: NodeId::from_u64(writer) };
                let lifetime = std::time::Duration::from_secs(600);
                let entry = Entry::builder(counter.to_string(), version, start).fresh_for(lifetime);
                let entry = entry.build().unwrap();
                barrier.wait().await;
                tier.put(&k, entry).await.unwrap();
                let seen = tier.get(&k).await.unwrap().unwrap().version().counter;
                assert!(seen >= counter, "round {round}: {seen} is older than {counter}, which was put");
                barrier.wait().await;
                let last = tier.get(&k).await.unwrap().unwrap();
                assert_eq!(last.version().counter, round * WRITERS as u32 + WRITERS as u32 - 1);
                assert_eq!(last.value(), last.version().counter.to_string().as_bytes());
                barrier.wait().await;
            }
            tier.report()
        });
    }
    let mut lost = 0;
    while let Some(report) = writers.join_next().await {
        lost += report.unwrap().lost_writes;
    }
    println!("{} writes, {lost} found a newer entry", WRITERS * u64::from(ROUNDS));
}
