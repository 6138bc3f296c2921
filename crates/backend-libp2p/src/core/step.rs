//! One step of a node: what happened goes to those who handle it.

use std::time::Duration;

use super::event::{Action, Event, Failure, Now, OpId, Outcome, Role};
use super::node::Node;
use super::state::Purpose;
use super::store::Checked;
use super::timers::Timer;
use crate::wire::{Message, PeerKey};

impl Node {
    /// Takes note of `event` and adds what is to be done to `actions`. Never blocks; takes
    /// microseconds.
    pub(crate) fn step(&mut self, now: Now, event: Event, actions: &mut Vec<Action>) {
        self.notice_jump(now);
        let now = self.corrected(now);
        match event {
            Event::Connected { peer, hello, dialled } => self.connected(now, peer, hello, dialled, actions),
            Event::Disconnected { peer } => self.disconnected(now, peer, actions),
            Event::Message { peer, message } => {
                if self.heard_from(now, peer) {
                    self.message(now, peer, message, actions);
                }
            }
            Event::NotSent { peer, message } => self.not_sent(now, peer, &message, actions),
            Event::Dialled { peer, reached } => self.dialled(now, peer, reached, actions),
            Event::Get { op, key, deadline } => self.get(now, op, key, deadline, actions),
            Event::Put { op, envelope, deadline } => self.put(now, op, envelope, deadline, actions),
            Event::Lease { op, key, ttl, wait, newer_than } => {
                self.lease(now, op, (key, ttl, wait, newer_than), actions);
            }
            Event::Release { key, token } => self.released(now, None, key, token, actions),
            Event::Recalled { key, envelope } => self.recalled(now, key, envelope, actions),
            Event::Cancel { op } => self.cancel(op, actions),
            Event::Leave => self.leave(now, actions),
            Event::Tick => {}
        }
        self.tick(now, actions);
    }

    /// When [`Event::Tick`] is due, as [`Now::mono`]; `None` while nothing waits.
    pub(crate) fn wakes_at(&self) -> Option<Duration> {
        self.timers.first()
    }

    pub(super) fn tick(&mut self, now: Now, actions: &mut Vec<Action>) {
        while let Some(timer) = self.timers.pop(now.mono) {
            match timer {
                Timer::LookupEnds(id) => self.lookup_ends(now, id, actions),
                Timer::RecallEnds(key) => self.recalled(now, key, None, actions),
                Timer::Hedge(id) => self.hedge(now, id, actions),
                Timer::WriteEnds(id) => self.write_ends(now, id, actions),
                Timer::LeaseWaitEnds(id) => {
                    self.end_lease_wait(id, Outcome::Failed(Failure::Timeout), actions);
                }
                Timer::LeaseEnds(key) => self.lease_ends(now, key, actions),
                Timer::RepairEnds(req) => self.repair_ended(now, req, false, actions),
                Timer::Pulse(peer) => self.pulse(now, peer, actions),
                Timer::GiveUp(peer) => self.give_up(now, peer),
                Timer::Dial(peer) => self.dial(peer, actions),
                Timer::TellView => self.tell_view(actions),
                Timer::TellAll(peer) => self.send_view(peer, actions),
                Timer::Walk => self.walk(now, actions),
                Timer::ForgetHints => self.forget_hints(now),
            }
        }
    }

    pub(super) fn message(&mut self, now: Now, peer: PeerKey, message: Message, actions: &mut Vec<Action>) {
        match message {
            Message::Get { req, key, deadline_ms, forwarded } => {
                let deadline = Duration::from_millis(u64::from(deadline_ms));
                self.asked(now, peer, (req, key, deadline, forwarded), actions);
            }
            Message::Cancel { req } => {
                self.abandon_recalls_of(peer, Some(req));
                self.abandon_lookup_of(peer, req, actions);
                self.cancel_lease_of(now, peer, req, actions);
            }
            answer @ (Message::Hit { .. }
            | Message::Miss { .. }
            | Message::Busy { .. }
            | Message::PutDone { .. }
            | Message::Granted { .. }) => self.answer(now, peer, answer, actions),
            Message::Put { req, envelope, relay } => {
                self.stored_by(now, peer, (req, envelope, relay), actions)
            }
            Message::Announce { key, version } => self.announced(now, peer, key, version),
            Message::Removal { envelope, forwarded } => self.removal(now, peer, envelope, forwarded, actions),
            Message::View { full, anchors, gone } => self.viewed(now, peer, (full, anchors, gone)),
            Message::Lease { req, key, ttl_ms, wait_ms, newer_than } => {
                self.lease_asked_by(now, peer, (req, key, ttl_ms, wait_ms, newer_than), actions);
            }
            Message::Release { key, token } => self.released(now, Some(peer), key, token, actions),
            Message::Summary { req, buckets } => self.summed_up(now, peer, req, buckets, actions),
            Message::Compared { req, differing } => self.compared(now, peer, req, differing),
            Message::Versions { req, bucket, more, listed } => {
                self.listed(now, peer, (req, bucket, more, listed), actions);
            }
            Message::Offer { req, listed } => self.offered(now, peer, (req, listed), actions),
            Message::Wanted { req, keys } => self.wanted(now, peer, req, keys, actions),
            Message::Ping { nonce } => {
                let clock = self.own_clock(now);
                self.send(peer, Message::Pong { nonce, clock }, actions);
            }
            Message::Pong { nonce, clock } => self.pong(now, peer, nonce, clock),
            Message::Vouched => self.vouched(now, peer),
            Message::Leaving => self.leaves(now, peer, actions),
        }
    }

    pub(super) fn cancel(&mut self, op: OpId, actions: &mut Vec<Action>) {
        match self.ops.remove(&op) {
            Some(Purpose::Lookup(id)) => self.abandon_lookup(id, actions),
            Some(Purpose::Recall(key)) => self.abandon_recall(op, key),
            Some(Purpose::Write(id)) => self.abandon_write(id),
            Some(Purpose::Lease(id)) => {
                let mut unheard = Vec::new();
                self.end_lease_wait(id, Outcome::Failed(Failure::Timeout), &mut unheard);
                actions.extend(unheard.into_iter().filter(|action| !matches!(action, Action::Done { .. })));
            }
            Some(Purpose::Repair) | None => {}
        }
    }

    /// Tells everyone that this node is about to go.
    pub(super) fn leave(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.left = true;
        let everyone: Vec<_> = self.peers.connected().map(|(peer, _)| peer).collect();
        for peer in everyone {
            self.send(peer, Message::Leaving, actions);
        }
        self.ring_may_have_changed(now);
    }

    /// Stores an entry here, and gives it to those who wait for it. Says whether it was news.
    pub(super) fn keep(&mut self, now: Now, entry: Checked, actions: &mut Vec<Action>) -> bool {
        let removed = self.removed.get(&entry.key).is_some_and(|removed| *removed >= entry.version);
        if removed && !entry.tombstone {
            return false;
        }
        if entry.tombstone {
            self.learn_removal(now, &entry, None, actions);
        }
        let is_first = self.store.peek(entry.key, now.wall).is_none();
        let news = self.store.put(entry.clone());
        if news && self.keeps && self.role == Role::Anchor {
            actions.push(Action::Keep { envelope: entry.envelope.clone(), is_first });
        }
        if !entry.tombstone {
            self.lease_fulfilled(now, entry.key, actions);
        }
        news
    }
}
