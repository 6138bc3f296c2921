//! Whom a node knows: connections, who can be dialled, who is in the ring.
//!
//! An anchor enters the ring when somebody has dialled it, and stays for [`GRACE`] after its last
//! connection is lost. Each node tells what it sees itself, never what it was told: so an anchor
//! that is gone is gone everywhere, and nobody keeps a rumour alive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use peercache_api::Timestamp;

use super::clock::CLOCK_EVERY;
use super::event::{Action, Hello, Now, Role};
use super::node::Node;
use super::state::{Link, Peer, SMALL_RING};
use super::timers::Timer;
use crate::wire::{
    AnchorInfo, ClockReading, MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_ANCHORS, Message, PeerKey,
};

/// How long an anchor that was lost stays in the ring: reads pass it over, keys stay where they
/// are.
pub(crate) const GRACE: Duration = Duration::from_secs(10);
/// A peer that has said nothing for so long is asked for a sign of life.
pub(super) const QUIET: Duration = Duration::from_secs(2);
/// A peer that has said nothing for so long is gone, whatever its connection says.
pub(crate) const SILENT: Duration = Duration::from_secs(6);
/// How long changes of the view are collected before they are sent.
const VIEW_DELAY: Duration = Duration::from_millis(100);
/// An anchor that others know is dialled again after so long at first, then twice as long each
/// time.
const REDIAL: Duration = Duration::from_millis(500);
const REDIAL_MOST: Duration = Duration::from_secs(30);
/// With more, it keeps so many, and reaches the others through these.
const LEAF_LINKS: usize = 4;
/// Within how long a leaf dials an anchor that was announced to it.
const LEAF_DIALS_WITHIN: Duration = Duration::from_millis(500);
/// The most peers that are remembered without a connection.
const MAX_REMEMBERED: usize = 4 * MAX_ANCHORS;

impl Node {
    pub(super) fn connected(
        &mut self,
        now: Now,
        peer: PeerKey,
        mut hello: Hello,
        dialled: bool,
        actions: &mut Vec<Action>,
    ) {
        if self.checks_writers && !hello.writer {
            // It could hold nothing that others wrote, since it cannot tell who may.
            hello.role = Role::Leaf;
        }
        if peer == self.me {
            actions.push(Action::Drop { peer, why: "this is this node itself" });
            return;
        }
        self.peers.unlist_all(peer);
        let known = self.peers.known.entry(peer).or_default();
        known.dialable |= dialled;
        (known.lost, known.dialling, known.trouble) = (false, false, None);
        known.dial_backoff = Duration::ZERO;
        known.addresses = bounded(hello.addresses.clone());
        known.pace.well();
        let (role, since, clock) = (hello.role, hello.removals_since, hello.clock);
        known.link = Some(Link { hello, since: now.mono, heard: now.mono, pinged: None, leaving: false });
        let (dialable, addresses) = (known.dialable, known.addresses.clone());
        let now = self.clock_read(now, peer, clock, Duration::ZERO);
        self.timers.set(Timer::Pulse(peer), now.mono + QUIET);
        self.timers.clear(Timer::GiveUp(peer));
        if role == Role::Anchor {
            if dialable {
                self.send(peer, Message::Vouched, actions);
            } else {
                actions.push(Action::Probe { peer, addresses });
            }
        }
        self.tell_removals(peer, since, actions);
        self.ring_may_have_changed(now);
        self.repair_returned(now, peer);
        // At once: whoever joins late has to find the others.
        self.send_view(peer, actions);
    }

