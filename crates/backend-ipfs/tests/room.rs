//! What the tier's files take on a real node, and what it leaves alone.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use peercache_api::{CacheBackend as _, Clock as _, Entry, NodeId, VersionClock};
use peercache_testkit::ManualClock;
use peercache_testkit::servers::{Kubo, KuboOptions};
use support::{Writer, add, builder, files_of, key, noise, rpc};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oldest_writes_go_first_above_the_byte_limit_and_expired_ones_at_once() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let clock = Arc::new(ManualClock::default());
    let versions = VersionClock::new(NodeId::from_u64(1));
    let tier = builder(&node, "room").max_bytes(4 * 1024 * 1024).maintenance(false);
    let tier = tier.clock(Arc::clone(&clock) as _).open().unwrap();
    let entry = |seed: u64, seconds: u64| {
        let now = clock.now();
        let entry = Entry::builder(noise(seed, 100 * 1024), versions.next(now), now);
        entry.fresh_for(Duration::from_secs(seconds)).build().unwrap()
    };
    for number in 0..50 {
        tier.put(&key(&number.to_string()), entry(number, 7200)).await.unwrap();
        clock.advance(Duration::from_secs(61));
    }
    tier.put(&key("short"), entry(99, 1)).await.unwrap();
    clock.advance(Duration::from_secs(2));

    let swept = tier.sweep().await.unwrap();
    assert_eq!(swept.expired, 1, "{swept:?}");
    // 50 times 100 KiB are 5.0 MB; nine tenths of the limit are 3.8 MB.
    assert!((12..=14).contains(&swept.evicted), "{swept:?}");
    assert_eq!(swept.files, 50 - swept.evicted, "{swept:?}");
    let report = tier.report();
    assert!(report.stored_bytes.unwrap() <= 4 * 1024 * 1024 * 9 / 10, "{report:?}");
    assert_eq!(files_of(&node, "room", &key("short")).await, 0);
    for number in 0..50 {
        let found = tier.get(&key(&number.to_string())).await.unwrap();
        assert_eq!(found.is_some(), number >= swept.evicted, "{number} of {swept:?}");
    }
    // Nothing is left to do.
    let again = tier.sweep().await.unwrap();
    assert_eq!((again.expired, again.evicted, again.files), (0, 0, swept.files));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_keeps_the_limit_by_itself() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let tier = builder(&node, "limit").max_bytes(2 * 1024 * 1024).open().unwrap();
    let writer = Writer::new(1);
    for number in 0..40_u64 {
        tier.put(&key(&number.to_string()), writer.entry(noise(number, 128 * 1024))).await.unwrap();
    }
    support::until("an eviction", async || {
        // Each write may wake it, as many bytes were written.
        tier.put(&key("more"), writer.entry(noise(7, 128 * 1024))).await.unwrap();
        let report = tier.report();
        report.counts.evicted > 0 && report.stored_bytes.is_some_and(|bytes| bytes <= report.max_bytes)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collection_takes_garbage_and_leaves_what_is_stored_pinned_or_in_mfs() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let pinned = add(&node, "pin=true", noise(1, 5000)).await;
    let filed = add(&node, "pin=false", noise(2, 5000)).await;
    let loose = add(&node, "pin=false", noise(3, 5000)).await;
    rpc(&node, "files/mkdir?arg=/theirs&parents=true").await;
    rpc(&node, &format!("files/cp?arg=/ipfs/{filed}&arg=/theirs/file")).await;

    let tier = builder(&node, "gc").open().unwrap();
    let writer = Writer::new(1);
    for round in 0..20 {
        tier.put(&key("k"), writer.entry(noise(round, 50_000))).await.unwrap();
    }
    support::until("one file", async || files_of(&node, "gc", &key("k")).await == 1).await;
    let collected = tier.collect_garbage().await.unwrap();
    assert!(collected.blocks >= 20, "{collected:?}");
    assert!(collected.bytes_now + 500_000 < collected.bytes_before, "{collected:?}");
    assert_eq!(tier.get(&key("k")).await.unwrap().unwrap().value()[..], noise(19, 50_000));

    let has =
        async |cid: &str| rpc(&node, &format!("block/stat?arg={cid}&offline=true")).await.contains("Size");
    assert!(has(&pinned).await && has(&filed).await);
    assert!(!has(&loose).await, "what nobody pinned is the node's to drop, as the reference says");
    // Nor does a sweep touch what is not the tier's, in its own folder as elsewhere.
    rpc(&node, &format!("files/cp?arg=/ipfs/{filed}&arg=/gc/entries/notes.txt")).await;
    rpc(&node, &format!("files/cp?arg=/ipfs/{filed}&arg=/gc/entries/ab/cd/notes.txt&parents=true")).await;
    tier.sweep().await.unwrap();
    for path in ["/theirs/file", "/gc/entries/notes.txt", "/gc/entries/ab/cd/notes.txt"] {
        assert!(rpc(&node, &format!("files/stat?arg={path}")).await.contains(&filed), "{path}");
    }
}

/// Sets for how long keys are overwritten:
/// `PEERCACHE_TEST_IPFS_SECONDS=120 cargo test -p peercache-ipfs --test room bounded`.
const SECONDS: &str = "PEERCACHE_TEST_IPFS_SECONDS";
/// Sets how many entries there are in the end:
/// `PEERCACHE_TEST_IPFS_ENTRIES=10000 cargo test -p peercache-ipfs --test room flat`.
const ENTRIES: &str = "PEERCACHE_TEST_IPFS_ENTRIES";

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is `{text}`, and should be a whole number")))
}

