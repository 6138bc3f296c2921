//! Who does not become a member.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use peercache_api::{CacheBackend, ErrorKind};
use peercache_libp2p::{Identity, NetworkKey, Peers, RoleChoice};

use crate::support::{Writer, anchor, connected, key, leaf, name, node, port, until};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_another_key_is_refused_and_counted() {
    let anchor = anchor(&[]).await;
    let other_key = NetworkKey::new([9; 32], Some([2; 32]), *b"othernet");
    let stranger = node(other_key, RoleChoice::Leaf, &[&anchor]).start().await.unwrap();
    until("it is counted", || anchor.report().connections.refused_strangers > 0).await;
    let impostor_key = NetworkKey::new([9; 32], Some([2; 32]), *b"testnet1");
    let impostor = node(impostor_key, RoleChoice::Leaf, &[&anchor]).start().await.unwrap();
    until("it is counted", || anchor.report().connections.refused_keys > 0).await;
    assert_eq!((connected(&anchor), connected(&stranger), connected(&impostor)), (0, 0, 0));
    let told = |peers: &Peers| {
        let why = "it is no node of this network, or CACHE_SECRET is not the same on both";
        peers.report().bootstrap[0].trouble.as_deref() == Some(why)
    };
    until("both are told why", || told(&stranger) && told(&impostor)).await;
    assert_eq!(stranger.get(&name("k")).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_moves_to_another_key_without_a_break() {
    let new = NetworkKey::new([5; 32], Some([6; 32]), *b"testnet2");
    let rotated = node(new.clone().with_old(key()), RoleChoice::Anchor, &[]).start().await.unwrap();
    let (behind, ahead) =
        (leaf(&[&rotated]).await, node(new, RoleChoice::Leaf, &[&rotated]).start().await.unwrap());
    let writer = Writer::new(1);
    behind.put(&name("k"), writer.entry("v")).await.unwrap();
    assert_eq!(ahead.get(&name("k")).await.unwrap().unwrap().value(), "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_writers_key_a_node_reads_and_cannot_write() {
    let anchor = anchor(&[]).await;
    let writer = leaf(&[&anchor]).await;
    let read_only = NetworkKey::new([1; 32], None, *b"testnet1");
    let reader = node(read_only, RoleChoice::Leaf, &[&anchor]).start().await.unwrap();
    let entries = Writer::new(1);
    writer.put(&name("k"), entries.entry("v")).await.unwrap();
    assert_eq!(reader.get(&name("k")).await.unwrap().unwrap().value(), "v");
    assert!(!reader.info().capabilities.writable && !reader.report().writer);
    let denied = reader.put(&name("k"), entries.entry("w")).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied);
    assert_eq!(writer.get(&name("k")).await.unwrap().unwrap().value(), "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_on_the_list_are_let_in() {
    let guest = Identity::ephemeral().unwrap();
    let anchor =
        node(key(), RoleChoice::Anchor, &[]).allowed_peers(vec![guest.name()]).start().await.unwrap();
    let other = leaf(&[&anchor]).await;
    until("it is counted", || anchor.report().connections.refused_not_allowed > 0).await;
    let guest = node(key(), RoleChoice::Leaf, &[&anchor]).identity(guest).start().await.unwrap();
    until("the guest is in", || connected(&guest) == 1 && connected(&anchor) == 1).await;
    until("the other is out", || connected(&other) == 0).await;
    until("the other is told why", || {
        let report = other.report();
        report.bootstrap[0].trouble.as_deref() == Some(
            "it ended the connection and said nothing: this node may not be on its list of allowed peers, or it has \
             too many connections",
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_flooded_with_dials_still_serves() {
    let anchor = anchor(&[]).await;
    let target = ("127.0.0.1", port(&anchor));
    // Half say nothing, half say something else.
    let flood: Vec<_> = (0..400)
        .map(|at| {
            let mut stream = TcpStream::connect(target).unwrap();
            if at % 2 == 0 {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            }
            stream
        })
        .collect();
    until("most are turned away", || {
        let seen = anchor.report().connections;
        seen.refused_limits + seen.refused_strangers >= 300
    })
    .await;
    let leaf = leaf(&[&anchor]).await;
    until("a member gets in beside them", || connected(&leaf) == 1).await;
    leaf.put(&name("k"), Writer::new(1).entry("v")).await.unwrap();
    drop(flood);
}

/// Keeps `count` idle connections with `port`: whichever is closed is opened anew at once.
async fn hold_idle_connections(port: u16, count: usize) -> tokio::task::JoinSet<()> {
    let mut idle = tokio::task::JoinSet::new();
    for _ in 0..count {
        idle.spawn(async move {
            loop {
                let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                // Ends when the other side has closed it.
                let _ = tokio::io::AsyncReadExt::read(&mut { stream }, &mut [0]).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
    }
    idle
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_one_address_keep_no_member_out() {
    let anchor = anchor(&[]).await;
    let idle = hold_idle_connections(port(&anchor), 100).await;
    until("connections make room for one another", || anchor.report().connections.refused_limits >= 36).await;
    for _ in 0..5 {
        let leaf = leaf(&[&anchor]).await;
        assert_eq!(connected(&leaf), 1, "within the wait of its start: {:?}", leaf.report().bootstrap);
        leaf.close().await.unwrap();
    }
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_given_up_and_nothing_waits_for_it() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port());
    let leaf =
        node(key(), RoleChoice::Leaf, &[]).bootstrap(vec![address.parse().unwrap()]).start().await.unwrap();
    assert_eq!(leaf.get(&name("k")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    until("it is said", || {
        let report = leaf.report();
        report.bootstrap[0].trouble.as_deref() == Some("it did not answer in time")
    })
    .await;
}
