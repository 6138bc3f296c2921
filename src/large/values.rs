//! The large values of a cache: what reading and writing them share.

use std::sync::Arc;

use peercache_chain::{PutOutcome, TierPut};

use super::stats::{LargeReport, LargeStats};
use crate::entries::Entries;

/// Values of any size, over the entries of a cache. Cloning it gives another handle to the same.
#[derive(Clone, Debug)]
pub(crate) struct LargeValues {
    pub(super) entries: Entries,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stats: LargeStats,
    /// Which of the tiers are shared with other machines.
    shared: Vec<bool>,
}

impl LargeValues {
    /// `shared` says of each tier whether it is shared with other machines.
    pub(crate) fn new(entries: Entries, shared: Vec<bool>) -> Self {
        Self { entries, inner: Arc::new(Inner { stats: LargeStats::default(), shared }) }
    }

    pub(crate) fn report(&self) -> LargeReport {
        self.inner.stats.report()
    }

    pub(super) fn stats(&self) -> &LargeStats {
        &self.inner.stats
    }

    /// Whether a shared tier took a write, or is going to.
    pub(super) fn shares(&self, outcome: &PutOutcome) -> bool {
        let takes = |put: &TierPut| match put {
            TierPut::Stored | TierPut::Queued => true,
            // The chain tries it again in the background.
            TierPut::Failed(error) => error.is_retryable(),
            _ => false,
        };
        self.inner.shared.iter().zip(&outcome.tiers).any(|(shared, tier)| *shared && takes(&tier.put))
    }
}
