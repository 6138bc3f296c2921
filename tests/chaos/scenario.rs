//! Random chains and histories, as data that can be printed and cut down.

use peercache_testkit::chaos::Plan;

/// The most keys of a history: few, so that they meet.
pub(crate) const KEYS: usize = 3;

/// Repeatable chance. SplitMix64, as in the chaos backend, but with seeds of its own.
#[derive(Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// What a tier is made of.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A map; `waits` lets other tasks run before each call.
    Map {
        ordered: bool,
        expires: bool,
        waits: bool,
        writable: bool,
    },
    /// The memory tier of the product.
    Memory,
    Nested(Vec<TierPlan>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    ReadWrite,
    ReadOnly,
    WriteOnly,
}

/// What goes wrong with a tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weather {
    Fair,
    Flaky,
    Hostile,
    Tarpit,
    Outage { from: u64, calls: u64 },
}

impl Weather {
    pub(crate) fn plan(self) -> Plan {
        match self {
            Self::Fair => Plan::none(),
            Self::Flaky => Plan::flaky(),
            Self::Hostile => Plan::hostile(),
            Self::Tarpit => Plan::tarpit(),
            Self::Outage { from, calls } => Plan::outage(from..from + calls),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct TierPlan {
    pub(crate) kind: Kind,
    pub(crate) shared: bool,
    pub(crate) durable: bool,
    pub(crate) most: usize,
    pub(crate) mode: Mode,
    pub(crate) weather: Weather,
    pub(crate) seed: u64,
}

impl TierPlan {
    fn random(rng: &mut Rng, depth: usize) -> Self {
        let kind = match rng.below(10) {
            0 | 1 if depth == 0 => {
                let tiers = 1 + rng.below(3);
                Kind::Nested((0..tiers).map(|_| Self::random(rng, 1)).collect())
            }
            2 => Kind::Memory,
            _ => Kind::Map {
                ordered: rng.percent(80),
                expires: rng.percent(70),
                waits: rng.percent(30),
                writable: rng.percent(93),
            },
        };
        let outage = Weather::Outage { from: rng.roll() % 30, calls: 1 + rng.roll() % 20 };
        Self {
            kind,
            // Open: shared tiers are written behind, and a write that waits is served before it is
            // delivered, which the model does not know yet.
            shared: false,
            durable: rng.percent(50),
            most: rng.pick(&[40, 400, 4000, 4000]),
            mode: rng.pick(&[
                Mode::ReadWrite,
                Mode::ReadWrite,
                Mode::ReadWrite,
                Mode::ReadWrite,
                Mode::ReadWrite,
                Mode::ReadWrite,
                Mode::ReadOnly,
                Mode::WriteOnly,
            ]),
            weather: rng.pick(&[
                Weather::Fair,
                Weather::Fair,
                Weather::Fair,
                Weather::Flaky,
                Weather::Hostile,
                Weather::Hostile,
                Weather::Tarpit,
                outage,
            ]),
            seed: rng.roll(),
        }
    }

    /// Whether the model may rely on it: it shows what it said that it holds.
    pub(crate) fn keeps(&self) -> bool {
        let within = match &self.kind {
            Kind::Nested(tiers) => tiers.iter().all(|tier| tier.keeps() && tier.mode == Mode::ReadWrite),
            Kind::Map { writable, .. } => *writable,
            Kind::Memory => true,
        };
        within && self.weather == Weather::Fair
    }

    /// Whether another process may write straight to it without undoing what is newer.
    pub(crate) fn orders(&self) -> bool {
        match &self.kind {
            Kind::Nested(tiers) => tiers.iter().all(Self::orders),
            Kind::Map { ordered, .. } => *ordered,
            Kind::Memory => true,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Put {
        key: usize,
        size: usize,
        fresh: u64,
        stale: u64,
    },
    Remove {
        key: usize,
    },
    Lookup {
        key: usize,
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
    fn random(rng: &mut Rng, tiers: usize) -> Self {
        let (key, tier, after) = (rng.below(KEYS), rng.below(tiers), rng.roll() % 60);
        let remove = rng.percent(40);
        match rng.below(40) {
            0..=7 => Self::Put {
                key,
                size: rng.pick(&[24, 24, 200, 2000]),
                fresh: rng.roll() % 60,
                stale: rng.pick(&[0, 0, 30]),
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
            _ => Self::Settle,
        }
    }
}

/// A chain and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) tiers: Vec<TierPlan>,
    pub(crate) steps: Vec<Step>,
}

impl Scenario {
    /// The scenario of a seed: 1 to 4 tiers, 20 to 60 steps.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let tiers = 1 + rng.below(4);
        let tiers: Vec<_> = (0..tiers).map(|_| TierPlan::random(&mut rng, 0)).collect();
        let steps = 20 + rng.below(41);
        let steps = (0..steps).map(|_| Step::random(&mut rng, tiers.len())).collect();
        Self { tiers, steps }
    }

    /// The same failure with as few steps and as little weather as can be found by leaving out one thing
    /// at a time. `fails` runs a scenario.
    pub(crate) fn cut_down(mut self, fails: impl Fn(&Self) -> bool) -> Self {
        let mut at = self.steps.len();
        while at > 0 {
            at -= 1;
            let mut shorter = self.clone();
            shorter.steps.remove(at);
            if fails(&shorter) {
                self = shorter;
                at = at.min(self.steps.len());
            }
        }
        for tier in 0..self.tiers.len() {
            let mut fairer = self.clone();
            fairer.tiers[tier].weather = Weather::Fair;
            if fails(&fairer) {
                self = fairer;
            }
        }
        self
    }
}
