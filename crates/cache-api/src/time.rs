//! Time: milliseconds since the Unix epoch, read from a clock that tests can replace.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far another machine's clock may be ahead of ours before its entries are ignored.
///
/// An entry or version further in the future than this is never served and never wins against an
/// honest write, so one runner with a wrong clock cannot pin a value for everybody.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A point in wall-clock time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// The time that lies `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time plus `duration`, or the latest representable time.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(duration)))
    }

    /// This time minus `duration`, or the epoch.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_millis(duration)))
    }

    /// This time moved by so many milliseconds, back for a negative number, within what can be
    /// represented.
    #[must_use]
    pub const fn shifted(self, millis: i64) -> Self {
        Self(self.0.saturating_add_signed(millis))
    }

    /// How many milliseconds this is after `other`; negative before it.
    #[must_use]
    pub const fn millis_ahead_of(self, other: Self) -> i64 {
        let apart = self.0.abs_diff(other.0);
        let apart = if apart > i64::MAX as u64 { i64::MAX } else { apart as i64 };
        if self.0 < other.0 { -apart } else { apart }
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// `duration` in whole milliseconds, saturating at `u64::MAX`.
pub(crate) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where the time comes from. Everything that depends on time takes one, so that tests never sleep.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall-clock time. It may jump when the machine's clock is set.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process. It never goes back; use it to measure latency.
    fn monotonic(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose [`Clock::monotonic`] starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        // A clock set before 1970 reads as the epoch: everything is then in the future, which is a
        // miss.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(whole_millis(since))
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A clock that is corrected by a difference which is found out while it runs: where a fleet has
/// another time than this machine.
///
/// Everything of one process that judges or makes entries has to go by the same one.
#[derive(Debug)]
pub struct CorrectedClock {
    machine: Arc<dyn Clock>,
    correction: AtomicI64,
}

impl CorrectedClock {
    /// `machine`, not corrected yet.
    #[must_use]
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        Self { machine, correction: AtomicI64::new(0) }
    }

    /// What the machine's clock shows.
    #[must_use]
    pub fn uncorrected(&self) -> Timestamp {
        self.machine.now()
    }

    /// By how many milliseconds the machine's clock is corrected; negative for one that is ahead.
    #[must_use]
    pub fn correction(&self) -> i64 {
        self.correction.load(Ordering::Relaxed)
    }

    /// Corrects the machine's clock by so many milliseconds from now on. To whoever reads this
    /// clock it looks as if it had been set.
    pub fn correct(&self, millis: i64) {
        self.correction.store(millis, Ordering::Relaxed);
    }
}

impl Clock for CorrectedClock {
    fn now(&self) -> Timestamp {
        self.machine.now().shifted(self.correction())
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let late = Timestamp::from_millis(u64::MAX);
        assert_eq!(late.saturating_add(Duration::MAX), late);
        assert_eq!(Timestamp::EPOCH.saturating_sub(Duration::from_secs(1)), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.saturating_since(late), Duration::ZERO);
    }

    #[test]
    fn corrected_clock_is_moved_both_ways_and_still_tells_the_machines_time() {
        #[derive(Debug)]
        struct Stopped;
        impl Clock for Stopped {
            fn now(&self) -> Timestamp {
                Timestamp(10_000)
            }
            fn monotonic(&self) -> Duration {
                Duration::ZERO
            }
        }
        let clock = CorrectedClock::new(Arc::new(Stopped));
        for (correction, shown) in [(0, 10_000), (600, 10_600), (-600, 9_400), (-20_000, 0)] {
            clock.correct(correction);
            assert_eq!((clock.now().as_millis(), clock.uncorrected().as_millis()), (shown, 10_000));
        }
        let (early, late) = (Timestamp(1), Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).millis_ahead_of(Timestamp(8)), -3);
        assert_eq!((late.millis_ahead_of(early), early.millis_ahead_of(late)), (i64::MAX, -i64::MAX));
        assert_eq!(late.shifted(1), late);
    }

    #[test]
    fn the_system_clock_moves_forward() {
        let clock = SystemClock::new();
        let (wall, mono) = (clock.now(), clock.monotonic());
        assert!(wall > Timestamp::from_millis(1_600_000_000_000));
        assert!(clock.monotonic() >= mono);
    }
}
