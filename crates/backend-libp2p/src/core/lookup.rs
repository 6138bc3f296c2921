//! Finding an entry: whom to ask, in which order, and what their answers mean. For this node's own
//! user, and for peers that asked this node in the belief that it knows.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use peercache_api::{Version, envelope};

use super::event::{Action, Failure, Now, OpId, Outcome};
use super::node::Node;
use super::state::{Ask, Lookup, Origin, Parked, Purpose};
use super::store::Checked;
use super::timers::Timer;
use crate::wire::{KeyId, Message, PeerKey};

/// The most lookups under way.
const MAX_LOOKUPS: usize = 16 * 1024;
/// The most lookups under way for one peer that asked this node.
const MAX_LOOKUPS_OF_A_PEER: usize = 1024;
/// How many anchors are candidates: the owners, and who owned the key before the ring changed.
const CANDIDATES: usize = 3;
/// Each lookup earns so much of a second question; see [`Node::may_hedge`].
const HEDGE_EARNED: f64 = 0.05;
/// The most second questions that can be saved up.
const HEDGES_SAVED: f64 = 10.0;
/// No lookup waits longer.
const LONGEST: Duration = Duration::from_secs(30);
/// What is kept back of a peer's deadline for the way home of the answer.
const WAY_HOME: Duration = Duration::from_millis(5);
/// When a peer that finds this node overloaded may try again, in milliseconds.
const RETRY_MS: u32 = 50;

impl Node {
    /// The user's own lookup.
    pub(super) fn get(
        &mut self,
        now: Now,
        op: OpId,
        key: KeyId,
        deadline: Duration,
        actions: &mut Vec<Action>,
    ) {
        self.counters.gets += 1;
        self.hedges = (self.hedges + HEDGE_EARNED).min(HEDGES_SAVED);
        let parked = Parked::User { op, until: now.mono + deadline };
        if self.recall(now, key, parked, actions) {
            self.ops.insert(op, Purpose::Recall(key));
            return;
        }
        self.look_for(now, op, key, deadline, actions);
    }

    /// Goes on with a lookup once it is known what this node itself holds.
    pub(super) fn look_for(
        &mut self,
        now: Now,
        op: OpId,
        key: KeyId,
        deadline: Duration,
        actions: &mut Vec<Action>,
    ) {
        self.ops.remove(&op);
        if let Some(envelope) = self.held(now, key) {
            self.counters.own_hits += 1;
            return actions.push(Action::Done { op, outcome: Outcome::Found(envelope) });
        }
        if self.knows_all(now, key) {
            self.counters.misses += 1;
            return actions.push(Action::Done { op, outcome: Outcome::Absent });
        }
        let (candidates, may_forward) = self.candidates(now, key);
        if candidates.is_empty() {
            self.counters.unreachable += 1;
            let outcome = match self.stored(now, key) {
                Some((_, envelope)) => Outcome::Found(envelope),
                // What the others held is out of reach, and nobody could say more.
                None if self.is_in_ring() => Outcome::Absent,
                None => Outcome::Failed(Failure::Unreachable),
            };
            return actions.push(Action::Done { op, outcome });
        }
        if self.lookups.len() >= MAX_LOOKUPS {
            return actions.push(Action::Done { op, outcome: Outcome::Failed(Failure::Overloaded) });
        }
        let id =
            self.look_up(now, Origin::User(op), key, candidates, deadline.min(LONGEST), may_forward, actions);
        self.ops.insert(op, Purpose::Lookup(id));
        if !self.lookups.contains_key(&id) {
            self.ops.remove(&op);
        }
    }

    /// A peer asks.
    pub(super) fn asked(
        &mut self,
        now: Now,
        peer: PeerKey,
        (req, key, deadline, forwarded): (u64, KeyId, Duration, bool),
        actions: &mut Vec<Action>,
    ) {
        let parked = Parked::Peer { peer, req, until: now.mono + deadline.min(LONGEST), forwarded };
        if !self.recall(now, key, parked, actions) {
            self.answer_or_ask(now, peer, (req, key, deadline, forwarded), actions);
        }
    }

