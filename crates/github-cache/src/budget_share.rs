//! What machines tell each other about what is left of a rate limit: one small entry for each
//! limit.
//!
//! The entry holds how much of the limit GitHub said to be used. It is fresh for a moment, so that
//! a read goes on to the tiers that machines share, and it is gone when the limit is reset. Nobody
//! waits for it: what it says is known to the next request.

use std::sync::Arc;
use std::time::Duration;

use peercache::backend::Timestamp;
use peercache::{Cache, Entry, Key};

use crate::budget::{Budget, Spender, WindowId};
use crate::key::budget_key;

/// For how long an entry is fresh, and the least time between two reads or writes of one.
const INTERVAL: Duration = Duration::from_secs(1);
/// A limit of which at least this part was used since is written before its time.
const PART: u64 = 50;
/// How many limits are remembered with what was exchanged about them.
const MAX_REMEMBERED: usize = 10_000;

/// When a limit was last read and written, and what was written.
#[derive(Clone, Copy, Debug, Default)]
struct Exchange {
    read: Option<Timestamp>,
    written: Option<(Timestamp, u64)>,
}

/// Reads and writes the entries of limits.
#[derive(Debug)]
pub(crate) struct BudgetShare {
    cache: Cache,
    exchanges: quick_cache::sync::Cache<WindowId, Exchange>,
}

fn is_due(last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_none_or(|last| last > now || now.saturating_since(last) >= INTERVAL)
}

impl BudgetShare {
    pub(crate) fn new(cache: Cache) -> Self {
        Self { cache, exchanges: quick_cache::sync::Cache::new(MAX_REMEMBERED) }
    }

    /// The limit of a spender, if it is time to ask what others know of it.
    pub(crate) fn to_read(&self, budget: &Budget, spender: &Spender, now: Timestamp) -> Option<WindowId> {
        let id = budget.window(spender, now).filter(|id| id.alone.is_none())?;
        let last = self.exchanges.get(&id).unwrap_or_default();
        if !is_due(last.read, now) {
            return None;
        }
        self.exchanges.insert(id.clone(), Exchange { read: Some(now), ..last });
        Some(id)
    }

    /// Takes over what others know of a limit.
    pub(crate) async fn read(&self, budget: &Arc<Budget>, id: &WindowId) {
        let entry = self.cache.lookup(&key(id)).await.entry;
        let used = entry.and_then(|entry| entry.value().as_ref().try_into().ok()).map(u64::from_be_bytes);
        if let Some(used) = used {
            budget.observed_elsewhere(id, used);
        }
    }

    /// Whether it is time to let others know how much of a limit is used.
    pub(crate) fn is_to_write(&self, id: &WindowId, used: u64, now: Timestamp) -> bool {
        let last = self.exchanges.get(id).unwrap_or_default();
        let (written, known) = last.written.map_or((None, 0), |(at, used)| (Some(at), used));
        let much = used.saturating_sub(known) >= (id.limit / PART).max(1);
        let due = id.alone.is_none() && used > known && (much || is_due(written, now));
        if due {
            self.exchanges.insert(id.clone(), Exchange { written: Some((now, used)), ..last });
        }
        due
    }

    /// Tells others how much of a limit is used.
    pub(crate) async fn write(&self, id: &WindowId, used: u64, now: Timestamp) {
        let left = Duration::from_secs(id.reset.saturating_sub(now.as_millis() / 1000));
        if left <= INTERVAL {
            return;
        }
        let entry = Entry::builder(used.to_be_bytes().to_vec(), self.cache.next_version(), now)
            .fresh_for(INTERVAL)
            .stale_for(left - INTERVAL)
            .build();
        if let Ok(entry) = entry {
            let _outcome = self.cache.put_entry(&key(id), entry).await;
        }
    }
}

fn key(id: &WindowId) -> Key {
    budget_key(&id.authority, id.resource.as_str(), id.limit, id.reset)
}
