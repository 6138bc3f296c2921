//! A hit in memory beside a library that does nothing else: `moka`, with a value that is shared by
//! an `Arc`, as one would use it. Ours looks at versions, tags, removals and lifetimes on the way.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use peercache::{Bytes, Cache, Key, Policy};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Runtime};

use crate::runner::{Runner, Side};
use crate::{CAPACITY, TTL, fill, getting, spread};

static POLICY: Policy = Policy::fresh(Duration::from_secs(24 * 3600));
/// How much longer than a hit of moka's `Arc` one of ours may take.
const TYPED_BAR: f64 = 2.0;
/// The longest that a hit of 1 KiB of bytes may take.
const BYTES_BAR_NS: f64 = 600.0;

/// About 1 KiB of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    numbers: Vec<u64>,
    text: String,
}

fn record(number: usize) -> Record {
    Record {
        name: format!("record {number}"),
        numbers: (0..40).map(|n| (n * 7919 + number) as u64).collect(),
        text: "x".repeat(700),
    }
}

/// `values` are of 1 KiB.
pub(crate) fn compare(runner: &mut Runner, runtime: &Runtime, values: &Arc<[(Key, Bytes)]>) {
    let handle = runtime.handle();
    let (cache, named) = runtime.block_on(async {
        let named = Cache::builder().namespace("bench").memory(CAPACITY).build().unwrap();
        (Cache::builder().memory(CAPACITY).build().unwrap(), named)
    });
    fill(runtime, &cache, values);
    fill(runtime, &named, values);

    let moka = moka::sync::Cache::builder().time_to_live(TTL.fresh_or(Duration::ZERO)).build();
    let moka_bytes = moka::sync::Cache::builder().time_to_live(TTL.fresh_or(Duration::ZERO)).build();
    let typed = cache.typed::<Record>("records", &POLICY);
    let typed_named = named.typed::<Record>("records", &POLICY);
    for (number, (key, bytes)) in values.iter().enumerate() {
        moka.insert(key.clone(), Arc::new(record(number)));
        moka_bytes.insert(key.clone(), bytes.clone());
        runtime.block_on(async {
            assert!(typed.put(key, record(number)).await.unwrap().is_stored());
            assert!(typed_named.put(key, record(number)).await.unwrap().is_stored());
        });
    }

    let get_moka = || {
        hits(values, {
            let moka = moka.clone();
            move |key| moka.get(key).is_some()
        })
    };
    let get_bytes = || {
        hits(values, {
            let moka = moka_bytes.clone();
            move |key| moka.get(key).is_some()
        })
    };
    let ours = || reading(handle, &cache, values);
    runner.pair("typed hit / moka Arc", "1 KiB", 1, ours(), get_moka(), false);
    runner.at_most_ratio(TYPED_BAR);
    runner.pair("typed hit / moka Arc", "1 KiB", 2, ours(), get_moka(), false);
    let named_reads = || reading(handle, &named, values);
    runner.pair("namespace, typed hit", "1 KiB", 1, named_reads(), ours(), false);
    runner.pair("bytes hit / moka", "1 KiB", 1, getting(handle, &cache, values), get_bytes(), false);
    runner.at_most_ns(BYTES_BAR_NS);
    let without = getting(handle, &cache, values);
    runner.pair("namespace, bytes hit", "1 KiB", 1, getting(handle, &named, values), without, false);
}

/// Reads typed values by keys that are made once.
fn reading(handle: &Handle, cache: &Cache, values: &Arc<[(Key, Bytes)]>) -> Side {
    let (handle, typed, values) =
        (handle.clone(), cache.typed::<Record>("records", &POLICY), Arc::clone(values));
    let keys: Arc<[Key]> = values.iter().map(|(key, _)| typed.key(key).unwrap()).collect();
    Side::new(move |steps| {
        handle.block_on(async {
            for step in steps {
                let key = &keys[step.wrapping_mul(0x9E37_79B1) % keys.len()];
                assert!(black_box(typed.get_at(key).await).is_some());
            }
        });
    })
}

fn hits(values: &Arc<[(Key, Bytes)]>, get: impl Fn(&Key) -> bool + Send + Sync + 'static) -> Side {
    let values = Arc::clone(values);
    Side::new(move |steps| {
        for step in steps {
            assert!(black_box(get(&spread(step, &values).0)));
        }
    })
}
