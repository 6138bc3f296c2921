//! The suite itself: it passes a correct backend and catches each way of being wrong.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, Class, Clock, Entry, Error, ErrorKind, Fleet, Freshness, Key,
    LeaseAnswer, LeaseRequest, LeaseToken, MAX_VALUE_BYTES, Operation, RemovalWatcher, SystemClock,
};

use super::*;
use crate::clock::ManualClock;

/// How a [`Map`] is wrong, if at all.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    LastPutWins,
    IgnoresCase,
    TruncatesKeys,
    TruncatesValues,
    DropsTags,
    TombstonesDelete,
    TombstonesAreMisses,
    IgnoresExpiry,
    DropsStale,
    TrustsTheFuture,
    AnswersAfterClose,
    ForgetsOnClose,
    TakesTooMuch,
    RacesOnPut,
    VanishesWhileReplaced,
    WritesInTwoSteps,
    ShowsKeys,
    FailsItsProbe,
    Panics,
    TakesWrites,
    TakesPrivate,
    KeepsWhatBecamePrivate,
}

type Store = Arc<Mutex<HashMap<String, Entry>>>;

struct Map {
    info: BackendInfo,
    flaw: Flaw,
    clock: Arc<dyn Clock>,
    store: Store,
    closed: Mutex<bool>,
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.flaw == Flaw::ShowsKeys {
            return write!(f, "{:?}", self.store.lock().unwrap().keys().collect::<Vec<_>>());
        }
        f.write_str("Map")
    }
}

impl Map {
    fn check(&self, operation: Operation) -> Result<(), Error> {
        if *self.closed.lock().unwrap() && self.flaw != Flaw::AnswersAfterClose {
            return Err(Error::new(ErrorKind::Unavailable, operation, "closed"));
        }
        Ok(())
    }

    fn name(&self, key: &Key) -> String {
        match self.flaw {
            Flaw::IgnoresCase => key.as_str().to_lowercase(),
            Flaw::TruncatesKeys => key.as_str().chars().take(250).collect(),
            _ => key.as_str().to_owned(),
        }
    }

    fn altered(&self, entry: Entry) -> Entry {
        let meta = entry.metadata();
        let value = entry.value();
        let plain = |value| {
            Entry::builder(value, meta.version, meta.created)
                .fresh_for(meta.fresh_for)
                .stale_for(meta.stale_for)
                .build()
                .unwrap()
        };
        match self.flaw {
            Flaw::TruncatesValues if value.len() > 65_536 => plain(value.slice(..65_536)),
            Flaw::DropsTags if !meta.tags.is_empty() => plain(value.clone()),
            _ => entry,
        }
    }

    fn wins(&self, entry: &Entry, stored: Option<&Entry>) -> bool {
        stored.is_none_or(|stored| match self.flaw {
            Flaw::LastPutWins => true,
            Flaw::TrustsTheFuture => entry.version() > stored.version(),
            _ => entry.supersedes(stored, self.clock.now()),
        })
    }
}

