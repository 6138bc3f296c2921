//! Chaos around a correct backend: it does what its plan says, and nothing else. Time is paused.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Clock, Entry, Error, ErrorKind, Freshness, Key, MAX_LIFETIME,
    NodeId, Operation, Version, VersionClock, async_trait,
};
use peercache_testkit::ManualClock;
use peercache_testkit::chaos::{Chaos, Fault, Plan};
use peercache_testkit::conformance::{self, Time};
use tokio::time::{Instant, timeout};

/// A correct backend in memory, ordered or not.
#[derive(Debug)]
struct Map {
    info: BackendInfo,
    clock: Arc<ManualClock>,
    held: Mutex<HashMap<Key, Entry>>,
    closed: Mutex<bool>,
}

impl Map {
    fn new(clock: Arc<ManualClock>, ordered: bool) -> Self {
        let mut capabilities = Capabilities::local().with_native_expiry().with_max_value_bytes(100_000);
        capabilities.ordered_writes = ordered;
        let info = BackendInfo::new("map", capabilities);
        Self { info, clock, held: Mutex::default(), closed: Mutex::default() }
    }

    fn check(&self, operation: Operation) -> Result<(), Error> {
        if *self.closed.lock().unwrap() {
            return Err(Error::new(ErrorKind::Unavailable, operation, "closed").with_backend("map"));
        }
        Ok(())
    }
}

#[async_trait]
impl CacheBackend for Map {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.check(Operation::Get)?;
        let held = self.held.lock().unwrap().get(key).cloned();
        Ok(held.filter(|entry| entry.freshness(self.clock.now()) != Freshness::Expired))
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.check(Operation::Put)?;
        if entry.value().len() > self.info.capabilities.max_value_bytes {
            return Err(Error::new(ErrorKind::TooLarge, Operation::Put, "too large").with_backend("map"));
        }
        let mut held = self.held.lock().unwrap();
        let ordered = self.info.capabilities.ordered_writes;
        let stored = held.get(key).filter(|_| ordered);
        if stored.is_none_or(|stored| entry.supersedes(stored, self.clock.now())) {
            held.insert(key.clone(), entry);
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        self.check(Operation::Probe)
    }

    async fn close(&self) -> Result<(), Error> {
        *self.closed.lock().unwrap() = true;
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache_api::Fleet> {
        None
    }
}

/// A chaos-wrapped map, and entries for it.
struct Bench {
    clock: Arc<ManualClock>,
    versions: VersionClock,
    store: Chaos<Map>,
}

impl Bench {
    fn new(plan: Plan) -> Self {
        Self::with(1, true, plan)
    }

    fn with(seed: u64, ordered: bool, plan: Plan) -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = Chaos::new(Map::new(Arc::clone(&clock), ordered), seed, plan);
        Self { clock, versions: VersionClock::new(NodeId::from_u64(1)), store }
    }

    fn entry(&self, value: &'static str) -> Entry {
        let now = self.clock.now();
        Entry::builder(value, self.versions.next(now), now)
            .fresh_for(Duration::from_secs(60))
            .stale_for(Duration::from_secs(60))
            .build()
            .unwrap()
    }

    async fn put(&self, name: &str, value: &'static str) -> (Entry, Result<(), Error>) {
        let entry = self.entry(value);
        (entry.clone(), self.store.put(&key(name), entry).await)
    }

    async fn get(&self, name: &str) -> Result<Option<Entry>, Error> {
        self.store.get(&key(name)).await
    }

