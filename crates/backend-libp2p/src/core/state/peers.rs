//! Whom a node knows: connections, who can be dialled, and what they see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::clocks::PeerClock;
use crate::core::event::{Hello, Now, Role};
use crate::core::pace::Pace;
use crate::wire::{AnchorInfo, MAX_ANCHORS, PeerKey};

/// With up to so many anchors, a leaf keeps connections with all of them.
pub(crate) const SMALL_RING: usize = 16;

/// One peer that is or was connected, or that others announced.
#[derive(Debug, Default)]
pub(in crate::core) struct Peer {
    pub(in crate::core) link: Option<Link>,
    /// Whether this node has dialled it with success.
    pub(in crate::core) dialable: bool,
    /// When the connection was lost, while the peer is not given up.
    pub(in crate::core) lost: bool,
    pub(in crate::core) addresses: Vec<String>,
    /// The anchors that it says it is connected with.
    pub(in crate::core) view: BTreeMap<PeerKey, AnchorInfo>,
    pub(in crate::core) pace: Pace,
    pub(in crate::core) clock: Option<PeerClock>,
    pub(in crate::core) dial_backoff: Duration,
    pub(in crate::core) dialling: bool,
    /// The latest reason why it was lost or not reached.
    pub(in crate::core) trouble: Option<&'static str>,
}

/// A connection.
#[derive(Debug)]
pub(in crate::core) struct Link {
    pub(in crate::core) hello: Hello,
    pub(in crate::core) since: Duration,
    pub(in crate::core) heard: Duration,
    pub(in crate::core) pinged: Option<(u64, Duration)>,
    /// It said that it is about to go.
    pub(in crate::core) leaving: bool,
}

#[derive(Debug, Default)]
pub(in crate::core) struct Peers {
    pub(in crate::core) known: BTreeMap<PeerKey, Peer>,
    /// The anchors that have confirmed to this node that it can be dialled.
    pub(in crate::core) vouched_by: BTreeSet<PeerKey>,
    /// By how many connected anchors an anchor is seen.
    pub(in crate::core) listed: BTreeMap<PeerKey, u32>,
}

impl Peers {
    pub(in crate::core) fn link(&self, peer: PeerKey) -> Option<&Link> {
        self.known.get(&peer)?.link.as_ref()
    }

    pub(in crate::core) fn connected(&self) -> impl Iterator<Item = (PeerKey, &Link)> {
        self.known.iter().filter_map(|(key, peer)| Some((*key, peer.link.as_ref()?)))
    }

    /// The anchors that can be asked now.
    pub(in crate::core) fn anchors(&self) -> impl Iterator<Item = PeerKey> {
        self.connected()
            .filter(|(_, link)| link.hello.role == Role::Anchor && !link.leaving)
            .map(|(key, _)| key)
    }

    /// Whether `peer` can be asked now and will probably answer.
    pub(in crate::core) fn is_well(&self, peer: PeerKey, now: Now) -> bool {
        self.known.get(&peer).is_some_and(|peer| {
            peer.link.as_ref().is_some_and(|link| !link.leaving) && peer.pace.is_well(now.mono)
        })
    }

    /// Takes note that `by` sees `anchor`.
    pub(in crate::core) fn list(&mut self, by: PeerKey, anchor: AnchorInfo) {
        let Some(known) = self.known.get_mut(&by) else { return };
        let peer = anchor.peer;
        if known.view.len() >= MAX_ANCHORS && !known.view.contains_key(&peer) {
            return;
        }
        let is_new = known.view.insert(peer, anchor).is_none();
        *self.listed.entry(peer).or_default() += u32::from(is_new);
    }

    /// Takes note that `by` no longer sees `anchor`.
    pub(in crate::core) fn unlist(&mut self, by: PeerKey, anchor: PeerKey) {
        if self.known.get_mut(&by).and_then(|known| known.view.remove(&anchor)).is_none() {
            return;
        }
        if let Some(listed) = self.listed.get_mut(&anchor) {
            *listed -= 1;
            if *listed == 0 {
                self.listed.remove(&anchor);
            }
        }
    }

    pub(in crate::core) fn unlist_all(&mut self, by: PeerKey) {
        let seen: Vec<_> =
            self.known.get(&by).into_iter().flat_map(|known| known.view.keys().copied()).collect();
        for anchor in seen {
            self.unlist(by, anchor);
        }
    }

    pub(in crate::core) fn last_contact(&self, peer: PeerKey) -> Option<Duration> {
        self.link(peer).map(|link| link.heard)
    }
}
