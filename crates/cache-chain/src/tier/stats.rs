//! Counters, taken where the decision is made.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use peercache_api::Error;
use peercache_api::util::Count;
use serde::Serialize;

use crate::outcome::Skip;

/// Percentiles in microseconds, to two significant digits; zero when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LatencyReport {
    /// The median.
    pub p50_us: f64,
    /// The 99th percentile.
    pub p99_us: f64,
}

/// Latencies from 1 ns to 1 min at two significant digits, in about 30 KiB whatever their number.
#[derive(Debug)]
pub(crate) struct LatencyHistogram(Mutex<Option<Histogram<u32>>>);

impl LatencyHistogram {
    fn new() -> Self {
        // The bounds are constants that the constructor accepts; without a histogram nothing is
        // lost but the percentiles.
        Self(Mutex::new(Histogram::new_with_bounds(1, 60_000_000_000, 2).ok()))
    }

    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(histogram) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            histogram.saturating_record(nanos);
        }
    }

    pub(crate) fn report(&self) -> LatencyReport {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.as_ref().filter(|histogram| !histogram.is_empty()).map_or_else(
            LatencyReport::default,
            |histogram| {
                let micros = |quantile| {
                    // Exact to two digits; f64 holds any value of the histogram.
                    #[allow(clippy::cast_precision_loss, reason = "at most 6e10, far below 2^53")]
                    let nanos = histogram.value_at_quantile(quantile) as f64;
                    nanos / 1000.0
                };
                LatencyReport { p50_us: micros(0.5), p99_us: micros(0.99) }
            },
        )
    }
}

/// What happened at one tier. For reads, every lookup is exactly one of: hit, stale, miss, error,
/// timeout, cancelled, or skipped, which is one of: not allowed, open, too slow, overtaken, spare.
#[derive(Debug)]
pub(crate) struct TierStats {
    pub(crate) hits: Count,
    pub(crate) stale: Count,
    pub(crate) misses: Count,
    pub(crate) errors: Count,
    pub(crate) timeouts: Count,
    pub(crate) not_allowed: Count,
    pub(crate) open: Count,
    pub(crate) too_slow: Count,
    pub(crate) overtaken: Count,
    /// Asked ahead of its turn and in vain.
    pub(crate) spare: Count,
    pub(crate) cancelled: Count,
    pub(crate) corrupt: Count,
    pub(crate) from_future: Count,
    pub(crate) superseded: Count,
    pub(crate) tagged: Count,
    pub(crate) bytes_read: Count,
    pub(crate) get_latency: LatencyHistogram,

    pub(crate) stored: Count,
    pub(crate) put_errors: Count,
    pub(crate) put_timeouts: Count,
    pub(crate) put_skipped: Count,
    pub(crate) put_cancelled: Count,
    pub(crate) bytes_written: Count,
    pub(crate) put_latency: LatencyHistogram,

    last_error: Mutex<Option<Error>>,
}

impl TierStats {
    pub(crate) fn new() -> Self {
        Self {
            hits: Count::default(),
            stale: Count::default(),
            misses: Count::default(),
            errors: Count::default(),
            timeouts: Count::default(),
            not_allowed: Count::default(),
            open: Count::default(),
            too_slow: Count::default(),
            overtaken: Count::default(),
            spare: Count::default(),
            cancelled: Count::default(),
            corrupt: Count::default(),
            from_future: Count::default(),
            superseded: Count::default(),
            tagged: Count::default(),
            bytes_read: Count::default(),
            get_latency: LatencyHistogram::new(),
            stored: Count::default(),
            put_errors: Count::default(),
            put_timeouts: Count::default(),
            put_skipped: Count::default(),
            put_cancelled: Count::default(),
            bytes_written: Count::default(),
            put_latency: LatencyHistogram::new(),
            last_error: Mutex::new(None),
        }
    }

    /// Counts a lookup that this tier did not answer.
    pub(crate) fn count_skip(&self, skip: &Skip) {
        match skip {
            Skip::Absent | Skip::Expired | Skip::Removed => self.misses.add(1),
            Skip::Superseded => {
                self.superseded.add(1);
                self.misses.add(1);
            }
            Skip::Tagged => {
                self.tagged.add(1);
                self.misses.add(1);
            }
            Skip::FromFuture => {
                self.from_future.add(1);
                self.misses.add(1);
            }
            Skip::Stale => self.stale.add(1),
            Skip::Failed(error) => {
                if error.kind() == peercache_api::ErrorKind::Corrupt {
                    self.corrupt.add(1);
                }
                self.errors.add(1);
                self.note(error);
            }
            Skip::TimedOut(_) => self.timeouts.add(1),
            Skip::Mode => self.not_allowed.add(1),
            Skip::Open => self.open.add(1),
            Skip::TooSlow => self.too_slow.add(1),
            Skip::Overtaken => self.overtaken.add(1),
        }
    }

    pub(crate) fn note(&self, error: &Error) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
    }

    pub(crate) fn last_error(&self) -> Option<Error> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts a call as cancelled when its future is dropped before it ended.
pub(crate) struct CancelGuard<'a> {
    count: Option<&'a Count>,
}

impl<'a> CancelGuard<'a> {
    pub(crate) fn new(count: &'a Count) -> Self {
        Self { count: Some(count) }
    }

    /// The call ended by itself.
    pub(crate) fn ended(mut self) {
        self.count = None;
    }
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.count {
            count.add(1);
        }
    }
}
