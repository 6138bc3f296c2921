//! Removals: everyone connected hears of them at once, whoever was away hears of them on return.

use std::time::Duration;

use bytes::Bytes;
use peercache_api::{Timestamp, Version};

use super::event::{Action, Now, Role};
use super::node::Node;
use super::state::{Hint, Link};
use super::store::Checked;
use super::timers::Timer;
use crate::wire::{KeyId, Message, PeerKey};

/// How many removals are remembered to refuse what they bury.
const MAX_REMOVED: usize = 16 * 1024;
/// How many are told again to those who were away.
const MAX_TOLD_AGAIN: usize = 1024;
/// How many hints are kept of who holds what it is about to push.
const MAX_HINTS: usize = 16 * 1024;
/// How many of one peer.
const MAX_HINTS_OF_A_PEER: usize = 1024;
/// How long a hint counts: a push that takes longer has failed.
const HINT_LASTS: Duration = Duration::from_secs(60);

impl Node {
    /// The user removes something: everyone hears of it. Its owners are sent the tombstone as well.
    pub(super) fn removed_here(&mut self, now: Now, entry: &Checked, actions: &mut Vec<Action>) {
        if !self.remember_removal(now, entry) {
            return;
        }
        let forwarded = match self.role {
            Role::Anchor => true,
            // With all anchors connected, each tells its own leaves; else they have to tell each
            // other.
            Role::Leaf => self.ring.anchors().iter().all(|anchor| self.peers.link(*anchor).is_some()),
        };
        self.tell(entry, forwarded, |_, _| true, actions);
    }

    /// A peer says that something was removed.
    pub(super) fn removal(
        &mut self,
        now: Now,
        peer: PeerKey,
        envelope: Bytes,
        forwarded: bool,
        actions: &mut Vec<Action>,
    ) {
        if !self.may_remove(peer) {
            self.counters.refused_puts += 1;
            return;
        }
        let entry = Checked::read(envelope).filter(|entry| entry.tombstone && entry.is_current(now.wall));
        let Some(entry) = entry else {
            self.counters.refused_entries += 1;
            return;
        };
        if !self.learn_removal(now, &entry, Some(peer), actions) {
            return;
        }
        self.counters.removals += 1;
        if self.role != Role::Anchor {
            return;
        }
        if !forwarded {
            self.tell(&entry, true, |other, link| link.hello.role == Role::Anchor && other != peer, actions);
        }
        if self.is_owner(entry.key) || self.store.peek(entry.key, now.wall).is_some() {
            self.keep(now, entry, actions);
        }
    }

    /// Takes note of a tombstone that came from elsewhere, and tells the user and the leaves if it
    /// is news. Says whether it is.
    pub(super) fn learn_removal(
        &mut self,
        now: Now,
        entry: &Checked,
        from: Option<PeerKey>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let news = self.remember_removal(now, entry);
        if news {
            actions.push(Action::Removed { key: entry.key, envelope: entry.envelope.clone() });
            if self.role == Role::Anchor {
                self.tell(
                    entry,
                    true,
                    |peer, link| link.hello.role == Role::Leaf && Some(peer) != from,
                    actions,
                );
            }
        }
        news
    }

    fn tell(
        &mut self,
        entry: &Checked,
        forwarded: bool,
        whom: impl Fn(PeerKey, &Link) -> bool,
        actions: &mut Vec<Action>,
    ) {
        let told = self.peers.connected().filter(|(peer, link)| whom(*peer, link));
        for peer in told.map(|(peer, _)| peer).collect::<Vec<_>>() {
            let message = Message::Removal { envelope: entry.envelope.clone(), forwarded };
            self.send(peer, message, actions);
        }
    }

    /// Takes note of a tombstone. Says whether it was news.
    pub(super) fn remember_removal(&mut self, now: Now, entry: &Checked) -> bool {
        if self.removed.get(&entry.key).is_some_and(|known| *known >= entry.version) {
            return false;
        }
        self.removed.insert(entry.key, entry.version);
        self.hints.remove(&entry.key);
        let number = self.next_number();
        self.told_again.order.insert(number, (now.wall, entry.envelope.clone()));
        self.removed_order.push_back((entry.key, entry.version));
        while self.told_again.order.len() > MAX_TOLD_AGAIN {
            self.told_again.order.pop_first();
        }
        while self.removed_order.len() > MAX_REMOVED {
            if let Some((key, version)) = self.removed_order.pop_front()
                && self.removed.get(&key) == Some(&version)
            {
                self.removed.remove(&key);
            }
        }
        true
    }

    /// A peer is back: it hears of what was removed while it was away.
    pub(super) fn tell_removals(
        &mut self,
        peer: PeerKey,
        since: Option<Timestamp>,
        actions: &mut Vec<Action>,
    ) {
        let Some(since) = since else { return };
        let missed: Vec<_> = self
            .told_again
            .order
            .values()
            .filter(|(heard, _)| *heard >= since)
            .map(|(_, it)| it.clone())
            .collect();
        for envelope in missed {
            self.send(peer, Message::Removal { envelope, forwarded: true }, actions);
        }
    }

    /// A peer says that it is about to push an entry.
    pub(super) fn announced(&mut self, now: Now, peer: PeerKey, key: KeyId, version: Version) {
        let stored = self.store.peek(key, now.wall).is_some_and(|record| record.version >= version);
        let removed = self.removed.get(&key).is_some_and(|removed| *removed >= version);
        let theirs = self.hints.values().filter(|hint| hint.peer == peer).count();
        let full = self.hints.len() >= MAX_HINTS || theirs >= MAX_HINTS_OF_A_PEER;
        if stored || removed || full || self.role != Role::Anchor || !self.may_write(peer) {
            return;
        }
        let until = now.mono + HINT_LASTS;
        self.hints.insert(key, Hint { peer, until });
        self.timers.set_before(Timer::ForgetHints, until);
    }

    /// Who holds `key` and has not pushed it yet.
    pub(super) fn hint(&self, now: Now, key: KeyId) -> Option<PeerKey> {
        self.hints.get(&key).filter(|hint| hint.until > now.mono).map(|hint| hint.peer)
    }

    pub(super) fn forget_hints(&mut self, now: Now) {
        self.hints.retain(|_, hint| hint.until > now.mono);
        if let Some(next) = self.hints.values().map(|hint| hint.until).min() {
            self.timers.set(Timer::ForgetHints, next);
        }
    }
}
