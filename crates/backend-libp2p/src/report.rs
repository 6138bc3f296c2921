//! What a node tells of itself, its members and its connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::address::PeerName;
use crate::core::{Counters, MemberState, NodeReport, Role};
use crate::driver::{BootstrapReport, Connections, Link};
use crate::wire::PeerKey;

/// How a node is doing. Serializable; `Display`-free: the tools print it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PeersReport {
    /// This node's name.
    pub name: PeerName,
    /// `anchor` or `leaf`.
    pub role: &'static str,
    /// Where others can dial this node, with its name at the end; empty for one that only dials
    /// out.
    pub addresses: Vec<String>,
    /// Whether it can prove that it may write.
    pub writer: bool,
    /// Whether it stores for others.
    pub in_ring: bool,
    /// Whether it has caught up with what the other anchors hold, and its misses count.
    pub settled: bool,
    /// Anchors that store, this node included.
    pub anchors: usize,
    /// Peers that are connected.
    pub connected: usize,
    /// Entries that this node holds.
    pub entries: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Entries that made room for others.
    pub evicted: u64,
    /// Bytes that wait to be sent.
    pub unsent_bytes: usize,
    /// What an anchor keeps on disk; `None` where it keeps nothing there.
    pub kept: Option<KeptReport>,
    /// By how many milliseconds this machine's clock is corrected, because the anchors have another
    /// time: positive for a clock that is behind.
    pub clock_correction_ms: i64,
    /// Everyone that this node knows.
    pub members: Vec<MemberReport>,
    /// The addresses that are dialled whenever nobody is connected there.
    pub bootstrap: Vec<BootstrapReport>,
    /// What the node did.
    pub counters: Counters,
    /// What its connections went through.
    pub connections: Connections,
}

/// How the store of an anchor is doing; see [`PeersBuilder::store`](crate::PeersBuilder::store).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeptReport {
    /// Whether what was stored before this process has been taken back, as far as there was room.
    pub loaded: bool,
    /// Bytes that wait to be stored.
    pub waiting_bytes: usize,
    /// Entries that were not stored, because the store failed or too many waited.
    pub not_kept: u64,
}

/// One member of the network.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MemberReport {
    /// Its name.
    pub name: PeerName,
    /// `anchor` or `leaf`; `None` for one that this node is not connected with.
    pub role: Option<&'static str>,
    /// `connected`, `slow` (passed over for a while), `leaving` or `away`.
    pub state: &'static str,
    /// Whether it stores for others.
    pub in_ring: bool,
    /// For how many seconds it has been connected.
    pub connected_s: Option<u64>,
    /// How long it takes to answer, in microseconds, on average.
    pub round_trip_us: Option<u64>,
    /// By how many milliseconds its machine's clock is ahead of this machine's, to about a second;
    /// negative for one that is behind.
    pub clock_ahead_ms: Option<i64>,
    /// Where the other end of the connection is.
    pub remote: Option<String>,
    /// Whether this node dialled the connection.
    pub dialled: Option<bool>,
    /// Bytes received over this connection.
    pub bytes_in: u64,
    /// Bytes sent over this connection.
    pub bytes_out: u64,
    /// Where it says that it can be dialled.
    pub addresses: Vec<String>,
    /// Why it was lost or not reached the last time.
    pub trouble: Option<&'static str>,
}

pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Anchor => "anchor",
        Role::Leaf => "leaf",
    }
}

/// The members of `node`, with what `links` know of those connected.
pub(crate) fn members(node: &NodeReport, links: &HashMap<PeerKey, Arc<Link>>) -> Vec<MemberReport> {
    node.members.iter().filter_map(|member| report(member, links.get(&member.peer))).collect()
}

fn report(member: &MemberState, link: Option<&Arc<Link>>) -> Option<MemberReport> {
    let state = match member {
        MemberState { connected_for: None, .. } => "away",
        MemberState { leaving: true, .. } => "leaving",
        MemberState { well: false, .. } => "slow",
        _ => "connected",
    };
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    Some(MemberReport {
        name: PeerName(member.peer.to_peer_id()?),
        role: member.role.map(role_name),
        state,
        in_ring: member.in_ring,
        connected_s: member.connected_for.map(|duration| duration.as_secs()),
        round_trip_us: member.round_trip.map(micros),
        clock_ahead_ms: member.clock_ahead,
        remote: link.map(|link| link.remote.clone()),
        dialled: link.map(|link| link.dialled),
        bytes_in: link.map_or(0, |link| link.traffic.read.load(Ordering::Relaxed)),
        bytes_out: link.map_or(0, |link| link.traffic.written.load(Ordering::Relaxed)),
        addresses: member.addresses.clone(),
        trouble: member.trouble,
    })
}
