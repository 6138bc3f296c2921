//! What coordinates the machines that share the server: leases, and notices of removals.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use peercache_api::{
    CacheBackend, Clock, Entry, Error, ErrorKind, Fleet, Freshness, Key, LeaseAnswer, LeaseRequest,
    LeaseToken, Operation, RemovalWatcher, envelope,
};
use peercache_blob::BlobBackend;
use redis::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::link::Listener;
use crate::server::{Script, Server, blob_of};

/// How long a call waits for word of a lease before it asks again: a message may be lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The most watchers; a chain has one.
const MAX_WATCHERS: usize = 64;

/// Counters of one member.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) granted: AtomicU64,
    pub(crate) found: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) notices: AtomicU64,
    pub(crate) bad_notices: AtomicU64,
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// This process as a member of the fleet.
pub(crate) struct Coordination {
    this: Weak<Self>,
    pub(crate) blobs: BlobBackend<Server>,
    clock: Arc<dyn Clock>,
    pub(crate) counters: Counters,
    grant: Script,
    release: Script,
    /// Who waits for the lease of a blob, by its key: as many as there are calls.
    waiting: Mutex<HashMap<String, (usize, Arc<Notify>)>>,
    watchers: Mutex<Vec<Weak<dyn RemovalWatcher>>>,
}

impl fmt::Debug for Coordination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordination").field("blobs", &self.blobs).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One call that waits, until it is dropped.
struct Waiter<'a> {
    of: &'a Coordination,
    key: String,
    notify: Arc<Notify>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.of.waiting);
        if let Some((count, _)) = waiting.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.key);
            }
        }
    }
}

/// What the server says to who asks for a lease.
struct Asked {
    granted: bool,
    /// After how long the lease in the way ends by itself.
    left: Duration,
    entry: Option<Entry>,
}

impl Coordination {
    pub(crate) fn new(blobs: BlobBackend<Server>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            blobs,
            clock,
            counters: Counters::default(),
            grant: Script::new(include_str!("scripts/lease.lua")),
            release: Script::new(include_str!("scripts/release.lua")),
            waiting: Mutex::default(),
            watchers: Mutex::default(),
        })
    }

    fn server(&self) -> &Server {
        self.blobs.store()
    }

    fn wait_for(&self, key: String) -> Waiter<'_> {
        let mut waiting = lock(&self.waiting);
        let (count, notify) = waiting.entry(key.clone()).or_default();
        *count += 1;
        Waiter { of: self, notify: Arc::clone(notify), key }
    }

    async fn ask(&self, key: &Key, token: LeaseToken, ttl: Duration) -> Result<Asked, Error> {
        let name = self.blobs.blob_name(key);
        let ttl = ttl.as_millis().max(1).to_string();
        let arguments = |command: &mut redis::Cmd| {
            command.arg(text(token)).arg(&ttl);
        };
        let answer = self.server().run(&self.grant, &name, 0, arguments).await;
        let answer = answer.map_err(|error| self.server().fail(&error, Operation::Lease).0)?;
        let bad =
            || Error::new(ErrorKind::Unavailable, Operation::Lease, "the server's answer is not a lease");
        let Value::Array(parts) = answer else { return Err(bad()) };
        let Ok([Value::Int(granted), Value::Int(left), held]) = <[Value; 3]>::try_from(parts) else {
            return Err(bad());
        };
        let blob = blob_of(held, Operation::Lease)?;
        // A damaged one is as good as none: whoever loads replaces it.
        let entry = blob.and_then(|blob| self.blobs.decode(key, blob).ok().flatten());
        Ok(Asked {
            granted: granted == 1,
            left: Duration::from_millis(u64::try_from(left).unwrap_or(0)),
            entry,
        })
    }

    /// Whether this is what the caller would load.
    fn is_usable(&self, entry: &Entry, request: &LeaseRequest) -> bool {
        !entry.is_tombstone()
            && entry.version() > request.newer_than
            && entry.freshness(self.clock.now()) == Freshness::Fresh
    }

    async fn end(&self, name: &str, token: LeaseToken) {
        self.server().known.note_lease(name, false);
        let arguments = |command: &mut redis::Cmd| {
            command.arg(text(token)).arg(self.server().keys.leases());
        };
        let call = async {
            let ended = self.server().run(&self.release, name, 0, arguments).await;
            ended.map_err(|error| self.server().fail(&error, Operation::Lease).0)
        };
        if let Err(error) = self.blobs.run(Operation::Lease, call).await {
            tracing::debug!(%error, "a lease was not given back; it ends by itself");
        }
    }

    fn removed(&self, payload: Vec<u8>) {
        let payload = Bytes::from(payload);
        let id = &self.server().id;
        if payload.len() < id.len() {
            return add_one(&self.counters.bad_notices);
        }
        if payload[..id.len()] == id[..] {
            return;
        }
        match envelope::decode_unkeyed(payload.slice(id.len()..)) {
            Ok((key, tombstone)) if tombstone.is_tombstone() => {
                add_one(&self.counters.notices);
                let watchers: Vec<_> = {
                    let mut watchers = lock(&self.watchers);
                    watchers.retain(|watcher| watcher.strong_count() > 0);
                    watchers.iter().filter_map(Weak::upgrade).collect()
                };
                for watcher in watchers {
                    watcher.removed(&key, &tombstone);
                }
            }
            _ => add_one(&self.counters.bad_notices),
        }
    }
}

