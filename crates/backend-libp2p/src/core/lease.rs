//! Leases: one load per key and fleet, as far as the fleet can talk to itself.
//!
//! The key's first owner grants them. Who comes second waits there and is given the value when it
//! is stored, or the lease when the holder gives it back, is gone, or took too long. Whoever cannot
//! reach an owner loads: a lease saves work and is never needed for anything to be right.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use peercache_api::Version;

use super::event::{Action, Failure, Now, OpId, Outcome};
use super::node::Node;
use super::state::{Ask, Lease, Origin, Purpose, Waiter};
use super::store::Checked;
use super::timers::Timer;
use crate::wire::{KeyId, Message, PeerKey};

/// The most keys that are leased at one time. Beyond it, everyone loads.
const MAX_LEASES: usize = 16 * 1024;
/// The most that wait for one key.
const MAX_WAITERS: usize = 1024;
/// What is allowed for the way to the owner and back, at least.
const WAY: Duration = Duration::from_millis(100);
/// No lease lasts longer.
const LONGEST: Duration = Duration::from_secs(60);

impl Node {
    /// The user is about to load `key`.
    pub(super) fn lease(
        &mut self,
        now: Now,
        op: OpId,
        (key, ttl, wait, newer_than): (KeyId, Duration, Duration, Version),
        actions: &mut Vec<Action>,
    ) {
        let owners = self.ring.owners(key);
        let first = owners.iter().copied().find(|owner| *owner == self.me || self.peers.is_well(*owner, now));
        let (ttl, wait) = (ttl.min(LONGEST), wait.min(LONGEST));
        let id = self.next_number();
        if first == Some(self.me) {
            self.ops.insert(op, Purpose::Lease(id));
            self.timers.set(Timer::LeaseWaitEnds(id), now.mono + wait);
            self.lease_waits.insert(id, (op, None));
            let origin = Origin::User(op);
            return self.lease_asked(
                now,
                key,
                Waiter { origin, until: now.mono + wait, ttl, newer_than },
                actions,
            );
        }
        let Some(peer) = first.or_else(|| self.peers.anchors().find(|peer| self.peers.is_well(*peer, now)))
        else {
            return actions.push(Action::Done { op, outcome: Outcome::Failed(Failure::Unreachable) });
        };
        let req = self.next_number();
        self.ops.insert(op, Purpose::Lease(id));
        self.lease_waits.insert(id, (op, Some(req)));
        let way = self.peers.known.get(&peer).map_or(WAY, |known| known.pace.hedge_after().max(WAY));
        self.timers.set(Timer::LeaseWaitEnds(id), now.mono + wait + way);
        self.asks.insert(req, Ask { peer, purpose: Purpose::Lease(id), sent: now.mono });
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let message = Message::Lease { req, key, ttl_ms: millis(ttl), wait_ms: millis(wait), newer_than };
        self.send(peer, message, actions);
    }

    /// A peer is about to load a key.
    pub(super) fn lease_asked_by(
        &mut self,
        now: Now,
        peer: PeerKey,
        (req, key, ttl_ms, wait_ms, newer_than): (u64, KeyId, u32, u32, Version),
        actions: &mut Vec<Action>,
    ) {
        let millis = |millis: u32| Duration::from_millis(u64::from(millis)).min(LONGEST);
        let origin = Origin::Peer { peer, req };
        // What it loads, it could not store: others would wait in vain.
        if !self.may_write(peer) || self.left {
            return self.send(peer, Message::Miss { req, sure: true }, actions);
        }
        let until = now.mono + millis(wait_ms);
        self.lease_asked(now, key, Waiter { origin, until, ttl: millis(ttl_ms), newer_than }, actions);
    }

