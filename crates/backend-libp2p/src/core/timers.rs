//! What is to happen later, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::wire::{KeyId, PeerKey};

/// What becomes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A lookup has taken as long as it may.
    LookupEnds(u64),
    /// What is kept outside has not been found in time.
    RecallEnds(KeyId),
    /// A lookup asks a second peer.
    Hedge(u64),
    /// A write has taken as long as it may.
    WriteEnds(u64),
    /// The user's wait for a lease ends.
    LeaseWaitEnds(u64),
    /// A lease that this node granted ends.
    LeaseEnds(KeyId),
    /// A request of the repair has taken as long as it may.
    RepairEnds(u64),
    /// A look at a connection: is the peer alive?
    Pulse(PeerKey),
    /// A peer that was lost is given up.
    GiveUp(PeerKey),
    /// An anchor that others know is to be dialled.
    Dial(PeerKey),
    /// The view is sent to every connected peer.
    TellView,
    /// The whole view is sent to one peer.
    TellAll(PeerKey),
    /// The walk over the store goes on.
    Walk,
    /// Hints that are old are forgotten.
    ForgetHints,
}

/// Each timer is set at most once.
#[derive(Debug, Default)]
pub(super) struct Timers {
    order: BTreeSet<(Duration, Timer)>,
    due: BTreeMap<Timer, Duration>,
}

impl Timers {
    /// Sets `timer`; what it was set to before no longer counts.
    pub(super) fn set(&mut self, timer: Timer, at: Duration) {
        if let Some(before) = self.due.insert(timer, at) {
            self.order.remove(&(before, timer));
        }
        self.order.insert((at, timer));
    }

    /// Sets `timer` unless it is set to something earlier.
    pub(super) fn set_before(&mut self, timer: Timer, at: Duration) {
        if self.due.get(&timer).is_none_or(|before| *before > at) {
            self.set(timer, at);
        }
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(before) = self.due.remove(&timer) {
            self.order.remove(&(before, timer));
        }
    }

    /// When the first one is due.
    pub(super) fn first(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }

    /// The first one that is due by `now`.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Timer> {
        let (at, timer) = *self.order.first().filter(|(at, _)| *at <= now)?;
        self.order.remove(&(at, timer));
        self.due.remove(&timer);
        Some(timer)
    }
}
