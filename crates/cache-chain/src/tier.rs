//! One tier of a chain: a backend, its deadlines, its mode and its counters.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use peercache_api::{BackendInfo, CacheBackend, Clock, Entry, Error, ErrorKind, Key, Operation, Scope};
use tokio::time::{Instant, timeout};

use crate::behind::Behind;
use crate::breaker::{Breaker, BreakerOptions, Patient};
use crate::breaker_probe::no_answer;
use crate::missed::Missed;
use crate::recent::Recent;
use crate::stats::TierStats;

/// What a tier may be used for. One tier's mode never changes another's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Read and written.
    #[default]
    ReadWrite,
    /// Only read.
    ReadOnly,
    /// Only written: filled for others, never asked.
    WriteOnly,
}

impl Mode {
    /// The name as reports print it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::WriteOnly => "write-only",
        }
    }
}

/// How a chain uses one tier. Unset deadlines follow the backend's scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierOptions {
    /// What the tier may be used for.
    pub mode: Mode,
    /// The longest that a read waits for this tier. Default: 2 s local, 500 ms shared.
    pub read_deadline: Option<Duration>,
    /// The longest that a write waits for this tier. Default: 30 s local, 5 s shared. Generous for
    /// local tiers, because a write that was given up may still take effect.
    pub write_deadline: Option<Duration>,
    /// The longest that an entry is fresh in this tier, counted from its creation. What it holds longer
    /// is stale from then on, for as long as the entry itself allows. Default: as long as the entry says.
    pub max_ttl: Option<Duration>,
    /// When the tier is left alone, and how soon it is looked at again.
    pub breaker: BreakerOptions,
}

/// How one call to a tier ended.
#[derive(Debug)]
pub(crate) enum Call<T> {
    Done(T),
    Failed(Error),
    TimedOut(Duration),
}

#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) backend: Arc<dyn CacheBackend>,
    pub(crate) mode: Mode,
    pub(crate) read_deadline: Duration,
    pub(crate) write_deadline: Duration,
    pub(crate) max_ttl: Option<Duration>,
    /// Whether the process may not write it, whatever its mode.
    pub(crate) frozen: bool,
    /// What waits to be written to it, for a shared tier that may be written.
    pub(crate) behind: Option<Arc<Behind>>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) recent: Recent,
    /// Writes that it failed to take; its queue knows it too.
    pub(crate) missed: Arc<Missed>,
    pub(crate) stats: TierStats,
}

impl Tier {
    /// `budget` is what a read of the chain may cost; `seed` makes the breaker's jitter repeatable.
    pub(crate) fn new(
        backend: Arc<dyn CacheBackend>,
        options: &TierOptions,
        budget: Duration,
        seed: u64,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let local = backend.info().capabilities.scope == Scope::Local;
        let (read, write) = if local { (2_000, 30_000) } else { (500, 5_000) };
        let mode = match (options.mode, backend.info().capabilities.writable) {
            (Mode::ReadWrite, false) => Mode::ReadOnly,
            (mode, _) => mode,
        };
        let read_deadline = options.read_deadline.unwrap_or(Duration::from_millis(read));
        let patient = Patient {
            backend: Arc::clone(&backend),
            reads: mode != Mode::WriteOnly,
            deadline: read_deadline,
        };
        Self {
            backend,
            mode,
            read_deadline,
            write_deadline: options.write_deadline.unwrap_or(Duration::from_millis(write)),
            max_ttl: options.max_ttl,
            frozen: false,
            behind: None,
            breaker: Breaker::new(patient, options.breaker, budget, seed, Arc::clone(clock)),
            recent: Recent::new(),
            missed: Arc::default(),
            stats: TierStats::new(),
        }
    }

    pub(crate) fn info(&self) -> &BackendInfo {
        self.backend.info()
    }

    pub(crate) fn name(&self) -> &str {
        &self.info().name
    }

    pub(crate) fn is_local(&self) -> bool {
        self.info().capabilities.scope == Scope::Local
    }

    /// Whether a put costs no I/O, so that it need not go to the background.
    pub(crate) fn is_volatile(&self) -> bool {
        self.is_local() && !self.info().capabilities.durable
    }

    pub(crate) fn reads(&self) -> bool {
        self.mode != Mode::WriteOnly
    }

    pub(crate) fn writes(&self) -> bool {
        self.mode != Mode::ReadOnly && !self.frozen
    }

    /// What waits to be written to it under `key`.
    pub(crate) fn pending(&self, key: &Key) -> Option<Entry> {
        self.behind.as_ref()?.pending(key)
    }

