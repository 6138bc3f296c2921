//! The bounds of a node.

use std::time::Duration;

const MIB: usize = 1024 * 1024;

/// The bounds of a node. Everything that is queued or remembered has one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The most connections. Default: 2048 for an anchor, 16 for a leaf.
    pub connections: Option<usize>,
    /// The most connections opened by others that have not proved yet that they have the key. When
    /// there is no room for one more, an old one from the address with the most of them is closed.
    /// Default: 256.
    pub negotiating: usize,
    /// The same for one IPv4 address, or one IPv6 network of 64 bits. When there is no room for one
    /// more, an old one from the same address is closed. Default: 64.
    pub negotiating_per_address: usize,
    /// The most bytes of large values that wait to be sent to one peer. Default: 32 MiB.
    pub send_bytes_per_peer: usize,
    /// The most bytes that wait to be sent, over all peers. Default: 128 MiB.
    pub send_bytes: usize,
    /// The most bytes of values that have arrived in part, over all peers. Default: 128 MiB.
    pub receive_bytes: usize,
    /// How long a read may take. Default: 1 s.
    pub read_deadline: Duration,
    /// How long a write may take. Default: 5 s.
    pub write_deadline: Duration,
    /// How long [`PeersBuilder::start`](crate::PeersBuilder::start) waits for the first peer, where
    /// it has bootstrap addresses or looks by multicast DNS. Default: 1.5 s.
    pub connect_wait: Duration,
    /// How long [`CacheBackend::close`](peercache_api::CacheBackend::close) takes at most to send
    /// what waits. Default: 2 s.
    pub close_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            negotiating: 256,
            negotiating_per_address: 64,
            send_bytes_per_peer: 32 * MIB,
            send_bytes: 128 * MIB,
            receive_bytes: 128 * MIB,
            read_deadline: Duration::from_secs(1),
            write_deadline: Duration::from_secs(5),
            connect_wait: Duration::from_millis(1500),
            close_wait: Duration::from_secs(2),
        }
    }
}
