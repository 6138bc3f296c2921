//! The loaders that run, and the counters of those that ended.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use peercache_api::{CacheBackend, Entry, Key, RemovalWatcher};
use peercache_chain::{Chain, SingleFlight};
use tokio::sync::Semaphore;

use super::Cache;
use super::fetch_error::FetchError;
use super::report::RefreshReport;

/// The most refreshes in the background at a time. A value that finds no room is served as it is, and
/// the next caller tries again.
const MAX_REFRESHES: usize = 64;

/// The loaders that run. It hears of removals by other machines, like a removal here: who asks after it is
/// not given what was loaded before.
#[derive(Debug, Default)]
pub(super) struct Flights {
    pub(super) running: SingleFlight<Result<Bytes, FetchError>>,
    /// What is told when everything is removed.
    everything: OnceLock<[u8; 32]>,
}

impl RemovalWatcher for Flights {
    fn removed(&self, key: &[u8; 32], _: &Entry) {
        if self.everything.get() == Some(key) {
            self.running.forget_all();
        } else {
            self.running.forget(&Key::from_digest(*key));
        }
    }
}

/// The loaders of a cache that run, and what became of those that have ended.
#[derive(Debug)]
pub(crate) struct Loads {
    pub(super) flights: Arc<Flights>,
    /// The keys that are being refreshed in the background; at most [`MAX_REFRESHES`].
    pub(super) refreshing: Mutex<HashSet<Key>>,
    pub(super) room: Arc<Semaphore>,
    pub(crate) ended: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) too_large: AtomicU64,
    pub(crate) joined: AtomicU64,
    pub(super) refreshes: AtomicU64,
    pub(super) refresh_errors: AtomicU64,
    pub(super) refreshes_skipped: AtomicU64,
    pub(super) stale_while_revalidating: AtomicU64,
    pub(super) stale_on_error: AtomicU64,
}

impl Loads {
    pub(crate) fn new() -> Self {
        Self {
            flights: Arc::default(),
            refreshing: Mutex::default(),
            room: Arc::new(Semaphore::new(MAX_REFRESHES)),
            ended: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            refreshes: AtomicU64::new(0),
            refresh_errors: AtomicU64::new(0),
            refreshes_skipped: AtomicU64::new(0),
            stale_while_revalidating: AtomicU64::new(0),
            stale_on_error: AtomicU64::new(0),
        }
    }

    /// Lets nobody else join the loader that runs for `key`.
    pub(crate) fn forget(&self, key: &Key) {
        self.flights.running.forget(key);
    }

    /// As [`Loads::forget`], for every key.
    pub(crate) fn forget_all(&self) {
        self.flights.running.forget_all();
    }

    /// Hears of what other machines remove from now on.
    pub(crate) fn watch(&self, chain: &Chain) {
        if let Some(fleet) = chain.fleet() {
            self.flights.everything.get_or_init(|| chain.namespace_digest());
            let watcher: Arc<dyn RemovalWatcher> = Arc::clone(&self.flights) as _;
            fleet.watch(Arc::downgrade(&watcher));
        }
    }

    pub(crate) fn report(&self) -> RefreshReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RefreshReport {
            refreshes: count(&self.refreshes),
            errors: count(&self.refresh_errors),
            skipped: count(&self.refreshes_skipped),
            stale_while_revalidating: count(&self.stale_while_revalidating),
            stale_on_error: count(&self.stale_on_error),
        }
    }
}

pub(super) fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Takes a key out of the set of those that are refreshed, whatever ends the refresh.
pub(super) struct Refreshing {
    pub(super) cache: Cache,
    pub(super) key: Key,
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        let refreshing = &self.cache.loads().refreshing;
        refreshing.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
