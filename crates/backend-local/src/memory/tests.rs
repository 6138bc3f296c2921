//! Conformance, the byte bound, and that what was accepted can be read.

use std::collections::HashMap;
use std::time::Duration;

use peercache_api::{NodeId, Timestamp, Version};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};
use proptest::prelude::*;

use super::*;

fn version(n: u64) -> Version {
    Version { wall: Timestamp::from_millis(1_800_000_000_000 + n), counter: 0, node: NodeId::from_u64(1) }
}

fn entry(n: u64, bytes: usize) -> Entry {
    let created = Timestamp::from_millis(1_800_000_000_000);
    Entry::builder(vec![n as u8; bytes], version(n), created)
        .fresh_for(Duration::from_secs(60))
        .build()
        .unwrap()
}

fn memory(capacity: usize) -> Memory {
    Memory::builder().capacity(capacity).clock(Arc::new(ManualClock::default())).build()
}

async fn conforms(capacity: usize) {
    let clock = Arc::new(ManualClock::default());
    let harness = conformance::from_fn(Time::Manual(Arc::clone(&clock)), move || {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        async move {
            Ok(Arc::new(Memory::builder().capacity(capacity).clock(clock).build()) as Arc<dyn CacheBackend>)
        }
    });
    conformance::assert_conforms(harness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_with_several_shards() {
    conforms(128 * 1024 * 1024).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_when_the_largest_value_does_not_fit() {
    conforms(6 * 1024 * 1024).await;
}

#[test]
fn the_largest_value_follows_from_the_capacity() {
    let most = |capacity| memory(capacity).info().capabilities.max_value_bytes;
    assert_eq!(most(0), most(Memory::MIN_CAPACITY));
    assert!(most(Memory::MIN_CAPACITY) > 32 * 1024);
    assert!(most(1 << 20) > 1_000_000);
    for mib in [9, 16, 17, 33, 64, 100, 1000] {
        assert_eq!(most(mib << 20), MAX_VALUE_BYTES, "{mib} MiB");
        assert!(memory(mib << 20).stats().capacity <= (mib as u64) << 20);
    }
}

#[tokio::test]
async fn every_accepted_entry_can_be_read_at_once_however_full_it_is() {
    let memory = memory(4 << 20);
    let most = memory.info().capabilities.max_value_bytes;
    let hot: Vec<_> = (0..40).map(|n| Key::new(format!("hot/{n}")).unwrap()).collect();
    for round in 0..50_u64 {
        // Entries that are read often resist eviction most.
        for key in &hot {
            memory.put(key, entry(round * 100, 50_000)).await.unwrap();
            memory.get(key).await.unwrap();
            memory.get(key).await.unwrap();
        }
        let bytes = most - (round as usize % 7) * (most / 8);
        let key = Key::new(format!("large/{}", round % 3)).unwrap();
        memory.put(&key, entry(round * 100 + 1, bytes)).await.unwrap();
        let found = memory.get(&key).await.unwrap().expect("it was accepted a moment ago");
        assert_eq!(found.value().len(), bytes);
        assert!(memory.stats().bytes <= memory.stats().capacity);
    }
    assert!(memory.stats().evicted > 0);
}

#[tokio::test]
async fn expired_entries_are_removed_when_met() {
    let clock = Arc::new(ManualClock::default());
    let memory = Memory::builder().clock(Arc::<ManualClock>::clone(&clock)).build();
    let key = Key::new("k").unwrap();
    memory.put(&key, entry(0, 1000)).await.unwrap();
    assert_eq!(memory.stats().entries, 1);
    clock.advance(Duration::from_secs(60));
    assert_eq!(memory.get(&key).await.unwrap(), None);
    assert_eq!((memory.stats().entries, memory.stats().bytes, memory.stats().evicted), (0, 0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, version: u64, bytes: usize },
    Get { key: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let put = (0..24_u8, 0..40_u64, prop_oneof![0..200_usize, 1000..60_000_usize])
        .prop_map(|(key, version, bytes)| Step::Put { key, version, bytes });
    let get = (0..24_u8).prop_map(|key| Step::Get { key });
    prop::collection::vec(prop_oneof![3 => put, 2 => get], 1..120)
}

proptest! {
    /// The model is what was put and won. Memory may have evicted it, but never holds anything else
    /// and never more bytes than it may.
    #[test]
    fn holds_a_subset_of_the_model_within_the_bound(steps in steps(), capacity in 70_000..400_000_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let memory = memory(capacity);
        let mut model: HashMap<u8, Entry> = HashMap::new();
        for step in steps {
            match step {
                Step::Put { key, version, bytes } => {
                    let new = entry(version, bytes);
                    let name = Key::new(format!("k{key}")).unwrap();
                    let held = runtime.block_on(memory.get(&name)).unwrap();
                    let put = runtime.block_on(memory.put(&name, new.clone()));
                    if bytes > memory.info().capabilities.max_value_bytes {
                        prop_assert_eq!(put.map_err(|error| error.kind()), Err(ErrorKind::TooLarge));
                    } else {
                        put.unwrap();
                        let winner = held.filter(|held| held.version() >= new.version()).unwrap_or(new);
                        let found = runtime.block_on(memory.get(&name)).unwrap();
                        prop_assert_eq!(found.as_ref(), Some(&winner));
                        model.insert(key, winner);
                    }
                }
                Step::Get { key } => {
                    let found = runtime.block_on(memory.get(&Key::new(format!("k{key}")).unwrap())).unwrap();
                    prop_assert!(found.is_none() || found.as_ref() == model.get(&key));
                }
            }
            let stats = memory.stats();
            prop_assert!(stats.bytes <= stats.capacity && stats.capacity <= capacity as u64, "{:?}", stats);
            prop_assert!(stats.entries <= model.len() as u64);
        }
    }
}
