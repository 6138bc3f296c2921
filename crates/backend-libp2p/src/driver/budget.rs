//! How many bytes may wait in memory, over all peers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A number of bytes that many share.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    most: usize,
    refusals: AtomicU64,
}

impl Budget {
    pub(crate) const fn new(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most, refusals: AtomicU64::new(0) }
    }

    /// Takes `bytes`, or nothing when they are not there.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        // Relaxed: the number alone is shared, nothing is published with it.
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.most);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !taken {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// How often there was not enough.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
