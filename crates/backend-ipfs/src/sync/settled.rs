//! Folders of other nodes that need not be read again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Folders of other nodes of which there is nothing more to have: they are not read again.
#[derive(Debug, Default)]
pub(super) struct Settled(Mutex<HashSet<String>>);

/// The most that are remembered, about 8 MB; then all are forgotten.
const SETTLED: usize = 65_536;

impl Settled {
    pub(super) fn contains(&self, cid: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(cid)
    }

    pub(super) fn insert(&self, cid: String) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if set.len() >= SETTLED {
            set.clear();
        }
        set.insert(cid);
    }

    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
