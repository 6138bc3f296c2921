//! What a node tells of itself and of those it knows.

use std::time::Duration;

use super::counters::Counters;
use super::event::{Now, Role};
use super::node::Node;
use crate::wire::PeerKey;

/// How a member is doing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MemberState {
    pub(crate) peer: PeerKey,
    /// None for one that others know and this node is not connected with.
    pub(crate) role: Option<Role>,
    pub(crate) in_ring: bool,
    pub(crate) connected_for: Option<Duration>,
    pub(crate) leaving: bool,
    pub(crate) well: bool,
    pub(crate) round_trip: Option<Duration>,
    /// By how many milliseconds its machine's clock is ahead of this machine's.
    pub(crate) clock_ahead: Option<i64>,
    pub(crate) addresses: Vec<String>,
    pub(crate) trouble: Option<&'static str>,
}

/// The report of a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeReport {
    pub(crate) in_ring: bool,
    pub(crate) settled: bool,
    /// Anchors in the ring, this node included.
    pub(crate) anchors: usize,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) evicted: u64,
    /// By how many milliseconds this machine's clock is corrected.
    pub(crate) correction: i64,
    pub(crate) members: Vec<MemberState>,
    pub(crate) counters: Counters,
}

impl Node {
    pub(crate) fn report(&self, now: Now) -> NodeReport {
        let members = self.peers.known.iter().map(|(key, peer)| MemberState {
            peer: *key,
            role: peer.link.as_ref().map(|link| link.hello.role),
            in_ring: self.ring.contains(*key),
            connected_for: peer.link.as_ref().map(|link| now.mono.saturating_sub(link.since)),
            leaving: peer.link.as_ref().is_some_and(|link| link.leaving),
            well: peer.pace.is_well(now.mono),
            round_trip: peer.pace.mean(),
            clock_ahead: peer.clock.filter(|_| peer.link.is_some()).map(|clock| clock.ahead),
            addresses: peer.addresses.clone(),
            trouble: peer.trouble,
        });
        NodeReport {
            in_ring: self.is_in_ring(),
            settled: self.is_settled(now),
            anchors: self.ring.anchors().len(),
            records: self.store.len(),
            bytes: self.store.bytes(),
            evicted: self.store.evicted,
            correction: self.correction,
            members: members.collect(),
            counters: self.counters,
        }
    }

    /// Whether a read or write can be served: this node stores itself, or an anchor is connected.
    pub(crate) fn is_of_use(&self) -> bool {
        self.is_in_ring() || self.peers.anchors().next().is_some()
    }
}