    pub(super) fn disconnected(&mut self, now: Now, peer: PeerKey, actions: &mut Vec<Action>) {
        let Some(known) = self.peers.known.get_mut(&peer) else { return };
        let Some(link) = known.link.take() else { return };
        self.last_heard = self.last_heard.max(Some(link.heard));
        known.trouble.get_or_insert("the connection was lost");
        let was_member = link.hello.role == Role::Anchor && known.dialable;
        if was_member && !link.leaving {
            known.lost = true;
            self.timers.set(Timer::GiveUp(peer), now.mono + GRACE);
        }
        self.peers.vouched_by.remove(&peer);
        self.peers.unlist_all(peer);
        self.timers.clear(Timer::Pulse(peer));
        self.forget_asks_of(now, peer, actions);
        self.forget_leases_of(now, peer, actions);
        self.hints.retain(|_, hint| hint.peer != peer);
        self.repair_lost(peer);
        self.ring_may_have_changed(now);
        if was_member {
            self.plan_dial(now, peer);
        }
        self.forget_old_peers();
    }

    /// Takes note of a sign of life. Says whether the peer is connected: what others say is not
    /// heard.
    pub(super) fn heard_from(&mut self, now: Now, peer: PeerKey) -> bool {
        let link = self.peers.known.get_mut(&peer).and_then(|peer| peer.link.as_mut());
        link.map(|link| link.heard = now.mono).is_some()
    }

    pub(super) fn pong(&mut self, now: Now, peer: PeerKey, nonce: u64, clock: ClockReading) {
        let Some(known) = self.peers.known.get_mut(&peer) else { return };
        let Some(link) = &mut known.link else { return };
        if let Some((_, sent)) = link.pinged.take_if(|(pinged, _)| *pinged == nonce) {
            let took = now.mono.saturating_sub(sent);
            known.pace.answered(took);
            self.clock_read(now, peer, clock, took);
        }
    }

    /// Asks a quiet peer for a sign of life, and gives a silent one up.
    pub(super) fn pulse(&mut self, now: Now, peer: PeerKey, actions: &mut Vec<Action>) {
        let nonce = self.next_number();
        let Some(heard) = self.peers.last_contact(peer) else { return };
        let quiet = now.mono.saturating_sub(heard);
        if quiet >= SILENT {
            if let Some(known) = self.peers.known.get_mut(&peer) {
                known.trouble = Some("it gave no sign of life");
            }
            self.counters.silent += 1;
            actions.push(Action::Drop { peer, why: "no sign of life" });
            self.disconnected(now, peer, actions);
            return;
        }
        // Also a peer that is never quiet tells its time.
        let read = self.peers.known.get(&peer).and_then(|known| known.clock).map(|clock| clock.read);
        let old = read.is_none_or(|read| now.mono >= read + CLOCK_EVERY);
        let next = if quiet >= QUIET || old {
            if let Some(link) = self.peers.known.get_mut(&peer).and_then(|known| known.link.as_mut()) {
                link.pinged.get_or_insert((nonce, now.mono));
            }
            self.send(peer, Message::Ping { nonce }, actions);
            now.mono + QUIET
        } else {
            heard + QUIET
        };
        self.timers.set(Timer::Pulse(peer), next);
    }

    pub(super) fn viewed(
        &mut self,
        now: Now,
        peer: PeerKey,
        (full, anchors, gone): (bool, Vec<AnchorInfo>, Vec<PeerKey>),
    ) {
        if self.peers.link(peer).is_none_or(|link| link.hello.role != Role::Anchor) {
            return;
        }
        if full {
            self.peers.unlist_all(peer);
        }
        for anchor in gone {
            self.peers.unlist(peer, anchor);
        }
        let new: Vec<_> = anchors.iter().map(|anchor| anchor.peer).collect();
        for anchor in anchors.into_iter().filter(|anchor| anchor.peer != self.me) {
            self.peers.list(peer, anchor);
        }
        self.ring_may_have_changed(now);
        for anchor in new {
            // Somebody has just seen it: what was tried before says nothing any more.
            if let Some(known) = self.peers.known.get_mut(&anchor) {
                known.dial_backoff = Duration::ZERO;
            }
            self.plan_dial(now, anchor);
        }
    }

