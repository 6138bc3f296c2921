//! The read budget: how long one read may wait in all, and how the tiers share it.

use std::time::Duration;

use tokio::time::Instant;

use crate::chain::Chain;
use crate::tier::Tier;

/// The budget of a chain with shared tiers, unless it is given another.
pub(crate) const DEFAULT_BUDGET: Duration = Duration::from_secs(1);
/// A tier may take this many times its usual 99th percentile while others wait below it.
const PATIENT_FACTOR: u32 = 4;
/// No tier is given up earlier for being slower than usual: a busy machine hiccups that long.
const SHORTEST_DEADLINE: Duration = Duration::from_millis(50);
/// What is kept for a tier of which nothing is known yet.
const COLD_RESERVE: Duration = Duration::from_millis(100);
/// The least that is kept for a tier.
const LEAST_RESERVE: Duration = Duration::from_millis(10);

/// What one read has left. It starts to run when the read first has to wait, so a hit in memory does
/// not look at the time.
#[derive(Debug)]
pub(crate) struct Budget {
    total: Duration,
    /// By how much each tier's deadline is longer than usual; `total` has it already.
    more: Duration,
    started: Option<Instant>,
}

impl Budget {
    pub(crate) const fn new(total: Duration, more: Duration) -> Self {
        Self { total: total.saturating_add(more), more, started: None }
    }

    /// By how much each tier's deadline is longer than usual.
    pub(crate) const fn more(&self) -> Duration {
        self.more
    }

    /// The read waits from now on.
    pub(crate) fn start(&mut self) {
        self.started.get_or_insert_with(Instant::now);
    }

    pub(crate) fn left(&self) -> Duration {
        self.started.map_or(self.total, |started| self.total.saturating_sub(started.elapsed()))
    }
}

impl Chain {
    /// How long a read with `left` of its budget waits for tier `index`: its own deadline and `more`, but
    /// - not into what the tiers below it usually need;
    /// - not longer than its timeouts may still cost before its breaker opens, and `more`;
    /// - while there is a tier below to turn to: not much longer than it usually takes, and `more`. After a
    ///   failure this does not hold, since what is usual may have changed.
    pub(crate) fn allowance(&self, index: usize, left: Duration, more: Duration) -> Duration {
        let now = self.clock.monotonic();
        let tier = &self.tiers[index];
        let below = || self.tiers[index + 1..].iter().filter(|tier| tier.reads() && tier.breaker.allow());
        let count = u32::try_from(below().count()).unwrap_or(u32::MAX - 1);
        let kept = below().map(|tier| reserve(tier, now)).fold(Duration::ZERO, Duration::saturating_add);
        // If there is not enough for all, an equal share each.
        let share = left.saturating_sub(kept).max(left / (count + 1));
        let most = tier.read_deadline.min(tier.breaker.patience_left());
        let most = match tier.recent.usual(now) {
            Some(usual) if count > 0 && !tier.breaker.is_suspect() => {
                most.min(usual.p99.saturating_mul(PATIENT_FACTOR).max(SHORTEST_DEADLINE))
            }
            _ => most,
        };
        most.saturating_add(more).min(share)
    }

    /// Whether a read with `left` of its budget has no use for `tier`: it usually takes longer.
    pub(crate) fn is_too_slow(&self, tier: &Tier, left: Duration) -> bool {
        left.is_zero()
            || (left < tier.read_deadline
                && tier.recent.usual(self.clock.monotonic()).is_some_and(|usual| usual.p50 > left))
    }
}

/// What is kept of the budget for `tier` while those above it are asked.
fn reserve(tier: &Tier, now: Duration) -> Duration {
    let usual = tier.recent.usual(now).map_or(COLD_RESERVE, |usual| usual.p50.saturating_mul(2));
    usual.max(LEAST_RESERVE).min(tier.read_deadline)
}
