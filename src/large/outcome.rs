//! How a streamed write ended.

use std::error::Error as StdError;
use std::fmt;

use peercache_api::Error;
use peercache_chain::{PutOutcome, TierPut};

/// How the tiers took a value that was streamed in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PutStreamOutcome {
    /// The bytes read from the source. Less than the value has when [`PutStreamOutcome::stored`] is
    /// false: reading stops at the first chunk that no tier takes.
    pub len: u64,
    /// How many chunks were written; none for a value of at most [`crate::stream::PLAIN_BYTES`].
    pub chunks: u64,
    /// Whether the value can be read back: every part is in some tier or on its way to one, and so
    /// is the manifest. A value that is larger than the local tiers, which make room for its last
    /// chunks by giving up its first ones, is not stored. Otherwise what was under the key before
    /// is still there.
    pub stored: bool,
    /// Tier by tier: `Stored` for those that took every part, else how the first of the parts that
    /// went worst did.
    pub outcome: PutOutcome,
}

/// Why a value could not be streamed in. Failures of backends are not among the reasons; they are
/// in [`PutStreamOutcome`].
#[derive(Debug)]
#[non_exhaustive]
pub enum PutStreamError {
    /// The source failed. Nothing was stored under the key; what it gave before that expires by
    /// itself.
    Source(Box<dyn StdError + Send + Sync>),
    /// The value, its lifetime or its metadata is out of bounds.
    Entry(Error),
}

impl fmt::Display for PutStreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => write!(f, "the source of the value failed: {error}"),
            Self::Entry(error) => error.fmt(f),
        }
    }
}

impl StdError for PutStreamError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Source(error) => Some(&**error),
            Self::Entry(error) => error.source(),
        }
    }
}

impl From<Error> for PutStreamError {
    fn from(error: Error) -> Self {
        Self::Entry(error)
    }
}

/// Whether some tier holds a part or is going to: chains may write to shared tiers in the
/// background.
pub(super) fn is_taken(part: &PutOutcome) -> bool {
    part.tiers.iter().any(|tier| rank(&tier.put) < NOT_TAKEN)
}

/// Adds how another part of the value went, tier by tier: what went worse stays.
pub(super) fn merge(all: &mut Option<PutOutcome>, part: PutOutcome) {
    let Some(all) = all else {
        *all = Some(part);
        return;
    };
    // Every part goes to the same tiers in the same order.
    for (tier, part) in all.tiers.iter_mut().zip(part.tiers) {
        if rank(&part.put) > rank(&tier.put) {
            *tier = part;
        }
    }
}

/// Says of every tier that took the parts of a value that it does not hold the whole.
pub(super) fn refuse_as_too_large(all: &mut PutOutcome) {
    for tier in &mut all.tiers {
        if rank(&tier.put) < NOT_TAKEN {
            tier.put = TierPut::TooLarge;
        }
    }
}

const NOT_TAKEN: u8 = 2;

fn rank(put: &TierPut) -> u8 {
    match put {
        TierPut::Stored => 0,
        TierPut::Mode | TierPut::TooLarge | TierPut::Failed(_) => NOT_TAKEN,
        // Accepted, and on its way.
        _ => 1,
    }
}
