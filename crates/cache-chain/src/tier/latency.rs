//! How long a tier's latest answers took: what deadlines, races and skips are judged by.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// So many of the latest answers count.
const WINDOW: usize = 64;
/// Fewer answers than this give no percentiles.
const ENOUGH: usize = 8;
/// Older answers are not counted, so a tier that was slow is tried again.
const MEMORY_SECONDS: u64 = 30;

/// The percentiles of a tier's latest answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p95: Duration,
    pub(crate) p99: Duration,
}

/// The latest latencies in a ring of 512 bytes, recorded with two atomic operations and no lock.
#[derive(Debug)]
pub(crate) struct Latency {
    /// Each the second of its recording, counted from 1, above its microseconds; 0 is none.
    ring: [AtomicU64; WINDOW],
    next: AtomicUsize,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self { ring: std::array::from_fn(|_| AtomicU64::new(0)), next: AtomicUsize::new(0) }
    }

    /// Notes that an answer that came at `now`, in monotonic time, took `took`.
    pub(crate) fn record(&self, now: Duration, took: Duration) {
        let micros = u64::from(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        let place = self.next.fetch_add(1, Ordering::Relaxed) % WINDOW;
        self.ring[place].store((now.as_secs() + 1) << 32 | micros, Ordering::Relaxed);
    }

    /// The second of the latest answer, in monotonic time: the current time for callers that have
    /// just had an answer, without reading the clock.
    #[inline]
    pub(crate) fn second(&self) -> u64 {
        let last = self.next.load(Ordering::Relaxed).wrapping_sub(1) % WINDOW;
        (self.ring[last].load(Ordering::Relaxed) >> 32).saturating_sub(1)
    }

    /// The percentiles of the last half minute, if there were enough answers.
    pub(crate) fn percentiles(&self, now: Duration) -> Option<Percentiles> {
        let oldest = (now.as_secs() + 1).saturating_sub(MEMORY_SECONDS);
        let mut micros = [0_u64; WINDOW];
        let mut known = 0;
        for slot in &self.ring {
            let slot = slot.load(Ordering::Relaxed);
            if slot != 0 && slot >> 32 >= oldest {
                micros[known] = slot & u64::from(u32::MAX);
                known += 1;
            }
        }
        if known < ENOUGH {
            return None;
        }
        let micros = &mut micros[..known];
        micros.sort_unstable();
        let at = |percent: usize| Duration::from_micros(micros[(known * percent).div_ceil(100).max(1) - 1]);
        Some(Percentiles { p50: at(50), p95: at(95), p99: at(99) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn percentiles_cover_the_window_and_need_enough_answers() {
        let latency = Latency::new();
        for n in 1..=7 {
            latency.record(Duration::ZERO, millis(n));
        }
        assert_eq!(latency.percentiles(Duration::ZERO), None);
        for n in 1..=100 {
            latency.record(Duration::ZERO, millis(n));
        }
        // The latest 64 are 37 to 100.
        let usual = Percentiles { p50: millis(68), p95: millis(97), p99: millis(100) };
        assert_eq!(latency.percentiles(Duration::ZERO), Some(usual));
    }

    #[test]
    fn slow_answers_are_forgotten_after_half_a_minute() {
        let latency = Latency::new();
        for _ in 0..8 {
            latency.record(Duration::from_secs(5), Duration::MAX);
        }
        assert_eq!(
            latency.percentiles(Duration::from_secs(34)).map(|latency| latency.p50.as_secs()),
            Some(4294)
        );
        assert_eq!(latency.percentiles(Duration::from_secs(36)), None);
    }
}
