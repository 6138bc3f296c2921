//! Chaos: a backend that fails, stalls, loses and lies as a plan says, the same way for the same
//! seed.
//!
//! Wrap any [`CacheBackend`] in [`Chaos`] to see what your code makes of a store on a bad day:
//!
//! ```
//! use peercache_api::{CacheBackend, ErrorKind, Key, Operation};
//! use peercache_testkit::chaos::{Chaos, Fault, Plan};
//! # async fn example(store: impl CacheBackend) -> Result<(), peercache_api::Error> {
//! let plan = Plan::flaky().script(Operation::Get, [Some(Fault::Fail(ErrorKind::Timeout))]);
//! let store = Chaos::new(store, 42, plan);
//!
//! assert_eq!(store.get(&Key::new("k")?).await.unwrap_err().kind(), ErrorKind::Timeout);
//! println!("{}", store.trace());
//! # Ok(())
//! # }
//! ```
//!
//! **The same seed gives the same trace.** What happens to a call follows from the seed, the
//! operation, the key and how often that was done to that key before, so it does not matter how the
//! calls for different keys are interleaved. The exceptions depend on the order of arrival by their
//! nature: windows ([`Plan::down`], [`Plan::read_only`]), scripts, and which earlier entry a lie
//! shows.
//!
//! **Lies are made where stores make them**: in the stored bytes. Except with [`Plan::undetected`],
//! an entry is encoded, its bytes are damaged and decoded again, so a reader gets what it would get
//! from a real store: an error of kind `Corrupt`. All waiting is on tokio's clock, which a test may
//! pause.

mod damage;
mod dice;
mod fault;
mod past;
mod plan;
mod trace;

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use peercache_api::{
    BackendInfo, CacheBackend, Entry, Error, ErrorKind, Fleet, Key, LeaseAnswer, LeaseRequest, LeaseToken,
    Operation, RemovalWatcher,
};

use dice::Dice;
pub use fault::Fault;
use past::Past;
use plan::Decision;
pub use plan::Plan;
pub use trace::{Event, MAX_TRACE_EVENTS, Trace};

/// The number of keys whose calls are counted one by one; all further keys share one count.
pub const MAX_COUNTED_KEYS: usize = 65_536;

/// A backend whose calls go wrong as its [`Plan`] says. It declares what the backend within
/// declares.
///
/// Remembers, where the plan needs it, the latest 256 puts or 8 MiB of them, and the latest
/// [`MAX_TRACE_EVENTS`] calls.
pub struct Chaos<B> {
    inner: B,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plan: Arc<Plan>,
    /// Gets, puts, leases and probes under this plan.
    arrivals: u64,
    /// Calls under this plan, by operation.
    calls: HashMap<Operation, u64>,
    /// Calls since the beginning, by operation and key.
    numbers: HashMap<([u8; 32], Operation), u64>,
    keyless: HashMap<Operation, u64>,
    past: Past,
    trace: Trace,
}

impl State {
    /// How often this was done to this key before.
    fn number(&mut self, operation: Operation, key: Option<&Key>) -> u64 {
        let room = self.numbers.len() < MAX_COUNTED_KEYS;
        let own = key.map(|key| (*key.digest(), operation));
        let count = match own.filter(|own| room || self.numbers.contains_key(own)) {
            Some(own) => self.numbers.entry(own).or_default(),
            None => self.keyless.entry(operation).or_default(),
        };
        let number = *count;
        *count += 1;
        number
    }
}

/// What was decided about one call.
struct Turn {
    operation: Operation,
    decision: Decision,
    undetected: bool,
    dice: Dice,
}

impl<B: CacheBackend> Chaos<B> {
    /// Wraps `inner`; equal seeds, plans and calls give equal traces.
    pub fn new(inner: B, seed: u64, plan: Plan) -> Self {
        let state = State { plan: Arc::new(plan), ..State::default() };
        Self { inner, seed, state: Mutex::new(state) }
    }

    /// The backend within, which does no wrong.
    pub const fn inner(&self) -> &B {
        &self.inner
    }

    /// What chance follows from.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Goes on with another plan. Its windows and scripts start counting now; calls per key are
    /// counted on. What is under way keeps to what was decided.
    pub fn replace_plan(&self, plan: Plan) {
        let mut state = self.state();
        state.plan = Arc::new(plan);
        state.arrivals = 0;
        state.calls.clear();
    }

