//! How many messages of which purpose were sent.

use std::fmt;

use crate::wire::Message;

/// Messages sent, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Questions for entries, and their answers.
    pub reads: u64,
    /// Entries pushed, and the answers.
    pub writes: u64,
    /// News of removals.
    pub removals: u64,
    /// Views of the ring.
    pub views: u64,
    /// Comparisons between anchors, without the entries that follow.
    pub repair: u64,
    /// Signs of life.
    pub pulse: u64,
    /// Leases.
    pub leases: u64,
}

impl Traffic {
    pub(super) fn count(&mut self, message: &Message) {
        let counter = match message {
            Message::Get { .. }
            | Message::Cancel { .. }
            | Message::Hit { .. }
            | Message::Miss { .. }
            | Message::Busy { .. } => &mut self.reads,
            Message::Put { .. } | Message::PutDone { .. } | Message::Announce { .. } => &mut self.writes,
            Message::Removal { .. } => &mut self.removals,
            Message::View { .. } | Message::Vouched | Message::Leaving => &mut self.views,
            Message::Summary { .. }
            | Message::Compared { .. }
            | Message::Versions { .. }
            | Message::Offer { .. }
            | Message::Wanted { .. } => &mut self.repair,
            Message::Ping { .. } | Message::Pong { .. } => &mut self.pulse,
            Message::Lease { .. } | Message::Granted { .. } | Message::Release { .. } => &mut self.leases,
        };
        *counter += 1;
    }

    /// What was sent since `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
            removals: self.removals - before.removals,
            views: self.views - before.views,
            repair: self.repair - before.repair,
            pulse: self.pulse - before.pulse,
            leases: self.leases - before.leases,
        }
    }

    /// All of them.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.reads + self.writes + self.removals + self.views + self.repair + self.pulse + self.leases
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads, writes, removals, views, repair, pulse, leases } = self;
        write!(
            f,
            "{reads} reads, {writes} writes, {removals} removals, {views} views, {repair} repair, {pulse} pulse, {leases} leases"
        )
    }
}
