//! Random chains and histories, as data that can be printed and cut down.

use std::time::Duration;

use peercache_api::Operation;
use peercache_chain::{WriteBehind, WritePolicy};
use peercache_testkit::chaos::Plan;

#[cfg(any(feature = "ipfs", feature = "redis", feature = "s3"))]
use crate::real_server::Server;
use crate::rng::Rng;
use crate::step::Step;

/// The most keys of a history: few, so that they meet.
pub(crate) const KEYS: usize = 3;
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
    /// A map that sees only sealed entries, and lies about them undetected.
    Sealed,
    /// A tier of the product over a real server.
    #[cfg(any(feature = "ipfs", feature = "redis", feature = "s3"))]
    Server {
        server: Server,
        sealed: bool,
    },
    /// The Storacha tier of the product, over the real upload service.
    #[cfg(feature = "storacha")]
    Space {
        sealed: bool,
    },
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
    Outage {
        from: u64,
        calls: u64,
    },
    /// Right, and now and then much slower than usual: what makes tiers race.
    Uneven,
}

impl Weather {
    /// `undetected`: nothing below the seal notices the lies.
    pub(crate) fn plan(self, undetected: bool) -> Plan {
        let plan = match self {
            Self::Fair => Plan::none(),
            Self::Flaky => Plan::flaky(),
            Self::Hostile => Plan::hostile(),
            Self::Tarpit => Plan::tarpit(),
            Self::Outage { from, calls } => Plan::outage(from..from + calls),
            Self::Uneven => {
                let slow = Duration::from_millis(5)..=Duration::from_millis(300);
                Plan::none().latency(Operation::Get, 0.1, slow)
            }
        };
        if undetected { plan.undetected() } else { plan }
    }
}

/// What tiers a chain is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum World {
    /// Only such as are written before a put returns.
    Local,
    /// Also such as are written behind, raced and sealed.
    Shared,
    /// As the above, and some of them are on a real server.
    #[cfg(any(feature = "ipfs", feature = "redis", feature = "s3"))]
    Server(Server),
    /// As the above, with spaces of the real upload service.
    #[cfg(feature = "storacha")]
    Space,
}

/// The bounds of what waits for the shared tiers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Room {
    /// The default ones: only what has expired is given up.
    Enough,
    Scarce {
        entries: usize,
        bytes: usize,
        seconds: u64,
    },
}

/// How a chain is built over its tiers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ChainPlan {
    pub(crate) policy: WritePolicy,
    pub(crate) racing: bool,
    pub(crate) room: Room,
}

impl ChainPlan {
    pub(crate) const USUAL: Self = Self { policy: WritePolicy::Local, racing: true, room: Room::Enough };

    fn random(rng: &mut Rng) -> Self {
        let scarce = Room::Scarce {
            entries: rng.pick(&[1, 2, 1000]),
            bytes: rng.pick(&[900, 3000, 1 << 20]),
            seconds: rng.pick(&[5, 30, 600]),
        };
        let policies = [WritePolicy::Local, WritePolicy::Quorum(1), WritePolicy::All];
        Self {
            policy: if rng.percent(60) { WritePolicy::Local } else { rng.pick(&policies) },
            racing: rng.percent(80),
            room: if rng.percent(65) { Room::Enough } else { scarce },
        }
    }

