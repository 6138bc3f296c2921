//! Anchors that own the same keys compare what they hold, and give each other what is missing.
//!
//! Each anchor walks over its store and sums up, for every other anchor, what both own: 256
//! digests. Of a pair the one with the smaller key sends its digests, the other lists the versions
//! in buckets that differ, and the first one pulls and pushes. Tombstones take part like values, so
//! nobody who was away brings back what was removed. A ring that changed makes an anchor unsure of
//! what it does not hold until it has compared with the others: that is how keys are handed over.

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::time::Duration;

use bytes::Bytes;
use peercache_api::Version;
use siphasher::sip::SipHasher13;

use super::event::{Action, Now, Role};
use super::node::Node;
use super::state::{Ask, Partner, Purpose, SOON, Summary, TRANSFER_DEADLINE, Transfer};
use super::store::Checked;
use super::timers::Timer;
use crate::wire::{BUCKETS, KeyId, MAX_LISTED, Message, PeerKey};

/// Between the end of a walk and the next.
pub(crate) const EVERY: Duration = Duration::from_secs(30);
/// The same while there are anchors with which no comparison has ended since the ring changed.
const UNSYNCED: Duration = Duration::from_secs(5);
/// How long after a change of the ring the walk begins: changes come in bursts.
const RING_RESTS: Duration = Duration::from_millis(200);
/// So many records are looked at in one go, and so long is the pause after them.
const SLICE: usize = 512;
const PAUSE: Duration = Duration::from_millis(1);
/// How many buckets are listed in answer to one summary.
const MOST_LISTS: usize = 32;
/// With no more buckets than these differing, what differs is what was written just now.
const SETTLED_DIFFERENCE: usize = 4;
/// After so long without a change of the ring an anchor is sure of what it does not hold, even when
/// it could not compare with everyone.
const SETTLES: Duration = Duration::from_secs(60);
/// Transfers under way, and those that wait.
const WINDOW: usize = 32;
const MAX_QUEUED: usize = 64 * 1024;

impl Node {
    pub(super) fn is_owner(&self, key: KeyId) -> bool {
        self.ring.owners(key).contains(&self.me)
    }

    /// Whether this anchor is sure of what it does not hold.
    pub(super) fn is_settled(&self, now: Now) -> bool {
        now.mono >= self.repair.changed + SETTLES
            || self
                .repair
                .partners
                .iter()
                .all(|(peer, partner)| partner.synced || self.peers.link(*peer).is_none())
    }

    pub(super) fn ring_changed(&mut self, now: Now) {
        self.ring_changes += 1;
        if self.role != Role::Anchor {
            return;
        }
        let others: Vec<_> = self.ring.anchors().iter().copied().filter(|peer| *peer != self.me).collect();
        let repair = &mut self.repair;
        repair.partners.retain(|peer, _| others.contains(peer));
        for peer in others {
            let partner = repair.partners.entry(peer).or_default();
            // What is being compared was summed up for another ring.
            (partner.synced, partner.comparing) = (false, None);
        }
        repair.changed = now.mono;
        repair.summaries = None;
        repair.offers.planned.clear();
        repair.walking = None;
        repair.building.clear();
        if repair.partners.is_empty() {
            self.timers.clear(Timer::Walk);
        } else {
            self.timers.set(Timer::Walk, now.mono + RING_RESTS);
        }
    }

