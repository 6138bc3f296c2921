//! A fleet without a network: several members over one shared map, with leases and notices of
//! removals as [`peercache_api::Fleet`] describes them.
//!
//! Each [`Member`] stands for the shared tier of one machine. Wrap it like any backend, in a seal,
//! in chaos or in a chain, to see what many machines do at once:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use peercache_api::{CacheBackend, Key, LeaseAnswer, LeaseRequest};
//! use peercache_testkit::{ManualClock, fleet::Hub};
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let hub = Hub::new(Arc::new(ManualClock::default()));
//! let (one, other) = (hub.member("one"), hub.member("other"));
//! let key = Key::new("k")?;
//! let at_once = LeaseRequest::new(Duration::from_secs(10), Duration::ZERO);
//!
//! let answer = one.fleet().unwrap().lease(&key, at_once).await?;
//! assert!(matches!(answer, LeaseAnswer::Granted(_)));
//! assert!(other.fleet().unwrap().lease(&key, at_once).await.is_err(), "one loads already");
//! assert_eq!(hub.stats().granted, 1);
//! # Ok::<(), peercache_api::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Entries expire by the clock that the hub was given; leases expire, and waits end, on tokio's
//! clock, which a test may pause.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Fleet, Freshness, Key,
    LeaseAnswer, LeaseRequest, LeaseToken, Operation, RemovalWatcher,
};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What all members share. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// What was asked of a [`Hub`] so far, by all members together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// Reads.
    pub gets: u64,
    /// Writes, tombstones included.
    pub puts: u64,
    /// Leases granted.
    pub granted: u64,
    /// Questions for a lease that were answered with a value.
    pub found: u64,
    /// Questions for a lease whose wait ended while another one still loaded.
    pub waited: u64,
    /// Leases that ended by themselves.
    pub expired: u64,
    /// Leases given back without a value.
    pub released: u64,
    /// Notices of removals given, one for each watcher.
    pub told: u64,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Told whenever a lease may have ended.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<[u8; 32], Entry>,
    leases: HashMap<[u8; 32], Held>,
    last_token: u64,
    members: Vec<Weak<Link>>,
    stats: HubStats,
}

#[derive(Debug)]
struct Held {
    token: LeaseToken,
    until: Instant,
}

/// What the hub knows of a member.
#[derive(Debug, Default)]
struct Link {
    cut: AtomicBool,
    watchers: Mutex<Vec<Weak<dyn RemovalWatcher>>>,
}

