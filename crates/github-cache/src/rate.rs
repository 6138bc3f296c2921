//! The slowest that a transfer may be.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How slow the other side of a transfer may be: so many bytes in each window of waiting for it.
///
/// Only the time spent waiting counts, so a transfer that rests because this side is busy is not
/// slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MinimumRate {
    pub(crate) window: Duration,
    pub(crate) bytes: u64,
}

/// The other side is slower than the minimum rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// Watches one direction of one transfer.
#[derive(Debug)]
pub(crate) struct RateGuard {
    rule: MinimumRate,
    /// Bytes moved in the current window.
    moved: u64,
    /// Waited in the current window, without the wait that is under way.
    waited: Duration,
    waiting_since: Option<Instant>,
    /// Made at the first wait: most transfers never wait.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl RateGuard {
    pub(crate) const fn new(rule: MinimumRate) -> Self {
        Self { rule, moved: 0, waited: Duration::ZERO, waiting_since: None, alarm: None }
    }

    /// The other side took or gave this many bytes.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes as u64);
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
    }

    /// There is nothing to wait for any more, and what comes next is another transfer.
    pub(crate) fn reset(&mut self) {
        self.moved = 0;
        self.waited = Duration::ZERO;
        self.waiting_since = None;
    }

    /// The other side is not ready. Ready when it has been too slow; wakes the task to look again.
    pub(crate) fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<TooSlow> {
        loop {
            if self.waiting_since.is_none() {
                let now = Instant::now();
                self.waiting_since = Some(now);
                let at = now + self.rule.window.saturating_sub(self.waited);
                match &mut self.alarm {
                    Some(alarm) => alarm.as_mut().reset(at),
                    None => self.alarm = Some(Box::pin(sleep_until(at))),
                }
            }
            let Some(alarm) = &mut self.alarm else { return Poll::Pending };
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if self.moved < self.rule.bytes {
                return Poll::Ready(TooSlow);
            }
            self.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: MinimumRate = MinimumRate { window: Duration::from_secs(30), bytes: 1000 };

    async fn wait(guard: &mut RateGuard, most: Duration) -> bool {
        tokio::time::timeout(most, std::future::poll_fn(|context| guard.poll_waiting(context))).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn rate_below_the_minimum_is_too_slow_after_one_window() {
        let mut guard = RateGuard::new(RULE);
        for _ in 0..9 {
            assert!(!wait(&mut guard, Duration::from_secs(3)).await);
            guard.moved(1);
        }
        assert!(wait(&mut guard, Duration::from_secs(4)).await, "9 bytes in 30 s");
    }

    #[tokio::test(start_paused = true)]
    async fn rate_above_the_minimum_is_never_too_slow() {
        let mut guard = RateGuard::new(RULE);
        for _ in 0..100 {
            assert!(!wait(&mut guard, Duration::from_secs(3)).await);
            guard.moved(150);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_does_not_count() {
        let mut guard = RateGuard::new(RULE);
        for _ in 0..10 {
            assert!(!wait(&mut guard, Duration::from_secs(2)).await);
            guard.moved(1);
            tokio::time::sleep(Duration::from_secs(600)).await;
        }
        assert!(wait(&mut guard, Duration::from_secs(11)).await, "30 s of waiting are over");
    }
}
