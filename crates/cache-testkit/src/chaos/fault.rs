//! What can go wrong in one call.

use std::fmt;

use peercache_api::{ErrorKind, Operation};

/// One way in which a call goes wrong.
///
/// The lies of a read need something to lie about: a store that holds nothing, or a key without an
/// earlier version, is answered honestly although the [`Trace`](super::Trace) names the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Any call: refused with this kind, nothing is done.
    Fail(ErrorKind),
    /// Any call: nothing is done, and the answer never comes.
    Hang,
    /// Any call: it is done, and reported as failed with this kind.
    FailAfter(ErrorKind),
    /// Any call: it is done, and the answer never comes.
    Stall,
    /// Any call: nothing is done, and the backend panics.
    Panic,

    /// Get: the stored bytes end early. Detected as corrupt, unless the plan is
    /// [`undetected`](super::Plan::undetected): then the value is shorter.
    Truncated,
    /// Get: one bit of the stored bytes is wrong. Detected, unless the plan is
    /// [`undetected`](super::Plan::undetected): then one bit of the value is wrong.
    BitFlip,
    /// Get: what was put under another key. Detected, unless the plan is
    /// [`undetected`](super::Plan::undetected): then that entry is the answer.
    OtherKey,
    /// Get: the entry claims to be fresh for [`peercache_api::MAX_LIFETIME`]. Detected, unless the
    /// plan is [`undetected`](super::Plan::undetected). Tombstones are left alone: they all live as
    /// long.
    StretchedExpiry,
    /// Get: what was under this key before, whole and valid. No store can be caught at that from
    /// one answer alone.
    OlderVersion,
    /// Get: the entry as a machine would have written it whose clock runs more than a month ahead.
    /// Whole and valid; readers are to refuse it by its time.
    FromFuture,

    /// Put: acknowledged, and not done.
    Lost,
    /// Put: acknowledged, and only a part of the bytes arrived. Reads of what it wrote are as with
    /// [`Fault::Truncated`] until another version replaces it.
    Torn,
    /// Put: done twice.
    Duplicate,
    /// Put: done, and then the put before it to the same key arrives once more, as a delayed
    /// retransmission would. A store with ordered writes is not impressed.
    LateRetry,
}

impl Fault {
    /// Whether this can happen to `operation`.
    #[must_use]
    pub const fn applies_to(self, operation: Operation) -> bool {
        match self {
            Self::Fail(_) | Self::Hang | Self::FailAfter(_) | Self::Stall | Self::Panic => {
                matches!(
                    operation,
                    Operation::Get | Operation::Put | Operation::Lease | Operation::Probe | Operation::Close
                )
            }
            Self::Truncated
            | Self::BitFlip
            | Self::OtherKey
            | Self::StretchedExpiry
            | Self::OlderVersion
            | Self::FromFuture => matches!(operation, Operation::Get),
            Self::Lost | Self::Torn | Self::Duplicate | Self::LateRetry => {
                matches!(operation, Operation::Put)
            }
        }
    }

    /// Whether it takes earlier puts to do this.
    pub(super) const fn needs_past(self) -> bool {
        matches!(self, Self::OtherKey | Self::OlderVersion | Self::LateRetry)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(kind) => write!(f, "fails ({kind})"),
            Self::Hang => f.write_str("hangs"),
            Self::FailAfter(kind) => write!(f, "is done but fails ({kind})"),
            Self::Stall => f.write_str("is done but never answers"),
            Self::Panic => f.write_str("panics"),
            Self::Truncated => f.write_str("is truncated"),
            Self::BitFlip => f.write_str("has a bit flipped"),
            Self::OtherKey => f.write_str("gives another key's entry"),
            Self::StretchedExpiry => f.write_str("has its expiry stretched"),
            Self::OlderVersion => f.write_str("gives an older version"),
            Self::FromFuture => f.write_str("comes from the future"),
            Self::Lost => f.write_str("is lost"),
            Self::Torn => f.write_str("is torn"),
            Self::Duplicate => f.write_str("is done twice"),
            Self::LateRetry => f.write_str("is followed by a late retry of the one before"),
        }
    }
}
