//! Numbers that depend on a seed alone.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for one purpose: equal seeds and purposes give equal numbers, others independent
    /// ones.
    pub(crate) fn of(seed: u64, purpose: &str) -> Self {
        let mut state = seed;
        for byte in purpose.bytes() {
            state = Self(state ^ u64::from(byte)).next();
        }
        Self(state)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, not including, `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// From 0 up to, not including, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit into the mantissa")]
        let numerator = (self.next() >> 11) as f64;
        numerator / 9_007_199_254_740_992.0
    }

    /// True with probability `share`.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Milliseconds until the next event of a Poisson process with this mean interval; at least 1.
    pub(crate) fn interval(&mut self, mean_millis: u64) -> u64 {
        #[allow(clippy::cast_precision_loss, reason = "a rounded mean is still that mean")]
        let mean = mean_millis as f64;
        let wait = -mean * (1.0 - self.unit()).ln();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the clamp")]
        let wait = wait.clamp(1.0, 1e15) as u64;
        wait
    }

    /// One of `items`; `None` where there is none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(usize::try_from(self.below(items.len() as u64)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_the_mean_that_was_asked_for() {
        let mut random = Random::of(1, "changes");
        let total: u64 = (0..20_000).map(|_| random.interval(1000)).sum();
        assert!((19_400_000..20_600_000).contains(&total), "{total}");
        assert_ne!(Random::of(1, "a").next(), Random::of(1, "b").next());
        assert_eq!(Random::of(1, "a").next(), Random::of(1, "a").next());
    }
}
