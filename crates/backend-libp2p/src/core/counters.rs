//! What a node counts.

use serde::Serialize;

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
    /// Answers that are older than a removal that this node has received.
    pub stale_hits: u64,
    /// Writes by this node's own user.
    pub puts: u64,
    /// Operations refused because too many were under way.
    pub overloaded: u64,
    /// Entries given to peers.
    pub served: u64,
    /// Questions answered with a miss.
    pub served_misses: u64,
    /// Questions answered with busy.
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
    /// Removals received from peers.
    pub removals: u64,
    /// Leases granted.
    pub leases: u64,
    /// Peers, and this node's user, that waited for another one's load.
    pub lease_waits: u64,
    /// Entries taken over from an earlier owner when they were asked for.
    pub handed_over: u64,
    /// Entries taken back from what this anchor keeps on disk, or has in its local tiers.
    pub restored: u64,
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
