//! What peers send: messages, and what a node makes of any of them in any order.

/// Any bytes as one message, and as a conversation with three peers.
pub fn peers(data: &[u8]) {
    peercache_libp2p::fuzzing::message(data);
    peercache_libp2p::fuzzing::node(data);
}