    /// Looks at some more records.
    pub(super) fn walk(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.repair.partners.is_empty() {
            return;
        }
        let from = self.repair.walking.unwrap_or_default();
        let some = self.store.after(from, SLICE, now.wall);
        let last = some.last().map(|(key, _)| *key);
        for (key, version) in &some {
            let owners = self.ring.owners(*key);
            if !owners.contains(&self.me) {
                self.plan_offer(*key, *version, &owners);
                continue;
            }
            let digest = self.digest(*key, *version);
            for other in owners.iter().filter(|owner| **owner != self.me) {
                let summary = self.repair.building.entry(*other).or_insert_with(|| vec![0; BUCKETS]);
                summary[usize::from(key.0[0])] ^= digest;
            }
        }
        if some.len() == SLICE {
            self.repair.walking = Some(last);
            self.timers.set(Timer::Walk, now.mono + PAUSE);
            return;
        }
        self.repair.walking = None;
        self.repair.summaries = Some(std::mem::take(&mut self.repair.building));
        let rest = if self.unsynced() > 0 { UNSYNCED } else { EVERY };
        let rest = rest.mul_f64(0.75 + self.chance() / 2.0);
        self.timers.set(Timer::Walk, now.mono + rest);
        let partners: Vec<_> = self.repair.partners.keys().copied().collect();
        for peer in partners {
            if let Some((req, theirs)) = self.repair.partners.get_mut(&peer).and_then(|it| it.waiting.take())
            {
                self.compare(now, peer, req, &theirs, actions);
            }
            self.send_summary(now, peer, actions);
        }
        self.send_offers(now, actions);
    }

    fn digest(&self, key: KeyId, version: Version) -> u64 {
        let mut hash = SipHasher13::new_with_key(&self.placement);
        hash.write(&key.0);
        hash.write_u64(version.wall.as_millis());
        hash.write_u32(version.counter);
        hash.write_u64(version.node.as_u64());
        hash.finish()
    }

    fn summary_for(&self, peer: PeerKey) -> Option<Summary> {
        let all = self.repair.summaries.as_ref()?;
        Some(all.get(&peer).cloned().unwrap_or_else(|| vec![0; BUCKETS]))
    }

    fn send_summary(&mut self, now: Now, peer: PeerKey, actions: &mut Vec<Action>) {
        if self.me > peer || !self.peers.is_well(peer, now) {
            return;
        }
        let Some(buckets) = self.summary_for(peer) else { return };
        let req = self.next_number();
        let Some(partner) = self.repair.partners.get_mut(&peer) else { return };
        if partner.comparing.is_some() || partner.transfers > 0 {
            return;
        }
        partner.comparing = Some((req, None));
        partner.incomplete = false;
        self.asks.insert(req, Ask { peer, purpose: Purpose::Repair, sent: now.mono });
        self.timers.set(Timer::RepairEnds(req), now.mono + TRANSFER_DEADLINE);
        self.send(peer, Message::Summary { req, buckets }, actions);
    }

    /// Another anchor sums up what both own.
    pub(super) fn summed_up(
        &mut self,
        now: Now,
        peer: PeerKey,
        req: u64,
        buckets: Vec<u64>,
        actions: &mut Vec<Action>,
    ) {
        if !self.repair.partners.contains_key(&peer) || !self.may_write(peer) {
            return self.send(peer, Message::Compared { req, differing: 0 }, actions);
        }
        if self.repair.summaries.is_some() {
            self.compare(now, peer, req, &buckets, actions);
        } else if let Some(partner) = self.repair.partners.get_mut(&peer) {
            partner.waiting = Some((req, buckets));
            self.timers.set_before(Timer::Walk, now.mono + PAUSE);
        }
    }

