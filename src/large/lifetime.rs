//! For how long the chunks of a value are kept.

use std::time::Duration;

use peercache_api::MAX_LIFETIME;

/// The longest that a chunk is kept: as long as any entry may live.
pub(super) const MAX_KEEP_MINUTES: u32 = (MAX_LIFETIME.as_secs() / 60) as u32;

/// The shortest: with a finer scale, values with slightly different lifetimes would share nothing.
const MIN_KEEP_MINUTES: u32 = 16;

/// For how many minutes the chunks of a value that lives for `lifetime` are kept: the next power of
/// two, at least 16, at most 30 days.
///
/// It is part of the chunk's key, so all who write a key store it with one lifetime. A write that
/// replaces another therefore always extends it, and a short-lived value never takes chunks away
/// from a long-lived one that shares them. No read before the write, no race.
pub(super) fn keep_minutes(lifetime: Duration) -> u32 {
    let minutes = lifetime.as_millis().div_ceil(60_000);
    let minutes = u32::try_from(minutes).unwrap_or(u32::MAX).clamp(MIN_KEEP_MINUTES, MAX_KEEP_MINUTES);
    minutes.checked_next_power_of_two().unwrap_or(u32::MAX).min(MAX_KEEP_MINUTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chunks_are_kept_for_the_next_power_of_two_minutes() {
        let minutes = |minutes: u64| keep_minutes(Duration::from_secs(60 * minutes));
        assert_eq!(keep_minutes(Duration::ZERO), 16);
        assert_eq!((minutes(16), minutes(17), minutes(32), minutes(33)), (16, 32, 32, 64));
        assert_eq!(keep_minutes(Duration::from_millis(16 * 60_000 + 1)), 32);
        assert_eq!((keep_minutes(MAX_LIFETIME), keep_minutes(Duration::MAX)), (43_200, 43_200));
    }

    proptest! {
        #[test]
        fn a_chunk_lives_at_least_as_long_as_its_value(millis in 0..=MAX_LIFETIME.as_millis() as u64) {
            let lifetime = Duration::from_millis(millis);
            let kept = Duration::from_secs(60 * u64::from(keep_minutes(lifetime)));
            prop_assert!(kept >= lifetime && kept <= MAX_LIFETIME);
            prop_assert!(kept <= (2 * lifetime + Duration::from_secs(120)).max(Duration::from_secs(960)));
        }
    }
}
