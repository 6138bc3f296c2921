//! Handing over: what an anchor holds and no longer owns is offered to those who do.
//!
//! After a partition both sides have owners of their own for every key. Once the ring is whole
//! again the newest may lie with one that owns the key no more, where no comparison of owners would
//! find it.

use peercache_api::Version;

use super::event::{Action, Now};
use super::node::Node;
use super::ring::{REPLICAS, Ranked};
use super::state::{Ask, Purpose, SOON, TRANSFER_DEADLINE, Transfer};
use super::timers::Timer;
use crate::wire::{KeyId, MAX_LISTED, Message, PeerKey};

/// The most that one anchor is offered after one walk. The rest follows after the next.
const MOST_OFFERED: usize = 8 * MAX_LISTED;

impl Node {
    /// Takes note of a record that belongs to others.
    pub(super) fn plan_offer(&mut self, key: KeyId, version: Version, owners: &Ranked<REPLICAS>) {
        for (rank, owner) in owners.iter().enumerate() {
            if !self.store.was_offered(key, self.ring_changes, rank) {
                let planned = self.repair.offers.planned.entry(*owner).or_default();
                if planned.len() < MOST_OFFERED {
                    planned.push((key, version, rank));
                }
            }
        }
    }

    /// Offers what was found on the walk.
    pub(super) fn send_offers(&mut self, now: Now, actions: &mut Vec<Action>) {
        let planned = std::mem::take(&mut self.repair.offers.planned);
        for (peer, all) in planned {
            if !self.peers.is_well(peer, now) {
                continue;
            }
            if all.len() >= MOST_OFFERED {
                self.timers.set_before(Timer::Walk, now.mono + SOON);
            }
            for part in all.chunks(MAX_LISTED) {
                let req = self.next_number();
                let listed = part.iter().map(|(key, version, _)| (*key, *version)).collect();
                self.repair.offers.sent.insert(req, (self.ring_changes, part.to_vec()));
                self.asks.insert(req, Ask { peer, purpose: Purpose::Repair, sent: now.mono });
                self.timers.set(Timer::RepairEnds(req), now.mono + TRANSFER_DEADLINE);
                self.send(peer, Message::Offer { req, listed }, actions);
            }
        }
    }

    /// Another anchor has entries that belong here.
    pub(super) fn offered(
        &mut self,
        now: Now,
        peer: PeerKey,
        (req, listed): (u64, Vec<(KeyId, Version)>),
        actions: &mut Vec<Action>,
    ) {
        let may = self.may_write(peer);
        let wanted = listed.into_iter().filter(|(key, version)| {
            let held = self.store.peek(*key, now.wall).map(|record| record.version);
            may && self.is_owner(*key) && held < Some(*version)
        });
        let keys = wanted.map(|(key, _)| key).collect();
        self.send(peer, Message::Wanted { req, keys }, actions);
    }

    /// What was offered is wanted, or known already.
    pub(super) fn wanted(
        &mut self,
        now: Now,
        peer: PeerKey,
        req: u64,
        keys: Vec<KeyId>,
        actions: &mut Vec<Action>,
    ) {
        if self.asks.get(&req).is_none_or(|ask| ask.peer != peer) {
            return;
        }
        let Some((ring, offered)) = self.repair.offers.sent.remove(&req) else { return };
        self.repair_ended(now, req, true, actions);
        let push = |key| Transfer { peer, key, pull: false };
        let mut pushed = Vec::new();
        for (key, version, rank) in offered {
            if keys.contains(&key) {
                pushed.push(push(key));
            } else {
                // What is pushed is offered once more: then it is known whether it has arrived.
                self.store.offered(key, version, ring, rank);
            }
        }
        if !pushed.is_empty() {
            self.timers.set_before(Timer::Walk, now.mono + 2 * SOON);
        }
        self.queue_transfers(now, peer, pushed, actions);
    }
}
