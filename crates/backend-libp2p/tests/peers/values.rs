//! Entries travel whole.

use peercache_api::{CacheBackend, MAX_VALUE_BYTES};

use crate::support::{Writer, anchor, leaf, name, noise};

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
