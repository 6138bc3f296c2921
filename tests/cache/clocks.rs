//! Clocks that are set, and everything invalidated, in any order: what is stored next is an answer,
//! and what was removed is none. By seeds.

use std::collections::BTreeMap;
use std::time::Duration;

use peercache::{By, Bytes, Cache, Clock as _, Policy};

use crate::support::{World, key};

const SEEDS: u64 = 2_000;
const STEPS: usize = 40;
const KEYS: u64 = 4;
/// How far from where it was a clock is set in small steps, in milliseconds.
const MOST_SLEWED: u64 = 120_000;
const DAY_MILLIS: i64 = 24 * 3_600_000;

struct Rng(u64);

impl Rng {
    /// SplitMix64.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put {
        key: u64,
        seconds: u64,
    },
    Get {
        key: u64,
    },
    Remove {
        key: u64,
    },
    InvalidateAll,
    /// Time passes.
    Wait {
        seconds: u64,
    },
    /// The clock is set, by less than what versions allow for.
    Slew {
        millis: i64,
    },
    /// The clock is set by days, once: it does not come near the time that it had before.
    Set {
        days: i64,
    },
}

impl Step {
    fn random(rng: &mut Rng) -> Self {
        let key = rng.below(KEYS);
        match rng.below(20) {
            0..=5 => Self::Put { key, seconds: 1 + rng.below(7200) },
            6..=11 => Self::Get { key },
            12 | 13 => Self::Remove { key },
            14 | 15 => Self::InvalidateAll,
            16 | 17 => Self::Wait { seconds: rng.below(600) },
            18 => Self::Slew { millis: rng.below(2 * MOST_SLEWED).cast_signed() - MOST_SLEWED.cast_signed() },
            _ => Self::Set { days: [-30, -2, 2, 30][rng.below(4) as usize] },
        }
    }
}

/// What is known of a key.
#[derive(Clone, Debug, Default)]
struct Known {
    latest: Option<Bytes>,
    /// Until when it must be found, by the clock that nobody set since.
    certain_for: Option<Duration>,
}

async fn run(seed: u64) -> Result<(u64, u64), String> {
    let mut rng = Rng(seed);
    let steps: Vec<_> = (0..STEPS).map(|_| Step::random(&mut rng)).collect();
    let world = World::default();
    let cache: Cache = world.builder().tier(world.memory()).tier(world.memory()).build().unwrap();
    let mut known = BTreeMap::<u64, Known>::new();
    let (mut number, mut hits, mut after_all) = (0_u64, 0, 0);
    let (mut invalidated, mut is_set, mut slewed) = (false, false, 0);
    for (at, step) in steps.iter().enumerate() {
        let wrong = |what: String| Err(format!("seed {seed}, step {at}, {step:?}: {what}; {steps:?}"));
        match *step {
            Step::Put { key: name, seconds } => {
                number += 1;
                let value = Bytes::from(format!("value {number}"));
                let policy = Policy::fresh(Duration::from_secs(seconds));
                cache.put_bytes(key(&name.to_string()), value.clone(), policy).await.unwrap();
                // At once, whatever was set or invalidated before.
                if cache.get_bytes(key(&name.to_string())).await.as_ref() != Some(&value) {
                    return wrong("what was just stored is not found".to_owned());
                }
                (hits, after_all) = (hits + 1, after_all + u64::from(invalidated));
                let certain_for = Some(Duration::from_secs(seconds));
                known.insert(name, Known { latest: Some(value), certain_for });
            }
            Step::Get { key: name } => {
                let found = cache.get_bytes(key(&name.to_string())).await;
                let of = known.entry(name).or_default();
                let is_certain = of.certain_for.is_some_and(|left| !left.is_zero());
                if found.is_none() && !is_certain || found.is_some() && found == of.latest {
                    hits += u64::from(found.is_some());
                } else {
                    return wrong(format!("{found:?} was found, and {of:?} is right"));
                }
            }
            Step::Remove { key: name } => {
                cache.remove(key(&name.to_string())).await;
                known.insert(name, Known::default());
            }
            Step::InvalidateAll => {
                cache.invalidate(By::All).await.unwrap();
                known.clear();
                invalidated = true;
            }
            Step::Wait { seconds } => {
                world.clock.advance(Duration::from_secs(seconds));
                for of in known.values_mut() {
                    of.certain_for =
                        of.certain_for.map(|left| left.saturating_sub(Duration::from_secs(seconds)));
                }
            }
            Step::Slew { millis } => {
                // From the same place, so that small steps do not add up to a large one.
                world.clock.set_wall(world.clock.now().shifted(millis - slewed));
                slewed = millis;
                known.values_mut().for_each(|of| of.certain_for = None);
            }
            Step::Set { days } => {
                if !std::mem::replace(&mut is_set, true) {
                    world.clock.set_wall(world.clock.now().shifted(days * DAY_MILLIS));
                    known.values_mut().for_each(|of| of.certain_for = None);
                }
            }
        }
    }
    Ok((hits, after_all))
}

#[tokio::test]
async fn whatever_clocks_do_and_whoever_invalidates_what_is_stored_next_is_an_answer() {
    let seeds = std::env::var("PEERCACHE_CLOCK_SEEDS").ok().map_or(SEEDS, |text| text.parse().unwrap());
    let (mut hits, mut after_all) = (0, 0);
    for seed in 0..seeds {
        let (found, after) = run(seed).await.unwrap_or_else(|wrong| panic!("{wrong}"));
        (hits, after_all) = (hits + found, after_all + after);
    }
    assert!(hits > seeds && after_all > seeds, "{hits} hits, {after_all} after everything was invalidated");
}
