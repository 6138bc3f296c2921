//! Entries and what is said about them travel whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use peercache_api::{CacheBackend, MAX_VALUE_BYTES, NodeId, Timestamp, Version};
use peercache_libp2p::Leased;

use crate::support::{Writer, anchor, connected, leaf, name, noise, until};

#[tokio::test(flavor = "multi_thread")]
async fn every_size_arrives_from_leaf_to_leaf() {
    let anchor = anchor(&[]).await;
    let (one, other) = (leaf(&[&anchor]).await, leaf(&[&anchor]).await);
    let writer = Writer::new(1);
    for size in [0, 1, 1024, 65_000, 65_536, 65_537, 1 << 20, MAX_VALUE_BYTES] {
        let (key, value) = (name(&format!("of {size}")), noise(size, size as u64));
        one.put(&key, writer.entry(value.clone())).await.unwrap();
        let found = other.get(&key).await.unwrap().unwrap();
        assert!(found.value() == &value, "{size} bytes came back differently");
    }
    assert_eq!(other.get(&name("never stored")).await.unwrap(), None);
    let report = other.report();
    assert_eq!((report.counters.peer_hits, report.counters.misses), (8, 1));
    assert!(report.members[0].bytes_in > MAX_VALUE_BYTES as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_puts_at_once_arrive_whole() {
    let anchor = anchor(&[]).await;
    let (one, other) = (leaf(&[&anchor]).await, leaf(&[&anchor]).await);
    let writer = Arc::new(Writer::new(1));
    let puts = (0..300).map(|at| {
        let (one, writer) = (one.clone(), Arc::clone(&writer));
        let size = if at % 50 == 0 { 300_000 } else { 1000 };
        tokio::spawn(async move { one.put(&name(&at.to_string()), writer.entry(noise(size, at))).await })
    });
    let puts: Vec<_> = puts.collect();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    let gets = (0..300).map(|at| {
        let other = other.clone();
        tokio::spawn(async move { (at, other.get(&name(&at.to_string())).await.unwrap().unwrap()) })
    });
    let gets: Vec<_> = gets.collect();
    for get in gets {
        let (at, entry) = get.await.unwrap();
        assert!(entry.value() == &noise(entry.value().len(), at));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_heard_by_everyone() {
    let anchor = anchor(&[]).await;
    let (one, other) = (leaf(&[&anchor]).await, leaf(&[&anchor]).await);
    until("all are there", || connected(&anchor) == 2).await;
    let heard = Arc::new(AtomicUsize::new(0));
    for peers in [&one, &other, &anchor] {
        let (heard, digest) = (Arc::clone(&heard), *name("k").digest());
        peers.watch_removals(move |key| {
            assert_eq!(*key, digest);
            heard.fetch_add(1, Ordering::SeqCst);
        });
    }
    let writer = Writer::new(1);
    one.put(&name("k"), writer.entry("v")).await.unwrap();
    one.put(&name("k"), writer.tombstone()).await.unwrap();
    until("both others have heard", || heard.load(Ordering::SeqCst) >= 2).await;
    assert!(other.get(&name("k")).await.unwrap().unwrap().is_tombstone());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_miss_one_loads_and_the_others_wait() {
    let anchor = anchor(&[]).await;
    let (one, other) = (leaf(&[&anchor]).await, leaf(&[&anchor]).await);
    let nothing = Version { wall: Timestamp::EPOCH, counter: 0, node: NodeId::from_u64(0) };
    let (ttl, wait) = (Duration::from_secs(20), Duration::from_secs(20));
    let first = one.lease(&name("k"), ttl, wait, nothing).await.unwrap();
    let Leased::Granted { token, .. } = first else { panic!("{first:?}") };
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { other.lease(&name("k"), ttl, wait, nothing).await.unwrap() }
    });
    until("the other waits", || anchor.report().counters.lease_waits == 1).await;
    let entry = Writer::new(1).entry("loaded");
    one.put(&name("k"), entry.clone()).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Leased::Found(entry));
    one.release(&name("k"), token);
    // A lease that is given back goes to the next one.
    let Leased::Granted { token, .. } = one.lease(&name("l"), ttl, wait, nothing).await.unwrap() else {
        panic!()
    };
    let waiting = tokio::spawn(async move { other.lease(&name("l"), ttl, wait, nothing).await.unwrap() });
    until("the other waits", || anchor.report().counters.lease_waits == 2).await;
    one.release(&name("l"), token);
    assert!(matches!(waiting.await.unwrap(), Leased::Granted { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_given_up_leaves_nothing_behind() {
    let anchor = anchor(&[]).await;
    let leaf = leaf(&[&anchor]).await;
    for at in 0..100 {
        // Begun, and given up: no answer is there as soon.
        let _ = leaf.get(&name(&at.to_string())).now_or_never();
    }
    assert_eq!(leaf.get(&name("k")).await.unwrap(), None);
    assert_eq!(leaf.report().counters.gets, 101);
}
