//! A tier's place in a chain: the tier, and the queue of what is to be written to it.

use std::sync::Arc;

use peercache_api::{Entry, Key};

use super::queue::WriteQueue;
use crate::tier::Tier;

/// One place in a chain.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) tier: Arc<Tier>,
    /// For a shared tier that may be written.
    pub(crate) queue: Option<Arc<WriteQueue>>,
}

impl Slot {
    /// What waits to be written to the tier under `key`.
    pub(crate) fn pending(&self, key: &Key) -> Option<Entry> {
        self.queue.as_ref()?.pending(key)
    }

    /// Whether the tier is local and may be read.
    pub(crate) fn reads_locally(&self) -> bool {
        self.tier.is_local() && self.tier.reads()
    }
}

/// The queues of `slots`.
pub(crate) fn queues(slots: &[Slot]) -> impl Iterator<Item = &Arc<WriteQueue>> {
    slots.iter().filter_map(|slot| slot.queue.as_ref())
}
