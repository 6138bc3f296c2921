//! The suite that judges every backend, over networks of two and five nodes.

use std::sync::Arc;

use peercache_api::CacheBackend;
use peercache_libp2p::{Peers, RoleChoice};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};

use crate::support::{connected, key, node, until};

async fn started(clock: &Arc<ManualClock>, role: RoleChoice, others: &[&Peers]) -> Peers {
    node(key(), role, others).clock(Arc::<ManualClock>::clone(clock)).start().await.unwrap()
}

/// A leaf of its own for each case, over `anchors` that stay.
async fn judge(clock: Arc<ManualClock>, anchors: Vec<Peers>) {
    let harness = conformance::from_fn(Time::Manual(Arc::clone(&clock)), move || {
        let (clock, anchors) = (Arc::clone(&clock), anchors.clone());
        async move {
            let leaf = started(&clock, RoleChoice::Leaf, &anchors.iter().collect::<Vec<_>>()).await;
            // Who is an owner changes while it finds the others, and it would look in other places.
            until("it knows all anchors", || connected(&leaf) == anchors.len()).await;
            Ok(Arc::new(leaf) as Arc<dyn CacheBackend>)
        }
    });
    conformance::assert_conforms(harness).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_conform() {
    let clock = Arc::new(ManualClock::default());
    let anchor = started(&clock, RoleChoice::Anchor, &[]).await;
    judge(clock, vec![anchor]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_conform() {
    let clock = Arc::new(ManualClock::default());
    let first = started(&clock, RoleChoice::Anchor, &[]).await;
    let mut anchors = vec![first];
    for _ in 0..3 {
        let next = started(&clock, RoleChoice::Anchor, &[&anchors[0]]).await;
        anchors.push(next);
    }
    until("all are in the ring", || anchors.iter().all(|peers| peers.report().anchors == 4)).await;
    judge(clock, anchors).await;
}
