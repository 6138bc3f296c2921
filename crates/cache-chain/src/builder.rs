//! Building a chain from its tiers.

use std::any::Any;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, MAX_VALUE_BYTES, RemovalWatcher, SystemClock,
};

use crate::chain::Chain;
use crate::invalidation::Invalidation;
use crate::lease::Leases;
use crate::read::{DEFAULT_BUDGET, Reader};
use crate::tier::{Tier, TierOptions};
use crate::write::journal::Journal;
use crate::write::queue::{WriteBehind, WriteQueue, replay};
use crate::write::slot::{Slot, queues};
use crate::write::{WritePolicy, Writer};

/// Builds a [`Chain`] from the fastest tier to the slowest.
#[derive(Debug)]
#[must_use = "a chain is made by `build`"]
pub struct ChainBuilder {
    name: &'static str,
    tiers: Vec<(Arc<dyn CacheBackend>, TierOptions)>,
    clock: Option<Arc<dyn Clock>>,
    read_budget: Option<Duration>,
    racing: bool,
    seed: Option<u64>,
    policy: WritePolicy,
    write_behind: WriteBehind,
    journal: Option<Journal>,
    read_only: bool,
    namespace: String,
    watch_namespace: bool,
}

impl ChainBuilder {
    /// Adds a tier below the ones before it.
    pub fn tier(self, backend: impl CacheBackend + 'static) -> Self {
        self.tier_with(backend, TierOptions::default())
    }

    /// Adds a tier below the ones before it, with its own deadlines and mode. An `Arc` of a backend
    /// is a backend as well, so a tier may be shared with other code.
    pub fn tier_with(mut self, backend: impl CacheBackend + 'static, options: TierOptions) -> Self {
        // Not an `Arc` around an `Arc`: that would cost each call another box.
        let backend = match (&backend as &dyn Any).downcast_ref::<Arc<dyn CacheBackend>>() {
            Some(backend) => Arc::clone(backend),
            None => Arc::new(backend),
        };
        self.tiers.push((backend, options));
        self
    }

    /// Takes the time from `clock` instead of the machine.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Names the chain, for reports of a chain that it is part of. Default: `chain`.
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// The longest that a read waits for all tiers together. Default: 1 s if any tier is shared,
    /// else no limit but the tiers' own deadlines. [`Duration::MAX`] is no limit.
    pub fn read_budget(mut self, budget: Duration) -> Self {
        self.read_budget = Some(budget);
        self
    }

    /// Whether a shared tier that takes longer than its recent 95th percentile is raced by the
    /// shared tier next below it. Default: yes. Without, a read asks one tier after the other.
    pub fn racing(mut self, racing: bool) -> Self {
        self.racing = racing;
        self
    }