    fn lease_asked(&mut self, now: Now, key: KeyId, waiter: Waiter, actions: &mut Vec<Action>) {
        if let Some(envelope) = self.newer_value(now, key, waiter.newer_than) {
            return self.resolve(waiter.origin, Resolved::Found(envelope), actions);
        }
        if let Some(lease) = self.leases.get_mut(&key) {
            if waiter.until <= now.mono {
                return self.resolve(waiter.origin, Resolved::Waited, actions);
            }
            if lease.waiters.len() < MAX_WAITERS {
                self.counters.lease_waits += 1;
                return lease.waiters.push_back(waiter);
            }
            return self.resolve(waiter.origin, Resolved::Refused, actions);
        }
        if self.leases.len() >= MAX_LEASES {
            return self.resolve(waiter.origin, Resolved::Refused, actions);
        }
        self.grant(now, key, waiter, VecDeque::new(), actions);
    }

    fn grant(
        &mut self,
        now: Now,
        key: KeyId,
        to: Waiter,
        waiters: VecDeque<Waiter>,
        actions: &mut Vec<Action>,
    ) {
        let token = self.next_number();
        self.counters.leases += 1;
        self.leases.insert(key, Lease { holder: to.origin, token, waiters });
        self.timers.set(Timer::LeaseEnds(key), now.mono + to.ttl);
        self.resolve(to.origin, Resolved::Granted { token, ttl: to.ttl }, actions);
    }

    /// A value above `than` that is no tombstone and is not over.
    fn newer_value(&mut self, now: Now, key: KeyId, than: Version) -> Option<Bytes> {
        let record = self.store.get(key, now.wall)?;
        (!record.tombstone && record.version > than).then(|| record.envelope.clone())
    }

    /// A value was stored under `key`: the lease is over. Those to whom it is of use get what is
    /// there now, and one of the others loads.
    pub(super) fn lease_fulfilled(&mut self, now: Now, key: KeyId, actions: &mut Vec<Action>) {
        let Some(lease) = self.leases.remove(&key) else { return };
        self.timers.clear(Timer::LeaseEnds(key));
        let mut others = VecDeque::new();
        for waiter in lease.waiters {
            match self.newer_value(now, key, waiter.newer_than) {
                Some(envelope) => self.resolve(waiter.origin, Resolved::Found(envelope), actions),
                None => others.push_back(waiter),
            }
        }
        self.grant_next(now, key, others, actions);
    }

    /// The holder gives the lease back: the next one loads.
    pub(super) fn released(
        &mut self,
        now: Now,
        by: Option<PeerKey>,
        key: KeyId,
        token: u64,
        actions: &mut Vec<Action>,
    ) {
        let holds = |lease: &Lease| {
            lease.token == token
                && match lease.holder {
                    Origin::User(_) => by.is_none(),
                    Origin::Peer { peer, .. } => by == Some(peer),
                }
        };
        if self.leases.get(&key).is_some_and(holds) {
            self.lease_ends(now, key, actions);
        } else if by.is_none() {
            let owners = self.ring.owners(key);
            let connected: Vec<_> =
                owners.iter().copied().filter(|peer| self.peers.link(*peer).is_some()).collect();
            for peer in connected {
                self.send(peer, Message::Release { key, token }, actions);
            }
        }
    }

    /// The lease is over without a value.
    pub(super) fn lease_ends(&mut self, now: Now, key: KeyId, actions: &mut Vec<Action>) {
        let Some(lease) = self.leases.remove(&key) else { return };
        self.timers.clear(Timer::LeaseEnds(key));
        self.grant_next(now, key, lease.waiters, actions);
    }

    fn grant_next(&mut self, now: Now, key: KeyId, mut waiters: VecDeque<Waiter>, actions: &mut Vec<Action>) {
        while let Some(next) = waiters.pop_front() {
            if next.until > now.mono && self.is_reachable(next.origin) {
                return self.grant(now, key, next, waiters, actions);
            }
        }
    }

    fn is_reachable(&self, origin: Origin) -> bool {
        match origin {
            Origin::User(op) => self.ops.contains_key(&op),
            Origin::Peer { peer, .. } => self.peers.link(peer).is_some(),
        }
    }

