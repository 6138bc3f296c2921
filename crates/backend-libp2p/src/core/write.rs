//! Storing an entry on its owners: for this node's own user, and for peers that cannot reach them
//! all.

use std::time::Duration;

use bytes::Bytes;

use super::event::{Action, Failure, Now, OpId, Outcome, Role};
use super::node::Node;
use super::state::{Ask, Peer, Purpose, Write};
use super::store::Checked;
use super::timers::Timer;
use crate::wire::{Message, PeerKey, PutReply};

/// The most writes under way.
const MAX_WRITES: usize = 16 * 1024;
/// The most bytes that writes under way hold together.
const MAX_WRITE_BYTES: usize = 128 << 20;
/// Values of at least so many bytes are announced before they are sent: they can be asked for
/// meanwhile.
const ANNOUNCED_BYTES: usize = 64 * 1024;
/// No write waits longer.
const LONGEST: Duration = Duration::from_secs(60);
/// How long an entry that is passed on for others may take.
const RELAY_DEADLINE: Duration = Duration::from_secs(2);
/// How often a write looks for other owners when those it chose are gone.
const MOST_TRIES: u32 = 3;

impl Node {
    /// The user's own write.
    pub(super) fn put(
        &mut self,
        now: Now,
        op: OpId,
        envelope: Bytes,
        deadline: Duration,
        actions: &mut Vec<Action>,
    ) {
        self.counters.puts += 1;
        let failed = |why| Action::Done { op, outcome: Outcome::Failed(why) };
        let Some(entry) = Checked::read(envelope) else {
            return actions.push(failed(Failure::Refused));
        };
        if !entry.is_believed(now.wall) {
            // Nobody would ever see what claims to be from the future. What is over hides what is
            // older.
            return actions.push(Action::Done { op, outcome: Outcome::Stored(0) });
        }
        if self.writes.len() >= MAX_WRITES || self.write_bytes + entry.envelope.len() > MAX_WRITE_BYTES {
            self.counters.overloaded += 1;
            return actions.push(failed(Failure::Overloaded));
        }
        if entry.tombstone {
            self.removed_here(now, &entry, actions);
        }
        let id = self.next_number();
        let mut write = Write {
            op: Some(op),
            relayed_for: None,
            key: entry.key,
            version: entry.version,
            envelope: entry.envelope.clone(),
            asked: Vec::new(),
            copies: 0,
            refused: false,
            failure: Failure::Unreachable,
            tries: 0,
        };
        if self.is_in_ring() && self.is_owner(entry.key) {
            self.keep(now, entry, actions);
            write.copies = 1;
        }
        self.ops.insert(op, Purpose::Write(id));
        self.begin_write(now, id, write, deadline.min(LONGEST), actions);
    }

    /// A peer stores something here.
    pub(super) fn stored_by(
        &mut self,
        now: Now,
        peer: PeerKey,
        (req, envelope, relay): (u64, Bytes, bool),
        actions: &mut Vec<Action>,
    ) {
        let reply = if self.role != Role::Anchor || self.left {
            PutReply::NotAnAnchor
        } else if !self.may_write(peer) {
            self.counters.refused_puts += 1;
            PutReply::Refused
        } else {
            match Checked::read(envelope) {
                Some(entry) if entry.is_believed(now.wall) => {
                    self.counters.stored += 1;
                    if self.hints.get(&entry.key).is_some_and(|hint| hint.peer == peer) {
                        self.hints.remove(&entry.key);
                    }
                    self.keep(now, entry.clone(), actions);
                    if relay && self.relay(now, (peer, req), &entry, actions) {
                        return;
                    }
                    PutReply::Stored
                }
                _ => {
                    self.counters.refused_entries += 1;
                    PutReply::Refused
                }
            }
        };
        self.send(peer, Message::PutDone { req, reply }, actions);
    }

    /// Passes an entry on to its owners for a peer that does not reach them. Says whether the peer
    /// is answered once they have it: else a read elsewhere could miss what was acknowledged.
    fn relay(
        &mut self,
        now: Now,
        (from, req): (PeerKey, u64),
        entry: &Checked,
        actions: &mut Vec<Action>,
    ) -> bool {
        if self.writes.len() >= MAX_WRITES || self.write_bytes + entry.envelope.len() > MAX_WRITE_BYTES {
            self.counters.overloaded += 1;
            return false;
        }
        let owners = self.ring.owners(entry.key);
        let targets: Vec<_> =
            owners.iter().copied().filter(|owner| *owner != self.me && *owner != from).collect();
        let targets: Vec<_> = targets.into_iter().filter(|owner| self.peers.is_well(*owner, now)).collect();
        let id = self.next_number();
        let mut write = Write {
            op: None,
            relayed_for: Some((from, req)),
            key: entry.key,
            version: entry.version,
            envelope: entry.envelope.clone(),
            asked: Vec::new(),
            copies: 1,
            refused: false,
            failure: Failure::Unreachable,
            tries: MOST_TRIES,
        };
        self.counters.relayed += 1;
        for target in targets {
            self.push(now, id, &mut write, target, false, actions);
        }
        self.keep_write(now, id, write, RELAY_DEADLINE, actions);
        true
    }

    /// Sends `write` to whoever owns its key now.
    fn begin_write(
        &mut self,
        now: Now,
        id: u64,
        mut write: Write,
        deadline: Duration,
        actions: &mut Vec<Action>,
    ) {
        self.send_to_owners(now, id, &mut write, actions);
        self.keep_write(now, id, write, deadline, actions);
    }