    fn compare(&mut self, now: Now, peer: PeerKey, req: u64, theirs: &[u64], actions: &mut Vec<Action>) {
        let Some(mine) = self.summary_for(peer) else { return };
        let differing = mine.iter().zip(theirs).enumerate().filter(|(_, (mine, theirs))| mine != theirs);
        let mut buckets: Vec<_> = differing.map(|(bucket, _)| bucket as u8).collect();
        let settled = buckets.len() <= SETTLED_DIFFERENCE;
        if let Some(partner) = self.repair.partners.get_mut(&peer) {
            partner.synced |= settled;
        }
        // Not always the first ones: one that cannot be mended must not hold up the others.
        let turn = (self.chance() * buckets.len() as f64) as usize;
        let turn = turn.min(buckets.len());
        buckets.rotate_left(turn);
        buckets.truncate(MOST_LISTS);
        let count = u16::try_from(buckets.len()).unwrap_or(u16::MAX);
        self.send(peer, Message::Compared { req, differing: count }, actions);
        for bucket in buckets {
            let both = |key: KeyId| self.ring.owners(key).contains(&peer);
            let mut listed: Vec<_> =
                self.store.bucket(bucket).filter(|(key, _)| both(*key)).take(MAX_LISTED + 1).collect();
            let more = listed.len() > MAX_LISTED;
            listed.truncate(MAX_LISTED);
            self.send(peer, Message::Versions { req, bucket, more, listed }, actions);
        }
        // What comes in is not in this summary.
        if !settled {
            self.timers.set_before(Timer::Walk, now.mono + SOON);
        }
    }

    pub(super) fn compared(&mut self, now: Now, peer: PeerKey, req: u64, differing: u16) {
        let Some(partner) = self.repair.partners.get_mut(&peer) else { return };
        if let Some((sent, lists)) = &mut partner.comparing
            && *sent == req
            && lists.is_none()
        {
            *lists = Some(differing);
            partner.incomplete |= usize::from(differing) >= MOST_LISTS;
        }
        self.look_at_partner(now, peer);
    }

    pub(super) fn listed(
        &mut self,
        now: Now,
        peer: PeerKey,
        (req, bucket, more, listed): (u64, u8, bool, Vec<(KeyId, Version)>),
        actions: &mut Vec<Action>,
    ) {
        let Some(partner) = self.repair.partners.get_mut(&peer) else { return };
        let Some((sent, Some(lists @ 1..))) = &mut partner.comparing else { return };
        if *sent != req {
            return;
        }
        *lists -= 1;
        partner.incomplete |= more;
        let end = listed.last().filter(|_| more).map(|(key, _)| *key);
        let mut theirs: BTreeMap<_, _> = listed.into_iter().filter(|(key, _)| key.0[0] == bucket).collect();
        let mut transfers = Vec::new();
        for (key, mine) in self.store.bucket(bucket).take_while(|(key, _)| end.is_none_or(|end| *key <= end))
        {
            match theirs.remove(&key) {
                Some(version) if version == mine => {}
                Some(version) => transfers.push(Transfer { peer, key, pull: version > mine }),
                None if self.ring.owners(key).contains(&peer) => {
                    transfers.push(Transfer { peer, key, pull: false });
                }
                None => {}
            }
        }
        transfers.extend(theirs.into_keys().map(|key| Transfer { peer, key, pull: true }));
        self.queue_transfers(now, peer, transfers, actions);
        self.look_at_partner(now, peer);
    }

    /// What finds no room is found missing again.
    pub(super) fn queue_transfers(
        &mut self,
        now: Now,
        peer: PeerKey,
        mut transfers: Vec<Transfer>,
        actions: &mut Vec<Action>,
    ) {
        let room = MAX_QUEUED.saturating_sub(self.repair.queue.len());
        if let Some(partner) = self.repair.partners.get_mut(&peer) {
            partner.incomplete |= transfers.len() > room;
            transfers.truncate(room);
            partner.transfers += transfers.len();
            self.repair.queue.extend(transfers);
        }
        self.transfer(now, actions);
    }