    /// Goes on with a peer's question once it is known what this node itself holds.
    pub(super) fn answer_or_ask(
        &mut self,
        now: Now,
        peer: PeerKey,
        (req, key, deadline, forwarded): (u64, KeyId, Duration, bool),
        actions: &mut Vec<Action>,
    ) {
        // Who passes a question on asks for what this node itself holds.
        let held =
            if forwarded { self.stored(now, key).map(|(_, envelope)| envelope) } else { self.held(now, key) };
        if let Some(envelope) = held {
            self.counters.served += 1;
            return self.send(peer, Message::Hit { req, envelope }, actions);
        }
        let hint = self.hint(now, key).filter(|hinted| *hinted != peer);
        if hint.is_none() && (forwarded || self.knows_all(now, key) || !self.is_in_ring()) {
            self.counters.served_misses += 1;
            let sure = self.knows_all(now, key);
            return self.send(peer, Message::Miss { req, sure }, actions);
        }
        let mut candidates: VecDeque<_> = hint.into_iter().collect();
        if !forwarded {
            candidates.extend(self.candidates(now, key).0.into_iter().filter(|candidate| *candidate != peer));
        }
        let theirs = self.lookups_of.range((peer, 0)..=(peer, u64::MAX)).take(MAX_LOOKUPS_OF_A_PEER).count();
        if theirs >= MAX_LOOKUPS_OF_A_PEER
            || self.lookups_of.contains_key(&(peer, req))
            || self.lookups.len() >= MAX_LOOKUPS
        {
            self.counters.refused_busy += 1;
            return self.send(peer, Message::Busy { req, retry_ms: RETRY_MS }, actions);
        }
        if candidates.is_empty() {
            let message = match self.stored(now, key) {
                Some((_, envelope)) => Message::Hit { req, envelope },
                None => Message::Miss { req, sure: self.is_owner(key) },
            };
            self.counters.served_misses += u64::from(matches!(message, Message::Miss { .. }));
            return self.send(peer, message, actions);
        }
        self.counters.forwarded += 1;
        let deadline = deadline.min(LONGEST).saturating_sub(WAY_HOME);
        self.look_up(now, Origin::Peer { peer, req }, key, candidates, deadline, false, actions);
    }

    #[allow(clippy::too_many_arguments, reason = "a lookup has that many parts, and one place makes it")]
    fn look_up(
        &mut self,
        now: Now,
        origin: Origin,
        key: KeyId,
        candidates: VecDeque<PeerKey>,
        deadline: Duration,
        may_forward: bool,
        actions: &mut Vec<Action>,
    ) -> u64 {
        let id = self.next_number();
        let lookup = Lookup {
            origin,
            key,
            candidates,
            asked: Vec::new(),
            deadline: now.mono + deadline,
            may_forward,
            misses: 0,
            failure: Failure::Unreachable,
        };
        if let Origin::Peer { peer, req } = origin {
            self.lookups_of.insert((peer, req), id);
        }
        self.timers.set(Timer::LookupEnds(id), lookup.deadline);
        self.lookups.insert(id, lookup);
        self.ask_next(now, id, actions);
        id
    }

    /// Asks the next candidate. With none left and no answer outstanding, the lookup ends.
    fn ask_next(&mut self, now: Now, id: u64, actions: &mut Vec<Action>) {
        loop {
            let Some(lookup) = self.lookups.get_mut(&id) else { return };
            let Some(peer) = lookup.candidates.pop_front() else {
                if lookup.asked.is_empty() {
                    let ended = if lookup.misses > 0 { Ended::Absent } else { Ended::Failed(lookup.failure) };
                    self.end_lookup(now, id, ended, actions);
                }
                return;
            };
            if !self.peers.is_well(peer, now) {
                continue;
            }
            let (key, deadline) = (lookup.key, lookup.deadline);
            let forwarded = !lookup.may_forward;
            let more = !lookup.candidates.is_empty();
            let req = self.next_number();
            if let Some(lookup) = self.lookups.get_mut(&id) {
                lookup.asked.push(req);
            }
            self.asks.insert(req, Ask { peer, purpose: Purpose::Lookup(id), sent: now.mono });
            let left = deadline.saturating_sub(now.mono).as_millis();
            let deadline_ms = u32::try_from(left).unwrap_or(u32::MAX);
            self.send(peer, Message::Get { req, key, deadline_ms, forwarded }, actions);
            if more && let Some(known) = self.peers.known.get(&peer) {
                self.timers.set(Timer::Hedge(id), now.mono + known.pace.hedge_after());
            }
            return;
        }
    }

