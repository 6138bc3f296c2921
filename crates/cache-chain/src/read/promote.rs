//! Promotion: the tiers above the one that answered get the same bytes.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use peercache_api::util::Count;
use peercache_api::{Clock, Entry, Key};
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::write::queue::worker::pump;
use crate::write::slot::Slot;

/// The most that may wait to be written to slower local tiers, in KiB of values: 64 MiB. What does
/// not fit is not promoted, and counted; the next hit tries again.
const MAX_PENDING_KIB: u32 = 64 * 1024;

/// Copies promoted to faster tiers after a hit further down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PromotionReport {
    /// Taken by a local tier.
    pub stored: u64,
    /// Refused by a local tier, or failed there.
    pub errors: u64,
    /// Handed to the write queue of a shared tier, whose report says how they ended.
    pub queued: u64,
    /// Not tried, because too much was waiting to be written.
    pub dropped: u64,
}

#[derive(Debug)]
pub(crate) struct Promoter {
    clock: Arc<dyn Clock>,
    room: Arc<Semaphore>,
    stats: Arc<PromotionStats>,
}

#[derive(Debug, Default)]
struct PromotionStats {
    stored: Count,
    errors: Count,
    queued: Count,
    dropped: Count,
}

impl Promoter {
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Self {
        let room = Arc::new(Semaphore::new(MAX_PENDING_KIB as usize));
        Self { clock: Arc::clone(clock), room, stats: Arc::default() }
    }

    pub(crate) fn report(&self) -> PromotionReport {
        PromotionReport {
            stored: self.stats.stored.get(),
            errors: self.stats.errors.get(),
            queued: self.stats.queued.get(),
            dropped: self.stats.dropped.get(),
        }
    }

    /// Writes `entry` to the tier of `slot`: through its queue if it is shared; before this returns
    /// if it is memory; else in the background. Never waits. A value that the tier does not take is
    /// not written.
    pub(crate) async fn promote(&self, slot: &Slot, key: &Key, entry: &Entry) {
        if entry.value().len() > slot.tier.info().capabilities.max_value_bytes {
            return;
        }
        let Some(queue) = &slot.queue else { return self.promote_locally(slot, key, entry).await };
        // What waits to be written there is as new, or will be replaced by what the next hit
        // promotes.
        if queue.pending(key).is_some() {
            return;
        }
        if queue.offer_copy(key, entry.clone()) {
            self.stats.queued.add(1);
            pump(queue);
        } else {
            self.stats.dropped.add(1);
        }
    }

    async fn promote_locally(&self, slot: &Slot, key: &Key, entry: &Entry) {
        let kib = u32::try_from(entry.value().len() / 1024 + 1).unwrap_or(MAX_PENDING_KIB);
        let Ok(permit) = Arc::clone(&self.room).try_acquire_many_owned(kib) else {
            return self.stats.dropped.add(1);
        };
        let (tier, key, entry) = (Arc::clone(&slot.tier), key.clone(), entry.clone());
        let (clock, stats) = (Arc::clone(&self.clock), Arc::clone(&self.stats));
        let volatile = tier.is_volatile();
        let mut copy = Box::pin(async move {
            let put = tier.put_counted(&key, &entry, &*clock).await;
            (if put.is_ok() { &stats.stored } else { &stats.errors }).add(1);
            drop(permit);
        });
        // Memory takes it without waiting, so the next read finds it there. One that does wait is
        // no reason to hold up this read.
        if volatile && poll_fn(|context| Poll::Ready(copy.as_mut().poll(context))).await.is_ready() {
            return;
        }
        tokio::spawn(copy);
    }

    /// Waits until everything that was accepted for local tiers has been written or given up.
    pub(crate) async fn settle(&self) {
        // The semaphore is never closed, so this fails only by waiting.
        if let Ok(all) = self.room.acquire_many(MAX_PENDING_KIB).await {
            drop(all);
        }
    }
}