    /// Reads `key`. `deadline` says how long to wait, and is asked only if the tier does not answer at
    /// once: an answer from memory arms no timer.
    ///
    /// Records how long it took and tells the breaker, unless it is dropped first.
    pub(crate) async fn get(
        &self,
        key: &Key,
        clock: &dyn Clock,
        deadline: impl FnOnce() -> Duration,
    ) -> Call<Option<Entry>> {
        let started = clock.monotonic();
        let mut get = self.backend.get(key);
        let (call, waited) = match poll_fn(|context| Poll::Ready(get.as_mut().poll(context))).await {
            Poll::Ready(answer) => (Call::from(answer), Duration::ZERO),
            Poll::Pending => {
                let deadline = deadline();
                let waiting = Instant::now();
                let call = timeout(deadline, get).await.map_or(Call::TimedOut(deadline), Call::from);
                (call, waiting.elapsed())
            }
        };
        let now = clock.monotonic();
        let took = now.saturating_sub(started).max(waited);
        self.stats.get_latency.record(took);
        match &call {
            Call::Done(_) => {
                self.recent.record(now, took);
                self.breaker.success();
            }
            // Neither a quick refusal nor no answer says how long an answer takes.
            Call::Failed(error) => self.breaker.failure(error),
            Call::TimedOut(deadline) => {
                self.breaker.timed_out(*deadline, &timeout_error(self, Operation::Get, *deadline));
            }
        }
        call.map(|held| held.map(|entry| self.capped(entry)))
    }

    /// Reads `key` and records nothing.
    pub(crate) async fn peek(&self, key: &Key) -> Call<Option<Entry>> {
        within(self.read_deadline, self.backend.get(key))
            .await
            .map(|held| held.map(|entry| self.capped(entry)))
    }

    /// `entry` as this tier may show it: fresh for no longer than its cap.
    pub(crate) fn capped(&self, entry: Entry) -> Entry {
        match self.max_ttl {
            Some(cap) if entry.metadata().fresh_for > cap && !entry.is_tombstone() => shortened(&entry, cap),
            _ => entry,
        }
    }

    /// Writes `entry`. A backend without ordered writes is asked first what it holds, so that an
    /// older entry does not replace a newer one; two writers at once can still race there.
    ///
    /// Tells the breaker of a shared tier, unless it is dropped first.
    pub(crate) async fn put(&self, key: &Key, entry: Entry, clock: &dyn Clock) -> Call<()> {
        let ordered = self.info().capabilities.ordered_writes;
        // Others may read this tier without knowing our cap. The version stays, so nothing is extended
        // by a copy of it.
        let entry = self.capped(entry);
        let call = within(self.write_deadline, async {
            if !ordered {
                match self.backend.get(key).await {
                    Ok(Some(stored)) if !entry.supersedes(&stored, clock.now()) => return Ok(()),
                    Ok(_) => {}
                    // What cannot be read must not stand in the way of what replaces it.
                    Err(error) if error.kind() == ErrorKind::Corrupt => {}
                    Err(error) => return Err(error),
                }
            }
            self.backend.put(key, entry).await
        })
        .await;
        if !self.is_local() {
            self.tell_breaker(&call);
        }
        call
    }

    /// Lets the breaker know how a write fared. A timeout counts as one, whatever it took: nobody who reads
    /// waited for it. Not for local tiers: those are written whatever their breaker says, and one that
    /// takes no writes, as a full disk does, is as good for reads as before.
    fn tell_breaker(&self, call: &Call<()>) {
        match call {
            Call::Done(()) => self.breaker.success(),
            Call::Failed(error) => self.breaker.failure(error),
            Call::TimedOut(deadline) => {
                self.breaker.failure(&timeout_error(self, Operation::Put, *deadline));
            }
        }
    }

    pub(crate) async fn close(&self) -> Call<()> {
        within(self.write_deadline, self.backend.close()).await
    }
}

impl<T> Call<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Call<U> {
        match self {
            Self::Done(value) => Call::Done(change(value)),
            Self::Failed(error) => Call::Failed(error),
            Self::TimedOut(deadline) => Call::TimedOut(deadline),
        }
    }
}

impl<T> From<Result<T, Error>> for Call<T> {
    fn from(answer: Result<T, Error>) -> Self {
        answer.map_or_else(Self::Failed, Self::Done)
    }
}

async fn within<T>(deadline: Duration, call: impl Future<Output = Result<T, Error>>) -> Call<T> {
    timeout(deadline, call).await.map_or(Call::TimedOut(deadline), Call::from)
}

/// The same entry, fresh for `cap` and then stale for as long as it was to be.
pub(crate) fn shortened(entry: &Entry, cap: Duration) -> Entry {
    let meta = entry.metadata();
    let mut builder = Entry::builder(entry.value().clone(), meta.version, meta.created)
        .fresh_for(cap)
        .stale_for(meta.stale_for);
    if let Some(content_type) = &meta.content_type {
        builder = builder.content_type(content_type);
    }
    if let Some(etag) = &meta.validators.etag {
        builder = builder.etag(etag);
    }
    if let Some(date) = &meta.validators.last_modified {
        builder = builder.last_modified(date);
    }
    let builder = meta.tags.iter().fold(builder, peercache_api::EntryBuilder::tag);
    // It was within every bound before, and only its lifetime has changed: downwards.
    builder.build().unwrap_or_else(|_| entry.clone())
}

/// The error that stands for a call that took longer than its deadline.
pub(crate) fn timeout_error(tier: &Tier, operation: Operation, deadline: Duration) -> Error {
    no_answer(tier.info().name.clone(), operation, deadline)
}
