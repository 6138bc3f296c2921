//! What an anchor keeps outside of its memory, on a disk for example: it is stored by whoever
//! carries out [`Action::Keep`], given back entry by entry after a restart, and asked for when this
//! node itself does not hold a key. Whoever wants that key waits for the answer, for a moment.

use std::time::Duration;

use bytes::Bytes;

use super::event::{Action, Now, OpId, Role};
use super::node::Node;
use super::state::Parked;
use super::store::Checked;
use super::timers::Timer;
use crate::wire::{KeyId, PeerKey};

/// The most that wait for what is kept outside. Beyond it, nobody does.
const MAX_PARKED: usize = 16 * 1024;
/// How long they wait. A disk that takes longer does not have it.
pub(crate) const RECALL_LASTS: Duration = Duration::from_millis(500);

impl Node {
    /// Takes back an entry that was kept outside. What is newer stays. With `makes_room` others go
    /// for it. Says whether there was room.
    pub(crate) fn restore(&mut self, now: Now, envelope: Bytes, makes_room: bool) -> bool {
        let now = self.corrected(now);
        self.take_back(now, envelope, makes_room)
    }

    fn take_back(&mut self, now: Now, envelope: Bytes, makes_room: bool) -> bool {
        let Some(entry) = Checked::read(envelope).filter(|entry| entry.is_current(now.wall)) else {
            return true;
        };
        let removed = self.removed.get(&entry.key).is_some_and(|removed| *removed >= entry.version);
        if removed && !entry.tombstone {
            return true;
        }
        if !makes_room && !self.store.has_room(&entry) {
            return false;
        }
        self.counters.restored += u64::from(self.store.restore(entry));
        true
    }

    /// Whether an anchor that keeps entries outside holds `key` is to be found out first. If so,
    /// `parked` goes on with [`Node::recalled`].
    pub(super) fn recall(&mut self, now: Now, key: KeyId, parked: Parked, actions: &mut Vec<Action>) -> bool {
        if !self.keeps || self.role != Role::Anchor || self.parked >= MAX_PARKED {
            return false;
        }
        if self.store.peek(key, now.wall).is_some() || self.outgoing.contains_key(&key) {
            return false;
        }
        self.parked += 1;
        let waiting = self.recalls.entry(key).or_default();
        waiting.push(parked);
        if waiting.len() == 1 {
            self.timers.set(Timer::RecallEnds(key), now.mono + RECALL_LASTS);
            actions.push(Action::Recall { key });
        }
        true
    }

    /// What is kept outside under `key`, if anything is.
    pub(super) fn recalled(
        &mut self,
        now: Now,
        key: KeyId,
        envelope: Option<Bytes>,
        actions: &mut Vec<Action>,
    ) {
        if let Some(envelope) = envelope {
            self.take_back(now, envelope, true);
        }
        self.timers.clear(Timer::RecallEnds(key));
        for parked in self.recalls.remove(&key).unwrap_or_default() {
            self.parked -= 1;
            match parked {
                Parked::User { op, until } => {
                    self.look_for(now, op, key, until.saturating_sub(now.mono), actions);
                }
                Parked::Peer { peer, req, until, forwarded } => {
                    let left = until.saturating_sub(now.mono);
                    self.answer_or_ask(now, peer, (req, key, left, forwarded), actions);
                }
            }
        }
    }

    /// The user no longer waits.
    pub(super) fn abandon_recall(&mut self, op: OpId, key: KeyId) {
        self.forget_parked(key, |parked| matches!(parked, Parked::User { op: of, .. } if *of == op));
    }

    /// `peer` no longer waits: for the answer to `req`, or for any.
    pub(super) fn abandon_recalls_of(&mut self, peer: PeerKey, req: Option<u64>) {
        let keys: Vec<_> = self.recalls.keys().copied().collect();
        for key in keys {
            self.forget_parked(key, |parked| {
                matches!(parked, Parked::Peer { peer: of, req: asked, .. }
                    if *of == peer && req.is_none_or(|req| req == *asked))
            });
        }
    }

    fn forget_parked(&mut self, key: KeyId, goes: impl Fn(&Parked) -> bool) {
        let Some(waiting) = self.recalls.get_mut(&key) else { return };
        let before = waiting.len();
        waiting.retain(|parked| !goes(parked));
        self.parked -= before - waiting.len();
    }
}
