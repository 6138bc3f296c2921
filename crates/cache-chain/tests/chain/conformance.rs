//! The published suite judges chains as it judges every backend.

use std::sync::Arc;

use peercache_api::{CacheBackend, Capabilities, Clock};
use peercache_chain::{Chain, TierOptions};
use peercache_local::Memory;
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{Time, assert_conforms, from_fn};

use crate::support::{DURABLE, Scripted, VOLATILE};

type Backend = Arc<dyn CacheBackend>;

fn chain(clock: &Arc<ManualClock>, tiers: impl IntoIterator<Item = Backend>) -> Backend {
    let builder = Chain::builder().clock(Arc::clone(clock) as Arc<dyn Clock>);
    let add = |builder: peercache_chain::ChainBuilder, tier| builder.tier_with(tier, TierOptions::default());
    Arc::new(tiers.into_iter().fold(builder, add).build())
}

async fn judge(open: impl Fn(&Arc<ManualClock>) -> Backend + Send + Sync + 'static) {
    let clock = Arc::new(ManualClock::default());
    let time = Time::Manual(Arc::clone(&clock));
    assert_conforms(from_fn(time, move || std::future::ready(Ok(open(&clock))))).await;
}

fn scripted(clock: &Arc<ManualClock>, capabilities: Capabilities) -> Backend {
    Scripted::new("scripted", capabilities, clock)
}

fn memory(clock: &Arc<ManualClock>) -> Backend {
    Arc::new(Memory::builder().clock(Arc::clone(clock) as Arc<dyn Clock>).build())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_one_volatile_tier() {
    judge(|clock| chain(clock, [scripted(clock, VOLATILE)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_memory_alone() {
    judge(|clock| chain(clock, [memory(clock)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_memory_over_memory() {
    judge(|clock| {
        let inner = chain(clock, [memory(clock)]);
        chain(clock, [inner, memory(clock)])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_over_a_tier_without_order() {
    judge(|clock| chain(clock, [scripted(clock, VOLATILE), scripted(clock, Capabilities::local())])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_whose_first_tier_takes_only_small_values() {
    judge(|clock| {
        chain(clock, [scripted(clock, VOLATILE.with_max_value_bytes(64)), scripted(clock, VOLATILE)])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_may_not_be_written() {
    judge(|clock| chain(clock, [scripted(clock, DURABLE.with_read_only())])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_in_a_chain() {
    judge(|clock| {
        let inner = chain(clock, [scripted(clock, VOLATILE), scripted(clock, VOLATILE)]);
        chain(clock, [inner, scripted(clock, VOLATILE)])
    })
    .await;
}
