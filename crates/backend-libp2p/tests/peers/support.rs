//! Starts nodes, and waits for what happens in its own time.

use std::net::Ipv4Addr;
use std::time::Duration;

use peercache_api::{Clock, Entry, Key, NodeId, SystemClock, Timestamp, VersionClock};
use peercache_libp2p::{NetworkKey, PeerAddress, Peers, PeersBuilder, RoleChoice};

/// How long anything may take before a test fails. No test waits for so long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn key() -> NetworkKey {
    NetworkKey::new([1; 32], Some([2; 32]), *b"testnet1")
}

/// A node that dials `others` and, if it is an anchor, listens on loopback.
pub(crate) fn node(key: NetworkKey, role: RoleChoice, others: &[&Peers]) -> PeersBuilder {
    Peers::builder(key)
        .role(role)
        .listen_ips(vec![Ipv4Addr::LOCALHOST.into()])
        .listen_port((role == RoleChoice::Anchor).then_some(0))
        .bootstrap(others.iter().flat_map(|peers| addresses(peers)).collect())
}

/// As [`node`], at an address of loopback that no other test uses: its port is free again when the
/// node has closed, and nobody else gets it meanwhile.
pub(crate) fn node_at(last: u8, others: &[&Peers]) -> PeersBuilder {
    node(key(), RoleChoice::Anchor, others).listen_ips(vec![Ipv4Addr::new(127, 77, 0, last).into()])
}

pub(crate) fn addresses(peers: &Peers) -> Vec<PeerAddress> {
    peers.addresses().iter().map(|text| text.parse().unwrap()).collect()
}

/// The address of `peers` without its name.
pub(crate) fn nameless(peers: &Peers) -> PeerAddress {
    peers.addresses()[0].split("/p2p/").next().unwrap().parse().unwrap()
}

pub(crate) fn port(peers: &Peers) -> u16 {
    nameless(peers).to_string().rsplit('/').next().unwrap().parse().unwrap()
}

pub(crate) async fn anchor(others: &[&Peers]) -> Peers {
    node(key(), RoleChoice::Anchor, others).start().await.unwrap()
}

pub(crate) async fn leaf(others: &[&Peers]) -> Peers {
    node(key(), RoleChoice::Leaf, others).start().await.unwrap()
}

/// How many peers are connected.
pub(crate) fn connected(peers: &Peers) -> usize {
    peers.report().connected
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

    pub(crate) fn entry(&self, value: impl Into<Vec<u8>>) -> Entry {
        let now = self.now();
        let entry = Entry::builder(value.into(), self.versions.next(now), now);
        entry.fresh_for(Duration::from_secs(60)).build().unwrap()
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
