//! The circuit breaker: a tier that is unwell is left alone, and asked in the background how it is.
//!
//! ```text
//!            five failures in a row, or timeouts in a row that cost `patience`
//!   closed ──────────────────────────────────────────────────────────────────▶ open
//!      ▲                                                                        │ after the backoff,
//!      │ the probe and one read answer                                          ▼ in the background
//!      └──────────────────────────────────────────────────────────────────── half-open
//!                                    either fails: open again, longer backoff ──┘
//! ```
//!
//! Callers are refused while it is open *and* while it is half-open: no caller waits for an experiment.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{error, fmt};

use peercache_api::{CacheBackend, Clock, Error, ErrorKind, Timestamp};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::breaker_probe::{Watch, recover};

/// When a tier's breaker opens, and how often an open one looks whether the tier is well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    /// So many failures in a row open it; at least 1. Default 5.
    pub failures: u32,
    /// So many timeouts in a row, each at the tier's full deadline, open it; at least 1. Default 2.
    /// It opens earlier if the timeouts in a row have cost the chain's read budget together.
    pub timeouts: u32,
    /// The longest wait before the first look. Default 500 ms. It doubles with every look that finds
    /// the tier unwell, and with every opening soon after a closing.
    pub backoff: Duration,
    /// What the wait never exceeds, so a tier that is well again is back after this at the latest.
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

/// Longest backoffs that a tier must stay well for until its backoff starts from the bottom again.
const SETTLED_AFTER: u32 = 2;

/// The parts of a tier that its breaker probes.
#[derive(Debug)]
pub(crate) struct Patient {
    pub(crate) backend: Arc<dyn CacheBackend>,
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
    patience: Duration,
    clock: Arc<dyn Clock>,
    pub(crate) patient: Patient,
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
    jitter: u64,
    watch: Option<AbortHandle>,
    stopped: bool,
}

impl Breaker {
    /// A closed breaker. `budget` bounds what timeouts may cost before it opens; `seed` makes the
    /// jitter of its probes repeatable.
    pub(crate) fn new(
        patient: Patient,
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
            jitter: seed,
            watch: None,
            stopped: false,
        };
        Arc::new(Self {
            state: AtomicU8::new(CLOSED),
            suspect: AtomicBool::new(false),
            inner: Mutex::new(inner),
            options,
            patience: patient.deadline.saturating_mul(options.timeouts.max(1)).min(budget),
            clock,
            patient,
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
    pub(crate) fn patience_left(&self) -> Duration {
        if !self.is_suspect() {
            return self.patience;
        }
        // Not nothing: a call must be able to prove the tier well.
        self.patience.saturating_sub(self.inner().lost).max(Duration::from_millis(1))
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

    /// A call failed. Only kinds that say that the tier itself is unwell count: unavailable, timeout,
    /// rate limited. With any other (denied, corrupt, too large, unsupported, configuration) it did
    /// answer, at once, and would answer the next key, so that counts as a success.
    pub(crate) fn failure(self: &Arc<Self>, error: &Error) {
        match error.kind() {
            _ if !says_unwell(error) => self.success(),
            ErrorKind::Timeout => {
                // What a call cost that timed out elsewhere is unknown: its share of the patience,
                // rounded up so that the shares make the whole.
                let share = self.patience / self.options.timeouts.max(1) + Duration::from_nanos(1);
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
        let out_of_patience = !inner.lost.is_zero() && inner.lost >= self.patience;
        // Nothing would ever close it without a runtime to probe on.
        if (out_of_patience || inner.failures >= self.options.failures.max(1))
            && let Ok(runtime) = Handle::try_current()
        {
            let wait = self.open(&mut inner, error);
            // Not under the lock: a runtime that is shutting down drops the task at once, and with it
            // what closes the breaker.
            drop(inner);
            let watch = runtime.spawn(recover(Watch::over(self), wait)).abort_handle();
            let mut inner = self.inner();
            match inner.stopped {
                true => watch.abort(),
                false => inner.watch = Some(watch),
            }
        }
    }

    /// Opens it; returns how long to wait before the first look.
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
        tracing::warn!(tier = %self.name(), %cause, ?wait, "tier is unwell and left alone");
        wait
    }

    /// Begins a probe. False if there is nothing to probe for any more.
    pub(crate) fn half_open(&self) -> bool {
        let mut inner = self.inner();
        if inner.stopped || self.allow() {
            return false;
        }
        self.turn(&mut inner, HALF_OPEN);
        true
    }

    /// The probe failed: how long to wait from its beginning to the next.
    pub(crate) fn reopen(&self, cause: &Error) -> Duration {
        let mut inner = self.inner();
        inner.level = inner.level.saturating_add(1);
        inner.cause = Some(cause.clone());
        self.turn(&mut inner, OPEN);
        self.backoff(&mut inner)
    }

    /// The tier is well again, or nobody is left to find out.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        if self.allow() {
            return;
        }
        inner.closed_at = Some(self.clock.monotonic());
        self.suspect.store(false, Ordering::Relaxed);
        self.turn(&mut inner, CLOSED);
        tracing::info!(tier = %self.name(), "tier is used again");
    }

    pub(crate) fn name(&self) -> &str {
        &self.patient.backend.info().name
    }

    fn turn(&self, inner: &mut Inner, state: u8) {
        inner.since = self.clock.now();
        self.state.store(state, Ordering::Release);
    }

    /// Between half of the backoff and all of it, so that a fleet does not come back as one.
    fn backoff(&self, inner: &mut Inner) -> Duration {
        let doubled = self.options.backoff.saturating_mul(1_u32.checked_shl(inner.level).unwrap_or(u32::MAX));
        let longest = doubled.min(self.options.max_backoff);
        let permille = (next_random(&mut inner.jitter) >> 32) % 1001;
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

/// Whether the tier that answered with `error` is itself unwell.
pub(crate) fn says_unwell(error: &Error) -> bool {
    let kind = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::RateLimited);
    kind && !error::Error::source(error).is_some_and(|source| source.is::<PartlyAnswered>())
}

/// Source of the error of a chain in which some tiers answered and others failed: the chain as a whole
/// is well, so the breaker of a chain around it must not open.
#[derive(Debug)]
pub(crate) struct PartlyAnswered(pub(crate) Error);

impl fmt::Display for PartlyAnswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for PartlyAnswered {}

/// The next number of the SplitMix64 sequence (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, OOPSLA 2014).
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