    /// Makes what the chain leaves to chance, the jitter of its breakers' probes, repeatable.
    /// Default: another seed in every process, so that a fleet does not act as one.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How many shared tiers must have acknowledged a write before it returns. Default:
    /// [`WritePolicy::Local`].
    pub fn write_policy(mut self, policy: WritePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The bounds of the queues in which writes to shared tiers wait.
    pub fn write_behind(mut self, limits: WriteBehind) -> Self {
        self.write_behind = limits;
        self
    }

    /// Keeps what waits to be written to shared tiers in `journal` as well, so that it outlives
    /// this process, and takes over what processes that have ended left there.
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Never writes to shared tiers, whatever their modes; local ones as usual. Default: no.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Keeps the tags of this chain, and its [`Chain::invalidate_all`], apart from those of other
    /// namespaces in the same stores. Default: none.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Whether this chain looks for invalidations of its whole namespace
    /// ([`Chain::invalidate_all`]) that were not announced to it: with the first hit in a durable
    /// local tier and the first one in a shared tier, each of which waits for that for 250 ms at
    /// most; and from then on, while it is used, every second in the durable local tiers and every
    /// 30 s, in the background, in the shared ones. Default: no.
    pub fn watch_namespace(mut self, watch: bool) -> Self {
        self.watch_namespace = watch;
        self
    }

    /// The chain. Without any tier every read is a miss and nothing is stored.
    ///
    /// With a journal this blocks for as long as it takes to read what is left there.
    #[must_use]
    pub fn build(self) -> Chain {
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        // Which tiers are local is known once they were asked, and the default budget then.
        let budget = self.read_budget.unwrap_or_else(|| {
            let shared = |(backend, _): &(Arc<dyn CacheBackend>, _)| is_shared(backend);
            if self.tiers.iter().any(shared) { DEFAULT_BUDGET } else { Duration::MAX }
        });
        let tiers: Vec<_> = (0_u64..)
            .zip(self.tiers)
            .map(|(index, (backend, options))| {
                let seed = seed.wrapping_add(index);
                Arc::new(Tier::new(backend, &options, budget, seed, self.read_only, &clock))
            })
            .collect();
        let journal = self.journal.map(Arc::new);
        let names = journal_names(&tiers);
        let slots: Arc<[Slot]> = tiers
            .into_iter()
            .zip(names)
            .zip(1_u64..)
            .map(|((tier, name), index)| {
                let queue = (!tier.is_local() && tier.writes()).then(|| {
                    let (limits, clock, journal) =
                        (self.write_behind.clone(), Arc::clone(&clock), journal.clone());
                    let seed = seed.wrapping_sub(index);
                    Arc::new(WriteQueue::new(Arc::clone(&tier), name, limits, clock, journal, seed))
                });
                Slot { tier, queue }
            })
            .collect();
        if let Some(journal) = &journal {
            replay::replay(journal, queues(&slots));
        }
        let invalidation = Invalidation::new(self.namespace, self.watch_namespace, &slots, &clock);
        let watcher: Arc<dyn RemovalWatcher> = Arc::clone(&invalidation) as _;
        for slot in slots.iter() {
            let watcher: Weak<dyn RemovalWatcher> = Arc::downgrade(&watcher);
            slot.tier.notify_fleet(|fleet| fleet.watch(watcher));
        }
        let reader = Arc::new(Reader::new(&slots, &invalidation, &clock, budget, self.racing));
        Chain {
            info: BackendInfo::new(self.name, combined(&slots)),
            leases: Leases::new(&reader, &clock, fleet_tier(&slots)),
            writer: Writer::new(&slots, &clock, self.policy),
            reader,
            invalidation,
            slots,
            clock,
            journal,
        }
    }
}

fn is_shared(backend: &Arc<dyn CacheBackend>) -> bool {
    let scope = std::panic::AssertUnwindSafe(|| backend.info().capabilities.scope);
    // One that cannot say what it is becomes a local tier; see `Tier::new`.
    std::panic::catch_unwind(scope).is_ok_and(|scope| scope == peercache_api::Scope::Shared)
}

/// What the tiers are called in a journal: their names, numbered where one occurs again.
fn journal_names(tiers: &[Arc<Tier>]) -> Vec<String> {
    let name = |(index, tier): (usize, &Arc<Tier>)| {
        let before = tiers[..index].iter().filter(|other| other.name() == tier.name()).count();
        if before == 0 { tier.name().to_owned() } else { format!("{}#{}", tier.name(), before + 1) }
    };
    tiers.iter().enumerate().map(name).collect()
}

/// The place of the tier that coordinates a fleet: the first shared one that does, and rather one
/// that may be written.
fn fleet_tier(slots: &[Slot]) -> Option<usize> {
    let shared = |slot: &Slot| !slot.tier.is_local() && slot.tier.fleet().is_some();
    let index = slots.iter().position(|slot| shared(slot) && slot.tier.writes() && slot.tier.reads());
    index.or_else(|| slots.iter().position(shared))
}

/// What a chain of these tiers can promise to a chain that it is part of.
fn combined(slots: &[Slot]) -> Capabilities {
    let tiers = || slots.iter().map(|slot| &slot.tier);
    let mut writers = tiers().filter(|tier| tier.writes()).map(|tier| tier.info().capabilities);
    let base = match tiers().all(|tier| tier.is_local()) {
        true => Capabilities::local(),
        false => Capabilities::shared(),
    };
    let mut all = base.with_native_expiry();
    let writable = tiers().any(|tier| tier.writes());
    if writable && writers.clone().all(|capabilities| capabilities.ordered_writes) {
        all = all.with_ordered_writes();
    }
    if writers.clone().any(|capabilities| capabilities.durable) {
        all = all.with_durable();
    }
    if !writable {
        all = all.with_read_only();
    }
    let largest = writers.by_ref().map(|capabilities| capabilities.max_value_bytes).max();
    let largest = largest.unwrap_or(MAX_VALUE_BYTES);
    let capacities = tiers().filter(|tier| tier.writes()).map(|tier| tier.info().capabilities.capacity_bytes);
    match capacities.collect::<Option<Vec<_>>>().and_then(|known| known.into_iter().max()) {
        Some(most) => all.with_max_value_bytes(largest).with_capacity_bytes(most),
        None => all.with_max_value_bytes(largest),
    }
}

impl Chain {
    /// Starts a chain without tiers.
    pub fn builder() -> ChainBuilder {
        ChainBuilder {
            name: "chain",
            tiers: Vec::new(),
            clock: None,
            read_budget: None,
            racing: true,
            seed: None,
            policy: WritePolicy::Local,
            write_behind: WriteBehind::default(),
            journal: None,
            read_only: false,
            namespace: String::new(),
            watch_namespace: false,
        }
    }
}
