//! A fleet's traffic through caches that do right and wrong: what the origin counts and judges.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use peercache_fakehub::EtagMode;
use peercache_fakehub::workload::{Options, PerTokenCache, Tally, Workload, run};

fn workload() -> Workload {
    let mut options = Options::default();
    options.jobs = 12;
    options.duration = Duration::from_secs(6);
    Workload::new(&options)
}

async fn through(workload: &Workload, leaking: bool) -> Tally {
    let hub = Arc::new(workload.origin().etag(EtagMode::Observed).start().await.unwrap());
    let proxy = match leaking {
        true => PerTokenCache::start_leaking(hub.addr()).await.unwrap(),
        false => PerTokenCache::start(hub.addr()).await.unwrap(),
    };
    run(workload, &hub, proxy.address()).await
}

#[tokio::test]
async fn leak_to_a_foreign_token_is_counted_and_an_honest_cache_has_none() {
    let workload = workload();
    let (honest, leaking) = tokio::join!(through(&workload, false), through(&workload, true));
    assert_eq!((honest.leaks, honest.failed), (0, 0), "{:?}", honest.examples);
    assert!(honest.foreign > 20, "{}", honest.foreign);
    assert_eq!(honest.wrong_errors, 0, "{:?}", honest.examples);
    assert!(leaking.foreign_leaks > 5, "{} of {}", leaking.foreign_leaks, leaking.foreign);
    assert!(leaking.leaks >= leaking.foreign_leaks);
}

#[tokio::test]
async fn requests_of_foreign_tokens_are_no_part_of_what_is_saved() {
    let workload = workload();
    let hub = Arc::new(workload.origin().start().await.unwrap());
    let tally = run(&workload, &hub, hub.addr()).await;
    assert_eq!(tally.requests, workload.requests() as u64);
    assert_eq!(tally.upstream, tally.requests, "without a cache each request reaches the origin");
    assert_eq!(hub.summary().requests, tally.requests + tally.foreign);
    assert_eq!(tally.routes.values().map(|route| route.charged).sum::<u64>(), tally.charged);
}