    pub(super) fn vouched(&mut self, now: Now, peer: PeerKey) {
        if self.peers.link(peer).is_some_and(|link| link.hello.role == Role::Anchor) {
            self.peers.vouched_by.insert(peer);
            self.ring_may_have_changed(now);
        }
    }

    pub(super) fn dialled(&mut self, now: Now, peer: PeerKey, reached: bool, actions: &mut Vec<Action>) {
        let Some(known) = self.peers.known.get_mut(&peer) else { return };
        known.dialling = false;
        let anchor = known.link.as_ref().is_some_and(|link| link.hello.role == Role::Anchor);
        if reached && anchor && !known.dialable {
            known.dialable = true;
            self.correct_clock();
            self.send(peer, Message::Vouched, actions);
            self.ring_may_have_changed(now);
        } else if !reached && known.link.is_none() {
            known.trouble = Some("it could not be dialled");
            self.plan_dial(now, peer);
        }
    }

    /// It is about to go: it is not asked any more, and leaves the ring at once.
    pub(super) fn leaves(&mut self, now: Now, peer: PeerKey, actions: &mut Vec<Action>) {
        if let Some(link) = self.peers.known.get_mut(&peer).and_then(|known| known.link.as_mut()) {
            link.leaving = true;
        }
        self.forget_asks_of(now, peer, actions);
        self.ring_may_have_changed(now);
    }

    pub(super) fn give_up(&mut self, now: Now, peer: PeerKey) {
        if let Some(known) = self.peers.known.get_mut(&peer) {
            known.lost = false;
        }
        self.ring_may_have_changed(now);
    }

    pub(super) fn is_in_ring(&self) -> bool {
        self.role == Role::Anchor
            && !self.left
            && (!self.peers.vouched_by.is_empty() || self.peers.anchors().next().is_none())
    }

    /// Works out the ring anew. Told to the others a little later: changes come in bursts.
    pub(super) fn ring_may_have_changed(&mut self, now: Now) {
        let listed = self.peers.listed.iter().filter(|(peer, _)| !self.is_leaving(**peer));
        let mut anchors: BTreeSet<_> = listed.map(|(peer, _)| *peer).collect();
        for (key, peer) in &self.peers.known {
            if self.sees(peer) {
                anchors.insert(*key);
            }
        }
        if self.is_in_ring() {
            anchors.insert(self.me);
        }
        let anchors = anchors.into_iter().take(MAX_ANCHORS).collect();
        if self.ring.replace(anchors) {
            self.ring_changed(now);
        }
        self.timers.set_before(Timer::TellView, now.mono + VIEW_DELAY);
    }

    /// Whether this node itself knows that `peer` is a live anchor that can be dialled.
    fn sees(&self, peer: &Peer) -> bool {
        peer.dialable
            && match &peer.link {
                Some(link) => link.hello.role == Role::Anchor && !link.leaving,
                None => peer.lost,
            }
    }

    fn is_leaving(&self, peer: PeerKey) -> bool {
        self.peers.link(peer).is_some_and(|link| link.leaving)
    }

    fn view(&self) -> BTreeMap<PeerKey, AnchorInfo> {
        let seen = self.peers.known.iter().filter(|(_, peer)| self.sees(peer));
        seen.map(|(key, peer)| (*key, AnchorInfo { peer: *key, addresses: peer.addresses.clone() }))
            .take(MAX_ANCHORS)
            .collect()
    }

    /// All of it: to who has just connected, or has missed a change.
    pub(super) fn send_view(&mut self, to: PeerKey, actions: &mut Vec<Action>) {
        if self.role == Role::Anchor {
            let anchors = self.view().into_values().collect();
            self.send(to, Message::View { full: true, anchors, gone: Vec::new() }, actions);
        }
    }