    /// The first one took long: asks another one as well, if that was not done too often.
    pub(super) fn hedge(&mut self, now: Now, id: u64, actions: &mut Vec<Action>) {
        let Some(lookup) = self.lookups.get(&id) else { return };
        // A former owner may hold something old: it is asked only when an owner is not sure.
        let owners = self.ring.owners(lookup.key);
        let next_owns = lookup.candidates.front().is_some_and(|next| owners.contains(next));
        if self.hedges >= 1.0 && next_owns {
            self.hedges -= 1.0;
            self.counters.hedges += 1;
            self.ask_next(now, id, actions);
        }
    }

    pub(super) fn lookup_hit(
        &mut self,
        now: Now,
        id: u64,
        peer: PeerKey,
        envelope: Bytes,
        actions: &mut Vec<Action>,
    ) {
        let Some(lookup) = self.lookups.get(&id) else { return };
        let found = Checked::read(envelope).filter(|found| found.key == lookup.key);
        let Some(found) = found.filter(|found| found.is_current(now.wall)) else {
            self.counters.refused_entries += 1;
            return self.lookup_failed(now, id, Failure::Unreachable, actions);
        };
        let removed = self.removed.get(&found.key).is_some_and(|removed| *removed >= found.version);
        if removed && !found.tombstone {
            // The peer has not heard of it yet.
            self.counters.stale_hits += 1;
            return self.lookup_missed(now, id, true, actions);
        }
        tracing::trace!(?peer, "a peer had it");
        if self.is_in_ring() && self.is_owner(found.key) {
            self.counters.handed_over += u64::from(self.keep(now, found.clone(), actions));
        }
        self.end_lookup(now, id, Ended::Found(found.envelope), actions);
    }

    pub(super) fn lookup_missed(&mut self, now: Now, id: u64, sure: bool, actions: &mut Vec<Action>) {
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        lookup.misses += 1;
        match sure {
            true => self.end_lookup(now, id, Ended::Absent, actions),
            false => self.ask_next(now, id, actions),
        }
    }

    pub(super) fn lookup_failed(&mut self, now: Now, id: u64, why: Failure, actions: &mut Vec<Action>) {
        let Some(lookup) = self.lookups.get_mut(&id) else { return };
        lookup.failure = why;
        self.ask_next(now, id, actions);
    }

    /// Its deadline has passed: no peer that was asked has answered.
    pub(super) fn lookup_ends(&mut self, now: Now, id: u64, actions: &mut Vec<Action>) {
        let Some(lookup) = self.lookups.get(&id) else { return };
        for req in &lookup.asked {
            let late = self.asks.get(req).and_then(|ask| self.peers.known.get_mut(&ask.peer));
            if let Some(late) = late {
                late.pace.missed(now.mono);
                late.trouble = Some("it did not answer in time");
            }
        }
        self.counters.timeouts += 1;
        self.end_lookup(now, id, Ended::Failed(Failure::Timeout), actions);
    }

    /// Nobody waits for it any more.
    pub(super) fn abandon_lookup(&mut self, id: u64, actions: &mut Vec<Action>) {
        self.take_lookup(id, actions);
    }

    pub(super) fn abandon_lookup_of(&mut self, peer: PeerKey, req: u64, actions: &mut Vec<Action>) {
        if let Some(id) = self.lookups_of.get(&(peer, req)).copied() {
            self.take_lookup(id, actions);
        }
    }

    /// A peer that is gone waits for nothing.
    pub(super) fn abandon_lookups_of(&mut self, peer: PeerKey, actions: &mut Vec<Action>) {
        self.abandon_recalls_of(peer, None);
        let theirs: Vec<_> = self.lookups_of.range((peer, 0)..=(peer, u64::MAX)).map(|(_, id)| *id).collect();
        for id in theirs {
            self.take_lookup(id, actions);
        }
    }

    pub(super) fn question_of_a_lookup_ended(&mut self, id: u64, req: u64) {
        if let Some(lookup) = self.lookups.get_mut(&id) {
            lookup.asked.retain(|asked| *asked != req);
        }
    }

