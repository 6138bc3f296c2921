//! Sixteen machines that write one key at once: the newest stays, whole, and nobody sees an older
//! one again.
//!
//! `PEERCACHE_S3_ROUNDS` says how often; a thousand rounds take some minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use peercache_api::{CacheBackend, Clock, Entry, NodeId, SystemClock, Version};
use peercache_s3::S3;
use peercache_testkit::servers::{FaultProxy, Mode, Moto, SeaweedFs};
use tokio::task::JoinSet;

use crate::key;
use crate::stores::Store;

const WRITERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_over_seaweedfs() {
    let Some(server) = SeaweedFs::start().await.unwrap() else { return };
    let store = Store::new(server.endpoint(), server.bucket(), server.credentials());
    the_newest_stays(&store, rounds(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_over_moto() {
    let Some(server) = Moto::start().await.unwrap() else { return };
    // It looks at a condition and then writes, so that two writes under one `If-Match` may both
    // succeed: left to itself it is no judge of this.
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    proxy.set(Mode::OneByOne);
    let store = Store::new(proxy.endpoint(), server.bucket(), server.credentials());
    the_newest_stays(&store, rounds(20)).await;
}

fn rounds(usual: usize) -> usize {
    std::env::var("PEERCACHE_S3_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}

/// The value that a writer puts in a round, of a length of its own: a mix of two would show.
fn value_of(round: usize, writer: usize) -> Vec<u8> {
    format!("{round}/{writer};").into_bytes().repeat(100 + 37 * writer)
}

/// Each of the machines knows nothing but what it did itself.
async fn the_newest_stays(store: &Store, rounds: usize) {
    // Not about deadlines: SeaweedFS makes a write wait for its lock, whole seconds at a time.
    let fresh = store.fresh().request_timeout(Duration::from_secs(60));
    let mut machines = Vec::new();
    for _ in 0..WRITERS {
        machines.push(Arc::new(fresh.clone().open().await.unwrap()));
    }
    let reader = fresh.open().await.unwrap();
    let base = SystemClock::new().now();
    let mut took = Vec::with_capacity(rounds * WRITERS);
    for round in 0..rounds {
        let mut writers = JoinSet::new();
        for (writer, machine) in machines.iter().enumerate() {
            // The order of the versions differs from that of the starts, and changes with the
            // round.
            let rank = (writer * 7 + round) % WRITERS;
            let wall = base.saturating_add(Duration::from_millis(round as u64));
            let version = Version { wall, counter: u32::try_from(rank).unwrap(), node: NodeId::from_u64(1) };
            let entry =
                Entry::builder(value_of(round, rank), version, base).fresh_for(Duration::from_secs(3600));
            writers.spawn(write(Arc::clone(machine), entry.build().unwrap()));
        }
        while let Some(ended) = writers.join_next().await {
            took.push(ended.unwrap());
        }
        let left = reader.get(&key("contended")).await.unwrap().unwrap();
        assert_eq!(left.version().counter as usize, WRITERS - 1, "round {round}");
        assert_eq!(left.value()[..], value_of(round, WRITERS - 1)[..], "round {round}");
    }
    told(&machines, rounds, took);
}

/// How long it took. Once it is acknowledged, this machine sees its own or a newer one, and never
/// again an older.
async fn write(machine: Arc<S3>, entry: Entry) -> Duration {
    let (version, began) = (entry.version(), Instant::now());
    machine.put(&key("contended"), entry).await.unwrap();
    let took = began.elapsed();
    let seen = machine.get(&key("contended")).await.unwrap().unwrap();
    assert!(seen.version() >= version, "{:?} after writing {version:?}", seen.version());
    took
}

fn told(machines: &[Arc<S3>], rounds: usize, mut took: Vec<Duration>) {
    let reports: Vec<_> = machines.iter().map(|machine| machine.report()).collect();
    let conflicts: u64 = reports.iter().map(|report| report.conflicts).sum();
    let [sent, retried] = [
        reports.iter().map(|report| report.requests.put).sum::<u64>(),
        reports.iter().map(|report| report.retries).sum(),
    ];
    took.sort_unstable();
    println!(
        "{rounds} rounds of {WRITERS} writers: {} writes, {sent} PUT sent, {retried} sent again, {conflicts} conflicts; a write \
         took {:?} at the median and {:?} at the most",
        took.len(),
        took[took.len() / 2],
        took[took.len() - 1]
    );
    assert!(rounds < 5 || conflicts > 0, "the writers never met");
    // A round is lost only to a write that is newer than the one before, and there are sixteen; the
    // rest find out what the store can do.
    let most = (rounds * WRITERS * WRITERS + 3 * WRITERS) as u64;
    assert!(sent <= most, "{sent} PUT for {} writes", took.len());
}