impl Hub {
    /// A hub that nobody is a member of yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { clock, state: Mutex::default(), changed: Notify::new() }) }
    }

    /// Another member. Dropping it gives back none of its leases, as when a machine loses power.
    pub fn member(&self, name: impl Into<std::borrow::Cow<'static, str>>) -> Member {
        let link = Arc::<Link>::default();
        self.shared.state().members.push(Arc::downgrade(&link));
        let capabilities = Capabilities::shared().with_ordered_writes().with_native_expiry();
        Member {
            info: BackendInfo::new(name, capabilities),
            shared: Arc::clone(&self.shared),
            link,
            closed: AtomicBool::new(false),
        }
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        self.shared.state().stats
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One machine's handle to a [`Hub`].
#[derive(Debug)]
pub struct Member {
    info: BackendInfo,
    shared: Arc<Shared>,
    link: Arc<Link>,
    closed: AtomicBool,
}

impl Member {
    /// Cuts this member off: everything it is asked fails, and it hears of no removal. Or connects
    /// it again; what was removed meanwhile it is not told.
    pub fn cut(&self, cut: bool) {
        self.link.cut.store(cut, Ordering::SeqCst);
        self.shared.changed.notify_waiters();
    }

    fn check(&self, operation: Operation) -> Result<(), Error> {
        let why = match (self.closed.load(Ordering::SeqCst), self.link.cut.load(Ordering::SeqCst)) {
            (true, _) => "the member is closed",
            (_, true) => "the member is cut off",
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Unavailable, operation, why).with_backend(self.info.name.clone()))
    }

    /// Tells the other members that are connected.
    fn tell_of(&self, key: &Key, tombstone: &Entry) {
        let others: Vec<_> = {
            let mut state = self.shared.state();
            state.members.retain(|member| member.strong_count() > 0);
            state.members.iter().filter_map(Weak::upgrade).collect()
        };
        let others = others.iter().filter(|link| !Arc::ptr_eq(link, &self.link));
        let mut told = 0;
        for link in others.filter(|link| !link.cut.load(Ordering::SeqCst)) {
            let watchers = link.watchers.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for watcher in watchers.iter().filter_map(Weak::upgrade) {
                watcher.removed(key.digest(), tombstone);
                told += 1;
            }
        }
        self.shared.state().stats.told += told;
    }

    /// Decides about a lease now: the answer, or when the lease in the way ends by itself.
    fn decide(&self, key: &Key, request: &LeaseRequest) -> Result<LeaseAnswer, Instant> {
        let (now, wall) = (Instant::now(), self.shared.clock.now());
        let mut state = self.shared.state();
        let usable = |entry: &&Entry| {
            !entry.is_tombstone()
                && entry.version() > request.newer_than
                && entry.freshness(wall) == Freshness::Fresh
        };
        if let Some(entry) = state.entries.get(key.digest()).filter(usable).cloned() {
            state.stats.found += 1;
            return Ok(LeaseAnswer::Found(entry));
        }
        match state.leases.get(key.digest()) {
            Some(held) if held.until > now => return Err(held.until),
            Some(_) => state.stats.expired += 1,
            None => {}
        }
        state.last_token += 1;
        let token = LeaseToken::from_u64(state.last_token);
        state.leases.insert(*key.digest(), Held { token, until: now + request.ttl });
        state.stats.granted += 1;
        Ok(LeaseAnswer::Granted(token))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for Member {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        // As everything that crosses a network, it is not answered at once.
        tokio::task::yield_now().await;
        self.check(Operation::Get)?;
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        state.stats.gets += 1;
        let held = state.entries.get(key.digest()).cloned();
        Ok(held.filter(|entry| entry.freshness(now) != Freshness::Expired))
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        tokio::task::yield_now().await;
        self.check(Operation::Put)?;
        let (bytes, most) = (entry.value().len(), self.info.capabilities.max_value_bytes);
        if bytes > most {
            let message = format!("the value has {bytes} bytes, the most is {most}");
            return Err(
                Error::new(ErrorKind::TooLarge, Operation::Put, message).with_backend(self.info.name.clone())
            );
        }
        let removal = entry.is_tombstone();
        let news = {
            let mut state = self.shared.state();
            state.stats.puts += 1;
            let stored = state.entries.get(key.digest());
            let news = stored.is_none_or(|stored| entry.supersedes(stored, self.shared.clock.now()));
            if news {
                state.entries.insert(*key.digest(), entry.clone());
            }
            if !removal {
                state.leases.remove(key.digest());
            }
            news
        };
        self.shared.changed.notify_waiters();
        if removal && news {
            self.tell_of(key, &entry);
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        self.check(Operation::Probe)
    }

    async fn close(&self) -> Result<(), Error> {
        self.closed.store(true, Ordering::SeqCst);
        self.shared.changed.notify_waiters();
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        Some(self)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Fleet for Member {
    async fn lease(&self, key: &Key, request: LeaseRequest) -> Result<LeaseAnswer, Error> {
        tokio::task::yield_now().await;
        let deadline = Instant::now() + request.wait;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Before the look, so that nothing is missed between the two.
            changed.as_mut().enable();
            self.check(Operation::Lease)?;
            let ends = match self.decide(key, &request) {
                Ok(answer) => return Ok(answer),
                Err(ends) => ends,
            };
            if Instant::now() >= deadline {
                self.shared.state().stats.waited += 1;
                let message = "another member still loads";
                return Err(Error::new(ErrorKind::Timeout, Operation::Lease, message)
                    .with_backend(self.info.name.clone()));
            }
            // Whichever ends it, what matters is what the next look finds.
            let _changed_or_late = timeout_at(ends.min(deadline), changed).await;
        }
    }

    fn release(&self, key: &Key, token: LeaseToken) {
        if self.check(Operation::Lease).is_err() {
            return;
        }
        let mut state = self.shared.state();
        if state.leases.get(key.digest()).is_some_and(|held| held.token == token) {
            state.leases.remove(key.digest());
            state.stats.released += 1;
            drop(state);
            self.shared.changed.notify_waiters();
        }
    }

    fn watch(&self, watcher: Weak<dyn RemovalWatcher>) {
        let mut watchers = self.link.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(watcher);
    }
}
