//! The tiers of a scenario, built: maps, memories and chains, each inside a chaos backend.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Freshness, Key, Operation,
};
use peercache_chain::{Chain, Mode as TierMode, Report, TierOptions};
use peercache_testkit::ManualClock;
use peercache_testkit::chaos::{Chaos, Plan, Trace};

use crate::scenario::{ChainPlan, Kind, Mode, TierPlan};

/// The names of the tiers: a chain's own name is static.
const NAMES: [&str; 4] = ["t0", "t1", "t2", "t3"];

/// The tier of this name.
pub(crate) fn index_of(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).expect("tiers are named by us")
}

/// A correct backend that can do no more than its capabilities say.
#[derive(Debug)]
struct Map {
    info: BackendInfo,
    waits: bool,
    clock: Arc<ManualClock>,
    held: Mutex<HashMap<Key, Entry>>,
}

#[async_trait]
impl CacheBackend for Map {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        if self.waits {
            tokio::task::yield_now().await;
        }
        let held = self.held.lock().unwrap().get(key).cloned();
        let now = self.clock.now();
        let expires = self.info.capabilities.native_expiry;
        Ok(held.filter(|entry| !expires || entry.freshness(now) != Freshness::Expired))
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        if self.waits {
            tokio::task::yield_now().await;
        }
        let Capabilities { writable, max_value_bytes, ordered_writes, .. } = self.info.capabilities;
        if !writable {
            return Err(Error::new(ErrorKind::Denied, Operation::Put, "read-only"));
        }
        if entry.value().len() > max_value_bytes {
            return Err(Error::new(ErrorKind::TooLarge, Operation::Put, "too large"));
        }
        let mut held = self.held.lock().unwrap();
        let stored = held.get(key).filter(|_| ordered_writes);
        if stored.is_none_or(|stored| entry.supersedes(stored, self.clock.now())) {
            held.insert(key.clone(), entry);
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache::backend::Fleet> {
        None
    }
}

/// A tier: whatever it is, with chaos around it.
pub(crate) type Store = Arc<Chaos<Arc<dyn CacheBackend>>>;

/// A chain and the tiers that it was built from.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) chain: Arc<Chain>,
    pub(crate) stores: Vec<Store>,
    /// The tiers as another process has them: without chaos.
    pub(crate) doors: Vec<Arc<dyn CacheBackend>>,
    weather: Vec<Plan>,
    nested: Vec<World>,
}

impl World {
    pub(crate) fn build(
        name: &'static str,
        how: &ChainPlan,
        plans: &[TierPlan],
        clock: &Arc<ManualClock>,
    ) -> Self {
        let (mut stores, mut doors, mut nested) = (Vec::new(), Vec::new(), Vec::new());
        let weather: Vec<_> = plans.iter().map(|plan| plan.weather.plan(plan.is_sealed())).collect();
        // What the chain leaves to chance is repeatable too.
        let mut chain = Chain::builder()
            .name(name)
            .seed(7)
            .clock(Arc::clone(clock) as Arc<dyn Clock>)
            .write_policy(how.policy)
            .racing(how.racing)
            .write_behind(how.write_behind());
        for ((plan, name), weather) in plans.iter().zip(NAMES).zip(&weather) {
            let (backend, door) = backend(plan, name, clock, &mut nested);
            let store = Arc::new(Chaos::new(Arc::clone(&backend), plan.seed, weather.clone()));
            let tier = sealed(plan, name, clock, Arc::clone(&store) as Arc<dyn CacheBackend>);
            doors.push(sealed(plan, name, clock, door));
            let mode = match plan.mode {
                Mode::ReadWrite => TierMode::ReadWrite,
                Mode::ReadOnly => TierMode::ReadOnly,
                Mode::WriteOnly => TierMode::WriteOnly,
            };
            let options = TierOptions { mode, ..TierOptions::default() };
            chain = chain.tier_with(tier, options);
            stores.push(store);
        }
        Self { chain: Arc::new(chain.build()), stores, doors, weather, nested }
    }

    /// Makes a tier unreachable, or as it was planned to be.
    pub(crate) fn switch(&self, tier: usize, up: bool) {
        let plan = if up { self.weather[tier].clone() } else { Plan::outage(0..u64::MAX) };
        self.stores[tier].replace_plan(plan);
    }

    /// Waits for what runs in the background, at every depth.
    pub(crate) async fn settle(&self) {
        for world in self.all() {
            world.chain.settle().await;
        }
    }

