//! Starts nodes, and waits for what happens in its own time.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use peercache_api::{Clock, Entry, Key, NodeId, SystemClock, Timestamp, VersionClock};
use peercache_libp2p::{Identity, NetworkKey, PeerAddress, Peers, PeersBuilder, RoleChoice};

/// How long anything may take before a test fails. No test waits for so long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn key() -> NetworkKey {
    NetworkKey::new([1; 32], Some([2; 32]), *b"testnet1")
}

/// A node that listens on loopback and dials `others`.
pub(crate) fn node(key: NetworkKey, role: RoleChoice, others: &[&Peers]) -> PeersBuilder {
    Peers::builder(key)
        .role(role)
        .listen_ips(vec![Ipv4Addr::LOCALHOST.into()])
        .listen_port((role == RoleChoice::Anchor).then_some(0))
        .bootstrap(others.iter().flat_map(|peers| addresses(peers)).collect())
}

pub(crate) fn addresses(peers: &Peers) -> Vec<PeerAddress> {
    peers.addresses().iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) async fn anchor(others: &[&Peers]) -> Peers {
    node(key(), RoleChoice::Anchor, others).start().await.unwrap()
}

pub(crate) async fn leaf(others: &[&Peers]) -> Peers {
    node(key(), RoleChoice::Leaf, others).start().await.unwrap()
}

/// Waits until `what` is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "it never came about that {what}");
}

/// Entries of one writer.
pub(crate) struct Writer {
    versions: VersionClock,
    clock: SystemClock,
}

impl Writer {
    pub(crate) fn new(node: u64) -> Self {
        Self { versions: VersionClock::new(NodeId::from_u64(node)), clock: SystemClock::new() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn entry(&self, value: Vec<u8>) -> Entry {
        let now = self.now();
        Entry::builder(value, self.versions.next(now), now)
            .fresh_for(Duration::from_secs(60))
            .build()
            .unwrap()
    }

    pub(crate) fn tombstone(&self) -> Entry {
        let now = self.now();
        Entry::tombstone(self.versions.next(now), now)
    }
}

pub(crate) fn name(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Bytes that no codec makes shorter, the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn identity() -> Identity {
    Identity::ephemeral().unwrap()
}

pub(crate) fn shared<T>(value: T) -> Arc<T> {
    Arc::new(value)
}
