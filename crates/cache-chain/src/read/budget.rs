//! The read budget: how long one read may wait in all, and how the tiers share it.

use std::time::Duration;

use peercache_api::Clock;
use tokio::time::Instant;

use crate::tier::Tier;
use crate::write::slot::Slot;

/// The budget of a chain with shared tiers, unless it is given another.
pub(crate) const DEFAULT_BUDGET: Duration = Duration::from_secs(1);
/// A tier may take this many times its 99th percentile while others wait below it.
const SLOWEST_FACTOR: u32 = 4;
/// No tier is given up earlier for being slower than usual: a busy machine hiccups that long.
const SHORTEST_DEADLINE: Duration = Duration::from_millis(50);
/// What is kept for a tier of which nothing is known yet.
const COLD_RESERVE: Duration = Duration::from_millis(100);
/// The least that is kept for a tier.
const LEAST_RESERVE: Duration = Duration::from_millis(10);

/// What one read has left. It starts to run when the read first has to wait, so a hit in memory
/// does not look at the time.
#[derive(Debug)]
pub(crate) struct Budget<'a> {
    slots: &'a [Slot],
    clock: &'a dyn Clock,
    total: Duration,
    /// By how much each tier's deadline is longer than usual; `total` has it already.
    extra_time: Duration,
    started: Option<Instant>,
}

impl<'a> Budget<'a> {
    pub(crate) const fn new(
        slots: &'a [Slot],
        clock: &'a dyn Clock,
        total: Duration,
        extra_time: Duration,
    ) -> Self {
        Self { slots, clock, total: total.saturating_add(extra_time), extra_time, started: None }
    }

    /// The read waits from now on.
    pub(crate) fn start(&mut self) {
        self.started.get_or_insert_with(Instant::now);
    }

    /// Takes `time` off, as if the read had waited for it.
    pub(crate) fn spend(&mut self, time: Duration) {
        self.total = self.total.saturating_sub(time);
    }

    pub(crate) fn left(&self) -> Duration {
        self.started.map_or(self.total, |started| self.total.saturating_sub(started.elapsed()))
    }

    /// How long the read waits for the tier at `index`: its own deadline and the extra time, but
    /// - not into what the tiers below it usually need;
    /// - not longer than its timeouts may still cost before its breaker opens, and the extra time;
    /// - while there is a tier below to turn to: not much longer than it usually takes, and the
    ///   extra time. After a failure this does not hold, since what is usual may have changed.
    pub(crate) fn allowance(&self, index: usize) -> Duration {
        let (now, left) = (self.clock.monotonic(), self.left());
        let tier = &self.slots[index].tier;
        let below = || {
            let tiers = self.slots[index + 1..].iter().map(|slot| &slot.tier);
            tiers.filter(|tier| tier.reads() && tier.breaker.allow())
        };
        let count = u32::try_from(below().count()).unwrap_or(u32::MAX - 1);
        let kept = below().map(|tier| reserve(tier, now)).fold(Duration::ZERO, Duration::saturating_add);
        // If there is not enough for all, an equal share each.
        let share = left.saturating_sub(kept).max(left / (count + 1));
        let most = tier.read_deadline.min(tier.breaker.timeout_left());
        let most = match tier.latency.percentiles(now) {
            Some(usual) if count > 0 && !tier.breaker.is_suspect() => {
                most.min(usual.p99.saturating_mul(SLOWEST_FACTOR).max(SHORTEST_DEADLINE))
            }
            _ => most,
        };
        most.saturating_add(self.extra_time).min(share)
    }

    /// Whether the read has no use for the tier at `index`: it usually takes longer than what is
    /// left.
    pub(crate) fn is_too_slow(&self, index: usize) -> bool {
        let (tier, left) = (&self.slots[index].tier, self.left());
        left.is_zero()
            || (left < tier.read_deadline
                && tier.latency.percentiles(self.clock.monotonic()).is_some_and(|usual| usual.p50 > left))
    }
}

/// What is kept of the budget for `tier` while those above it are asked.
fn reserve(tier: &Tier, now: Duration) -> Duration {
    let usual = tier.latency.percentiles(now).map_or(COLD_RESERVE, |usual| usual.p50.saturating_mul(2));
    usual.max(LEAST_RESERVE).min(tier.read_deadline)
}
