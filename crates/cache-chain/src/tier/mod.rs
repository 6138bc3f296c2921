//! One tier of a chain: a backend, its deadlines, its mode and its counters.

mod breaker;
mod latency;
mod missed_writes;
mod panics;
mod stats;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Fleet, Key, Operation, Scope,
};
use tokio::time::{Instant, timeout};

pub(crate) use self::breaker::PartlyAnswered;
use self::breaker::{Breaker, ProbeTarget, no_answer};
pub use self::breaker::{BreakerOptions, BreakerReport};
pub(crate) use self::latency::Latency;
pub(crate) use self::missed_writes::MissedWrites;
use self::panics::{caught, caught_now};
pub use self::stats::LatencyReport;
pub(crate) use self::stats::{CancelGuard, TierStats};

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
    /// The longest that an entry is fresh in this tier, counted from its creation. What it holds
    /// longer is stale from then on, for as long as the entry itself allows. Default: as long as
    /// the entry says.
    pub max_ttl: Option<Duration>,
    /// When the tier's breaker opens, and how soon the tier is probed.
    pub breaker: BreakerOptions,
}

/// How one call to a tier ended.
#[derive(Debug)]
pub(crate) enum Call<T> {
    Done(T),
    Failed(Error),
    TimedOut(Duration),
}

/// How a tier took a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It holds the entry, or a newer one.
    Stored,
    /// The value is larger than the tier takes: it holds a tombstone for what was there before.
    TooLarge,
}

#[derive(Debug)]
pub(crate) struct Tier {
    backend: Arc<dyn CacheBackend>,
    info: BackendInfo,
    pub(crate) mode: Mode,
    pub(crate) read_deadline: Duration,
    pub(crate) write_deadline: Duration,
    pub(crate) max_ttl: Option<Duration>,
    /// Whether the process may not write it, whatever its mode.
    read_only: bool,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) latency: Latency,
    /// Writes that it failed to take; its write queue adds to them.
    pub(crate) missed: MissedWrites,
    pub(crate) stats: TierStats,
}

impl Tier {
    /// `budget` is what a read of the chain may cost; `seed` makes the breaker's jitter repeatable;
    /// `read_only` says that this process does not write to shared tiers.
    pub(crate) fn new(
        backend: Arc<dyn CacheBackend>,
        options: &TierOptions,
        budget: Duration,
        seed: u64,
        read_only: bool,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let unknown = BackendInfo::new("unknown", Capabilities::local().with_read_only());
        // A backend that cannot even say what it is is read like any other, and fails as it may.
        let info = caught_now(&unknown, Operation::Open, || backend.info().clone()).unwrap_or(unknown);
        let local = info.capabilities.scope == Scope::Local;
        let read_only = read_only && !local;
        let (read, write) = if local { (2_000, 30_000) } else { (500, 5_000) };
        let mode = match (options.mode, info.capabilities.writable && !read_only) {
            (Mode::ReadWrite, false) => Mode::ReadOnly,
            (mode, _) => mode,
        };
        let read_deadline = options.read_deadline.unwrap_or(Duration::from_millis(read));
        let target = ProbeTarget {
            backend: Arc::clone(&backend),
            info: info.clone(),
            reads: mode != Mode::WriteOnly,
            deadline: read_deadline,
        };
        Self {
            backend,
            info,
            mode,
            read_deadline,
            write_deadline: options.write_deadline.unwrap_or(Duration::from_millis(write)),
            max_ttl: options.max_ttl,
            read_only,
            breaker: Breaker::new(target, options.breaker, budget, seed, Arc::clone(clock)),
            latency: Latency::new(),
            missed: MissedWrites::default(),
            stats: TierStats::new(),
        }
    }

    pub(crate) fn info(&self) -> &BackendInfo {
        &self.info
    }

    pub(crate) fn name(&self) -> &str {
        &self.info.name
    }

    pub(crate) fn is_local(&self) -> bool {
        self.info.capabilities.scope == Scope::Local
    }

    /// Whether a put costs no I/O, so that it need not go to the background.
    pub(crate) fn is_volatile(&self) -> bool {
        self.is_local() && !self.info.capabilities.durable
    }

