//! What a node counts, and what it tells of itself and of those it knows.

use std::time::Duration;

use serde::Serialize;

use super::{Node, Now, Role};
use crate::wire::PeerKey;

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Lookups by this node's own user.
    pub gets: u64,
    /// Of these, found in this node itself.
    pub own_hits: u64,
    /// Of these, found at a peer.
    pub peer_hits: u64,
    /// Of these, held by nobody.
    pub misses: u64,
    /// Of these, with no anchor to ask.
    pub unreachable: u64,
    /// Lookups and writes that nobody answered in time.
    pub timeouts: u64,
    /// Second peers asked because the first took long.
    pub hedges: u64,
    /// Answers that are older than a removal that this node has heard of.
    pub stale_hits: u64,
    /// Writes by this node's own user.
    pub puts: u64,
    /// Operations refused because too many were under way.
    pub overloaded: u64,
    /// Entries given to peers.
    pub served: u64,
    /// Peers told that there is no such entry.
    pub served_misses: u64,
    /// Peers told to come back later.
    pub refused_busy: u64,
    /// Questions passed on to the peer that knows.
    pub forwarded: u64,
    /// Entries taken from peers.
    pub stored: u64,
    /// Entries passed on to owners that the writer does not reach.
    pub relayed: u64,
    /// Writes by peers that may not write.
    pub refused_puts: u64,
    /// Entries refused: damaged, over, from the future, or another key's.
    pub refused_entries: u64,
    /// Removals heard from peers.
    pub removals: u64,
    /// Leases granted.
    pub leases: u64,
    /// Peers, and this node's user, that waited for another one's load.
    pub lease_waits: u64,
    /// Entries taken over from an earlier owner when they were asked for.
    pub handed_over: u64,
    /// Entries that a comparison found missing here.
    pub repaired_here: u64,
    /// Entries that a comparison found missing at another anchor.
    pub repaired_there: u64,
    /// Connections given up for want of a sign of life.
    pub silent: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that found no room in a peer's queue.
    pub not_sent: u64,
}

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
    pub(crate) addresses: Vec<String>,
    pub(crate) trouble: Option<&'static str>,
}

/// What a node tells of itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeReport {
    pub(crate) in_ring: bool,
    pub(crate) settled: bool,
    /// Anchors in the ring, this node included.
    pub(crate) anchors: usize,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) evicted: u64,
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
            members: members.collect(),
            counters: self.counters,
        }
    }

    /// Whether a read or write can be served: this node stores itself, or an anchor is connected.
    pub(crate) fn is_of_use(&self) -> bool {
        self.is_in_ring() || self.peers.anchors().next().is_some()
    }
}