    /// What was decided so far.
    pub fn trace(&self) -> Trace {
        self.state().trace.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides about one call, and waits if that is part of it. Cancel-safe: the call has been
    /// counted.
    async fn begin(&self, operation: Operation, key: Option<&Key>) -> Turn {
        let turn = self.decide(operation, key);
        if !turn.decision.delay.is_zero() {
            tokio::time::sleep(turn.decision.delay).await;
        }
        turn
    }

    fn decide(&self, operation: Operation, key: Option<&Key>) -> Turn {
        let mut state = self.state();
        let number = state.number(operation, key);
        let arrival = (operation != Operation::Close).then_some(state.arrivals);
        state.arrivals += u64::from(arrival.is_some());
        let calls = state.calls.entry(operation).or_default();
        let nth = *calls;
        *calls += 1;
        let mut dice = Dice::new(self.seed, operation, key, number);
        let decision = state.plan.decide(operation, nth, arrival, &mut dice);
        let undetected = state.plan.is_undetected();
        state.trace.push(Event {
            operation,
            key: key.map(Key::fingerprint),
            number,
            delay: decision.delay,
            fault: decision.fault,
        });
        Turn { operation, decision, undetected, dice }
    }

    fn error(&self, kind: ErrorKind, operation: Operation) -> Error {
        Error::new(kind, operation, "chaos was asked to let this fail")
            .with_backend(self.inner.info().name.clone())
            .with_context("seed", self.seed)
    }

    /// Does `call` unless the turn says otherwise, and answers as it says.
    async fn take<T>(&self, turn: &Turn, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match turn.decision.fault {
            Some(Fault::Fail(kind)) => Err(self.error(kind, turn.operation)),
            Some(Fault::Hang) => pending().await,
            Some(Fault::Panic) => panic!("chaos was asked to let this {} panic", turn.operation),
            Some(Fault::FailAfter(kind)) => {
                call.await?;
                Err(self.error(kind, turn.operation))
            }
            Some(Fault::Stall) => {
                call.await?;
                pending().await
            }
            _ => call.await,
        }
    }

    /// What a store that lies makes of what it holds.
    fn lie(&self, turn: &mut Turn, key: &Key, held: Option<Entry>) -> Result<Option<Entry>, Error> {
        let Turn { decision, undetected, dice, .. } = turn;
        let undetected = *undetected;
        let told = match (decision.fault, held) {
            (Some(Fault::OtherKey), held) => match self.state().past.elsewhere(key, dice) {
                Some(other) => damage::swapped(key, &other, undetected),
                None => return Ok(held),
            },
            (Some(Fault::OlderVersion), held) => {
                let older = self.state().past.older(key, held.as_ref().map(Entry::version), dice);
                return Ok(older.or(held));
            }
            (_, None) => return Ok(None),
            (Some(Fault::Truncated), Some(entry)) => damage::truncated(key, &entry, undetected, dice),
            (Some(Fault::BitFlip), Some(entry)) => damage::flipped(key, &entry, undetected, dice),
            (Some(Fault::StretchedExpiry), Some(entry)) => damage::stretched(key, &entry, undetected),
            (Some(Fault::FromFuture), Some(entry)) => damage::from_future(&entry),
            (_, Some(entry)) if self.state().past.is_torn(key, entry.version()) => {
                damage::truncated(key, &entry, undetected, dice)
            }
            (_, Some(entry)) => Ok(entry),
        };
        told.map(Some).map_err(|error| error.with_backend(self.inner.info().name.clone()))
    }

    /// Writes as a store does that loses, tears or repeats what it was given.
    async fn write(&self, turn: &Turn, key: &Key, entry: Entry) -> Result<(), Error> {
        let version = entry.version();
        let again = match turn.decision.fault {
            Some(Fault::Lost) => return Ok(()),
            Some(Fault::Duplicate) => Some(entry.clone()),
            Some(Fault::LateRetry) => self.state().past.before(key, version),
            _ => None,
        };
        {
            let mut state = self.state();
            if state.plan.needs_past() {
                state.past.remember(key, &entry);
            }
            if turn.decision.fault == Some(Fault::Torn) {
                state.past.tear(key, version);
            }
        }
        self.inner.put(key, entry).await?;
        if let Some(again) = again {
            // The caller has been answered by then, so nobody hears how it ends.
            let _ = self.inner.put(key, again).await;
        }
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> CacheBackend for Chaos<B> {
    fn info(&self) -> &BackendInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let mut turn = self.begin(Operation::Get, Some(key)).await;
        let held = self.take(&turn, self.inner.get(key)).await?;
        self.lie(&mut turn, key, held)
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        let turn = self.begin(Operation::Put, Some(key)).await;
        self.take(&turn, self.write(&turn, key, entry)).await
    }

    async fn probe(&self) -> Result<(), Error> {
        let turn = self.begin(Operation::Probe, None).await;
        self.take(&turn, self.inner.probe()).await
    }

    async fn close(&self) -> Result<(), Error> {
        let turn = self.begin(Operation::Close, None).await;
        self.take(&turn, self.inner.close()).await
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        self.inner.fleet().map(|_| self as &dyn Fleet)
    }
}

/// A lease meets the faults and delays of [`Operation::Lease`]; what it finds is never a lie.
/// Releases and notices pass as they are.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: CacheBackend> Fleet for Chaos<B> {
    async fn lease(&self, key: &Key, request: LeaseRequest) -> Result<LeaseAnswer, Error> {
        let turn = self.begin(Operation::Lease, Some(key)).await;
        let Some(fleet) = self.inner.fleet() else {
            return Err(self.error(ErrorKind::Unsupported, Operation::Lease));
        };
        self.take(&turn, fleet.lease(key, request)).await
    }

    fn release(&self, key: &Key, token: LeaseToken) {
        if let Some(fleet) = self.inner.fleet() {
            fleet.release(key, token);
        }
    }

    fn watch(&self, watcher: Weak<dyn RemovalWatcher>) {
        if let Some(fleet) = self.inner.fleet() {
            fleet.watch(watcher);
        }
    }
}

impl<B: fmt::Debug> fmt::Debug for Chaos<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the trace nor what is remembered: they are about keys.
        f.debug_struct("Chaos").field("inner", &self.inner).field("seed", &self.seed).finish_non_exhaustive()
    }
}
