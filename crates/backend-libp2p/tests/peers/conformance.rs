//! The suite that judges every backend, over networks of two and five nodes.

use std::sync::Arc;

use peercache_api::CacheBackend;
use peercache_libp2p::{Peers, RoleChoice};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};
use tokio::sync::OnceCell;

use crate::support::{key, node};

async fn started(clock: &Arc<ManualClock>, role: RoleChoice, others: &[&Peers]) -> Peers {
    node(key(), role, others).clock(Arc::<ManualClock>::clone(clock)).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_conform() {
    let clock = Arc::new(ManualClock::default());
    let anchor = Arc::new(started(&clock, RoleChoice::Anchor, &[]).await);
    let harness = conformance::from_fn(Time::Manual(Arc::clone(&clock)), move || {
        let (clock, anchor) = (Arc::clone(&clock), Arc::clone(&anchor));
        async move { Ok(Arc::new(started(&clock, RoleChoice::Leaf, &[&anchor]).await) as Arc<dyn CacheBackend>) }
    });
    conformance::assert_conforms(harness).await;
}
