//! The circuit breaker: a tier that is unhealthy is not asked, and probed in the background.
//!
//! ```text
//!            five failures in a row, or timeouts in a row that cost `timeout_limit`
//!   closed ─────────────────────────────────────────────────────────▶ open
//!      ▲                                                               │ after the backoff,
//!      │ the probe and one read answer                                 ▼ in the background
//!      └─────────────────────────────────────────────────────────── half-open
//!                                    either fails: open again, longer backoff ──┘
//! ```
//!
//! Callers are refused while it is open *and* while it is half-open: no caller waits for a probe.
//!
//! The probing task exists only while the breaker is open. It keeps no tier alive while it waits,
//! and whatever ends it early (a runtime that shuts down, a backend that panics) closes the
//! breaker, so that no tier is ever left out for good.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use std::{error, fmt};

use peercache_api::util::SplitMix64;
use peercache_api::{BackendInfo, CacheBackend, Clock, Error, ErrorKind, Key, Operation, Timestamp};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::panics::caught;

/// When a tier's breaker opens, and how often the tier is probed while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    /// So many failures in a row open it; at least 1. Default 5.
    pub failures: u32,
    /// So many timeouts in a row, each at the tier's full deadline, open it; at least 1. Default 2.
    /// It opens earlier if the timeouts in a row have cost the chain's read budget together.
    pub timeouts: u32,
    /// The longest wait before the first probe. Default 500 ms. It doubles with every probe that
    /// fails, and with every opening soon after a closing.
    pub backoff: Duration,
    /// What the wait never exceeds, so a tier that has recovered is used after this at the latest.
    /// Default 30 s.
    pub max_backoff: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            failures: 5,
            timeouts: 2,
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
        }
    }
}

/// A breaker as the report shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BreakerReport {
    /// `closed`: the tier is used. `open`: it is not. `half-open`: it is being probed.
    pub state: &'static str,
    /// When that began, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How often it has opened.
    pub openings: u64,
    /// Why it opened last, or why the latest probe failed, in one line.
    pub last_cause: Option<String>,
}

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;

/// Longest backoffs that a tier must stay healthy for until its backoff starts from the bottom
/// again.
const SETTLED_AFTER: u32 = 2;

/// The parts of a tier that its breaker probes.
#[derive(Debug)]
pub(crate) struct ProbeTarget {
    pub(crate) backend: Arc<dyn CacheBackend>,
    pub(crate) info: BackendInfo,
    /// Whether the chain reads it, so that a probe may.
    pub(crate) reads: bool,
    /// The longest that each half of a probe may take.
    pub(crate) deadline: Duration,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    state: AtomicU8,
    /// Whether anything failed since the last success: then a success has something to reset.
    suspect: AtomicBool,
    inner: Mutex<Inner>,
    options: BreakerOptions,
    /// How long timeouts in a row may take together.
    timeout_limit: Duration,
    clock: Arc<dyn Clock>,
    target: ProbeTarget,
}

#[derive(Debug)]
struct Inner {
    failures: u32,
    lost: Duration,
    /// How often the backoff has doubled.
    level: u32,
    /// When it last closed, in monotonic time.
    closed_at: Option<Duration>,
    since: Timestamp,
    openings: u64,
    cause: Option<Error>,
    jitter: SplitMix64,
    watch: Option<AbortHandle>,
    stopped: bool,
}

impl Breaker {
    /// A closed breaker. `budget` bounds what timeouts may cost before it opens; `seed` makes the
    /// jitter of its probes repeatable.
    pub(crate) fn new(
        target: ProbeTarget,
        options: BreakerOptions,
        budget: Duration,
        seed: u64,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let inner = Inner {
            failures: 0,
            lost: Duration::ZERO,
            level: 0,
            closed_at: None,
            since: clock.now(),
            openings: 0,
            cause: None,
            jitter: SplitMix64::new(seed),
            watch: None,
            stopped: false,
        };
        Arc::new(Self {
            state: AtomicU8::new(CLOSED),
            suspect: AtomicBool::new(false),
            inner: Mutex::new(inner),
            options,
            timeout_limit: target.deadline.saturating_mul(options.timeouts.max(1)).min(budget),
            clock,
            target,
        })
    }

