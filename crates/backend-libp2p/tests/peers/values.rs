//! Entries and what is said about them travel whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use peercache_api::{
    CacheBackend, Entry, Fleet, LeaseAnswer, LeaseRequest, LeaseToken, MAX_VALUE_BYTES, RemovalWatcher,
};

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
    let begun = Instant::now();
    let puts = (0..300).map(|at| {
        let (one, writer) = (one.clone(), Arc::clone(&writer));
        let size = if at % 50 == 0 { 300_000 } else { 1000 };
        tokio::spawn(async move { one.put(&name(&at.to_string()), writer.entry(noise(size, at))).await })
    });
    let puts: Vec<_> = puts.collect();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    println!("300 puts at once were with the anchor after {:?}", begun.elapsed());
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

#[derive(Debug)]
struct Heard {
    digest: [u8; 32],
    times: AtomicUsize,
}

impl RemovalWatcher for Heard {
    fn removed(&self, key: &[u8; 32], tombstone: &Entry) {
        assert!(*key == self.digest && tombstone.is_tombstone());
        self.times.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_heard_by_everyone() {
    let anchor = anchor(&[]).await;
    let (one, other) = (leaf(&[&anchor]).await, leaf(&[&anchor]).await);
    until("all are there", || connected(&anchor) == 2).await;
    let heard = Arc::new(Heard { digest: *name("k").digest(), times: AtomicUsize::new(0) });
    for peers in [&one, &other, &anchor] {
        let watcher: Arc<dyn RemovalWatcher> = Arc::<Heard>::clone(&heard);
        peers.fleet().unwrap().watch(Arc::downgrade(&watcher));
    }
    let writer = Writer::new(1);
    one.put(&name("k"), writer.entry("v")).await.unwrap();
    one.put(&name("k"), writer.tombstone()).await.unwrap();
    until("both others have heard", || heard.times.load(Ordering::SeqCst) >= 2).await;
    assert!(other.get(&name("k")).await.unwrap().unwrap().is_tombstone());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_miss_one_loads_and_the_others_wait() {
    let anchor = anchor(&[]).await;
    let (one, other) = (leaf(&[&anchor]).await, leaf(&[&anchor]).await);
    let request = LeaseRequest::new(Duration::from_secs(20), Duration::from_secs(20));
    granted(one.lease(&name("k"), request).await);
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { other.lease(&name("k"), request).await.unwrap() }
    });
    until("the other waits", || anchor.report().counters.lease_waits == 1).await;
    let entry = Writer::new(1).entry("loaded");
    one.put(&name("k"), entry.clone()).await.unwrap();
    assert_eq!(waiting.await.unwrap(), LeaseAnswer::Found(entry));
    // A lease that is given back goes to the next one.
    let token = granted(one.lease(&name("l"), request).await);
    let waiting = tokio::spawn(async move { other.lease(&name("l"), request).await });
    until("the other waits", || anchor.report().counters.lease_waits == 2).await;
    one.release(&name("l"), token);
    granted(waiting.await.unwrap());
}

fn granted(answer: Result<LeaseAnswer, peercache_api::Error>) -> LeaseToken {
    match answer {
        Ok(LeaseAnswer::Granted(token)) => token,
        other => panic!("{other:?}"),
    }
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
