//! What is known of the clocks of others.

use std::time::Duration;

/// What is known of a peer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) struct PeerClock {
    /// By how many milliseconds its machine's clock is ahead of this machine's.
    pub(in crate::core) ahead: i64,
    /// By how much it corrects its own.
    pub(in crate::core) correction: i64,
    /// When it was read.
    pub(in crate::core) read: Duration,
}