#[async_trait]
impl CacheBackend for Map {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.check(Operation::Get)?;
        let now = self.clock.now();
        let found = self.store.lock().unwrap().get(&self.name(key)).cloned();
        Ok(found.filter(|entry| match entry.freshness(now) {
            Freshness::Expired => self.flaw == Flaw::IgnoresExpiry,
            Freshness::Stale => self.flaw != Flaw::DropsStale,
            Freshness::Fresh => !(entry.is_tombstone() && self.flaw == Flaw::TombstonesAreMisses),
        }))
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.check(Operation::Put)?;
        assert!(self.flaw != Flaw::Panics || !entry.value().is_empty(), "no empty values, please");
        if !self.info.capabilities.writable && self.flaw != Flaw::TakesWrites {
            return Err(Error::new(ErrorKind::Denied, Operation::Put, "read-only"));
        }
        if entry.value().len() > self.info.capabilities.max_value_bytes && self.flaw != Flaw::TakesTooMuch {
            return Err(Error::new(ErrorKind::TooLarge, Operation::Put, "too large"));
        }
        let name = self.name(key);
        let takes_it = self.info.capabilities.private_entries || entry.class() == Class::Public;
        if !takes_it && self.flaw != Flaw::TakesPrivate {
            let mut store = self.store.lock().unwrap();
            if self.flaw != Flaw::KeepsWhatBecamePrivate && self.wins(&entry, store.get(&name)) {
                store.remove(&name);
            }
            return Err(Error::new(ErrorKind::Denied, Operation::Put, "private"));
        }
        let entry = self.altered(entry);
        if self.flaw == Flaw::RacesOnPut {
            let wins = self.wins(&entry, self.store.lock().unwrap().get(&name));
            // The greater the version, the sooner it lands: the smaller ones then overwrite it.
            for _ in 0..50 * (16 - entry.version().counter % 16) {
                tokio::task::yield_now().await;
            }
            if wins {
                self.store.lock().unwrap().insert(name, entry);
            }
            return Ok(());
        }
        if self.flaw == Flaw::WritesInTwoSteps {
            let half = Entry::builder(
                entry.value().slice(..entry.value().len() / 2),
                entry.version(),
                entry.metadata().created,
            )
            .fresh_for(entry.metadata().fresh_for)
            .build()
            .unwrap();
            self.store.lock().unwrap().insert(name.clone(), half);
            tokio::task::yield_now().await;
        }
        if self.flaw == Flaw::VanishesWhileReplaced {
            self.store.lock().unwrap().remove(&name);
            tokio::task::yield_now().await;
        }
        let mut store = self.store.lock().unwrap();
        if self.wins(&entry, store.get(&name)) || self.flaw == Flaw::WritesInTwoSteps {
            if entry.is_tombstone() && self.flaw == Flaw::TombstonesDelete {
                store.remove(&name);
            } else {
                store.insert(name, entry);
            }
        }
        Ok(())
    }

    async fn probe(&self) -> Result<(), Error> {
        self.check(Operation::Probe)?;
        if self.flaw == Flaw::FailsItsProbe {
            return Err(Error::new(ErrorKind::Timeout, Operation::Probe, "no answer"));
        }
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        *self.closed.lock().unwrap() = true;
        if self.flaw == Flaw::ForgetsOnClose {
            self.store.lock().unwrap().clear();
        }
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache_api::Fleet> {
        None
    }
}

fn full() -> Capabilities {
    Capabilities::local()
        .with_ordered_writes()
        .with_native_expiry()
        .with_durable()
        .with_max_value_bytes(200_000)
}

async fn judge(flaw: Flaw, capabilities: Capabilities, time: Time) -> Report {
    let store = Store::default();
    let clock: Arc<dyn Clock> = match &time {
        Time::Manual(clock) => clock.clone(),
        Time::Real(clock) => clock.clone(),
    };
    let harness = from_fn(time, move || {
        let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
        async move {
            let info = BackendInfo::new("map", capabilities);
            Ok(Arc::new(Map { info, flaw, clock, store, closed: Mutex::new(false) }) as Arc<dyn CacheBackend>)
        }
    });
    run(harness).await
}

fn manual() -> Time {
    Time::Manual(Arc::new(ManualClock::default()))
}

/// Asserts that the suite finds fault with this flaw, in the cases that are meant for it.
async fn caught(flaw: Flaw, expected: &[&str]) {
    let report = judge(flaw, full(), manual()).await;
    let failed: Vec<_> = report.failed().map(|(name, _)| name).collect();
    assert!(!report.conforms(), "{flaw:?} was not noticed\n{report}");
    for name in expected {
        assert!(failed.contains(name), "{name} should have noticed {flaw:?}\n{report}");
    }
}

