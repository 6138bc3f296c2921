//! Questions to peers that are not answered yet, and what their answers are for.

use std::time::Duration;

use super::event::{Action, Failure, Now};
use super::node::Node;
use super::state::Purpose;
use super::timers::Timer;
use crate::wire::{Message, PeerKey, PutReply};

/// After how long the view is sent again to a peer whose queue had no room for it.
const VIEW_RETRY: Duration = Duration::from_secs(1);

impl Node {
    /// The question that `req` answers, if `peer` was asked it and somebody waits. It is then
    /// answered.
    fn answered(&mut self, now: Now, peer: PeerKey, req: u64) -> Option<Purpose> {
        let ask = *self.asks.get(&req).filter(|ask| ask.peer == peer)?;
        self.asks.remove(&req);
        // A lease is waited for, so it says nothing about the pace of the peer.
        if !matches!(ask.purpose, Purpose::Lease(_))
            && let Some(known) = self.peers.known.get_mut(&peer)
        {
            known.pace.answered(now.mono.saturating_sub(ask.sent));
        }
        self.question_ended(ask.purpose, req);
        Some(ask.purpose)
    }

    fn question_ended(&mut self, purpose: Purpose, req: u64) {
        match purpose {
            Purpose::Lookup(id) => self.question_of_a_lookup_ended(id, req),
            Purpose::Write(id) => self.question_of_a_write_ended(id, req),
            Purpose::Lease(_) | Purpose::Recall(_) | Purpose::Repair => {}
        }
    }

    /// An answer arrived.
    pub(super) fn answer(&mut self, now: Now, peer: PeerKey, message: Message, actions: &mut Vec<Action>) {
        match message {
            Message::Hit { req, envelope } => match self.answered(now, peer, req) {
                Some(Purpose::Lookup(id)) => self.lookup_hit(now, id, peer, envelope, actions),
                Some(Purpose::Lease(id)) => self.lease_found(now, id, envelope, actions),
                Some(Purpose::Repair) => self.repair_hit(now, req, envelope, actions),
                Some(Purpose::Write(_) | Purpose::Recall(_)) | None => {}
            },
            Message::Miss { req, sure } => match self.answered(now, peer, req) {
                Some(Purpose::Lookup(id)) => self.lookup_missed(now, id, sure, actions),
                Some(Purpose::Lease(id)) => {
                    self.lease_failed(id, if sure { Failure::Busy } else { Failure::Timeout }, actions);
                }
                Some(Purpose::Repair) => self.repair_ended(now, req, true, actions),
                Some(Purpose::Write(_) | Purpose::Recall(_)) | None => {}
            },
            Message::Busy { req, retry_ms } => {
                let Some(purpose) = self.answered(now, peer, req) else { return };
                if let Some(known) = self.peers.known.get_mut(&peer) {
                    known.pace.busy(now.mono + Duration::from_millis(u64::from(retry_ms).min(1_000)));
                    known.trouble = Some("it has too much to do");
                }
                self.question_failed(now, purpose, req, Failure::Busy, actions);
            }
            Message::PutDone { req, reply } => match self.answered(now, peer, req) {
                Some(Purpose::Write(id)) => self.write_answered(now, id, reply, actions),
                Some(Purpose::Repair) => self.repair_ended(now, req, true, actions),
                Some(Purpose::Lookup(_) | Purpose::Lease(_) | Purpose::Recall(_)) | None => {}
            },
            Message::Granted { req, token, ttl_ms } => {
                if let Some(Purpose::Lease(id)) = self.answered(now, peer, req) {
                    self.lease_granted(id, token, ttl_ms, actions);
                }
            }
            _ => {}
        }
    }

    /// A question was not asked, or will not be answered.
    pub(super) fn question_failed(
        &mut self,
        now: Now,
        purpose: Purpose,
        req: u64,
        why: Failure,
        actions: &mut Vec<Action>,
    ) {
        match purpose {
            Purpose::Lookup(id) => self.lookup_failed(now, id, why, actions),
            Purpose::Write(id) => match why {
                Failure::Refused => self.write_answered(now, id, PutReply::Refused, actions),
                _ => self.write_failed(now, id, why, actions),
            },
            Purpose::Lease(id) => self.lease_failed(id, why, actions),
            Purpose::Repair => self.repair_ended(now, req, false, actions),
            // No peer is asked for what is kept outside.
            Purpose::Recall(_) => {}
        }
    }

    /// There was no room in the queue of `peer` for `message`.
    pub(super) fn not_sent(&mut self, now: Now, peer: PeerKey, message: &Message, actions: &mut Vec<Action>) {
        self.counters.not_sent += 1;
        let (Message::Get { req, .. }
        | Message::Put { req, .. }
        | Message::Lease { req, .. }
        | Message::Summary { req, .. }) = message
        else {
            // Who waits for an answer has a deadline. A change that was not told is made up for by
            // all of it.
            if matches!(message, Message::View { .. }) {
                self.timers.set_before(Timer::TellAll(peer), now.mono + VIEW_RETRY);
            }
            return;
        };
        let Some(ask) = self.asks.get(req).filter(|ask| ask.peer == peer).copied() else { return };
        self.asks.remove(req);
        self.question_ended(ask.purpose, *req);
        self.question_failed(now, ask.purpose, *req, Failure::Busy, actions);
    }

    /// Nobody answers the questions to `peer` any more.
    pub(super) fn forget_asks_of(&mut self, now: Now, peer: PeerKey, actions: &mut Vec<Action>) {
        let lost: Vec<_> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.peer == peer)
            .map(|(req, ask)| (*req, ask.purpose))
            .collect();
        for (req, purpose) in lost {
            if self.asks.remove(&req).is_some() {
                self.question_ended(purpose, req);
                self.question_failed(now, purpose, req, Failure::Unreachable, actions);
            }
        }
        self.abandon_lookups_of(peer, actions);
    }
}