    /// Starts what there is room for.
    fn transfer(&mut self, now: Now, actions: &mut Vec<Action>) {
        while self.repair.running.len() < WINDOW {
            let Some(transfer) = self.repair.queue.pop_front() else { return };
            let Transfer { peer, key, pull } = transfer;
            let envelope = match pull {
                true => None,
                false => self.store.peek(key, now.wall).map(|record| record.envelope.clone()),
            };
            // What is gone meanwhile is not missed; a peer that is not well has to be asked again.
            if !self.peers.is_well(peer, now) || !pull && envelope.is_none() {
                self.transferred(now, peer, self.peers.is_well(peer, now));
                continue;
            }
            let req = self.next_number();
            self.repair.running.insert(req, transfer);
            self.asks.insert(req, Ask { peer, purpose: Purpose::Repair, sent: now.mono });
            self.timers.set(Timer::RepairEnds(req), now.mono + TRANSFER_DEADLINE);
            let message = match envelope {
                Some(envelope) => {
                    self.counters.repaired_there += 1;
                    Message::Put { req, envelope, relay: false }
                }
                None => {
                    let deadline_ms = TRANSFER_DEADLINE.as_millis() as u32;
                    Message::Get { req, key, deadline_ms, forwarded: true }
                }
            };
            self.send(peer, message, actions);
        }
    }

    pub(super) fn repair_hit(&mut self, now: Now, req: u64, envelope: Bytes, actions: &mut Vec<Action>) {
        let asked = self.repair.running.get(&req).map(|transfer| transfer.key);
        match Checked::read(envelope) {
            Some(entry) if Some(entry.key) == asked && entry.is_current(now.wall) => {
                self.counters.repaired_here += u64::from(self.keep(now, entry, actions));
            }
            _ => self.counters.refused_entries += 1,
        }
        self.repair_ended(now, req, true, actions);
    }

    /// A question of the repair was answered, or never will be.
    pub(super) fn repair_ended(&mut self, now: Now, req: u64, answered: bool, actions: &mut Vec<Action>) {
        self.asks.remove(&req);
        self.timers.clear(Timer::RepairEnds(req));
        if let Some(transfer) = self.repair.running.remove(&req) {
            self.transferred(now, transfer.peer, answered);
            return self.transfer(now, actions);
        }
        self.repair.offers.sent.remove(&req);
        for partner in self.repair.partners.values_mut() {
            partner.comparing.take_if(|(sent, _)| *sent == req);
        }
    }

    fn transferred(&mut self, now: Now, peer: PeerKey, done: bool) {
        if let Some(partner) = self.repair.partners.get_mut(&peer) {
            partner.transfers = partner.transfers.saturating_sub(1);
            partner.incomplete |= !done;
        }
        self.look_at_partner(now, peer);
    }

    /// Ends a comparison in which nothing is outstanding.
    fn look_at_partner(&mut self, now: Now, peer: PeerKey) {
        let Some(partner) = self.repair.partners.get_mut(&peer) else { return };
        let Some((req, Some(0))) = partner.comparing else { return };
        if partner.transfers > 0 {
            return;
        }
        partner.comparing = None;
        partner.synced |= !partner.incomplete;
        self.asks.remove(&req);
        self.timers.clear(Timer::RepairEnds(req));
        // The other one learns from the next summary that all is well.
        if partner.incomplete || self.repair.summaries.is_none() || !self.told_settled(peer) {
            self.timers.set_before(Timer::Walk, now.mono + SOON);
        }
    }

    /// Whether the latest comparison with `peer` found nothing: then both know.
    fn told_settled(&mut self, peer: PeerKey) -> bool {
        let changes = self.ring_changes;
        self.settled_with.insert(peer, changes) == Some(changes)
    }

    /// An anchor is back: what each has heard alone is told to the other.
    pub(super) fn repair_returned(&mut self, now: Now, peer: PeerKey) {
        if self.repair.partners.contains_key(&peer) {
            self.timers.set_before(Timer::Walk, now.mono + RING_RESTS);
        }
    }

    pub(super) fn repair_lost(&mut self, peer: PeerKey) {
        self.repair.queue.retain(|transfer| transfer.peer != peer);
        if let Some(partner) = self.repair.partners.get_mut(&peer) {
            *partner = Partner::default();
        }
        self.settled_with.remove(&peer);
    }

    /// Whether there is nothing left to compare: for the simulator and the report.
    pub(crate) fn unsynced(&self) -> usize {
        self.repair.partners.values().filter(|partner| !partner.synced).count()
    }
}