    /// Everything that was decided and counted, at every depth.
    pub(crate) fn record(&self) -> (Vec<Report>, Vec<Trace>) {
        let worlds = self.all();
        let traces = worlds.iter().flat_map(|world| world.stores.iter().map(|store| store.trace()));
        (worlds.iter().map(|world| world.chain.report()).collect(), traces.collect())
    }

    /// This one and those within, from the outside in.
    pub(crate) fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        all.extend(self.nested.iter().flat_map(Self::all));
        all
    }
}

/// A tier, and the same one as another process has it.
fn backend(
    plan: &TierPlan,
    name: &'static str,
    clock: &Arc<ManualClock>,
    nested: &mut Vec<World>,
) -> (Arc<dyn CacheBackend>, Arc<dyn CacheBackend>) {
    let backend: Arc<dyn CacheBackend> = match &plan.kind {
        Kind::Nested(plans) => {
            let world = World::build(name, &ChainPlan::USUAL, plans, clock);
            let chain = Arc::clone(&world.chain);
            nested.push(world);
            chain
        }
        #[cfg(feature = "memory")]
        Kind::Memory => Arc::new(Named {
            info: BackendInfo::new(name, scope(plan).with_ordered_writes().with_native_expiry()),
            inner: peercache::Memory::builder()
                .capacity(1 << 24)
                .clock(Arc::clone(clock) as Arc<dyn Clock>)
                .build(),
        }),
        #[cfg(not(feature = "memory"))]
        Kind::Memory => map(plan, name, clock, true, true, false, true),
        #[cfg(any(feature = "ipfs", feature = "redis", feature = "s3"))]
        Kind::Server { server, .. } => {
            let [ours, theirs] = crate::real_server::Store::get(*server).pair(name, clock);
            return (ours, theirs);
        }
        #[cfg(feature = "storacha")]
        Kind::Space { .. } => {
            let [ours, theirs] = crate::space::Service::get().pair(name, clock);
            return (ours, theirs);
        }
        // Room for the seal.
        Kind::Sealed => {
            map(&TierPlan { most: 1 << 16, ..plan.clone() }, name, clock, true, true, false, true)
        }
        Kind::Map { ordered, expires, waits, writable } => {
            map(plan, name, clock, *ordered, *expires, *waits && *ordered, *writable)
        }
    };
    (Arc::clone(&backend), backend)
}

fn map(
    plan: &TierPlan,
    name: &'static str,
    clock: &Arc<ManualClock>,
    ordered: bool,
    expires: bool,
    waits: bool,
    writable: bool,
) -> Arc<dyn CacheBackend> {
    let mut capabilities = scope(plan).with_max_value_bytes(plan.most);
    capabilities.ordered_writes = ordered;
    capabilities.native_expiry = expires;
    capabilities.durable = plan.durable;
    capabilities.writable = writable;
    let info = BackendInfo::new(name, capabilities);
    Arc::new(Map { info, waits, clock: Arc::clone(clock), held: Mutex::default() })
}

fn scope(plan: &TierPlan) -> Capabilities {
    if plan.shared { Capabilities::shared() } else { Capabilities::local() }
}

/// `store` with a seal around it, where the plan asks for one.
#[cfg(feature = "seal")]
fn sealed(
    plan: &TierPlan,
    name: &'static str,
    clock: &Arc<ManualClock>,
    store: Arc<dyn CacheBackend>,
) -> Arc<dyn CacheBackend> {
    use peercache::seal::{Sealed, Secret};
    // Always the same, since what chaos does follows from the keys, which are blinded with it.
    static SECRET: std::sync::LazyLock<Secret> =
        std::sync::LazyLock::new(|| Secret::parse("a passphrase that only chaos knows").unwrap());

    if !plan.is_sealed() {
        return store;
    }
    let inner = Sealed::builder(SECRET.clone(), store).clock(Arc::clone(clock) as Arc<dyn Clock>).build();
    let info = BackendInfo::new(name, inner.info().capabilities);
    Arc::new(Named { info, inner })
}

#[cfg(not(feature = "seal"))]
fn sealed(
    _: &TierPlan,
    _: &'static str,
    _: &Arc<ManualClock>,
    store: Arc<dyn CacheBackend>,
) -> Arc<dyn CacheBackend> {
    store
}

/// A backend under another name, so that answers say which tier they come from.
#[cfg(any(feature = "memory", feature = "seal"))]
#[derive(Debug)]
struct Named<B> {
    info: BackendInfo,
    inner: B,
}

#[cfg(any(feature = "memory", feature = "seal"))]
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for Named<B> {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.inner.put(key, entry).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.inner.probe().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }

    fn fleet(&self) -> Option<&dyn peercache::backend::Fleet> {
        self.inner.fleet()
    }
}