    pub(crate) fn write_behind(&self) -> WriteBehind {
        match self.room {
            Room::Enough => WriteBehind::default(),
            Room::Scarce { entries, bytes, seconds } => WriteBehind {
                max_entries: entries,
                max_bytes: bytes,
                max_age: Duration::from_secs(seconds),
                max_removal_age: Duration::from_secs(4 * seconds),
                ..WriteBehind::default()
            },
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
    fn random(rng: &mut Rng, depth: usize, world: World) -> Self {
        let shared = world == World::Shared;
        let kind = match rng.below(if shared { 11 } else { 10 }) {
            0 | 1 if depth == 0 => {
                let tiers = 1 + rng.below(3);
                Kind::Nested((0..tiers).map(|_| Self::random(rng, 1, world)).collect())
            }
            2 => Kind::Memory,
            10 => Kind::Sealed,
            _ => Kind::Map {
                ordered: rng.percent(80),
                expires: rng.percent(70),
                waits: rng.percent(30),
                writable: rng.percent(93),
            },
        };
        let weathers = [
            Weather::Fair,
            Weather::Fair,
            Weather::Fair,
            Weather::Flaky,
            Weather::Hostile,
            Weather::Hostile,
            Weather::Tarpit,
            Weather::Outage { from: rng.roll() % 30, calls: 1 + rng.roll() % 20 },
        ];
        Self {
            kind,
            shared: shared && rng.percent(60),
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
            weather: if shared && rng.percent(25) { Weather::Uneven } else { rng.pick(&weathers) },
            seed: rng.roll(),
        }
    }

    /// Whether the model may rely on it: it shows what it said that it holds.
    pub(crate) fn keeps(&self) -> bool {
        let within = match &self.kind {
            Kind::Nested(tiers) => tiers.iter().all(|tier| tier.keeps() && tier.mode == Mode::ReadWrite),
            Kind::Map { writable, .. } => *writable,
            Kind::Memory | Kind::Sealed => true,
            #[cfg(any(feature = "ipfs", feature = "redis", feature = "s3"))]
            Kind::Server { .. } => true,
            #[cfg(feature = "storacha")]
            Kind::Space { .. } => true,
        };
        within && self.weather == Weather::Fair
    }

    /// Whether another process may write straight to it without undoing what is newer.
    pub(crate) fn orders(&self) -> bool {
        match &self.kind {
            Kind::Nested(tiers) => tiers.iter().all(Self::orders),
            Kind::Map { ordered, .. } => *ordered,
            Kind::Memory | Kind::Sealed => true,
            #[cfg(any(feature = "ipfs", feature = "redis", feature = "s3"))]
            Kind::Server { .. } => true,
            #[cfg(feature = "storacha")]
            Kind::Space { .. } => true,
        }
    }

    /// Whether it is written behind.
    pub(crate) fn is_shared(&self) -> bool {
        match &self.kind {
            Kind::Nested(tiers) => tiers.iter().any(Self::is_shared),
            _ => self.shared,
        }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        #[cfg(any(feature = "ipfs", feature = "redis", feature = "s3"))]
        if let Kind::Server { sealed, .. } = self.kind {
            return sealed;
        }
        #[cfg(feature = "storacha")]
        if let Kind::Space { sealed } = self.kind {
            return sealed;
        }
        matches!(self.kind, Kind::Sealed)
    }
}

/// A chain and what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) chain: ChainPlan,
    pub(crate) tiers: Vec<TierPlan>,
    pub(crate) steps: Vec<Step>,
}

impl Scenario {
    /// The scenario of a seed: 1 to 4 tiers, 20 to 60 steps.
    pub(crate) fn of(seed: u64, world: World) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        #[cfg(any(feature = "ipfs", feature = "redis", feature = "s3"))]
        if let World::Server(server) = world {
            return Self::of(seed, World::Shared)
                .on_server(&mut rng, |sealed| Kind::Server { server, sealed });
        }
        #[cfg(feature = "storacha")]
        if world == World::Space {
            return Self::of(seed, World::Shared).on_server(&mut rng, |sealed| Kind::Space { sealed });
        }
        let chain = if world == World::Shared { ChainPlan::random(&mut rng) } else { ChainPlan::USUAL };
        let tiers = 1 + rng.below(4);
        let tiers: Vec<_> = (0..tiers).map(|_| TierPlan::random(&mut rng, 0, world)).collect();
        let steps = 20 + rng.below(41);
        let steps = (0..steps).map(|_| Step::random(&mut rng, tiers.len(), world)).collect();
        let scenario = Self { chain, tiers, steps };
        if world == World::Shared && rng.percent(20) { scenario.racing(&mut rng) } else { scenario }
    }

    /// The same, but with tiers that race each other, and enough lookups to know what is usual.
    fn racing(mut self, rng: &mut Rng) -> Self {
        self.chain.racing = true;
        for tier in &mut self.tiers {
            tier.shared = true;
            if rng.percent(60) {
                tier.weather = Weather::Uneven;
            }
        }
        for step in &mut self.steps {
            if let Step::Lookup { key } = *step {
                *step = Step::Often { key, times: 4 + rng.below(6) };
            }
        }
        self
    }

    /// The same, but one of the tiers is on a real server, and perhaps others are too.
    #[cfg(any(feature = "ipfs", feature = "redis", feature = "s3", feature = "storacha"))]
    fn on_server(mut self, rng: &mut Rng, kind: impl Fn(bool) -> Kind) -> Self {
        let certain = rng.below(self.tiers.len());
        for (index, tier) in self.tiers.iter_mut().enumerate() {
            if index == certain || rng.percent(25) {
                (tier.kind, tier.shared) = (kind(rng.percent(50)), true);
            }
        }
        self
    }

    /// The same failure with as few steps and as little weather as can be found by leaving out one
    /// thing at a time. `fails` runs a scenario.
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
        let plainer = Self { chain: ChainPlan::USUAL, ..self.clone() };
        if fails(&plainer) {
            self = plainer;
        }
        self
    }
}
