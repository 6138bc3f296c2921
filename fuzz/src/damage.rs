//! A few changed bytes.

use std::ops::Range;

use arbitrary::Arbitrary;

/// Which bytes are changed, and how.
#[derive(Arbitrary, Debug)]
pub(crate) struct Damage {
    first: (u32, u8),
    more: [(u32, u8); 3],
    /// Whether the others are done as well.
    several: bool,
}

impl Damage {
    /// Changes at least one byte of `bytes` within `range`.
    pub(crate) fn inflict(&self, bytes: &mut [u8], range: Range<usize>) {
        let before = bytes[range.clone()].to_vec();
        let damaged = &mut bytes[range];
        let count = if self.several { 4 } else { 1 };
        for (at, change) in [self.first].into_iter().chain(self.more).take(count) {
            let at = at as usize % damaged.len();
            damaged[at] ^= change;
        }
        // The changes may cancel each other out.
        if *damaged == before {
            let at = self.first.0 as usize % damaged.len();
            damaged[at] ^= 1;
        }
    }
}
