//! Leases: who of a fleet loads a key that nobody has.
//!
//! They save loads and decide nothing: whoever gets no answer in time loads.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use peercache_api::{
    CacheBackend, Clock, Entry, Error, ErrorKind, Fleet, Key, LeaseAnswer, LeaseRequest, LeaseToken,
    Operation, RemovalWatcher, Version, async_trait,
};
use serde::Serialize;
use tokio::time::timeout;

use crate::chain::Chain;
use crate::lookup::{Lookup, PutOutcome, Skip, TierPut};
use crate::recent::Recent;
use crate::stats::Count;
use crate::tier::{Call, Tier, timeout_error};

/// After how long a lease ends by itself: what a holder that died costs the others at most.
pub const LEASE_TTL: Duration = Duration::from_secs(10);
/// How long another one's load is waited for while too few were seen to know what is usual.
pub const LEASE_WAIT: Duration = Duration::from_secs(2);
/// The least that is waited for, so that a run of quick loads does not make everyone impatient.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);

/// The leases of a chain so far.
///
/// Those asked for are `granted + found + waited + useless + failed + skipped`, and those whose caller went
/// away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LeaseReport {
    /// Granted: this process was to load.
    pub granted: u64,
    /// Of those, given back without a value: the load failed, or its value is for no other machine.
    pub released: u64,
    /// Values that another one had loaded, given instead of a load.
    pub found: u64,
    /// Waits that ended in a load of our own, because the other one took too long.
    pub waited: u64,
    /// Values given that were of no use here, removed meanwhile for instance.
    pub useless: u64,
    /// Questions that failed or were not answered in time.
    pub failed: u64,
    /// Not asked, because the tier is unwell.
    pub skipped: u64,
}

/// The answer to [`Chain::lease`].
#[derive(Debug)]
#[must_use]
pub enum Leased {
    /// Nobody coordinates the load: the caller loads at once.
    Alone,
    /// The caller is to load, and others wait for the value.
    Granted(Lease),
    /// Another one has loaded it. The local tiers have it now.
    Found(Entry),
}

/// The right, and the duty, to load a key for a fleet. Dropping it gives it back, so that the next one
/// loads.
#[must_use = "a lease that is dropped is given back"]
pub struct Lease {
    backend: Arc<dyn CacheBackend>,
    /// The place of the tier in the chain.
    tier: usize,
    key: Key,
    token: LeaseToken,
    leases: Arc<Leases>,
    since: Duration,
    held: bool,
}

impl Lease {
    /// The value was written, with this outcome. If the tier that coordinates the fleet takes it, the lease
    /// ends when it has arrived there; otherwise it is given back now.
    pub fn resolve(mut self, outcome: &PutOutcome) {
        let put = outcome.tiers.get(self.tier).map(|tier| &tier.put);
        if matches!(put, Some(TierPut::Stored | TierPut::Queued)) {
            self.held = false;
            let now = self.leases.clock.monotonic();
            self.leases.loads.record(now, now.saturating_sub(self.since));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.held
            && let Some(fleet) = self.backend.fleet()
        {
            self.leases.released.add(1);
            fleet.release(&self.key, self.token);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).field("token", &self.token).finish_non_exhaustive()
    }
}

/// What a chain knows about its leases.
#[derive(Debug)]
pub(crate) struct Leases {
    clock: Arc<dyn Clock>,
    /// How long loads under a lease took.
    loads: Recent,
    granted: Count,
    released: Count,
    found: Count,
    waited: Count,
    useless: Count,
    failed: Count,
    skipped: Count,
}

impl Leases {
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::clone(clock),
            loads: Recent::new(),
            granted: Count::default(),
            released: Count::default(),
            found: Count::default(),
            waited: Count::default(),
            useless: Count::default(),
            failed: Count::default(),
            skipped: Count::default(),
        })
    }

    /// How long to wait for another one's load: about as long as loading would take.
    fn wait(&self) -> Duration {
        match self.loads.usual(self.clock.monotonic()) {
            Some(usual) => (usual.p95 * 2).clamp(SHORTEST_WAIT, LEASE_TTL),
            None => LEASE_WAIT,
        }
    }

    pub(crate) fn report(&self) -> LeaseReport {
        LeaseReport {
            granted: self.granted.get(),
            released: self.released.get(),
            found: self.found.get(),
            waited: self.waited.get(),
            useless: self.useless.get(),
            failed: self.failed.get(),
            skipped: self.skipped.get(),
        }
    }
}

/// The tier that coordinates a fleet: the first shared one that does, and rather one that may be written.
pub(crate) fn fleet_tier(tiers: &[Arc<Tier>]) -> Option<usize> {
    let shared = |tier: &Arc<Tier>| !tier.is_local() && tier.backend.fleet().is_some();
    let index = tiers.iter().position(|tier| shared(tier) && tier.writes() && tier.reads());
    index.or_else(|| tiers.iter().position(shared))
}

