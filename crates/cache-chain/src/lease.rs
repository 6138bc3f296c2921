//! Leases: who of a fleet loads a key that nobody has.
//!
//! They save loads and decide nothing: whoever gets no answer in time loads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use peercache_api::util::Count;
use peercache_api::{
    Clock, Entry, Error, ErrorKind, Key, LeaseAnswer, LeaseRequest, LeaseToken, Operation, Version,
};
use serde::Serialize;

use crate::outcome::{Lookup, PutOutcome, Skip, TierPut};
use crate::read::Reader;
use crate::tier::{Call, Latency, Tier};

/// After how long a lease ends by itself: what a holder that died costs the others at most.
pub const LEASE_TTL: Duration = Duration::from_secs(10);
/// How long another one's load is waited for while too few were seen to know what is usual.
pub const LEASE_WAIT: Duration = Duration::from_secs(2);
/// The least that is waited for, so that a run of quick loads does not make everyone impatient.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);

/// The leases of a chain so far.
///
/// Those asked for are `granted + found + waited + useless + failed + skipped`, and those whose
/// caller went away.
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
    /// Not asked, because the tier is unhealthy.
    pub skipped: u64,
}

/// The answer to [`Chain::lease`](crate::Chain::lease).
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

/// The right, and the duty, to load a key for a fleet. Dropping it gives it back, so that the next
/// one loads.
#[must_use = "a lease that is dropped is given back"]
pub struct Lease {
    tier: Arc<Tier>,
    /// The place of the tier in the chain.
    index: usize,
    key: Key,
    token: LeaseToken,
    stats: Arc<LeaseStats>,
    clock: Arc<dyn Clock>,
    since: Duration,
    held: bool,
}

impl Lease {
    /// The value was written, with this outcome. If the tier that coordinates the fleet takes it,
    /// the lease ends when it has arrived there; otherwise it is given back now.
    pub fn resolve(mut self, outcome: &PutOutcome) {
        let put = outcome.tiers.get(self.index).map(|tier| &tier.put);
        if matches!(put, Some(TierPut::Stored | TierPut::Queued)) {
            self.held = false;
            let now = self.clock.monotonic();
            self.stats.loads.record(now, now.saturating_sub(self.since));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.held && self.tier.notify_fleet(|fleet| fleet.release(&self.key, self.token)) {
            self.stats.released.add(1);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).field("token", &self.token).finish_non_exhaustive()
    }
}

/// What became of the leases of a chain.
#[derive(Debug)]
struct LeaseStats {
    /// How long loads under a lease took.
    loads: Latency,
    granted: Count,
    released: Count,
    found: Count,
    waited: Count,
    useless: Count,
    failed: Count,
    skipped: Count,
}

/// Asks for the leases of a chain.
#[derive(Debug)]
pub(crate) struct Leases {
    reader: Arc<Reader>,
    clock: Arc<dyn Clock>,
    /// The place of the tier that coordinates a fleet.
    fleet: Option<usize>,
    stats: Arc<LeaseStats>,
}

impl Leases {
    pub(crate) fn new(reader: &Arc<Reader>, clock: &Arc<dyn Clock>, fleet: Option<usize>) -> Self {
        let stats = Arc::new(LeaseStats {
            loads: Latency::new(),
            granted: Count::default(),
            released: Count::default(),
            found: Count::default(),
            waited: Count::default(),
            useless: Count::default(),
            failed: Count::default(),
            skipped: Count::default(),
        });
        Self { reader: Arc::clone(reader), clock: Arc::clone(clock), fleet, stats }
    }

    /// The tier that coordinates a fleet.
    pub(crate) fn tier(&self) -> Option<&Arc<Tier>> {
        self.fleet.map(|index| &self.reader.sources.slots[index].tier)
    }

    /// Whether a tier coordinates loads with other machines.
    pub(crate) fn coordinates(&self) -> bool {
        self.tier().is_some_and(|tier| tier.writes() && tier.reads())
    }