/// As it stands on the server.
fn text(token: LeaseToken) -> String {
    format!("{:016x}", token.as_u64())
}

impl Listener for Coordination {
    fn message(&self, channel: &[u8], payload: Vec<u8>) {
        let keys = &self.server().keys;
        if channel == keys.removals().as_bytes() {
            self.removed(payload);
        } else if channel == keys.leases().as_bytes() {
            let Ok(key) = String::from_utf8(payload) else { return };
            if let Some((_, notify)) = lock(&self.waiting).get(&key) {
                notify.notify_waiters();
            }
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Fleet for Coordination {
    async fn lease(&self, key: &Key, request: LeaseRequest) -> Result<LeaseAnswer, Error> {
        if !self.blobs.info().capabilities.writable {
            return Err(Error::new(
                ErrorKind::Denied,
                Operation::Lease,
                "the tier is read-only: nobody can wait for what it loads",
            )
            .with_backend("redis"));
        }
        let until = Instant::now() + request.wait;
        let name = self.blobs.blob_name(key);
        let token = new_token()?;
        let waiter = self.wait_for(self.server().keys.blob(&name).to_string());
        loop {
            // Made before asking, so that what ends in between is not missed.
            let ended = waiter.notify.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let asked = self.blobs.run(Operation::Lease, self.ask(key, token, request.ttl)).await?;
            if let Some(entry) = asked.entry.filter(|entry| self.is_usable(entry, &request)) {
                if asked.granted {
                    self.end(&name, token).await;
                }
                add_one(&self.counters.found);
                return Ok(LeaseAnswer::Found(entry));
            }
            if asked.granted {
                add_one(&self.counters.granted);
                self.server().known.note_lease(&name, true);
                return Ok(LeaseAnswer::Granted(token));
            }
            let now = Instant::now();
            if now >= until {
                add_one(&self.counters.timed_out);
                return Err(Error::new(ErrorKind::Timeout, Operation::Lease, "another member still loads")
                    .with_backend("redis"));
            }
            // Whatever comes first, ask again: the answer says whether anything has changed.
            let next = (now + asked.left.min(ASK_AGAIN).max(Duration::from_millis(1))).min(until);
            let _ = timeout_at(next, ended).await;
        }
    }

    fn release(&self, key: &Key, token: LeaseToken) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if let Some(this) = self.this.upgrade() {
            let name = self.blobs.blob_name(key);
            runtime.spawn(async move { this.end(&name, token).await });
        }
    }

    fn watch(&self, watcher: Weak<dyn RemovalWatcher>) {
        let mut watchers = lock(&self.watchers);
        watchers.retain(|watcher| watcher.strong_count() > 0);
        if watchers.len() < MAX_WATCHERS {
            watchers.push(watcher);
        } else {
            tracing::warn!("more than {MAX_WATCHERS} watchers of removals; this one is told of none");
        }
    }
}

fn new_token() -> Result<LeaseToken, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Unavailable, Operation::Lease, "the operating system gave no random bytes")
            .with_source(error)
    })?;
    Ok(LeaseToken::from_u64(u64::from_be_bytes(bytes)))
}