    /// Ends a lookup, and cancels the questions that are still under way.
    fn take_lookup(&mut self, id: u64, actions: &mut Vec<Action>) -> Option<Lookup> {
        let lookup = self.lookups.remove(&id)?;
        self.timers.clear(Timer::LookupEnds(id));
        self.timers.clear(Timer::Hedge(id));
        for req in &lookup.asked {
            if let Some(ask) = self.asks.remove(req) {
                self.send(ask.peer, Message::Cancel { req: *req }, actions);
            }
        }
        match lookup.origin {
            Origin::User(op) => {
                self.ops.remove(&op);
            }
            Origin::Peer { peer, req } => {
                self.lookups_of.remove(&(peer, req));
            }
        }
        Some(lookup)
    }

    fn end_lookup(&mut self, now: Now, id: u64, ended: Ended, actions: &mut Vec<Action>) {
        let Some(lookup) = self.take_lookup(id, actions) else { return };
        let ended = match (self.stored(now, lookup.key), ended) {
            // What this node holds of other owners' keys may be newer than what they have heard of.
            (Some((own, envelope)), Ended::Found(found)) => {
                let newer = envelope::peek_version(&found).is_ok_and(|version| version < own);
                Ended::Found(if newer { envelope } else { found })
            }
            (Some((_, envelope)), _) => Ended::Found(envelope),
            (None, ended) => ended,
        };
        match lookup.origin {
            Origin::User(op) => {
                let outcome = match ended {
                    Ended::Found(envelope) => {
                        self.counters.peer_hits += 1;
                        Outcome::Found(envelope)
                    }
                    Ended::Absent => {
                        self.counters.misses += 1;
                        Outcome::Absent
                    }
                    Ended::Failed(why) => Outcome::Failed(why),
                };
                actions.push(Action::Done { op, outcome });
            }
            Origin::Peer { peer, req } => {
                let message = match ended {
                    Ended::Found(envelope) => {
                        self.counters.served += 1;
                        Message::Hit { req, envelope }
                    }
                    Ended::Absent => {
                        self.counters.served_misses += 1;
                        Message::Miss { req, sure: self.is_in_ring() && self.is_settled(now) }
                    }
                    Ended::Failed(_) => {
                        self.counters.refused_busy += 1;
                        Message::Busy { req, retry_ms: RETRY_MS }
                    }
                };
                self.send(peer, message, actions);
            }
        }
    }

    /// What this node may answer with by itself: an entry of which it is an owner, or that it is
    /// about to push. What it holds of other owners' keys may be older than theirs.
    fn held(&mut self, now: Now, key: KeyId) -> Option<Bytes> {
        let own = !self.is_in_ring() || self.is_owner(key);
        // While this anchor was away, others may have stored or removed what it has kept.
        let certain = !self.store.is_restored(key) || self.is_settled(now);
        self.stored(now, key).filter(|_| own && certain).map(|(_, envelope)| envelope)
    }

    /// What is in this node's store, or about to be pushed.
    fn stored(&mut self, now: Now, key: KeyId) -> Option<(Version, Bytes)> {
        if let Some(record) = self.store.get(key, now.wall) {
            return Some((record.version, record.envelope.clone()));
        }
        self.outgoing.get(&key).cloned()
    }

    /// Whether what this node does not hold is held by nobody.
    fn knows_all(&self, now: Now, key: KeyId) -> bool {
        self.is_in_ring() && self.is_owner(key) && self.is_settled(now) && !self.hints.contains_key(&key)
    }

    /// Whom to ask for `key`, the best first, and whether they may ask others: those who own it or
    /// did so lately, or else, where none of them is connected, an anchor that reaches them.
    fn candidates(&self, now: Now, key: KeyId) -> (VecDeque<PeerKey>, bool) {
        let ranked = self.ring.ranked::<CANDIDATES>(key);
        let others = ranked.iter().copied().filter(|peer| *peer != self.me);
        let mut candidates: VecDeque<_> = others.filter(|peer| self.peers.is_well(*peer, now)).collect();
        if !self.is_in_ring() {
            candidates.truncate(super::ring::REPLICAS);
        }
        if candidates.is_empty() {
            candidates.extend(self.peers.anchors().find(|peer| self.peers.is_well(*peer, now)));
        }
        // An anchor has done what there is to do by asking itself.
        (candidates, !self.is_in_ring())
    }
}

enum Ended {
    Found(Bytes),
    Absent,
    Failed(Failure),
}