    /// What is really there.
    async fn held(&self, name: &str) -> Option<Entry> {
        self.store.inner().get(&key(name)).await.unwrap()
    }
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn always(operation: Operation, fault: Fault) -> Plan {
    Plan::none().with(operation, 1.0, fault)
}

fn kind<T>(answer: Result<T, Error>) -> Option<ErrorKind> {
    answer.err().map(|error| error.kind())
}

/// Whether a call never ends: nobody waits for an hour of real time, tokio's clock is paused.
async fn hangs<T>(call: impl Future<Output = T>) -> bool {
    timeout(Duration::from_secs(3600), call).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_plan_the_wrapper_conforms() {
    let clock = Arc::new(ManualClock::default());
    for ordered in [true, false] {
        let clock = Arc::clone(&clock);
        let harness = conformance::from_fn(Time::Manual(Arc::clone(&clock)), move || {
            let store = Chaos::new(Map::new(Arc::clone(&clock), ordered), 7, Plan::none());
            async move { Ok(Arc::new(store) as Arc<dyn CacheBackend>) }
        });
        let report = conformance::run(harness).await;
        assert!(report.conforms(), "{report}");
        assert_eq!(report.skipped().any(|(name, _)| name == "older_version_loses"), !ordered, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_notices_what_chaos_does() {
    for (fault, operation) in [
        (Fault::BitFlip, Operation::Get),
        (Fault::Lost, Operation::Put),
        (Fault::Torn, Operation::Put),
        (Fault::Fail(ErrorKind::Unavailable), Operation::Probe),
        (Fault::Fail(ErrorKind::Unavailable), Operation::Close),
    ] {
        let clock = Arc::new(ManualClock::default());
        let harness = conformance::from_fn(Time::Manual(Arc::clone(&clock)), move || {
            let store = Chaos::new(Map::new(Arc::clone(&clock), true), 7, always(operation, fault));
            async move { Ok(Arc::new(store) as Arc<dyn CacheBackend>) }
        });
        assert!(!conformance::run(harness).await.conforms(), "nobody noticed that each {operation} {fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_do_nothing_or_everything_as_the_fault_says() {
    let put = |fault| always(Operation::Put, fault);
    let timed_out = ErrorKind::Timeout;

    let bench = Bench::new(put(Fault::Fail(timed_out)));
    let error = bench.put("k", "v").await.1.unwrap_err();
    assert_eq!((error.kind(), bench.held("k").await), (timed_out, None));
    assert_eq!(error.to_string(), "map: put failed (timeout): chaos was asked to let this fail [seed=1]");

    let bench = Bench::new(put(Fault::FailAfter(timed_out)));
    let (entry, answer) = bench.put("k", "v").await;
    assert_eq!((kind(answer), bench.held("k").await), (Some(timed_out), Some(entry)));

    let bench = Bench::new(put(Fault::Hang));
    assert!(hangs(bench.put("k", "v")).await && bench.held("k").await.is_none());

    let bench = Bench::new(put(Fault::Stall));
    assert!(hangs(bench.put("k", "v")).await && bench.held("k").await.is_some());

    let bench = Bench::new(put(Fault::Lost));
    assert!(bench.put("k", "v").await.1.is_ok() && bench.held("k").await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_torn_put_is_acknowledged_and_reads_as_damage_until_it_is_replaced() {
    let bench = Bench::new(Plan::none().script(Operation::Put, [Some(Fault::Torn)]));
    assert!(bench.put("k", "a value").await.1.is_ok());
    assert_eq!(kind(bench.get("k").await), Some(ErrorKind::Corrupt));
    let (second, _) = bench.put("k", "whole").await;
    assert_eq!(bench.get("k").await.unwrap(), Some(second));
}

#[tokio::test(start_paused = true)]
async fn repeated_puts_harm_only_a_store_that_does_not_order_them() {
    for (ordered, survives) in [(true, "second"), (false, "first")] {
        let bench = Bench::with(1, ordered, always(Operation::Put, Fault::LateRetry));
        assert!(bench.put("k", "first").await.1.is_ok() && bench.put("k", "second").await.1.is_ok());
        assert_eq!(bench.held("k").await.unwrap().value(), survives);

        let bench = Bench::with(1, ordered, always(Operation::Put, Fault::Duplicate));
        let (entry, answer) = bench.put("k", "v").await;
        assert!(answer.is_ok() && bench.held("k").await == Some(entry));
    }
}

#[tokio::test(start_paused = true)]
async fn lies_in_the_bytes_are_errors_and_undetected_ones_are_entries() {
    for fault in [Fault::Truncated, Fault::BitFlip, Fault::OtherKey, Fault::StretchedExpiry] {
        let plan = always(Operation::Get, fault);
        let bench = Bench::new(plan.clone());
        let (other, _) = bench.put("other", "another value").await;
        let (entry, _) = bench.put("k", "a value").await;
        let error = bench.get("k").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported), "{fault}: {error}");
        assert_eq!(error.backend(), Some("map"));

        bench.store.replace_plan(plan.undetected());
        bench.store.put(&key("other"), other.clone()).await.unwrap();
        let told = bench.get("k").await.unwrap().unwrap();
        assert_ne!(told, entry, "{fault} changed nothing");
        match fault {
            Fault::OtherKey => assert_eq!(told, other),
            Fault::StretchedExpiry => assert_eq!(told.metadata().fresh_for, MAX_LIFETIME),
            _ => assert_eq!(told.metadata(), entry.metadata()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn older_and_future_versions_are_whole_and_valid() {
    let bench = Bench::new(always(Operation::Get, Fault::OlderVersion));
    let (first, _) = bench.put("k", "first").await;
    assert_eq!(bench.get("k").await.unwrap(), Some(first.clone()), "there is nothing older");
    bench
        .store
        .put(&key("k"), Entry::tombstone(bench.versions.next(bench.clock.now()), bench.clock.now()))
        .await
        .unwrap();
    assert_eq!(bench.get("k").await.unwrap(), Some(first), "back from the dead");

    let bench = Bench::new(always(Operation::Get, Fault::FromFuture));
    let (entry, _) = bench.put("k", "v").await;
    let told = bench.get("k").await.unwrap().unwrap();
    assert!(told.is_from_future(bench.clock.now()) && told.value() == entry.value());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_holds_nothing_has_nothing_to_lie_about() {
    for fault in [
        Fault::Truncated,
        Fault::BitFlip,
        Fault::OtherKey,
        Fault::StretchedExpiry,
        Fault::OlderVersion,
        Fault::FromFuture,
    ] {
        let bench = Bench::new(always(Operation::Get, fault));
        assert_eq!(bench.get("k").await.unwrap(), None, "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_covers_exactly_its_calls_and_never_closing() {
    let bench = Bench::new(Plan::outage(1..4).read_only(4..5));
    assert!(bench.put("k", "v").await.1.is_ok());
    assert_eq!(kind(bench.get("k").await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(bench.put("k", "v").await.1), Some(ErrorKind::Unavailable));
    assert_eq!(kind(bench.store.probe().await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(bench.put("k", "v").await.1), Some(ErrorKind::Denied));
    assert!(bench.get("k").await.unwrap().is_some());

    bench.store.replace_plan(Plan::outage(0..u64::MAX));
    assert_eq!(kind(bench.get("k").await), Some(ErrorKind::Unavailable));
    assert!(bench.store.close().await.is_ok());
    assert_eq!(kind(bench.store.inner().probe().await), Some(ErrorKind::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn delays_are_waited_on_the_clock_that_a_test_may_pause() {
    let slow = Duration::from_secs(5);
    let plan = Plan::none().latency(Operation::Get, 1.0, slow..=slow).latency(
        Operation::Close,
        1.0,
        Duration::from_secs(1)..=Duration::from_secs(2),
    );
    let bench = Bench::new(plan);
    let started = Instant::now();
    assert!(bench.get("k").await.unwrap().is_none());
    assert!((slow..slow + Duration::from_millis(2)).contains(&started.elapsed()), "{:?}", started.elapsed());
    let started = Instant::now();
    bench.store.close().await.unwrap();
    assert!((1000..=2001).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert!(started.elapsed() > Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_tarpit_takes_everything_and_answers_nothing() {
    let bench = Bench::new(Plan::tarpit());
    assert!(hangs(bench.get("k")).await && hangs(bench.put("k", "v")).await);
    assert!(hangs(bench.store.probe()).await && hangs(bench.store.close()).await);
}

/// Calls of several keys, interleaved as `order` says, each given up after a second.
async fn calls(seed: u64, order: &[usize]) -> Bench {
    let bench = Bench::with(seed, true, Plan::hostile());
    let names = ["a", "b", "c"];
    for (step, which) in order.iter().enumerate() {
        let name = names[which % names.len()];
        // A put that ends in an error, or never, is what a hostile store is for.
        if step % 3 == 0 {
            drop(timeout(Duration::from_secs(1), bench.put(name, "some value")).await);
        } else {
            drop(timeout(Duration::from_secs(1), bench.get(name)).await);
        }
    }
    bench
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let order: Vec<usize> = (0..300).map(|step| step * 7 % 11).collect();
    let trace = calls(5, &order).await.store.trace();
    assert_eq!(trace, calls(5, &order).await.store.trace());
    assert_ne!(trace, calls(6, &order).await.store.trace());
    assert!(trace.count(|_| true) > 100, "{trace}");
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_a_key_does_not_depend_on_the_calls_for_others() {
    // Both put and get each key equally often, in another order.
    let one_by_one = [0, 0, 0, 1, 1, 1, 2, 2, 2];
    let mixed = [0, 1, 2, 1, 2, 0, 2, 0, 1];
    let (left, right) = (calls(5, &one_by_one).await.store.trace(), calls(5, &mixed).await.store.trace());
    assert_ne!(left, right);
    assert_eq!(left.by_key(), right.by_key());
}

#[tokio::test(start_paused = true)]
async fn a_hostile_store_shows_every_fault_sooner_or_later() {
    let order: Vec<usize> = (0..2000).collect();
    let trace = calls(1, &order).await.store.trace();
    for fault in [
        Fault::Hang,
        Fault::Stall,
        Fault::Truncated,
        Fault::BitFlip,
        Fault::OtherKey,
        Fault::StretchedExpiry,
        Fault::OlderVersion,
        Fault::FromFuture,
        Fault::Lost,
        Fault::Torn,
        Fault::Duplicate,
        Fault::LateRetry,
    ] {
        assert!(trace.count(|found| found == fault) > 0, "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_shows_a_key_or_a_value() {
    let bench = Bench::new(always(Operation::Get, Fault::BitFlip));
    let secret = key("acme/secret-plans");
    let version = Version { wall: bench.clock.now(), ..Version::ZERO };
    let entry = Entry::builder("hush", version, bench.clock.now()).fresh_for(MAX_LIFETIME).build().unwrap();
    bench.store.put(&secret, entry).await.unwrap();
    let error = bench.store.get(&secret).await.unwrap_err();
    let trace = bench.store.trace();
    // The map below would show its keys' digests at most; the wrapper adds seed and faults.
    for shown in [error.to_string(), trace.to_string(), format!("{trace:?}"), format!("{:?}", bench.store)] {
        assert!(!shown.contains("secret") && !shown.contains("hush"), "{shown}");
    }
}
