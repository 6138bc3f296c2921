//! A node whose only bootstrap peer takes connections and never says a word: what a read costs
//! there.

use std::net::TcpListener;
use std::time::Duration;

use peercache_api::{CacheBackend as _, ErrorKind, Key};
use peercache_libp2p::{Limits, NetworkKey, Peers};

use crate::load::{Load, Side, measure};

/// Reads, one at a time. Each fails at once, since nobody is connected.
pub(crate) async fn reads(span: Duration, rounds: usize) -> Load {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port());
    let mut limits = Limits::default();
    limits.connect_wait = Duration::ZERO;
    let peers = Peers::builder(NetworkKey::new([1; 32], Some([2; 32]), *b"benchnet"))
        .bootstrap(vec![address.parse().unwrap()])
        .limits(limits)
        .start()
        .await
        .unwrap();
    let key = Key::new("of nobody").unwrap();
    let read = Side::new(move || {
        let (peers, key) = (peers.clone(), key.clone());
        async move { assert_eq!(peers.get(&key).await.unwrap_err().kind(), ErrorKind::Unavailable) }
    });
    measure(&[read], 1, span, rounds).await[0]
}
