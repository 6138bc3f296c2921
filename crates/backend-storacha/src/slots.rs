//! Slots of wall clock time, which say when a root may be compacted: even ones for the first root
//! of a key, odd ones for the second. So one of the two is always whole, for every process whose
//! clock is about right.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Length of a slot.
const SLOT: Duration = Duration::from_secs(4);

/// Whose slot it is, and how long it has lasted.
pub(crate) fn slot_now() -> (usize, Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (millis, slot) = (now.as_millis(), SLOT.as_millis());
    let lasted = Duration::from_millis(u64::try_from(millis % slot).unwrap_or_default());
    (usize::from((millis / slot) % 2 == 1), lasted)
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
