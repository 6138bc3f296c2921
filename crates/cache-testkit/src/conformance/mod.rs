//! The conformance suite: it judges every [`CacheBackend`], yours as well as ours.
//!
//! Implement [`Harness`] (or use [`from_fn`]) to say how a store is opened and which clock it
//! reads, then call [`assert_conforms`] from a test, or [`run`] to look at the [`Report`] yourself.
//! The suite picks its cases by the [`Capabilities`] that the backend declares and says why it left
//! one out.
//!
//! It is never destructive: every case writes fresh keys under a random prefix, and reads no
//! others. It leaves what it wrote behind, to expire within the hour. A bounded store needs room
//! for 5 MiB, or it evicts what a case still looks for.
//!
//! ```
//! use std::sync::Arc;
//! use peercache_testkit::{ManualClock, conformance::{self, Time}};
//! # use peercache_api::*;
//! # #[derive(Debug)]
//! # struct MyBackend(BackendInfo, std::sync::atomic::AtomicBool);
//! # impl MyBackend {
//! #     fn new(_: Arc<dyn Clock>) -> Self {
//! #         Self(BackendInfo::new("mine", Capabilities::local().with_read_only()), false.into())
//! #     }
//! #     fn open(&self, operation: Operation) -> Result<(), Error> {
//! #         if self.1.load(std::sync::atomic::Ordering::SeqCst) {
//! #             return Err(Error::new(ErrorKind::Unavailable, operation, "closed"))
//! #         }
//! #         Ok(())
//! #     }
//! # }
//! # #[async_trait]
//! # impl CacheBackend for MyBackend {
//! #     fn info(&self) -> &BackendInfo { &self.0 }
//! #     async fn get(&self, _: &Key) -> Result<Option<Entry>, Error> {
//! #         self.open(Operation::Get).map(|()| None)
//! #     }
//! #     async fn put(&self, _: &Key, _: Entry) -> Result<(), Error> {
//! #         self.open(Operation::Put)?;
//! #         Err(Error::new(ErrorKind::Denied, Operation::Put, "read-only"))
//! #     }
//! #     async fn probe(&self) -> Result<(), Error> { self.open(Operation::Probe) }
//! #     async fn close(&self) -> Result<(), Error> {
//! #         self.1.store(true, std::sync::atomic::Ordering::SeqCst);
//! #         Ok(())
//! #     }
//! #     fn fleet(&self) -> Option<&dyn Fleet> { None }
//! # }
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let clock = Arc::new(ManualClock::default());
//! let harness = conformance::from_fn(Time::Manual(Arc::clone(&clock)), move || {
//!     let clock = Arc::clone(&clock);
//!     async move { Ok(Arc::new(MyBackend::new(clock)) as Arc<dyn CacheBackend>) }
//! });
//! conformance::assert_conforms(harness).await;
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Run it on a multi-threaded tokio runtime: the cases about concurrency then meet real threads. Do
//! not pause tokio's clock; a case that does not end within [`CASE_DEADLINE`] is reported as
//! failed.

mod basics;
mod classes;
mod concurrency;
mod context;
mod harness;
mod keys;
mod leases;
mod lifecycle;
mod lifetime;
mod notices;
mod report;
#[cfg(test)]
mod tests;
mod versions;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use context::{Context, Stop, Verdict};
pub use harness::{FromFn, Harness, Time, from_fn};
pub use report::{CaseReport, Outcome, Report};

#[cfg(doc)]
use peercache_api::Capabilities;

/// How long one case may take, by the machine's own clock, before it is reported as failed.
pub const CASE_DEADLINE: Duration = Duration::from_secs(300);