impl Chain {
    /// Whether a tier coordinates loads with other machines. Where none does, [`Chain::lease`] answers
    /// [`Leased::Alone`] at once.
    #[must_use]
    pub fn coordinates(&self) -> bool {
        self.fleet.is_some_and(|index| self.tiers[index].writes() && self.tiers[index].reads())
    }

    /// As [`Chain::coordinates`], unless `lookup` found that tier unwell: a caller who has waited for it once
    /// is not to wait again.
    #[must_use]
    pub fn coordinates_after(&self, lookup: &Lookup) -> bool {
        let Some(index) = self.fleet.filter(|_| self.coordinates()) else { return false };
        let name = self.tiers[index].name();
        let unwell =
            |skip: &Skip| matches!(skip, Skip::Failed(_) | Skip::TimedOut(_) | Skip::Open | Skip::TooSlow);
        !lookup.trace.iter().any(|trace| trace.tier == name && unwell(&trace.skip))
    }

    /// Asks the fleet, if there is one, to be the only one that loads `key`, after a lookup that found
    /// nothing; only a value above `newer_than` is of use, which is that lookup's
    /// [`newest`](crate::Lookup::newest).
    ///
    /// Waits for another one's load about as long as loads take ([`LEASE_WAIT`] while that is not known,
    /// [`LEASE_TTL`] at most), and for an answer no longer than the tier's deadline for reads beyond that.
    /// Cannot fail: whatever goes wrong is an answer of [`Leased::Alone`], and counted.
    ///
    /// Cancel-safe; a lease that is granted to a call that was dropped ends with [`LEASE_TTL`].
    pub async fn lease(&self, key: &Key, newer_than: Option<Version>) -> Leased {
        let Some(index) = self.fleet.filter(|_| self.coordinates()) else { return Leased::Alone };
        let (tier, leases) = (&self.tiers[index], &self.leases);
        let Some(fleet) = tier.backend.fleet().filter(|_| tier.breaker.allow()) else {
            leases.skipped.add(1);
            return Leased::Alone;
        };
        let wait = leases.wait();
        let request = LeaseRequest::new(LEASE_TTL, wait).newer_than(newer_than.unwrap_or_default());
        let deadline = wait + tier.read_deadline;
        match timeout(deadline, fleet.lease(key, request)).await {
            Ok(Ok(LeaseAnswer::Granted(token))) => {
                leases.granted.add(1);
                Leased::Granted(Lease {
                    backend: Arc::clone(&tier.backend),
                    tier: index,
                    key: key.clone(),
                    token,
                    leases: Arc::clone(leases),
                    since: self.clock.monotonic(),
                    held: true,
                })
            }
            Ok(Ok(LeaseAnswer::Found(entry))) => self.take_in(index, key, entry, newer_than).await,
            Ok(Err(error)) if error.kind() == ErrorKind::Timeout => {
                leases.waited.add(1);
                Leased::Alone
            }
            Ok(Err(error)) => {
                leases.failed.add(1);
                tracing::debug!(tier = tier.name(), operation = "lease", %error, "tier failed");
                tier.breaker.failure(&error);
                tier.stats.note(&error);
                Leased::Alone
            }
            Err(_) => {
                leases.failed.add(1);
                let error = timeout_error(tier, Operation::Lease, deadline);
                tier.breaker.failure(&error);
                tier.stats.note(&error);
                Leased::Alone
            }
        }
    }

    /// Judges a value that another one loaded like one that was read, and carries it up.
    async fn take_in(&self, index: usize, key: &Key, entry: Entry, newer_than: Option<Version>) -> Leased {
        let mut scan = self.begin(key);
        scan.newest = scan.newest.max(newer_than);
        let held = Call::Done(Some(self.tiers[index].capped(entry)));
        let _skip = self.weigh_with_tags(index, key, held, &mut scan).await;
        let Some((_, entry)) = scan.found.take() else {
            self.leases.useless.add(1);
            return Leased::Alone;
        };
        self.leases.found.add(1);
        self.carry_up(index, key, &entry, &scan).await;
        Leased::Found(entry)
    }
}

/// A chain within a chain passes on what its own tier coordinates.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Fleet for Chain {
    async fn lease(&self, key: &Key, request: LeaseRequest) -> Result<LeaseAnswer, Error> {
        match self.fleet.and_then(|index| self.tiers[index].backend.fleet()) {
            Some(fleet) => fleet.lease(key, request).await,
            None => Err(Error::new(ErrorKind::Unsupported, Operation::Lease, "no tier coordinates a fleet")
                .with_backend(self.info.name.clone())),
        }
    }

    fn release(&self, key: &Key, token: LeaseToken) {
        if let Some(fleet) = self.fleet.and_then(|index| self.tiers[index].backend.fleet()) {
            fleet.release(key, token);
        }
    }

    /// Removals that any tier tells of, once this chain has taken note itself.
    fn watch(&self, watcher: Weak<dyn RemovalWatcher>) {
        self.removals.listen(watcher);
    }
}
