//! The retry budget: retries are a small share of writes, so that they never become the load that
//! keeps a tier down.

use std::time::Duration;

/// Retries that one write pays for, in thousandths: ten percent.
const PER_WRITE: u64 = 100;
/// Retries that pass pays for by itself, in thousandths for each second: one. So an idle queue
/// drains however often it has failed.
const PER_SECOND: u64 = 1000;
/// The most that is saved up, in thousandths; it is also there at the start.
const MOST: u64 = 20_000;
const ONE: u64 = 1000;

/// A bucket of retries.
#[derive(Debug)]
pub(super) struct RetryBudget {
    saved: u64,
    counted_until: Duration,
}

impl RetryBudget {
    pub(super) const fn new() -> Self {
        Self { saved: MOST, counted_until: Duration::ZERO }
    }

    /// A write was tried for the first time.
    pub(super) fn earn(&mut self) {
        self.saved = (self.saved + PER_WRITE).min(MOST);
    }

    /// Takes one retry, or says how long until there is one. `now` is a time that never goes back.
    pub(super) fn spend(&mut self, now: Duration) -> Result<(), Duration> {
        let passed = now.saturating_sub(self.counted_until).min(Duration::from_secs(MOST / PER_SECOND));
        // At most MOST milliseconds by the line above; a millisecond earns PER_SECOND / 1000.
        let earned = u64::try_from(passed.as_millis()).unwrap_or(MOST) * (PER_SECOND / 1000);
        self.counted_until = self.counted_until.max(now);
        self.saved = (self.saved + earned).min(MOST);
        if self.saved >= ONE {
            self.saved -= ONE;
            return Ok(());
        }
        Err(Duration::from_millis((ONE - self.saved) * 1000 / PER_SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(budget: &mut RetryBudget, now: Duration) -> usize {
        std::iter::from_fn(|| budget.spend(now).ok()).count()
    }

    #[test]
    fn retries_are_a_tenth_of_the_writes_after_the_reserve() {
        let mut budget = RetryBudget::new();
        assert_eq!(spent(&mut budget, Duration::ZERO), 20);
        for _ in 0..100 {
            budget.earn();
        }
        assert_eq!(spent(&mut budget, Duration::ZERO), 10);
        for _ in 0..100_000 {
            budget.earn();
        }
        assert_eq!(spent(&mut budget, Duration::ZERO), 20, "no more than the reserve is saved up");
    }

    #[test]
    fn time_pays_for_one_each_second_and_says_when() {
        let mut budget = RetryBudget::new();
        let _ = spent(&mut budget, Duration::ZERO);
        assert_eq!(budget.spend(Duration::from_millis(400)), Err(Duration::from_millis(600)));
        assert_eq!(budget.spend(Duration::from_secs(1)), Ok(()));
        assert_eq!(
            budget.spend(Duration::from_millis(900)),
            Err(Duration::from_secs(1)),
            "time never goes back"
        );
        assert_eq!(spent(&mut budget, Duration::from_secs(100_000)), 20);
    }
}