    fn send_to_owners(&mut self, now: Now, id: u64, write: &mut Write, actions: &mut Vec<Action>) {
        write.tries += 1;
        let owners = self.ring.owners(write.key);
        let others: Vec<_> = owners.iter().copied().filter(|owner| *owner != self.me).collect();
        let (mut near, far): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|owner| self.peers.is_well(*owner, now));
        if near.is_empty() && write.copies == 0 {
            near.extend(self.peers.anchors().find(|peer| self.peers.is_well(*peer, now)));
        }
        // An anchor that cannot reach another one leaves that to the repair.
        let mut relay =
            !far.is_empty() && !self.is_in_ring() || near.iter().all(|peer| !owners.contains(peer));
        for peer in near {
            self.push(now, id, write, peer, relay, actions);
            relay = false;
        }
    }

    fn push(
        &mut self,
        now: Now,
        id: u64,
        write: &mut Write,
        peer: PeerKey,
        relay: bool,
        actions: &mut Vec<Action>,
    ) {
        if write.envelope.len() >= ANNOUNCED_BYTES && write.op.is_some() {
            self.send(peer, Message::Announce { key: write.key, version: write.version }, actions);
        }
        let req = self.next_number();
        write.asked.push(req);
        self.asks.insert(req, Ask { peer, purpose: Purpose::Write(id), sent: now.mono });
        self.send(peer, Message::Put { req, envelope: write.envelope.clone(), relay }, actions);
    }

    fn keep_write(&mut self, now: Now, id: u64, write: Write, deadline: Duration, actions: &mut Vec<Action>) {
        self.write_bytes += write.envelope.len();
        if write.op.is_some() && !self.is_in_ring() {
            let newer = self.outgoing.get(&write.key).is_none_or(|(version, _)| *version <= write.version);
            if newer {
                self.outgoing.insert(write.key, (write.version, write.envelope.clone()));
            }
        }
        self.writes.insert(id, write);
        self.timers.set(Timer::WriteEnds(id), now.mono + deadline);
        self.look_at_write(id, actions);
    }

    pub(super) fn write_answered(&mut self, now: Now, id: u64, reply: PutReply, actions: &mut Vec<Action>) {
        let Some(write) = self.writes.get_mut(&id) else { return };
        match reply {
            PutReply::Stored => write.copies = write.copies.saturating_add(1),
            PutReply::Refused => write.refused = true,
            PutReply::NotAnAnchor => return self.write_failed(now, id, Failure::Unreachable, actions),
        }
        self.look_at_write(id, actions);
    }

    pub(super) fn write_failed(&mut self, now: Now, id: u64, why: Failure, actions: &mut Vec<Action>) {
        let Some(write) = self.writes.get_mut(&id) else { return };
        write.failure = why;
        let lost = write.copies == 0 && write.asked.is_empty() && write.tries < MOST_TRIES;
        if lost
            && !matches!(why, Failure::Busy)
            && let Some(mut write) = self.writes.remove(&id)
        {
            self.send_to_owners(now, id, &mut write, actions);
            self.writes.insert(id, write);
        }
        self.look_at_write(id, actions);
    }

    pub(super) fn write_ends(&mut self, now: Now, id: u64, actions: &mut Vec<Action>) {
        let Some(write) = self.writes.get_mut(&id) else { return };
        write.failure = Failure::Timeout;
        for req in std::mem::take(&mut write.asked) {
            let Some(ask) = self.asks.remove(&req) else { continue };
            if let Some(late) = self.peers.known.get_mut(&ask.peer) {
                late.pace.missed(now.mono);
                late.trouble = Some("it did not answer in time");
            }
        }
        self.counters.timeouts += 1;
        self.look_at_write(id, actions);
    }

    pub(super) fn question_of_a_write_ended(&mut self, id: u64, req: u64) {
        if let Some(write) = self.writes.get_mut(&id) {
            write.asked.retain(|asked| *asked != req);
        }
    }

    /// The user no longer waits. What was sent stays sent.
    pub(super) fn abandon_write(&mut self, id: u64) {
        if let Some(write) = self.writes.get_mut(&id) {
            write.op = None;
        }
    }

    /// Ends a write in which nothing is outstanding.
    fn look_at_write(&mut self, id: u64, actions: &mut Vec<Action>) {
        if self.writes.get(&id).is_none_or(|write| !write.asked.is_empty()) {
            return;
        }
        let Some(write) = self.writes.remove(&id) else { return };
        self.timers.clear(Timer::WriteEnds(id));
        self.write_bytes -= write.envelope.len();
        if self.outgoing.get(&write.key).is_some_and(|(version, _)| *version == write.version) {
            self.outgoing.remove(&write.key);
        }
        if let Some((peer, req)) = write.relayed_for {
            self.send(peer, Message::PutDone { req, reply: PutReply::Stored }, actions);
        }
        let Some(op) = write.op else { return };
        self.ops.remove(&op);
        let outcome = match write {
            Write { copies, .. } if copies > 0 => Outcome::Stored(copies),
            Write { refused: true, .. } => Outcome::Failed(Failure::Refused),
            Write { failure, .. } => Outcome::Failed(failure),
        };
        actions.push(Action::Done { op, outcome });
    }

    /// Whether what `peer` says of removals is believed. A node that cannot tell who may write
    /// believes the anchors that it has dialled: they can, and the entries themselves are signed
    /// where they are sealed.
    pub(super) fn may_remove(&self, peer: PeerKey) -> bool {
        let anchor = |peer: &Peer| {
            peer.dialable && peer.link.as_ref().is_some_and(|link| link.hello.role == Role::Anchor)
        };
        self.may_write(peer) || !self.checks_writers && self.peers.known.get(&peer).is_some_and(anchor)
    }

    /// Whether what `peer` writes is taken.
    pub(super) fn may_write(&self, peer: PeerKey) -> bool {
        self.peers.link(peer).is_some_and(|link| link.hello.writer)
    }
}
