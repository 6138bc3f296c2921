//! Time that moves only when a test says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use peercache_api::{Clock, Timestamp};

/// A clock that stands still until it is moved. Share it behind an `Arc`.
#[derive(Debug)]
pub struct ManualClock {
    wall_millis: AtomicU64,
    monotonic_millis: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `wall`, with its monotonic time at zero.
    #[must_use]
    pub const fn new(wall: Timestamp) -> Self {
        Self { wall_millis: AtomicU64::new(wall.as_millis()), monotonic_millis: AtomicU64::new(0) }
    }

    /// Lets `duration` pass on both clocks; less than a millisecond is dropped.
    pub fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.wall_millis.fetch_add(millis, Ordering::SeqCst);
        self.monotonic_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock, as an administrator or a time server would; monotonic time is not
    /// touched.
    pub fn set_wall(&self, wall: Timestamp) {
        self.wall_millis.store(wall.as_millis(), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    /// Stands at an arbitrary time in 2027.
    fn default() -> Self {
        Self::new(Timestamp::from_millis(1_800_000_000_000))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_millis.load(Ordering::SeqCst))
    }
}
