//! Carrying a hit up: the tiers above the one that answered get the same bytes.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use peercache_api::{Clock, Entry, Key};
use tokio::sync::Semaphore;

use crate::stats::ChainStats;
use crate::tier::{Call, Tier};

/// The most that may wait to be written to slower tiers, in KiB of values: 64 MiB. What does not fit
/// is not promoted, and counted; the next hit tries again.
const MAX_PENDING_KIB: u32 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Promoter {
    room: Arc<Semaphore>,
}

impl Promoter {
    pub(crate) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(MAX_PENDING_KIB as usize)) }
    }

    /// Writes `entry` into every tier of `above`: before it returns where that costs no I/O, else in
    /// the background. Never waits.
    pub(crate) async fn promote(
        &self,
        above: &[Arc<Tier>],
        key: &Key,
        entry: &Entry,
        clock: &Arc<dyn Clock>,
        stats: &Arc<ChainStats>,
    ) {
        for tier in above.iter().filter(|tier| tier.writes()) {
            if entry.value().len() > tier.info().capabilities.max_value_bytes {
                continue;
            }
            // What waits to be written there is as new, or will replace this anyway.
            if tier.pending(key).is_some_and(|waiting| waiting.version() >= entry.version()) {
                continue;
            }
            let kib = u32::try_from(entry.value().len() / 1024 + 1).unwrap_or(MAX_PENDING_KIB);
            let Ok(permit) = Arc::clone(&self.room).try_acquire_many_owned(kib) else {
                stats.promotions_dropped.add(1);
                continue;
            };
            let (tier, key, entry) = (Arc::clone(tier), key.clone(), entry.clone());
            let (clock, stats) = (Arc::clone(clock), Arc::clone(stats));
            let volatile = tier.is_volatile();
            let mut copy = Box::pin(async move {
                write(&tier, &key, entry, &*clock, &stats).await;
                drop(permit);
            });
            // Memory takes it without waiting, so the next read finds it there. One that does wait is
            // no reason to hold up this read.
            if volatile && poll_fn(|context| Poll::Ready(copy.as_mut().poll(context))).await.is_ready() {
                continue;
            }
            tokio::spawn(copy);
        }
    }

    /// Waits until everything that was accepted has been written or given up.
    pub(crate) async fn settle(&self) {
        // The semaphore is never closed, so this fails only by waiting.
        if let Ok(all) = self.room.acquire_many(MAX_PENDING_KIB).await {
            drop(all);
        }
    }
}

async fn write(tier: &Tier, key: &Key, entry: Entry, clock: &dyn Clock, stats: &ChainStats) {
    let bytes = entry.value().len() as u64;
    let started = clock.monotonic();
    let call = tier.put(key, entry, clock).await;
    tier.stats.put_latency.record(clock.monotonic().saturating_sub(started));
    match call {
        Call::Done(()) => {
            tier.stats.stored.add(1);
            tier.stats.bytes_written.add(bytes);
            stats.promoted.add(1);
        }
        Call::Failed(error) => {
            tier.stats.put_errors.add(1);
            tier.stats.note(&error);
            stats.promotion_errors.add(1);
        }
        Call::TimedOut(_) => {
            tier.stats.put_timeouts.add(1);
            stats.promotion_errors.add(1);
        }
    }
}