    /// As [`Leases::coordinates`], unless `lookup` found that tier unhealthy.
    pub(crate) fn coordinates_after(&self, lookup: &Lookup) -> bool {
        let unhealthy =
            |skip: &Skip| matches!(skip, Skip::Failed(_) | Skip::TimedOut(_) | Skip::Open | Skip::TooSlow);
        self.coordinates()
            && !lookup.trace.iter().any(|trace| Some(trace.index) == self.fleet && unhealthy(&trace.skip))
    }

    /// How long to wait for another one's load: about as long as loading would take.
    fn wait(&self) -> Duration {
        match self.stats.loads.percentiles(self.clock.monotonic()) {
            Some(usual) => (usual.p95 * 2).clamp(SHORTEST_WAIT, LEASE_TTL),
            None => LEASE_WAIT,
        }
    }

    /// Asks the fleet, if there is one, to be the only one that loads `key`.
    pub(crate) async fn lease(&self, key: &Key, newer_than: Option<Version>) -> Leased {
        let Some(index) = self.fleet.filter(|_| self.coordinates()) else { return Leased::Alone };
        let tier = &self.reader.sources.slots[index].tier;
        let Some(fleet) = tier.fleet().filter(|_| tier.breaker.allow()) else {
            self.stats.skipped.add(1);
            return Leased::Alone;
        };
        let wait = self.wait();
        let request = LeaseRequest::new(LEASE_TTL, wait).newer_than(newer_than.unwrap_or_default());
        let deadline = wait + tier.read_deadline;
        let error = match tier.coordinate(deadline, async { fleet.lease(key, request).await }).await {
            Call::Done(LeaseAnswer::Granted(token)) => {
                self.stats.granted.add(1);
                return Leased::Granted(Lease {
                    tier: Arc::clone(tier),
                    index,
                    key: key.clone(),
                    token,
                    stats: Arc::clone(&self.stats),
                    clock: Arc::clone(&self.clock),
                    since: self.clock.monotonic(),
                    held: true,
                });
            }
            Call::Done(LeaseAnswer::Found(entry)) => {
                let loaded = self.reader.take_loaded(index, key, entry, newer_than).await;
                (if loaded.is_some() { &self.stats.found } else { &self.stats.useless }).add(1);
                return loaded.map_or(Leased::Alone, Leased::Found);
            }
            Call::Failed(error) if error.kind() == ErrorKind::Timeout => {
                self.stats.waited.add(1);
                return Leased::Alone;
            }
            Call::Failed(error) => error,
            Call::TimedOut(deadline) => tier.timeout_error(Operation::Lease, deadline),
        };
        self.stats.failed.add(1);
        tracing::debug!(tier = tier.name(), operation = "lease", %error, "tier failed");
        tier.breaker.failure(&error);
        tier.stats.note(&error);
        Leased::Alone
    }

    /// Passes a question of a chain around this one on to the tier that coordinates the fleet.
    pub(crate) async fn forward(
        &self,
        key: &Key,
        request: LeaseRequest,
    ) -> Option<Result<LeaseAnswer, Error>> {
        let tier = self.tier()?;
        let fleet = tier.fleet()?;
        let deadline = LEASE_TTL + tier.read_deadline;
        Some(match tier.coordinate(deadline, async { fleet.lease(key, request).await }).await {
            Call::Done(answer) => Ok(answer),
            Call::Failed(error) => Err(error),
            Call::TimedOut(deadline) => Err(tier.timeout_error(Operation::Lease, deadline)),
        })
    }

    pub(crate) fn report(&self) -> LeaseReport {
        let stats = &self.stats;
        LeaseReport {
            granted: stats.granted.get(),
            released: stats.released.get(),
            found: stats.found.get(),
            waited: stats.waited.get(),
            useless: stats.useless.get(),
            failed: stats.failed.get(),
            skipped: stats.skipped.get(),
        }
    }
}
