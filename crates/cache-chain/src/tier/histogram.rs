//! How long calls took: a histogram of fixed size, counted with one atomic operation.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Each power of two has so many buckets, so a bucket is at most 0.8 % wide: two significant
/// digits.
const PER_OCTAVE: u64 = 128;
/// Up to here each nanosecond has a bucket of its own.
const EXACT: u64 = 2 * PER_OCTAVE;
/// Longer calls count as this long: 2^36 ns, which is 68 s.
const LONGEST: u64 = (1 << 36) - 1;
/// From 2^8 to 2^36 ns, and the exact ones: 15 KiB of counters.
const BUCKETS: usize = (EXACT + 28 * PER_OCTAVE) as usize;

/// Latencies from 1 ns to 68 s at two significant digits, in 15 KiB whatever their number.
#[derive(Debug)]
pub(crate) struct LatencyHistogram(Box<[AtomicU32]>);

impl LatencyHistogram {
    pub(crate) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU32::new(0)).collect())
    }

    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    /// So many nanoseconds or less took the share `quantile` of the calls; `None` where there was
    /// none. Calls that are counted meanwhile may be in it or not.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<u64> {
        let counts: Vec<_> = self.0.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).collect();
        let all: u64 = counts.iter().sum();
        if all == 0 {
            return None;
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank that is off by one in 2^53 calls is no matter"
        )]
        let rank = ((all as f64 * quantile).ceil() as u64).clamp(1, all);
        let mut seen = 0;
        counts.iter().zip(0_u64..).find_map(|(count, index)| {
            seen += count;
            (seen >= rank).then(|| longest_of(index))
        })
    }
}

/// The index of the bucket of a latency.
fn bucket(nanos: u64) -> usize {
    let nanos = nanos.min(LONGEST);
    if nanos < EXACT {
        return nanos as usize;
    }
    let octave = u64::from(nanos.ilog2());
    let part = (nanos >> (octave - 7)) % PER_OCTAVE;
    (EXACT + (octave - 8) * PER_OCTAVE + part) as usize
}

/// The longest latency of a bucket.
fn longest_of(index: u64) -> u64 {
    if index < EXACT {
        return index;
    }
    let (octave, part) = ((index - EXACT) / PER_OCTAVE + 8, (index - EXACT) % PER_OCTAVE);
    ((PER_OCTAVE + part + 1) << (octave - 7)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_holds_its_latencies_within_two_digits() {
        for nanos in (0..36).flat_map(|bit| [1_u64 << bit, (1 << bit) + 1, (1 << bit) - 1, 3 << bit]) {
            let nanos = nanos.min(LONGEST);
            let longest = longest_of(bucket(nanos) as u64);
            assert!(longest >= nanos && (longest - nanos) * 127 <= nanos, "{nanos} counts as {longest}");
        }
        assert_eq!((bucket(u64::MAX), longest_of(BUCKETS as u64 - 1)), (BUCKETS - 1, LONGEST));
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let histogram = LatencyHistogram::new();
        assert_eq!(histogram.quantile(0.5), None);
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        let [median, late, all] = [0.5, 0.99, 1.0].map(|quantile| histogram.quantile(quantile).unwrap());
        assert!((50_000..50_400).contains(&median), "{median}");
        assert!((99_000..99_800).contains(&late), "{late}");
        assert!((100_000..100_800).contains(&all), "{all}");
    }
}
