//! Leases, where the backend coordinates a fleet.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{
    CacheBackend, Entry, Error, ErrorKind, Key, LeaseAnswer, LeaseRequest, LeaseToken, Version,
};
use tokio::task::JoinHandle;

use super::context::{Context, Stop, Verdict, expect, skip_unless};

/// No case lives long enough to see a lease end by itself.
const TTL: Duration = Duration::from_secs(60);
/// Long enough for whatever is waited for, and below a case's deadline.
const WAIT: Duration = Duration::from_secs(30);

async fn ask(
    backend: &dyn CacheBackend,
    key: &Key,
    wait: Duration,
    newer_than: Version,
) -> Result<LeaseAnswer, Error> {
    let request = LeaseRequest::new(TTL, wait).newer_than(newer_than);
    match backend.fleet() {
        Some(fleet) => fleet.lease(key, request).await,
        None => Err(Error::new(
            ErrorKind::Unsupported,
            peercache_api::Operation::Lease,
            "the fleet was there before and is not any more",
        )),
    }
}

fn granted(answer: Result<LeaseAnswer, Error>, when: &str) -> Verdict<LeaseToken> {
    match answer {
        Ok(LeaseAnswer::Granted(token)) => Ok(token),
        other => Err(Stop::Fail(format!("{when}: expected a lease, the answer was {other:?}"))),
    }
}

fn expect_found(answer: Result<LeaseAnswer, Error>, entry: &Entry, when: &str) -> Verdict {
    expect(answer.as_ref().is_ok_and(|answer| *answer == LeaseAnswer::Found(entry.clone())), || {
        format!("{when}: expected {entry:?}, the answer was {answer:?}")
    })
}

fn needs_fleet(cx: &Context) -> Verdict {
    cx.needs_writes()?;
    skip_unless(cx.backend.fleet().is_some(), "the backend coordinates no fleet")
}

/// Someone who waits for the lease of `key`.
fn waiter(cx: &Context, key: &Key, newer_than: Version) -> JoinHandle<Result<LeaseAnswer, Error>> {
    let (backend, key) = (Arc::clone(&cx.backend), key.clone());
    tokio::spawn(async move { ask(&*backend, &key, WAIT, newer_than).await })
}

async fn answer_of(waiter: JoinHandle<Result<LeaseAnswer, Error>>) -> Verdict<Result<LeaseAnswer, Error>> {
    waiter.await.map_err(|broken| Stop::Fail(format!("asking for a lease broke: {broken}")))
}

pub(super) async fn lease_is_granted_once_and_given_back(cx: &Context) -> Verdict {
    needs_fleet(cx)?;
    let (key, other) = (cx.key("k")?, cx.key("other")?);
    let now = |key| ask(&*cx.backend, key, Duration::ZERO, Version::ZERO);
    let token = granted(now(&key).await, "the first to ask")?;
    granted(now(&other).await, "the first to ask for another key")?;
    let second = now(&key).await;
    expect(second.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout), || {
        format!("while another one loads, and without waiting: expected a timeout, found {second:?}")
    })?;
    let Some(fleet) = cx.backend.fleet() else { return Ok(()) };
    fleet.release(&key, token);
    // Best effort and in the background, so whoever asks next may have to wait for it.
    let next = granted(answer_of(waiter(cx, &key, Version::ZERO)).await?, "after it was given back")?;
    fleet.release(&key, token);
    let third = now(&key).await;
    expect(third.is_err(), || {
        format!("a lease that had ended was given back, and that ended the next one ({next:?}): {third:?}")
    })
}

pub(super) async fn lease_that_is_given_back_passes_on(cx: &Context) -> Verdict {
    needs_fleet(cx)?;
    let key = cx.key("k")?;
    let token = granted(ask(&*cx.backend, &key, WAIT, Version::ZERO).await, "the first to ask")?;
    let next = waiter(cx, &key, Version::ZERO);
    // Whether it waits already or asks only now, it is the next.
    tokio::task::yield_now().await;
    if let Some(fleet) = cx.backend.fleet() {
        fleet.release(&key, token);
    }
    granted(answer_of(next).await?, "after the first gave it back").map(drop)
}

pub(super) async fn lease_ends_with_the_value(cx: &Context) -> Verdict {
    needs_fleet(cx)?;
    let key = cx.key("k")?;
    granted(ask(&*cx.backend, &key, WAIT, Version::ZERO).await, "the first to ask")?;
    let waiting: Vec<_> = (0..4).map(|_| waiter(cx, &key, Version::ZERO)).collect();
    tokio::task::yield_now().await;
    let entry = cx.entry("loaded")?;
    cx.put(&key, &entry).await?;
    for waiter in waiting {
        expect_found(answer_of(waiter).await?, &entry, "while the first loaded")?;
    }
    expect_found(ask(&*cx.backend, &key, WAIT, Version::ZERO).await, &entry, "after the first had loaded")
}

pub(super) async fn lease_finds_only_what_is_newer(cx: &Context) -> Verdict {
    needs_fleet(cx)?;
    let key = cx.key("k")?;
    let (old, new) = (cx.entry("old")?, cx.entry("new")?);
    cx.put(&key, &old).await?;
    granted(ask(&*cx.backend, &key, WAIT, old.version()).await, "when what is there is too old")?;
    let next = waiter(cx, &key, old.version());
    cx.put(&key, &new).await?;
    expect_found(answer_of(next).await?, &new, "once something newer was put")?;
    cx.put(&key, &Entry::tombstone(cx.version(), cx.now())).await?;
    granted(
        ask(&*cx.backend, &key, WAIT, old.version()).await,
        "when it was removed: a tombstone is no value",
    )
    .map(drop)
}
