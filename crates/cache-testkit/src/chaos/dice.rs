//! Chance that can be repeated: every roll follows from a seed and from what is being decided.

use std::ops::RangeInclusive;
use std::time::Duration;

use peercache_api::{Key, Operation};

/// A source of rolls for one decision. SplitMix64 (Steele, Lea, Flood 2014): any seed will do.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The dice for the `number`-th time that `operation` is done to `key`.
    pub(super) fn new(seed: u64, operation: Operation, key: Option<&Key>, number: u64) -> Self {
        let mut dice = Self(seed);
        dice.mix(operation.as_str().bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte)));
        if let Some(key) = key {
            for word in key.digest().as_chunks::<8>().0 {
                dice.mix(u64::from_le_bytes(*word));
            }
        }
        dice.mix(number);
        dice
    }

    fn mix(&mut self, word: u64) {
        self.0 ^= word;
        self.0 = self.roll();
    }

    /// 64 even bits.
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number from 0 up to, not including, 1.
    pub(super) fn unit(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        #[allow(clippy::cast_precision_loss, reason = "below 2^53, so nothing is lost")]
        let bits = (self.roll() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    /// A number from 0 up to, not including, `end`; 0 when `end` is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % end).unwrap_or_default()
    }

    /// A duration within `range`, in whole microseconds.
    pub(super) fn between(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let span = range.end().saturating_sub(*range.start());
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        *range.start() + Duration::from_micros(self.roll() % micros.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, operation: Operation, key: &str, number: u64) -> u64 {
        Dice::new(seed, operation, Some(&Key::new(key).unwrap()), number).roll()
    }

    #[test]
    fn a_roll_follows_from_seed_operation_key_and_number_alone() {
        let one = first(1, Operation::Get, "a", 0);
        assert_eq!(one, first(1, Operation::Get, "a", 0));
        let others = [
            first(2, Operation::Get, "a", 0),
            first(1, Operation::Put, "a", 0),
            first(1, Operation::Get, "b", 0),
            first(1, Operation::Get, "a", 1),
        ];
        assert!(others.iter().all(|other| *other != one));
    }

    #[test]
    fn rolls_keep_to_their_bounds_and_use_them() {
        let mut dice = Dice::new(7, Operation::Get, None, 0);
        let units: Vec<f64> = (0..1000).map(|_| dice.unit()).collect();
        assert!(units.iter().all(|unit| (0.0..1.0).contains(unit)));
        let mean = units.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
        assert!((0..100).all(|_| dice.below(3) < 3));
        assert_eq!(dice.below(0), 0);
        let (least, most) = (Duration::from_millis(2), Duration::from_millis(3));
        assert!((0..100).all(|_| (least..=most).contains(&dice.between(&(least..=most)))));
        assert_eq!(dice.between(&(least..=least)), least);
    }
}