    /// Whether the tier may be called. One atomic load.
    pub(crate) fn allow(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    /// Whether the latest call failed, while the breaker is still closed.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// How much longer a call may take before the timeouts in a row have cost what they may.
    pub(crate) fn timeout_left(&self) -> Duration {
        if !self.is_suspect() {
            return self.timeout_limit;
        }
        // Not zero: a call must be able to prove that the tier is healthy.
        self.timeout_limit.saturating_sub(self.inner().lost).max(Duration::from_millis(1))
    }

    /// The tier answered.
    pub(crate) fn success(&self) {
        if self.is_suspect() {
            let mut inner = self.inner();
            inner.failures = 0;
            inner.lost = Duration::ZERO;
            self.suspect.store(false, Ordering::Relaxed);
        }
    }

    /// A call failed. Only kinds that say that the tier itself is unhealthy count: unavailable,
    /// timeout, rate limited, internal. With any other (denied, corrupt, too large, unsupported,
    /// configuration) it did answer, at once, and would answer the next key, so that counts as a
    /// success.
    pub(crate) fn failure(self: &Arc<Self>, error: &Error) {
        match error.kind() {
            _ if !is_unhealthy_answer(error) => self.success(),
            ErrorKind::Timeout => {
                // What a call cost that timed out elsewhere is unknown: its share of the limit,
                // rounded up so that the shares make the whole.
                let share = self.timeout_limit / self.options.timeouts.max(1) + Duration::from_nanos(1);
                self.strike(share, error);
            }
            _ => self.strike(Duration::ZERO, error),
        }
    }

    /// A call was given up after `waited`.
    pub(crate) fn timed_out(self: &Arc<Self>, waited: Duration, error: &Error) {
        self.strike(waited, error);
    }

    /// Ends the probing for good; the chain is closed or gone.
    pub(crate) fn stop(&self) {
        let watch = {
            let mut inner = self.inner();
            inner.stopped = true;
            inner.watch.take()
        };
        watch.iter().for_each(AbortHandle::abort);
    }

    pub(crate) fn report(&self) -> BreakerReport {
        let inner = self.inner();
        let state = match self.state.load(Ordering::Acquire) {
            CLOSED => "closed",
            OPEN => "open",
            _ => "half-open",
        };
        BreakerReport {
            state,
            since_ms: inner.since.as_millis(),
            openings: inner.openings,
            last_cause: inner.cause.as_ref().map(Error::to_string),
        }
    }

    fn strike(self: &Arc<Self>, lost: Duration, error: &Error) {
        let mut inner = self.inner();
        // A call that was under way when it opened says nothing new.
        if !self.allow() || inner.stopped {
            return;
        }
        self.suspect.store(true, Ordering::Relaxed);
        inner.failures = inner.failures.saturating_add(1);
        inner.lost = inner.lost.saturating_add(lost);
        let out_of_time = !inner.lost.is_zero() && inner.lost >= self.timeout_limit;
        // Nothing would ever close it without a runtime to probe on.
        if (out_of_time || inner.failures >= self.options.failures.max(1))
            && let Ok(runtime) = Handle::try_current()
        {
            let wait = self.open(&mut inner, error);
            // Not under the lock: a runtime that is shutting down drops the task at once, and with
            // it what closes the breaker.
            drop(inner);
            let watch = runtime.spawn(recover(Watch::over(self), wait)).abort_handle();
            let mut inner = self.inner();
            match inner.stopped {
                true => watch.abort(),
                false => inner.watch = Some(watch),
            }
        }
    }

    /// Opens it; returns how long to wait before the first probe.
    fn open(&self, inner: &mut Inner, cause: &Error) -> Duration {
        let settled = self.options.max_backoff.saturating_mul(SETTLED_AFTER);
        let now = self.clock.monotonic();
        inner.level = match inner.closed_at {
            Some(closed) if now.saturating_sub(closed) < settled => inner.level.saturating_add(1),
            _ => 0,
        };
        inner.openings += 1;
        (inner.failures, inner.lost) = (0, Duration::ZERO);
        inner.cause = Some(cause.clone());
        self.turn(inner, OPEN);
        let wait = self.backoff(inner);
        tracing::warn!(tier = %self.name(), %cause, ?wait, "tier is unhealthy: its breaker opens");
        wait
    }

    /// Begins a probe. False if there is nothing to probe for any more.
    fn half_open(&self) -> bool {
        let mut inner = self.inner();
        if inner.stopped || self.allow() {
            return false;
        }
        self.turn(&mut inner, HALF_OPEN);
        true
    }

    /// The probe failed: how long to wait from its beginning to the next.
    fn reopen(&self, cause: &Error) -> Duration {
        let mut inner = self.inner();
        inner.level = inner.level.saturating_add(1);
        inner.cause = Some(cause.clone());
        self.turn(&mut inner, OPEN);
        self.backoff(&mut inner)
    }

    /// The tier is healthy again, or nothing is left that would find out.
    fn close(&self) {
        let mut inner = self.inner();
        if self.allow() {
            return;
        }
        inner.closed_at = Some(self.clock.monotonic());
        self.suspect.store(false, Ordering::Relaxed);
        self.turn(&mut inner, CLOSED);
        tracing::info!(tier = %self.name(), "tier is healthy again: its breaker closes");
    }

    fn name(&self) -> &str {
        &self.target.info.name
    }

    fn turn(&self, inner: &mut Inner, state: u8) {
        inner.since = self.clock.now();
        self.state.store(state, Ordering::Release);
    }

    /// Between half of the backoff and all of it, so that a fleet does not come back as one.
    fn backoff(&self, inner: &mut Inner) -> Duration {
        let doubled = self.options.backoff.saturating_mul(1_u32.checked_shl(inner.level).unwrap_or(u32::MAX));
        let longest = doubled.min(self.options.max_backoff);
        let permille = (inner.jitter.roll() >> 32) % 1001;
        longest / 2 + (longest / 2).mul_f64(f64::from(u32::try_from(permille).unwrap_or(0)) / 1000.0)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether `error` says that the tier itself is unhealthy.
pub(crate) fn is_unhealthy_answer(error: &Error) -> bool {
    use ErrorKind::{Internal, RateLimited, Timeout, Unavailable};
    let kind = matches!(error.kind(), Unavailable | Timeout | RateLimited | Internal);
    kind && !error::Error::source(error).is_some_and(|source| source.is::<PartlyAnswered>())
}

/// Source of the error of a chain in which some tiers answered and others failed: the chain as a
/// whole is healthy, so the breaker of a chain around it must not open.
#[derive(Debug)]
pub(crate) struct PartlyAnswered(pub(crate) Error);

impl fmt::Display for PartlyAnswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for PartlyAnswered {}

/// What a probe reads: no caller's key, so it is usually absent, which is an answer.
const PROBE_KEY: &str = "peercache breaker probe";

/// Probes until the tier is healthy or the breaker is gone; one probe at a time.
async fn recover(mut watch: Watch, first: Duration) {
    let mut wait = first;
    loop {
        sleep(wait).await;
        let Some(breaker) = watch.0.upgrade() else { return };
        if !breaker.half_open() {
            return;
        }
        let started = Instant::now();
        match breaker.target.examine().await {
            Ok(()) => {
                // Before it closes, since it may be open again, with another task, right after.
                watch.0 = Weak::new();
                breaker.close();
                return;
            }
            Err(cause) => {
                tracing::debug!(tier = breaker.name(), %cause, "tier is still unhealthy");
                // From beginning to beginning, so that a probe that hangs adds nothing to the wait.
                wait = breaker.reopen(&cause).saturating_sub(started.elapsed());
            }
        }
    }
}

/// Closes the breaker when the task that looks after it ends without having done so, even before it
/// began.
#[derive(Debug)]
struct Watch(Weak<Breaker>);

impl Watch {
    fn over(breaker: &Arc<Breaker>) -> Self {
        Self(Arc::downgrade(breaker))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(breaker) = self.0.upgrade() {
            breaker.close();
        }
    }
}

impl ProbeTarget {
    /// The backend's own probe, then one real read: a store may accept connections and serve
    /// nothing.
    async fn examine(&self) -> Result<(), Error> {
        self.answer(Operation::Probe, async { self.backend.probe().await }).await?;
        match Key::new(Arc::<str>::from(PROBE_KEY)) {
            Ok(key) if self.reads => {
                self.answer(Operation::Get, async { self.backend.get(&key).await }).await
            }
            _ => Ok(()),
        }
    }

    async fn answer<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<(), Error> {
        match timeout(self.deadline, caught(&self.info, operation, call)).await {
            Ok(Err(error)) if is_unhealthy_answer(&error) => Err(error),
            Ok(_) => Ok(()),
            Err(_) => Err(no_answer(self.info.name.clone(), operation, self.deadline)),
        }
    }
}

/// The error for a call that took longer than its deadline.
pub(crate) fn no_answer(backend: Cow<'static, str>, operation: Operation, deadline: Duration) -> Error {
    Error::new(ErrorKind::Timeout, operation, format!("no answer within {} ms", deadline.as_millis()))
        .with_backend(backend)
}
