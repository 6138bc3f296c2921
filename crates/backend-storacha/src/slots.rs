//! Slots of wall clock time, which say when a root may be compacted: even ones for the first root
//! of a key, odd ones for the second. So one of the two is always whole, for every process whose
//! clock is about right.

use std::time::Duration;

use peercache_api::{Clock as _, SystemClock};

/// Length of a slot.
const SLOT: Duration = Duration::from_secs(4);

/// Whose slot it is, and how long it has lasted.
pub(crate) fn slot_now() -> (usize, Duration) {
    // Not the clock of the tier: other processes go by the same time.
    let millis = SystemClock::new().now().as_millis();
    let slot = u64::try_from(SLOT.as_millis()).unwrap_or(u64::MAX);
    (usize::from((millis / slot) % 2 == 1), Duration::from_millis(millis % slot))
}

/// The root that is not compacted now.
pub(crate) fn quiet_root() -> usize {
    1 - slot_now().0
}

/// Waits for the beginning of the next slot, and says whose it is.
pub(crate) async fn next_slot() -> usize {
    let (which, lasted) = slot_now();
    tokio::time::sleep(SLOT.saturating_sub(lasted)).await;
    1 - which
}