/// The cases for a backend that coordinates a fleet.
const FLEET: [&str; 5] = [
    "lease_is_granted_once_and_given_back",
    "lease_that_is_given_back_passes_on",
    "lease_ends_with_the_value",
    "lease_finds_only_what_is_newer",
    "removal_reaches_the_other_members",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_passes_every_case_and_one_that_grants_twice_does_not() {
    let clock = Arc::new(ManualClock::default());
    let hub = crate::fleet::Hub::new(clock.clone());
    let open = move || {
        let member = hub.member("member");
        async move { Ok(Arc::new(member) as Arc<dyn CacheBackend>) }
    };
    let report = run(from_fn(Time::Manual(clock.clone()), open).with_members()).await;
    assert!(report.conforms(), "{report}");
    let skipped: Vec<_> = report.skipped().map(|(name, _)| name).collect();
    assert!(FLEET.iter().all(|case| !skipped.contains(case)), "{report}");

    let time = Time::Manual(clock.clone());
    let open = move || {
        let member = crate::fleet::Hub::new(clock.clone()).member("member");
        async move { Ok(Arc::new(Generous(member, Default::default())) as Arc<dyn CacheBackend>) }
    };
    let report = run(from_fn(time, open)).await;
    let failed: Vec<_> = report.failed().map(|(name, _)| name).collect();
    assert_eq!(failed, [FLEET[0], FLEET[2], FLEET[3]], "{report}");
}

/// Grants a lease to everyone who asks.
#[derive(Debug)]
struct Generous(crate::fleet::Member, std::sync::atomic::AtomicU64);

#[async_trait]
impl CacheBackend for Generous {
    fn info(&self) -> &BackendInfo {
        self.0.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.0.get(key).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.0.put(key, entry).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.0.probe().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.0.close().await
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        Some(self)
    }
}

#[async_trait]
impl Fleet for Generous {
    async fn lease(&self, _: &Key, _: LeaseRequest) -> Result<LeaseAnswer, Error> {
        let token = self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(LeaseAnswer::Granted(LeaseToken::from_u64(token)))
    }

    fn release(&self, _: &Key, _: LeaseToken) {}

    fn watch(&self, watcher: std::sync::Weak<dyn RemovalWatcher>) {
        self.0.watch(watcher);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correct_backend_passes_every_case() {
    let report = judge(Flaw::None, full(), manual()).await;
    assert!(report.conforms(), "{report}");
    let skipped: Vec<_> = report.skipped().map(|(name, _)| name).collect();
    assert_eq!(skipped, [&["read_only_refuses_writes"][..], &FLEET].concat(), "{report}");
    assert_eq!(report.cases().count(), CASES.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_promises_little_is_held_to_little() {
    let modest = Capabilities::local().with_max_value_bytes(MAX_VALUE_BYTES);
    assert_conforms_to(Flaw::LastPutWins, modest).await;
    assert_conforms_to(Flaw::IgnoresExpiry, modest).await;
    assert_conforms_to(Flaw::ForgetsOnClose, modest).await;
    assert_conforms_to(Flaw::None, modest.with_read_only()).await;
    assert_conforms_to(Flaw::None, full().without_private_entries()).await;
}

async fn assert_conforms_to(flaw: Flaw, capabilities: Capabilities) {
    let report = judge(flaw, capabilities, manual()).await;
    assert!(report.conforms(), "{flaw:?}\n{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_real_clock_only_the_passing_of_time_is_skipped() {
    let report = judge(Flaw::None, full(), Time::Real(Arc::new(SystemClock::new()))).await;
    assert!(report.conforms(), "{report}");
    let skipped: Vec<_> = report.skipped().map(|(name, _)| name).collect();
    let expected = [&["read_only_refuses_writes", "entry_expires_as_time_passes"][..], &FLEET].concat();
    assert_eq!(skipped, expected, "{report}");
}

macro_rules! catches {
    ($($test:ident: $flaw:ident => $($case:ident),+;)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $test() {
            caught(Flaw::$flaw, &[$(stringify!($case)),+]).await;
        }
    )+};
}

catches! {
    catches_dropped_versions: LastPutWins => older_version_loses, tombstone_stops_older_puts, entry_from_the_future_never_wins;
    catches_keys_that_ignore_case: IgnoresCase => similar_keys_do_not_mix, longest_keys_do_not_mix;
    catches_truncated_keys: TruncatesKeys => longest_keys_do_not_mix;
    catches_truncated_values: TruncatesValues => every_size_up_to_the_limit;
    catches_lost_metadata: DropsTags => value_and_every_field_survive;
    catches_tombstones_that_only_delete: TombstonesDelete => tombstone_stops_older_puts, tombstone_on_an_absent_key;
    catches_tombstones_that_read_as_misses: TombstonesAreMisses => tombstone_hides_and_newer_put_revives;
    catches_ignored_expiry: IgnoresExpiry => entry_born_expired_is_not_returned, entry_expires_as_time_passes;
    catches_dropped_stale_entries: DropsStale => stale_entry_is_returned;
    catches_trust_in_the_future: TrustsTheFuture => entry_from_the_future_never_wins;
    catches_answers_after_close: AnswersAfterClose => close_twice_then_refuse;
    catches_lost_entries: ForgetsOnClose => acknowledged_entries_survive_reopening;
    catches_values_beyond_the_limit: TakesTooMuch => beyond_the_limit_is_too_large;
    catches_races: RacesOnPut => concurrent_writers_leave_the_greatest_version;
    catches_gaps_while_replacing: VanishesWhileReplaced => cancelled_put_is_whole_or_absent;
    catches_torn_writes: WritesInTwoSteps => cancelled_put_is_whole_or_absent;
    catches_keys_in_debug_output: ShowsKeys => nothing_shows_the_key;
    catches_a_failing_probe: FailsItsProbe => probe_is_well;
    catches_panics_and_goes_on: Panics => empty_value_is_a_value;
}

#[tokio::test(flavor = "multi_thread")]
async fn catches_private_entries_where_they_may_not_be() {
    let case = "private_entries_are_stored_only_where_they_may_be";
    for flaw in [Flaw::TakesPrivate, Flaw::KeepsWhatBecamePrivate] {
        let report = judge(flaw, full().without_private_entries(), manual()).await;
        let failed: Vec<_> = report.failed().map(|(name, _)| name).collect();
        assert!(failed.contains(&case), "{flaw:?}: {report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn catches_members_that_tell_each_other_nothing() {
    let clock = Arc::new(ManualClock::default());
    let time = Time::Manual(clock.clone());
    // Each in a hub of its own.
    let open = move || {
        let member = crate::fleet::Hub::new(clock.clone()).member("member");
        async move { Ok(Arc::new(member) as Arc<dyn CacheBackend>) }
    };
    let report = run(from_fn(time, open).with_members()).await;
    let failed: Vec<_> = report.failed().map(|(name, _)| name).collect();
    assert_eq!(failed, ["removal_reaches_the_other_members"], "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn catches_a_read_only_backend_that_writes() {
    let report = judge(Flaw::TakesWrites, full().with_read_only(), manual()).await;
    let failed: Vec<_> = report.failed().map(|(name, _)| name).collect();
    assert_eq!(failed, ["read_only_refuses_writes"], "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_open_fails_every_case_with_the_reason() {
    let harness = from_fn(manual(), || async {
        Err::<Arc<dyn CacheBackend>, _>(Error::new(ErrorKind::Config, Operation::Open, "no such bucket"))
    });
    let report = run(harness).await;
    assert_eq!(report.failed().count(), CASES.len());
    assert!(report.to_string().contains("no such bucket"), "{report}");
    assert!(
        report.to_string().ends_with(&format!("0 passed, {} failed, 0 skipped", CASES.len())),
        "{report}"
    );
}
