//! Who becomes a member, and who does not.

use peercache_api::CacheBackend;
use peercache_libp2p::{NetworkKey, Peers, RoleChoice};

use crate::support::{addresses, anchor, identity, key, leaf, name, node, until};

fn members(peers: &Peers) -> usize {
    peers.report().connected
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_finds_its_anchor_before_it_has_started() {
    let anchor = anchor(&[]).await;
    let leaf = leaf(&[&anchor]).await;
    assert_eq!(members(&leaf), 1);
    until("the anchor knows the leaf", || members(&anchor) == 1).await;
    let report = leaf.report();
    let member = &report.members[0];
    assert_eq!((member.name, member.role, member.state), (anchor.name(), Some("anchor"), "connected"));
    assert_eq!((member.dialled, leaf.addresses()), (Some(true), Vec::<String>::new()));
    until("the bootstrap address is reported", || leaf.report().bootstrap.iter().all(|it| it.connected))
        .await;
    leaf.probe().await.unwrap();
    serde_json::to_string(&report).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_and_counted() {
    let anchor = anchor(&[]).await;
    let other_key = NetworkKey::new([9; 32], Some([2; 32]), *b"othernet");
    let stranger = node(other_key, RoleChoice::Leaf, &[&anchor]).start().await.unwrap();
    until("it is counted", || anchor.report().connections.refused_strangers > 0).await;
    let impostor_key = NetworkKey::new([9; 32], Some([2; 32]), *b"testnet1");
    let impostor = node(impostor_key, RoleChoice::Leaf, &[&anchor]).start().await.unwrap();
    until("it is counted", || anchor.report().connections.refused_keys > 0).await;
    assert_eq!((members(&anchor), members(&stranger), members(&impostor)), (0, 0, 0));
    until("the stranger is told why", || {
        let report = stranger.report();
        report.bootstrap[0].trouble.as_deref().is_some_and(|why| why.contains("network key"))
    })
    .await;
    stranger.get(&name("k")).await.unwrap_err();
}
