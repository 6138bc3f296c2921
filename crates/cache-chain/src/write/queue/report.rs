//! What a report says about the writes that wait.

use serde::Serialize;

/// The write-behind queue of one shared tier.
///
/// Each write ends in exactly one way, so `queued + promoted + replayed` is
/// `delivered + coalesced + dropped in all + journalled + waiting`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueueReport {
    /// Writes that were to go to this tier, those that found no room included.
    pub queued: u64,
    /// Copies of what a read found in a tier further down. They are taken in only where there is
    /// room.
    pub promoted: u64,
    /// Writes taken over from the journal of a process that has ended.
    pub replayed: u64,
    /// Writes that the tier took.
    pub delivered: u64,
    /// Writes for which a newer one of the same key stands.
    pub coalesced: u64,
    /// Writes that were given up, by reason.
    pub dropped: DroppedReport,
    /// Writes left in the journal when the chain was closed, for the next process.
    pub journalled: u64,
    /// Writes that wait or are under way now.
    pub waiting: u64,
    /// The bytes that these take.
    pub waiting_bytes: u64,
    /// Attempts after the first.
    pub retried: u64,
    /// Writes that waited in memory alone because the journal could not take them: it is full, or
    /// its disk failed.
    pub unjournalled: u64,
}

/// Writes that were given up, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DroppedReport {
    /// There was no room, or they made room for removals or newer writes.
    pub queue_full: u64,
    /// They waited longer than the maximum age, or had expired.
    pub too_old: u64,
    /// The tier refused them in a way that no retry mends.
    pub refused: u64,
    /// The chain was closed, and no journal took them.
    pub shutdown: u64,
}

impl DroppedReport {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.queue_full + self.too_old + self.refused + self.shutdown
    }
}