/// Overwrites the same keys on a node that collects by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repository_stays_bounded_while_keys_are_overwritten() {
    // Without the setting three times the limit, so that only collections can keep it.
    let seconds = number_from(SECONDS);
    let (limit, most, bytes) = match seconds {
        Some(_) => ("60MB", 120_000_000, 120_000_000),
        None => ("20MB", 40_000_000, 60_000_000),
    };
    let options = KuboOptions::default().collecting(limit, "1s");
    let Some(node) = Kubo::start(options).await.unwrap() else { return };
    let pinned = add(&node, "pin=true", noise(1, 5000)).await;
    let filed = add(&node, "pin=false", noise(2, 5000)).await;
    rpc(&node, "files/mkdir?arg=/theirs&parents=true").await;
    rpc(&node, &format!("files/cp?arg=/ipfs/{filed}&arg=/theirs/file")).await;
    let tier = builder(&node, "bounded").open().unwrap();
    let writer = Writer::new(1);
    let began = Instant::now();
    let (mut writes, mut largest, mut longest) = (0_u64, 0, Duration::ZERO);
    while tier.report().counts.bytes_out < bytes
        || seconds.is_some_and(|seconds| began.elapsed() < Duration::from_secs(seconds))
    {
        let put = Instant::now();
        let entry = writer.entry(noise(writes, 128 * 1024));
        tier.put(&key(&(writes % 50).to_string()), entry).await.unwrap();
        longest = longest.max(put.elapsed());
        writes += 1;
        if writes.is_multiple_of(20) {
            let stat: serde_json::Value =
                serde_json::from_str(&rpc(&node, "repo/stat?size-only=true").await).unwrap();
            largest = largest.max(stat["RepoSize"].as_u64().unwrap());
        }
    }
    let counts = tier.report().counts;
    println!(
        "{writes} writes in {:?}, the repository had at most {largest} bytes of {limit}, longest put \
         {longest:?}, {counts:?}",
        began.elapsed()
    );
    assert!(largest < most, "{largest} bytes after {counts:?}");
    for number in 0..50_u64.min(writes) {
        assert!(tier.get(&key(&number.to_string())).await.unwrap().is_some(), "{number}");
        let name = key(&number.to_string());
        support::until("one file", async || files_of(&node, "bounded", &name).await == 1).await;
    }
    // The collections have left alone what others keep there.
    for cid in [&pinned, &filed] {
        let stat = rpc(&node, &format!("block/stat?arg={cid}&offline=true")).await;
        assert!(stat.contains("Size"), "{stat}");
    }
    assert!(rpc(&node, "files/stat?arg=/theirs/file").await.contains(&filed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookup_time_is_flat_while_entries_grow() {
    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let tier = Arc::new(builder(&node, "flat").maintenance(false).open().unwrap());
    let writer = Writer::new(1);
    let most = number_from(ENTRIES).unwrap_or(1_200);
    let (mut made, mut medians) = (0, Vec::new());
    for goal in [most / 20, most] {
        let began = Instant::now();
        while made < goal {
            let puts = (made..goal.min(made + 16)).map(|number| {
                let (tier, entry) = (Arc::clone(&tier), writer.entry(noise(number, 4096)));
                async move { tier.put(&key(&number.to_string()), entry).await.unwrap() }
            });
            made += futures_util::future::join_all(puts).await.len() as u64;
        }
        let rate = goal as f64 / began.elapsed().as_secs_f64();
        let mut times = Vec::new();
        for round in 0..200 {
            let name = key(&(round * 7919 % goal).to_string());
            let began = Instant::now();
            assert!(tier.get(&name).await.unwrap().is_some());
            times.push(began.elapsed());
        }
        times.sort_unstable();
        println!("{goal} entries: get p50 {:?}, p95 {:?}, {rate:.0} puts/s", times[100], times[190]);
        medians.push(times[100]);
    }
    // In one folder for all, twenty times the entries would take ten times as long.
    assert!(medians[1] < medians[0] * 3, "{medians:?}");
}
