//! What a lookup said, and what can be wrong about it.

use std::fmt;

use peercache_api::{Entry, Freshness, Version};

/// The answer to a lookup, as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing that may be served.
    Miss,
    /// A fresh value, from the tier with this number, counted from 0.
    Hit {
        /// Where it came from.
        tier: usize,
        /// What was found.
        entry: Entry,
    },
    /// A stale value, from the tier with this number, counted from 0.
    Stale {
        /// Where it came from.
        tier: usize,
        /// What was found.
        entry: Entry,
    },
}

impl Answer {
    /// The entry, unless it is a miss.
    #[must_use]
    pub const fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Miss => None,
            Self::Hit { entry, .. } | Self::Stale { entry, .. } => Some(entry),
        }
    }

    /// An order for lists: misses first, then by version and tier.
    pub(super) fn order(&self) -> Option<(Version, usize)> {
        match self {
            Self::Miss => None,
            Self::Hit { tier, entry } | Self::Stale { tier, entry } => Some((entry.version(), *tier)),
        }
    }
}

/// What is wrong about an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Nobody put this version under this key.
    NeverPut {
        /// The version that was served.
        version: Version,
    },
    /// This version was put with another value or other metadata.
    Altered {
        /// The version that was served.
        version: Version,
    },
    /// A tombstone was served as a value.
    Removal {
        /// Its version.
        version: Version,
    },
    /// It was removed with one of its tags.
    Invalidated {
        /// The version that was served.
        version: Version,
        /// As of which version the tag was invalidated.
        removal: Version,
    },
    /// It lies further in the future than clocks may differ.
    FromFuture {
        /// The version that was served.
        version: Version,
    },
    /// It was called fresh or stale and is not, or has expired.
    Mislabelled {
        /// The version that was served.
        version: Version,
        /// What it was called.
        said: Freshness,
        /// What it is.
        is: Freshness,
    },
    /// A tier that was asked holds something newer.
    Outdated {
        /// The version that was served.
        version: Version,
        /// The least that the tier holds: this version, or a removal of everything older.
        holds: Version,
        /// The tier that holds it.
        tier: usize,
    },
    /// A tier that missed a newer write was believed.
    Resurrected {
        /// The version that was served.
        version: Version,
        /// The write that the tier failed to take.
        missed: Version,
        /// The tier.
        tier: usize,
    },
    /// It was a miss, although a tier holds this version and nothing can have hidden it.
    Lost {
        /// The version that should have been found.
        version: Version,
        /// The tier that holds it.
        tier: usize,
    },
    /// A tier that was always well was not heard.
    PassedOver {
        /// The tier.
        tier: usize,
    },
    /// The answer is said to come from a tier that was down, not to be read, or not heard.
    NotAsked {
        /// The tier.
        tier: usize,
    },
    /// There are fewer tiers.
    NoSuchTier {
        /// The number that was given.
        tier: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverPut { version } => write!(f, "{version:?} was never put under this key"),
            Self::Altered { version } => write!(f, "{version:?} is not what was put"),
            Self::Removal { version } => write!(f, "{version:?} is a removal, served as a value"),
            Self::Invalidated { version, removal } => {
                write!(f, "{version:?} was removed with one of its tags as of {removal:?}")
            }
            Self::FromFuture { version } => write!(f, "{version:?} comes from the future"),
            Self::Mislabelled { version, said, is } => {
                write!(f, "{version:?} was called {said:?} and is {is:?}")
            }
            Self::Outdated { version, holds, tier } => {
                write!(f, "{version:?} was served although tier {tier} holds {holds:?}")
            }
            Self::Resurrected { version, missed, tier } => {
                write!(f, "{version:?} was taken from tier {tier}, which had missed {missed:?}")
            }
            Self::Lost { version, tier } => {
                write!(f, "nothing was found although tier {tier} holds {version:?}")
            }
            Self::PassedOver { tier } => write!(f, "tier {tier} was always well and was not heard"),
            Self::NotAsked { tier } => write!(f, "tier {tier} cannot have answered"),
            Self::NoSuchTier { tier } => write!(f, "there is no tier {tier}"),
        }
    }
}

impl std::error::Error for Violation {}