    pub(crate) fn reads(&self) -> bool {
        self.mode != Mode::WriteOnly
    }

    pub(crate) fn writes(&self) -> bool {
        self.mode != Mode::ReadOnly && !self.read_only
    }

    /// What the backend coordinates between machines, if anything.
    pub(crate) fn fleet(&self) -> Option<&dyn Fleet> {
        caught_now(&self.info, Operation::Lease, || self.backend.fleet()).ok().flatten()
    }

    /// Makes a call to the tier's [`Tier::fleet`] within `deadline`.
    pub(crate) async fn coordinate<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Call<T> {
        within(deadline, caught(&self.info, Operation::Lease, call)).await
    }

    /// Makes a call to the tier's [`Tier::fleet`] that returns at once. Whether it returned.
    pub(crate) fn notify_fleet(&self, call: impl FnOnce(&dyn Fleet)) -> bool {
        let Some(fleet) = self.fleet() else { return false };
        caught_now(&self.info, Operation::Lease, || call(fleet)).is_ok()
    }

    /// Reads `key`. `deadline` says how long to wait, and is asked only if the tier does not answer
    /// at once: an answer from memory arms no timer.
    ///
    /// Records how long it took and feeds the breaker, unless it is dropped first.
    pub(crate) async fn get(
        &self,
        key: &Key,
        clock: &dyn Clock,
        deadline: impl FnOnce() -> Duration,
    ) -> Call<Option<Entry>> {
        let started = clock.monotonic();
        let mut get = pin!(caught(&self.info, Operation::Get, async { self.backend.get(key).await }));
        let (call, waited) = match poll_fn(|context| Poll::Ready(get.as_mut().poll(context))).await {
            Poll::Ready(answer) => (Call::from(answer), Duration::ZERO),
            Poll::Pending => {
                let deadline = deadline();
                let waiting = Instant::now();
                let call = within(deadline, get).await;
                (call, waiting.elapsed())
            }
        };
        let now = clock.monotonic();
        let took = now.saturating_sub(started).max(waited);
        self.stats.get_latency.record(took);
        match &call {
            Call::Done(_) => {
                self.latency.record(now, took);
                self.breaker.success();
            }
            // Neither a quick refusal nor no answer says how long an answer takes.
            Call::Failed(error) => self.breaker.failure(error),
            Call::TimedOut(deadline) => {
                self.breaker.timed_out(*deadline, &self.timeout_error(Operation::Get, *deadline));
            }
        }
        call.map(|held| held.map(|entry| self.capped(entry)))
    }

    /// Reads `key` and records nothing.
    pub(crate) async fn peek(&self, key: &Key) -> Call<Option<Entry>> {
        let get = caught(&self.info, Operation::Get, async { self.backend.get(key).await });
        within(self.read_deadline, get).await.map(|held| held.map(|entry| self.capped(entry)))
    }

    /// `entry` as this tier may show it: fresh for no longer than its cap.
    pub(crate) fn capped(&self, entry: Entry) -> Entry {
        match self.max_ttl {
            Some(cap) if entry.metadata().fresh_for > cap && !entry.is_tombstone() => shortened(&entry, cap),
            _ => entry,
        }
    }

    /// `entry`, or what stands for it in this tier if its value is larger than the tier takes.
    pub(crate) fn fitting(&self, entry: &Entry) -> (Entry, Taken) {
        match entry.value().len() > self.info.capabilities.max_value_bytes {
            true => (Entry::tombstone_for(entry), Taken::TooLarge),
            false => (entry.clone(), Taken::Stored),
        }
    }

