//! What a read or a write of a chain answers: never just yes or no.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use peercache_api::{Entry, Error, Version};
use serde::Serialize;

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A value that may be served.
    Hit,
    /// A value that may be served only if its origin cannot be asked, or while it is being asked.
    Stale,
    /// Nothing that may be served.
    Miss,
}

/// Why a tier gave nothing, or nothing that could be used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Skip {
    /// It holds nothing under this key.
    Absent,
    /// What it holds has expired.
    Expired,
    /// What it holds is stale; it is served only if no tier has something fresh.
    Stale,
    /// It holds a tombstone: the key was removed.
    Removed,
    /// What it holds is older than a tombstone or an entry seen in a tier before it.
    Superseded,
    /// What it holds claims to come from the future; see [`peercache_api::MAX_CLOCK_SKEW`].
    FromFuture,
    /// It failed.
    Failed(Error),
    /// It holds an entry that was removed by one of its tags.
    Tagged,
    /// It did not answer within its deadline.
    TimedOut(Duration),
    /// Its mode does not allow reading.
    Mode,
    /// Its breaker is open: it failed repeatedly and was not asked.
    Open,
    /// It usually takes longer than the read had left, and was not asked.
    TooSlow,
    /// It took longer than usual, and a tier raced against it answered first.
    Overtaken,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Expired => "expired",
            Self::Stale => "stale",
            Self::Removed => "removed",
            Self::Superseded => "superseded",
            Self::FromFuture => "from the future",
            Self::Tagged => "removed by a tag",
            Self::Mode => "write-only",
            Self::Open => "not asked: its breaker is open",
            Self::TooSlow => "not asked: it has been too slow",
            Self::Overtaken => "overtaken by another tier",
            Self::Failed(error) => return error.fmt(f),
            Self::TimedOut(deadline) => return write!(f, "no answer within {} ms", deadline.as_millis()),
        })
    }
}

/// One tier's part in a lookup that it did not answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TierTrace {
    /// The tier's place in the chain, counted from 0.
    pub index: usize,
    /// The tier's name, which another tier may have as well.
    pub tier: Cow<'static, str>,
    /// Why it did not answer.
    pub skip: Skip,
}

impl TierTrace {
    /// How long the read waited for this tier before it gave the tier up for its deadline. None if
    /// the tier answered, or was not waited for.
    #[must_use]
    pub fn waited(&self) -> Option<Duration> {
        match self.skip {
            Skip::TimedOut(waited) => Some(waited),
            _ => None,
        }
    }

    /// Whether the tier may hold the key all the same: it failed, did not answer in time, or was
    /// not asked for its health or its speed.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        use Skip::{Failed, Open, Overtaken, TimedOut, TooSlow};
        matches!(self.skip, Failed(_) | TimedOut(_) | Open | TooSlow | Overtaken)
    }
}

/// How a lookup differs from the usual one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LookupOptions {
    /// By how much each tier, and the whole read, may take longer than usual: for values that are
    /// known to be large. A chain as a tier keeps its own deadlines. Default: not at all.
    pub extra_time: Duration,
    /// The bytes of the whole value that the entry is a part of: a hit is promoted only to tiers
    /// that have room for all of it. Default: 0, the entry stands for itself.
    pub part_of: u64,
    /// The caller only looks: a hit is promoted to no tier. Default: `false`.
    pub look_only: bool,
}

impl LookupOptions {
    /// The usual lookup.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Each tier, and the whole read, may take this much longer than usual.
    #[must_use]
    pub const fn extra_time(mut self, extra_time: Duration) -> Self {
        self.extra_time = extra_time;
        self
    }

    /// The entry is a part of a value of `bytes` in all.
    #[must_use]
    pub const fn part_of(mut self, bytes: u64) -> Self {
        self.part_of = bytes;
        self
    }

    /// A hit is promoted to no tier.
    #[must_use]
    pub const fn look_only(mut self) -> Self {
        self.look_only = true;
        self
    }
}

