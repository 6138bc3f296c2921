//! How long a tier's answers took lately: what deadlines, races and skips are judged by.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// So many of the latest answers count.
const WINDOW: usize = 64;
/// With fewer than this there is no telling what is usual.
const ENOUGH: usize = 8;
/// What is older says nothing about now; a tier that was slow gets another try.
const MEMORY_SECONDS: u64 = 30;

/// What is usual for a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usual {
    pub(crate) p50: Duration,
    pub(crate) p95: Duration,
    pub(crate) p99: Duration,
}

/// The latest latencies in a ring of 512 bytes, recorded with two atomic operations and no lock.
#[derive(Debug)]
pub(crate) struct Recent {
    /// Each the second of its recording, counted from 1, above its microseconds; 0 is none.
    ring: [AtomicU64; WINDOW],
    next: AtomicUsize,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self { ring: std::array::from_fn(|_| AtomicU64::new(0)), next: AtomicUsize::new(0) }
    }

    /// Notes that an answer that came at `now`, in monotonic time, took `took`.
    pub(crate) fn record(&self, now: Duration, took: Duration) {
        let micros = u64::from(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        let place = self.next.fetch_add(1, Ordering::Relaxed) % WINDOW;
        self.ring[place].store((now.as_secs() + 1) << 32 | micros, Ordering::Relaxed);
    }

    /// The second of the latest answer, in monotonic time: what the time is, to those who have just had
    /// one and do not want to read the clock for it.
    #[inline]
    pub(crate) fn second(&self) -> u64 {
        let last = self.next.load(Ordering::Relaxed).wrapping_sub(1) % WINDOW;
        (self.ring[last].load(Ordering::Relaxed) >> 32).saturating_sub(1)
    }

    /// What is usual, if enough is known about the last half minute.
    pub(crate) fn usual(&self, now: Duration) -> Option<Usual> {
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
        Some(Usual { p50: at(50), p95: at(95), p99: at(99) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_few_answers_are_not_usual_and_the_percentiles_are_those_of_the_window() {
        let recent = Recent::new();
        for n in 1..=7 {
            recent.record(Duration::ZERO, millis(n));
        }
        assert_eq!(recent.usual(Duration::ZERO), None);
        for n in 1..=100 {
            recent.record(Duration::ZERO, millis(n));
        }
        // The latest 64 are 37 to 100.
        let usual = Usual { p50: millis(68), p95: millis(97), p99: millis(100) };
        assert_eq!(recent.usual(Duration::ZERO), Some(usual));
    }

    #[test]
    fn what_was_slow_is_forgotten() {
        let recent = Recent::new();
        for _ in 0..8 {
            recent.record(Duration::from_secs(5), Duration::MAX);
        }
        assert_eq!(recent.usual(Duration::from_secs(34)).map(|usual| usual.p50.as_secs()), Some(4294));
        assert_eq!(recent.usual(Duration::from_secs(36)), None);
    }
}