    /// Writes `entry`, counts how that ended, and remembers a write that the tier did not take.
    ///
    /// This is the one place where results of writes are counted: a caller's write, a write from
    /// the tier's queue and a promotion pass it.
    pub(crate) async fn put_counted(
        &self,
        key: &Key,
        entry: &Entry,
        clock: &dyn Clock,
    ) -> Result<Taken, Error> {
        let (written, taken) = self.fitting(entry);
        let bytes = written.value().len() as u64;
        let cancel = CancelGuard::new(&self.stats.put_cancelled);
        let started = clock.monotonic();
        let call = self.put(key, written, clock).await;
        cancel.ended();
        self.stats.put_latency.record(clock.monotonic().saturating_sub(started));
        let error = match call {
            Call::Done(()) => {
                match taken {
                    Taken::TooLarge => self.stats.put_skipped.add(1),
                    Taken::Stored => {
                        self.stats.stored.add(1);
                        self.stats.bytes_written.add(bytes);
                    }
                }
                return Ok(taken);
            }
            Call::Failed(error) => {
                self.stats.put_errors.add(1);
                error
            }
            Call::TimedOut(deadline) => {
                self.stats.put_timeouts.add(1);
                self.timeout_error(Operation::Put, deadline)
            }
        };
        tracing::debug!(tier = self.name(), operation = "put", %error, "tier failed");
        // At once: whoever waits for this write may go away, and a queue may give it up.
        self.missed.note(key, entry.version());
        self.stats.note(&error);
        Err(error)
    }

    /// Keeps a removal that another tier or machine knows of, outside the counts of writes. Whether
    /// the tier took it.
    pub(crate) async fn keep_removal(&self, key: &Key, tombstone: &Entry, clock: &dyn Clock) -> bool {
        let error = match self.put(key, tombstone.clone(), clock).await {
            Call::Done(()) => return true,
            Call::Failed(error) => error,
            Call::TimedOut(deadline) => self.timeout_error(Operation::Put, deadline),
        };
        tracing::debug!(tier = self.name(), operation = "put", %error, "a removal was not taken");
        self.missed.note(key, tombstone.version());
        self.stats.note(&error);
        false
    }

    /// Writes `entry`. A backend without ordered writes is asked first what it holds, so that an
    /// older entry does not replace a newer one; two writers at once can still race there.
    ///
    /// Tells the breaker of a shared tier, unless it is dropped first.
    async fn put(&self, key: &Key, entry: Entry, clock: &dyn Clock) -> Call<()> {
        let ordered = self.info.capabilities.ordered_writes;
        // Others may read this tier without knowing our cap. The version stays, so nothing is
        // extended by a copy of it.
        let entry = self.capped(entry);
        let put = async {
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
        };
        let call = within(self.write_deadline, caught(&self.info, Operation::Put, put)).await;
        if !self.is_local() {
            self.report_write_to_breaker(&call);
        }
        call
    }

    /// Lets the breaker know how a write fared. A timeout counts as one, whatever it took: no
    /// reader waited for it. Not for local tiers: those are written whatever their breaker says,
    /// and one that takes no writes, as a full disk does, is as good for reads as before.
    fn report_write_to_breaker(&self, call: &Call<()>) {
        match call {
            Call::Done(()) => self.breaker.success(),
            Call::Failed(error) => self.breaker.failure(error),
            Call::TimedOut(deadline) => {
                self.breaker.failure(&self.timeout_error(Operation::Put, *deadline));
            }
        }
    }

    /// The backend's own probe, within the deadline for reads.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        let probe = caught(&self.info, Operation::Probe, async { self.backend.probe().await });
        let call = within(self.read_deadline, probe).await;
        self.result(Operation::Probe, call)
    }

    /// Closes the backend, within the deadline for writes.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        let close = caught(&self.info, Operation::Close, async { self.backend.close().await });
        let call = within(self.write_deadline, close).await;
        self.result(Operation::Close, call)
    }

    fn result<T>(&self, operation: Operation, call: Call<T>) -> Result<T, Error> {
        match call {
            Call::Done(value) => Ok(value),
            Call::Failed(error) => Err(error),
            Call::TimedOut(deadline) => Err(self.timeout_error(operation, deadline)),
        }
    }

    /// The error for a call that took longer than its deadline.
    pub(crate) fn timeout_error(&self, operation: Operation, deadline: Duration) -> Error {
        no_answer(self.info.name.clone(), operation, deadline)
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
fn shortened(entry: &Entry, cap: Duration) -> Entry {
    let meta = entry.metadata();
    let mut builder = Entry::builder(entry.value().clone(), meta.version, meta.created)
        .fresh_for(cap)
        .stale_for(meta.stale_for)
        .class(meta.class);
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
