//! What is known of a tier, and how it took a write.

/// What the model may rely on in one tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierSpec {
    /// Whether lookups ask it at all.
    pub reads: bool,
    /// Whether it keeps what it says that it holds, until that expires or something newer comes,
    /// shows it whenever it is asked and up, and refuses no write while it is up. True for a memory
    /// or disk with room to spare; not for what evicts, loses, replays, or sits behind a network.
    pub keeps: bool,
    /// How it is written.
    pub queue: Queue,
}

/// How the writer of a chain, whose lookups are judged, writes a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// At once.
    None,
    /// In the background, through a queue that gives up only what has expired.
    Roomy,
    /// In the background, through a queue that may give a write up for any reason.
    Bounded,
}

impl TierSpec {
    /// A tier that is read, and keeps what it takes.
    #[must_use]
    pub const fn keeper() -> Self {
        Self { reads: true, keeps: true, queue: Queue::None }
    }

    /// A tier that is read, and may do anything.
    #[must_use]
    pub const fn doubtful() -> Self {
        Self { reads: true, keeps: false, queue: Queue::None }
    }

    /// The same tier, never asked by a lookup.
    #[must_use]
    pub const fn write_only(self) -> Self {
        Self { reads: false, ..self }
    }

    /// The same tier, written through `queue`.
    #[must_use]
    pub const fn behind(self, queue: Queue) -> Self {
        Self { queue, ..self }
    }
}

/// How one tier took a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It said that it holds this version now, or a newer one.
    Stored,
    /// It holds a removal of everything older instead, because the value was too large for it;
    /// where the tier is written behind, that removal waits for it.
    Buried,
    /// It waits to be written to the tier.
    Queued,
    /// It waits to be written to the tier, after an attempt that failed.
    Delayed,
    /// It failed, or did not answer in time: it may hold the version or not.
    Failed,
    /// It failed, or did not answer in time, and may hold the version, or in its place a removal of
    /// everything older: the value was too large for it, or for one of the stores of which it is
    /// made, as a chain is.
    Partly,
    /// It was not asked.
    NotAsked,
}
