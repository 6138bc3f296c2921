//! Removals by other machines, on their way into the local tiers: applied by this process at once,
//! and written in the background.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peercache_api::util::Count;
use peercache_api::{Clock, Key};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::removed_keys::Removal;
use crate::tier::Tier;

/// The most removals that wait to be written to the local tiers: about 6 MiB. What finds no room is
/// applied by this process all the same, and counted.
const MAX_WAITING: usize = 65_536;

/// Writes tombstones for removals by other machines to the local tiers.
#[derive(Debug)]
pub(crate) struct Notices {
    clock: Arc<dyn Clock>,
    /// The local tiers that may be written.
    local: Vec<Arc<Tier>>,
    waiting: Mutex<Waiting>,
    /// Notified when nothing waits any more.
    rest: Notify,
    /// Of the thread that built the chain: notices may come from one that has none.
    runtime: Option<Handle>,
    /// Removals that every local tier has a tombstone for now.
    pub(crate) persisted: Count,
    /// Removals that a local tier did not take, or that found no room.
    pub(crate) not_persisted: Count,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<([u8; 32], Removal)>,
    /// Whether a task works the queue off.
    worked: bool,
}

impl Notices {
    pub(crate) fn new(local: Vec<Arc<Tier>>, clock: &Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::clone(clock),
            local,
            waiting: Mutex::default(),
            rest: Notify::new(),
            runtime: Handle::try_current().ok(),
            persisted: Count::default(),
            not_persisted: Count::default(),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the tombstone for `removal` of the key with this digest.
    pub(crate) fn persist(self: &Arc<Self>, digest: [u8; 32], removal: Removal) {
        let Some(runtime) = Handle::try_current().ok().or_else(|| self.runtime.clone()) else {
            return self.not_persisted.add(1);
        };
        let mut waiting = self.waiting();
        if waiting.queue.len() >= MAX_WAITING {
            drop(waiting);
            return self.not_persisted.add(1);
        }
        waiting.queue.push_back((digest, removal));
        if !std::mem::replace(&mut waiting.worked, true) {
            drop(waiting);
            let myself = Arc::clone(self);
            runtime.spawn(async move { myself.work().await });
        }
    }

    async fn work(&self) {
        loop {
            let next = {
                let mut waiting = self.waiting();
                let next = waiting.queue.pop_front();
                waiting.worked = next.is_some();
                next
            };
            let Some((digest, removal)) = next else { return self.rest.notify_waiters() };
            let (key, tombstone) = (Key::from_digest(digest), removal.tombstone());
            let mut whole = true;
            for tier in &self.local {
                whole &= tier.keep_removal(&key, &tombstone, &*self.clock).await;
            }
            (if whole { &self.persisted } else { &self.not_persisted }).add(1);
        }
    }

    /// Waits until every removal that was received so far was written to the local tiers, or given
    /// up.
    pub(crate) async fn settle(&self) {
        loop {
            let rest = self.rest.notified();
            tokio::pin!(rest);
            // Before the look, so that nothing is missed between the two.
            rest.as_mut().enable();
            if !self.waiting().worked {
                return;
            }
            rest.await;
        }
    }
}
