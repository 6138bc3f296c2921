//! Who becomes a member, how often, and who comes back.

use std::time::Duration;

use peercache_api::{CacheBackend, ErrorKind};
use peercache_libp2p::{Identity, Limits, PeerAddress, Peers, RoleChoice};

use crate::support::{
    Writer, addresses, anchor, connected, key, leaf, name, nameless, node, node_at, port, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_has_found_its_anchor_when_it_has_started() {
    let anchor = anchor(&[]).await;
    let leaf = leaf(&[&anchor]).await;
    assert_eq!(connected(&leaf), 1);
    until("the anchor knows the leaf", || connected(&anchor) == 1).await;
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
async fn a_node_starts_without_anybody_and_finds_them_later() {
    let identity = Identity::derived(&key(), "mcp-server").unwrap();
    let early = node_at(1, &[]).identity(identity.clone()).start().await.unwrap();
    let (address, port) = (addresses(&early), port(&early));
    early.close().await.unwrap();
    drop(early);
    let mut limits = Limits::default();
    limits.connect_wait = Duration::from_millis(50);
    let leaf = node(key(), RoleChoice::Leaf, &[]).bootstrap(address).limits(limits).start().await.unwrap();
    assert_eq!(leaf.get(&name("k")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(leaf.probe().await.unwrap_err().kind(), ErrorKind::Unavailable);
    until("it says what hinders it", || leaf.report().bootstrap[0].trouble.is_some()).await;
    let back = node_at(1, &[]).identity(identity).listen_port(Some(port));
    let back = back.start().await.unwrap();
    until("the leaf finds it", || connected(&leaf) == 1).await;
    assert_eq!(leaf.get(&name("k")).await.unwrap(), None);
    // And once more, after a connection that was there.
    back.close().await.unwrap();
    drop(back);
    until("the leaf has lost it", || connected(&leaf) == 0).await;
    let identity = Identity::derived(&key(), "mcp-server").unwrap();
    let again = node_at(1, &[]).identity(identity).listen_port(Some(port));
    let _again = again.start().await.unwrap();
    until("the leaf finds it again", || connected(&leaf) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_never_talks_to_itself() {
    let lone = anchor(&[]).await;
    let identity = Identity::derived(&key(), "twin").unwrap();
    let first = node(key(), RoleChoice::Anchor, &[]).identity(identity.clone()).start().await.unwrap();
    // Its own address, which it does not know as its own beforehand, and another node with its
    // name.
    let twin = node(key(), RoleChoice::Anchor, &[&lone]).identity(identity).bootstrap(vec![nameless(&first)]);
    let twin = twin.start().await.unwrap();
    until("it has noticed", || twin.report().connections.own > 0).await;
    until("it says so", || {
        let report = twin.report();
        report.bootstrap[0].trouble.as_deref() == Some("this node itself answered there")
    })
    .await;
    assert_eq!((connected(&first), connected(&twin)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_addresses_of_one_node_make_one_connection() {
    let anchor = anchor(&[]).await;
    let both = vec![nameless(&anchor), addresses(&anchor)[0].clone(), nameless(&anchor)];
    let leaf = node(key(), RoleChoice::Leaf, &[]).bootstrap(both).start().await.unwrap();
    until("all addresses are satisfied", || leaf.report().bootstrap.iter().all(|it| it.connected)).await;
    assert_eq!((connected(&leaf), connected(&anchor)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_dial_each_other_keep_one_connection() {
    let (one_id, other_id) = (Identity::ephemeral().unwrap(), Identity::ephemeral().unwrap());
    let first = node_at(2, &[]).identity(one_id.clone()).start().await.unwrap();
    let second = node_at(3, &[]).identity(other_id.clone()).start().await.unwrap();
    let ports = (port(&first), port(&second));
    let at = (addresses(&first), addresses(&second));
    first.close().await.unwrap();
    second.close().await.unwrap();
    drop((first, second));
    let start = |last: u8, identity: Identity, port: u16, other: Vec<PeerAddress>| {
        node_at(last, &[]).identity(identity).listen_port(Some(port)).bootstrap(other).start()
    };
    let (one, other) = tokio::join!(start(2, one_id, ports.0, at.1), start(3, other_id, ports.1, at.0));
    let (one, other) = (one.unwrap(), other.unwrap());
    let joined =
        |peers: &Peers| connected(peers) == 1 && peers.report().in_ring && peers.report().anchors == 2;
    until("both are in the ring", || joined(&one) && joined(&other)).await;
    // Both see the same connection: what one dialled, the other accepted.
    until("they agree", || {
        let (one, other) = (one.report(), other.report());
        one.members[0].dialled.zip(other.members[0].dialled).is_some_and(|(one, other)| one != other)
    })
    .await;
    let (writer, key) = (Writer::new(1), name("k"));
    one.put(&key, writer.entry("v")).await.unwrap();
    assert_eq!(other.get(&key).await.unwrap().unwrap().value(), "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn anchors_that_know_one_of_them_find_all() {
    let first = anchor(&[]).await;
    let (second, third) = (anchor(&[&first]).await, anchor(&[&first]).await);
    let all = [&first, &second, &third];
    until("they are a mesh", || all.iter().all(|peers| connected(peers) == 2)).await;
    until("all are in the ring", || {
        all.iter().all(|peers| peers.report().in_ring && peers.report().anchors == 3)
    })
    .await;
    let leaf = leaf(&[&third]).await;
    until("the leaf knows them all", || connected(&leaf) == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_is_no_longer_a_member() {
    let first = anchor(&[]).await;
    let second = anchor(&[&first]).await;
    until("there are two", || first.report().anchors == 2 && second.report().anchors == 2).await;
    second.close().await.unwrap();
    second.close().await.unwrap();
    until("there is one", || first.report().anchors == 1 && connected(&first) == 0).await;
    let refused = [
        second.get(&name("k")).await.unwrap_err(),
        second.put(&name("k"), Writer::new(1).entry("v")).await.unwrap_err(),
        second.probe().await.unwrap_err(),
    ];
    assert!(refused.iter().all(|error| error.kind() == ErrorKind::Unavailable && !error.is_retryable()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_an_error_that_names_it() {
    let anchor = anchor(&[]).await;
    let taken = port(&anchor);
    let error = node(key(), RoleChoice::Anchor, &[]).listen_port(Some(taken)).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string().replace(&taken.to_string(), "PORT");
    insta::assert_snapshot!(text, @"peers: open failed (configuration): the port is in use by another process [port=PORT, address=127.0.0.1]: Address already in use (os error 98); stop that process, set CACHE_LISTEN_PORT to another port, or 0 for any");
    let error = node(key(), RoleChoice::Anchor, &[]).listen_port(None).start().await.unwrap_err();
    insta::assert_snapshot!(error, @"peers: open failed (configuration): an anchor has to be dialled by others, and this one does not listen; give it a port to listen on (CACHE_LISTEN_PORT=9100), or make it a leaf");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_follows_the_port() {
    let other = node_at(4, &[]).start().await.unwrap();
    let free = port(&other);
    other.close().await.unwrap();
    let start = |port| node_at(4, &[]).role(RoleChoice::Auto).listen_port(port).start();
    assert_eq!(start(None).await.unwrap().report().role, "leaf");
    assert_eq!(start(Some(0)).await.unwrap().report().role, "leaf");
    assert_eq!(start(Some(free)).await.unwrap().report().role, "anchor");
}