    /// Tells everyone connected what has changed.
    pub(super) fn tell_view(&mut self, actions: &mut Vec<Action>) {
        let view = self.view();
        if self.role != Role::Anchor || view == self.told {
            return;
        }
        let gone: Vec<_> = self.told.keys().filter(|peer| !view.contains_key(peer)).copied().collect();
        let news = view.iter().filter(|(peer, anchor)| self.told.get(peer) != Some(anchor));
        let anchors: Vec<_> = news.map(|(_, anchor)| anchor.clone()).collect();
        self.told = view;
        let everyone: Vec<_> = self.peers.connected().map(|(key, _)| key).collect();
        for peer in everyone {
            let message = Message::View { full: false, anchors: anchors.clone(), gone: gone.clone() };
            self.send(peer, message, actions);
        }
    }

    /// Dials `peer` after a while, if this node should be connected with it.
    fn plan_dial(&mut self, now: Now, peer: PeerKey) {
        if self.left || peer == self.me || self.peers.link(peer).is_some() {
            return;
        }
        if self.has_enough_links() {
            return;
        }
        let chance = 0.5 + self.chance() / 2.0;
        let known = self.peers.known.entry(peer).or_default();
        if known.dialling {
            return;
        }
        let mut wait = known.dial_backoff.mul_f64(chance);
        if self.role == Role::Leaf && known.dial_backoff.is_zero() {
            // So that leaves do not all choose the same ones.
            wait = LEAF_DIALS_WITHIN.mul_f64(2.0 * chance - 1.0);
        }
        self.timers.set_before(Timer::Dial(peer), now.mono + wait);
    }

    /// Whether this is a leaf that reaches the other anchors well enough through those it is
    /// connected with.
    fn has_enough_links(&self) -> bool {
        let enough = if self.ring.anchors().len() <= SMALL_RING { SMALL_RING } else { LEAF_LINKS };
        let dialling = self.peers.known.values().filter(|peer| peer.dialling).count();
        self.role == Role::Leaf && self.peers.anchors().count() + dialling >= enough
    }

    pub(super) fn dial(&mut self, peer: PeerKey, actions: &mut Vec<Action>) {
        let enough = self.has_enough_links();
        let told = self.peers.known.values().filter_map(|known| known.view.get(&peer));
        let mut addresses: Vec<_> = told.flat_map(|anchor| anchor.addresses.iter().cloned()).collect();
        let Some(known) = self.peers.known.get_mut(&peer) else { return };
        let wanted = (known.lost || !addresses.is_empty()) && !enough;
        if known.link.is_some() || known.dialling || !wanted || self.left {
            return;
        }
        addresses.extend(known.addresses.iter().cloned());
        addresses.sort_unstable();
        addresses.dedup();
        known.dialling = true;
        known.dial_backoff = (known.dial_backoff * 2).clamp(REDIAL, REDIAL_MOST);
        actions.push(Action::Dial { peer, addresses: bounded(addresses) });
    }

    fn forget_old_peers(&mut self) {
        let idle = |peer: &Peer| peer.link.is_none() && !peer.lost && !peer.dialling;
        let count = self.peers.known.values().filter(|peer| idle(peer)).count();
        let mut extra = count.saturating_sub(MAX_REMEMBERED);
        self.peers.known.retain(|_, peer| {
            let goes = extra > 0 && idle(peer);
            extra -= usize::from(goes);
            !goes
        });
    }

    /// From when on removals by others are to be repeated to this node when it connects.
    pub(crate) fn removals_since(&self, now: Now) -> Timestamp {
        let away =
            self.peers.known.values().filter_map(|peer| peer.link.as_ref()).map(|link| link.heard).max();
        let away = away
            .or(self.last_heard)
            .map_or(Duration::from_secs(3600), |heard| now.mono.saturating_sub(heard));
        self.corrected(now).wall.saturating_sub(away + 2 * SILENT)
    }
}

fn bounded(mut addresses: Vec<String>) -> Vec<String> {
    addresses.retain(|address| address.len() <= MAX_ADDRESS_BYTES);
    addresses.truncate(MAX_ADDRESSES);
    addresses
}
