//! The loaders that run: who waits for whom, refreshes in the background, failures, and counters.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use peercache_api::{CacheBackend, Entry, Error, Key, RemovalWatcher};
use peercache_chain::{Chain, SingleFlight};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::failures::Failures;
use super::fetch_error::LoadFailure;
use super::nested::Waits;
use super::report::RefreshReport;
use crate::large::Loaded;

/// The most refreshes in the background at a time. A value that finds no room is served as it is,
/// and the next caller tries again.
const MAX_REFRESHES: usize = 64;

/// Why a loader gave nothing that others can use.
#[derive(Clone, Debug)]
pub(super) enum Broken {
    Load(LoadFailure),
    Encode(Error),
}

/// The loaders that run. It is notified of removals by other machines as well: who asks after one
/// is not given what was loaded before.
#[derive(Debug, Default)]
pub(super) struct Flights {
    pub(super) running: SingleFlight<Result<Loaded, Broken>>,
    /// Callers that force a load. The one that leads them starts a flight in `running`.
    pub(super) forced: SingleFlight<Result<Loaded, Broken>>,
    /// The key of the removal of everything.
    everything: OnceLock<[u8; 32]>,
}

impl Flights {
    fn forget(&self, key: &Key) {
        self.running.forget(key);
        self.forced.forget(key);
    }

    fn forget_all(&self) {
        self.running.forget_all();
        self.forced.forget_all();
    }
}

impl RemovalWatcher for Flights {
    fn removed(&self, key: &[u8; 32], _: &Entry) {
        if self.everything.get() == Some(key) {
            self.forget_all();
        } else {
            self.forget(&Key::from_digest(*key));
        }
    }
}

/// The loaders of a cache that run, and what became of those that have ended.
#[derive(Debug)]
pub(crate) struct Loads {
    pub(super) flights: Arc<Flights>,
    pub(super) waits: Arc<Waits>,
    pub(super) failures: Failures,
    refreshes: Arc<Refreshes>,
    pub(crate) ended: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) not_kept: AtomicU64,
    pub(crate) joined: AtomicU64,
    pub(super) backed_off: AtomicU64,
    pub(super) stale_while_refreshing: AtomicU64,
    pub(super) stale_on_error: AtomicU64,
}

/// The refreshes in the background.
#[derive(Debug)]
struct Refreshes {
    /// The keys that are being refreshed; at most [`MAX_REFRESHES`].
    keys: Mutex<HashSet<Key>>,
    tasks: Mutex<JoinSet<()>>,
    room: Arc<Semaphore>,
    closed: AtomicBool,
    started: AtomicU64,
    errors: AtomicU64,
    skipped: AtomicU64,
    cancelled: AtomicU64,
}

impl Loads {
    pub(crate) fn new() -> Self {
        Self {
            flights: Arc::default(),
            waits: Arc::default(),
            failures: Failures::default(),
            refreshes: Arc::new(Refreshes {
                keys: Mutex::default(),
                tasks: Mutex::default(),
                room: Arc::new(Semaphore::new(MAX_REFRESHES)),
                closed: AtomicBool::new(false),
                started: AtomicU64::new(0),
                errors: AtomicU64::new(0),
                skipped: AtomicU64::new(0),
                cancelled: AtomicU64::new(0),
            }),
            ended: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            not_kept: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            backed_off: AtomicU64::new(0),
            stale_while_refreshing: AtomicU64::new(0),
            stale_on_error: AtomicU64::new(0),
        }
    }

    /// Keeps further callers from joining the loader that runs for `key`.
    pub(crate) fn forget(&self, key: &Key) {
        self.flights.forget(key);
    }

    /// As [`Loads::forget`], for every key.
    pub(crate) fn forget_all(&self) {
        self.flights.forget_all();
    }

    /// Follows what other machines remove from now on.
    pub(crate) fn watch(&self, chain: &Chain) {
        if let Some(fleet) = chain.fleet() {
            self.flights.everything.get_or_init(|| chain.namespace_digest());
            let watcher: Arc<dyn RemovalWatcher> = Arc::clone(&self.flights) as _;
            fleet.watch(Arc::downgrade(&watcher));
        }
    }

    /// Runs `refresh` in the background, unless the key is being refreshed already, too many
    /// refreshes run, or the cache is closed. `refresh` says whether it has worked; a panic is a
    /// failure.
    pub(super) fn refresh(&self, key: &Key, refresh: impl Future<Output = bool> + Send + 'static) {
        let refreshes = &self.refreshes;
        let Ok(room) = Arc::clone(&refreshes.room).try_acquire_owned() else {
            return add_one(&refreshes.skipped);
        };
        let mut tasks = lock(&refreshes.tasks);
        if refreshes.closed.load(Ordering::Acquire) {
            return add_one(&refreshes.skipped);
        }
        if !lock(&refreshes.keys).insert(key.clone()) {
            return;
        }
        // Those that have ended; at most as many as ran at once.
        while tasks.try_join_next().is_some() {}
        add_one(&refreshes.started);
        let running = Running { refreshes: Arc::clone(refreshes), key: key.clone(), worked: None };
        tasks.spawn(async move {
            let mut running = running;
            running.worked = Some(refresh.await);
            drop((running, room));
        });
    }

    /// Starts no refresh from now on, and ends those that run.
    pub(crate) async fn close(&self) {
        let mut tasks = {
            let mut tasks = lock(&self.refreshes.tasks);
            self.refreshes.closed.store(true, Ordering::Release);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
    }

    pub(crate) fn report(&self) -> RefreshReport {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RefreshReport {
            refreshes: count(&self.refreshes.started),
            errors: count(&self.refreshes.errors),
            skipped: count(&self.refreshes.skipped),
            cancelled: count(&self.refreshes.cancelled),
            stale_while_refreshing: count(&self.stale_while_refreshing),
            stale_on_error: count(&self.stale_on_error),
            backed_off: count(&self.backed_off),
        }
    }
}

/// Takes a key out of the set of those that are refreshed, and counts how the refresh ended.
struct Running {
    refreshes: Arc<Refreshes>,
    key: Key,
    /// Whether it has worked; not known when it panics or is ended by `close`.
    worked: Option<bool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        match self.worked {
            Some(true) => {}
            Some(false) => add_one(&self.refreshes.errors),
            None if std::thread::panicking() => {
                tracing::warn!(key = self.key.fingerprint(), "a loader panicked while it refreshed a value");
                add_one(&self.refreshes.errors);
            }
            None => add_one(&self.refreshes.cancelled),
        }
        lock(&self.refreshes.keys).remove(&self.key);
    }
}

pub(super) fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