/// Runs every case, one after the other, each on a freshly opened store that it closes again.
///
/// A case that panics or hangs is a failed case; the rest still runs.
pub async fn run(harness: impl Harness + 'static) -> Report {
    let harness: Arc<dyn Harness> = Arc::new(harness);
    let time = harness.time();
    let mut report = Report::default();
    for case in CASES {
        let ran = tokio::spawn(one(case, Arc::clone(&harness), time.clone()));
        let abort = ran.abort_handle();
        let outcome = match tokio::time::timeout(CASE_DEADLINE, ran).await {
            Ok(Ok((backend, outcome))) => {
                report.named(backend);
                outcome
            }
            Ok(Err(broken)) => Outcome::Failed(format!("it panicked: {}", panic_text(broken))),
            Err(_) => {
                abort.abort();
                Outcome::Failed(format!("it did not end within {} s", CASE_DEADLINE.as_secs()))
            }
        };
        report.push(case.name, outcome);
    }
    report
}

/// As [`run`], for tests.
///
/// # Panics
/// With the whole report, when a case failed.
pub async fn assert_conforms(harness: impl Harness + 'static) {
    let report = run(harness).await;
    assert!(report.conforms(), "{report}");
}

async fn one(case: &'static Case, harness: Arc<dyn Harness>, time: Time) -> (Option<String>, Outcome) {
    let context = match Context::open(case.name, harness, time).await {
        Ok(context) => context,
        Err(error) => return (None, Outcome::Failed(format!("the store did not open: {error}"))),
    };
    let name = context.info.name.to_string();
    let outcome = match (case.run)(&context).await {
        Ok(()) => Outcome::Passed,
        Err(Stop::Skip(reason)) => Outcome::Skipped(reason),
        Err(Stop::Fail(reason)) => Outcome::Failed(reason),
    };
    // A store that cannot be closed spoils even a case that it passed.
    let outcome = match (context.backend.close().await, outcome) {
        (Err(error), Outcome::Passed | Outcome::Skipped(_)) => {
            Outcome::Failed(format!("closing the store afterwards failed: {error}"))
        }
        (_, outcome) => outcome,
    };
    (Some(name), outcome)
}

fn panic_text(broken: tokio::task::JoinError) -> String {
    match broken.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "with no message".to_owned()),
        Err(cancelled) => cancelled.to_string(),
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

struct Case {
    name: &'static str,
    run: for<'a> fn(&'a Context) -> Running<'a>,
}

macro_rules! cases {
    ($($module:ident: $($case:ident)+;)+) => {
        const CASES: &[Case] = &[$($(
            Case { name: stringify!($case), run: |context| Box::pin($module::$case(context)) },
        )+)+];
    };
}

cases! {
    basics:
        description_is_sane_and_constant
        probe_is_well
        absent_key_is_none
        value_and_every_field_survive
        empty_value_is_a_value
        binary_value_survives
        every_size_up_to_the_limit
        beyond_the_limit_is_too_large
        read_only_refuses_writes
        nothing_shows_the_key;
    versions:
        newer_version_overwrites
        older_version_loses
        counter_and_node_break_ties
        same_version_twice_changes_nothing
        entry_from_the_future_never_wins
        tombstone_hides_and_newer_put_revives
        tombstone_stops_older_puts
        tombstone_on_an_absent_key;
    lifetime:
        stale_entry_is_returned
        entry_born_expired_is_not_returned
        expired_newer_write_still_wins
        entry_expires_as_time_passes
        expired_entry_can_be_replaced;
    classes:
        private_entries_are_stored_only_where_they_may_be
        older_private_entry_leaves_a_public_one_alone
        removal_is_taken_whatever_the_class;
    keys:
        similar_keys_do_not_mix
        longest_keys_do_not_mix
        many_keys_do_not_mix;
    concurrency:
        concurrent_writers_leave_the_greatest_version
        concurrent_writers_on_many_keys
        readers_see_only_whole_values
        cancelled_put_is_whole_or_absent;
    leases:
        lease_is_granted_once_and_given_back
        lease_that_is_given_back_passes_on
        lease_ends_with_the_value
        lease_finds_only_what_is_newer;
    notices:
        removal_reaches_the_other_members;
    lifecycle:
        close_twice_then_refuse
        acknowledged_entries_survive_reopening;
}