/// The answer to a read: what was found, where, and why not elsewhere.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use]
pub struct Lookup {
    /// Hit, stale or miss.
    pub outcome: Outcome,
    /// The entry, for a hit or a stale answer.
    pub entry: Option<Entry>,
    /// The name of the tier that the entry came from.
    pub tier: Option<Cow<'static, str>>,
    /// The place in the chain of that tier, counted from 0.
    pub tier_index: Option<usize>,
    /// Whether that tier is this process's own memory, where no other process can write; false for
    /// a miss.
    pub in_process: bool,
    /// Whether that tier is shared with other machines; false for a miss.
    pub shared: bool,
    /// The entry's age; zero for a miss.
    pub age: Duration,
    /// The greatest version that any tier showed, a removal's included. Who writes this key next
    /// makes a version above it ([`peercache_api::VersionClock::observe`]).
    pub newest: Option<Version>,
    /// The tiers that were asked or passed over without giving a fresh value, in order. Empty for a
    /// hit in the first tier; the tier of a stale answer is among them.
    pub trace: Vec<TierTrace>,
}

impl Lookup {
    /// The entry if it may be served without asking its origin.
    #[must_use]
    pub fn hit(self) -> Option<Entry> {
        match self.outcome {
            Outcome::Hit => self.entry,
            Outcome::Stale | Outcome::Miss => None,
        }
    }

    /// The tiers that may hold the key all the same, in order: those that failed, did not answer in
    /// time, or were not asked for their health or their speed. [`TierTrace::waited`] says how long
    /// the read waited for one in vain.
    pub fn unknown(&self) -> impl Iterator<Item = &TierTrace> {
        self.trace.iter().filter(|trace| trace.is_unknown())
    }

    /// Whether this is a hit.
    #[must_use]
    pub fn is_hit(&self) -> bool {
        self.outcome == Outcome::Hit
    }
}

/// How one tier took a write.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TierPut {
    /// It holds this entry now, or a newer one.
    Stored,
    /// It will be written in the background: what waits for it is bounded, tried again, and counted
    /// however it ends.
    Queued,
    /// It was not asked: its mode does not allow writing.
    Mode,
    /// The value is larger than it takes. A tombstone replaces what it held before, which would
    /// hide the value that tiers further down hold now.
    TooLarge,
    /// It failed, or did not answer within its deadline. A shared tier is tried again in the
    /// background where that can help.
    Failed(Error),
}

impl fmt::Display for TierPut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stored => "stored",
            Self::Queued => "queued",
            Self::Mode => "read-only",
            Self::TooLarge => "too large",
            Self::Failed(error) => return error.fmt(f),
        })
    }
}

/// One tier's part in a write.
#[derive(Clone, Debug)]
pub struct PutResult {
    /// The tier's name.
    pub tier: Cow<'static, str>,
    /// Whether what it stores survives the process.
    pub durable: bool,
    /// How it took the write.
    pub put: TierPut,
}

/// The answer to a write, tier by tier. A write never fails its caller; who needs to know where the
/// entry is now looks here.
#[derive(Clone, Debug)]
pub struct PutOutcome {
    /// Every tier of the chain, in order.
    pub tiers: Vec<PutResult>,
}

impl PutOutcome {
    /// Whether at least one tier holds the entry.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.tiers.iter().any(|tier| matches!(tier.put, TierPut::Stored))
    }

    /// Whether at least one tier that survives the process holds the entry.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.tiers.iter().any(|tier| tier.durable && matches!(tier.put, TierPut::Stored))
    }

    /// Whether a shared tier will be written in the background.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.tiers.iter().any(|tier| matches!(tier.put, TierPut::Queued))
    }

    /// What went wrong, tier by tier.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.tiers.iter().filter_map(|tier| match &tier.put {
            TierPut::Failed(error) => Some(error),
            TierPut::Stored | TierPut::Queued | TierPut::Mode | TierPut::TooLarge => None,
        })
    }
}