    /// What a peer that is gone held is given to the next.
    pub(super) fn forget_leases_of(&mut self, now: Now, gone: PeerKey, actions: &mut Vec<Action>) {
        let is_gone = |origin: Origin| matches!(origin, Origin::Peer { peer, .. } if peer == gone);
        let mut held = Vec::new();
        for (key, lease) in &mut self.leases {
            lease.waiters.retain(|waiter| !is_gone(waiter.origin));
            if is_gone(lease.holder) {
                held.push(*key);
            }
        }
        for key in held {
            self.lease_ends(now, key, actions);
        }
    }

    pub(super) fn lease_found(&mut self, now: Now, id: u64, envelope: Bytes, actions: &mut Vec<Action>) {
        let found = Checked::read(envelope).filter(|found| found.is_current(now.wall) && !found.tombstone);
        let outcome = found.map_or(Outcome::Failed(Failure::Busy), |found| Outcome::Found(found.envelope));
        self.end_lease_wait(id, outcome, actions);
    }

    pub(super) fn lease_granted(&mut self, id: u64, token: u64, ttl_ms: u32, actions: &mut Vec<Action>) {
        let ttl = Duration::from_millis(u64::from(ttl_ms)).min(LONGEST);
        self.end_lease_wait(id, Outcome::Granted { token, ttl }, actions);
    }

    pub(super) fn lease_failed(&mut self, id: u64, why: Failure, actions: &mut Vec<Action>) {
        self.end_lease_wait(id, Outcome::Failed(why), actions);
    }

    /// The user waited as long as it wants to, or left.
    pub(super) fn end_lease_wait(&mut self, id: u64, outcome: Outcome, actions: &mut Vec<Action>) {
        let Some((op, req)) = self.lease_waits.remove(&id) else { return };
        self.timers.clear(Timer::LeaseWaitEnds(id));
        self.ops.remove(&op);
        if let Some(req) = req
            && let Some(ask) = self.asks.remove(&req)
        {
            self.send(ask.peer, Message::Cancel { req }, actions);
        }
        actions.push(Action::Done { op, outcome });
    }

    /// A peer no longer waits for the lease that it asked for.
    pub(super) fn cancel_lease_of(&mut self, now: Now, peer: PeerKey, req: u64, actions: &mut Vec<Action>) {
        let origin = Origin::Peer { peer, req };
        let mut held = None;
        for (key, lease) in &mut self.leases {
            lease.waiters.retain(|waiter| waiter.origin != origin);
            if lease.holder == origin {
                held = Some(*key);
            }
        }
        if let Some(key) = held {
            self.lease_ends(now, key, actions);
        }
    }

    fn resolve(&mut self, origin: Origin, resolved: Resolved, actions: &mut Vec<Action>) {
        match origin {
            Origin::Peer { peer, req } => {
                let message = match resolved {
                    Resolved::Found(envelope) => Message::Hit { req, envelope },
                    Resolved::Granted { token, ttl } => {
                        let ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
                        Message::Granted { req, token, ttl_ms }
                    }
                    Resolved::Refused => Message::Miss { req, sure: true },
                    Resolved::Waited => Message::Miss { req, sure: false },
                };
                self.send(peer, message, actions);
            }
            Origin::User(op) => {
                let Some(Purpose::Lease(id)) = self.ops.get(&op).copied() else { return };
                let outcome = match resolved {
                    Resolved::Found(envelope) => Outcome::Found(envelope),
                    Resolved::Granted { token, ttl } => Outcome::Granted { token, ttl },
                    Resolved::Refused => Outcome::Failed(Failure::Busy),
                    Resolved::Waited => Outcome::Failed(Failure::Timeout),
                };
                self.end_lease_wait(id, outcome, actions);
            }
        }
    }
}

enum Resolved {
    Found(Bytes),
    Granted { token: u64, ttl: Duration },
    Refused,
    Waited,
}
