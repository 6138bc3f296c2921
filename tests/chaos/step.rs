//! What happens to a chain, one thing after the other.

use crate::rng::Rng;
use crate::scenario::{KEYS, World};

/// How many tags there are.
const TAGS: usize = 2;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Put {
        key: usize,
        size: usize,
        fresh: u64,
        stale: u64,
        tag: Option<usize>,
    },
    Remove {
        key: usize,
    },
    /// Every entry with this tag is removed.
    Invalidate {
        tag: usize,
    },
    Lookup {
        key: usize,
    },
    /// Lookups one after the other, so that it is known what is usual.
    Often {
        key: usize,
        times: usize,
    },
    /// A put or a removal, and lookups that run beside it.
    Together {
        key: usize,
        remove: bool,
        lookups: usize,
    },
    /// As the above, but the caller gives up after so many milliseconds.
    DroppedPut {
        key: usize,
        after: u64,
    },
    DroppedRemove {
        key: usize,
        after: u64,
    },
    DroppedLookup {
        key: usize,
        after: u64,
    },
    /// Another process writes to one tier.
    Foreign {
        tier: usize,
        key: usize,
        remove: bool,
    },
    /// The wall clock moves.
    Wait {
        seconds: u64,
    },
    /// What runs in the background goes on.
    Breathe {
        millis: u64,
    },
    Down {
        tier: usize,
    },
    Up {
        tier: usize,
    },
    Settle,
}

impl Step {
    pub(crate) fn random(rng: &mut Rng, tiers: usize, world: World) -> Self {
        let (key, tier, after) = (rng.below(KEYS), rng.below(tiers), rng.roll() % 60);
        let remove = rng.percent(40);
        match rng.below(if world == World::Shared { 48 } else { 40 }) {
            0..=7 => Self::Put {
                key,
                size: rng.pick(&[24, 24, 200, 2000]),
                fresh: rng.roll() % 60,
                stale: rng.pick(&[0, 0, 30]),
                tag: (world == World::Shared && rng.percent(40)).then(|| rng.below(TAGS)),
            },
            8..=11 => Self::Remove { key },
            12..=23 => Self::Lookup { key },
            24..=26 => Self::Together { key, remove, lookups: 1 + rng.below(3) },
            27 => Self::DroppedPut { key, after },
            28 => Self::DroppedRemove { key, after },
            29 | 30 => Self::DroppedLookup { key, after },
            31 | 32 => Self::Foreign { tier, key, remove },
            33 | 34 => Self::Wait { seconds: 1 + rng.roll() % 20 },
            35 => Self::Breathe { millis: 1 + rng.roll() % 5000 },
            36 => Self::Down { tier },
            37 | 38 => Self::Up { tier },
            // What is written behind meets outages more often, and takes longer to come right.
            40 | 41 => Self::Down { tier },
            42 => Self::Breathe { millis: 1 + rng.roll() % 60_000 },
            46 | 47 => Self::Invalidate { tag: rng.below(TAGS) },
            43..=45 => Self::Often { key, times: 6 + rng.below(8) },
            _ => Self::Settle,
        }
    }
}
