//! Answers while GitHub gives none.

use std::time::Duration;

use peercache_fakehub::{EtagMode, Outage};

use crate::github::{A, B, C, GitHub};
use crate::support::STORED;

const TROUBLE: &str = "peercache; fwd=stale; fwd-status=502; detail=upstream-error";

#[tokio::test]
async fn an_hour_without_github_is_bridged_for_who_has_a_grant_and_says_so() {
    let github = GitHub::start(true).await;
    let path = github.path("/issues/1");
    let first = github.get(A, &path).await;
    first.expect(200, STORED);
    github.hub.outage(Some(Outage::Status(502)));
    for minutes in [2, 57] {
        github.rig.pass(minutes * 60);
        let got = github.get(A, &path).await;
        got.expect(200, TROUBLE);
        assert_eq!(got.body, first.body);
        assert!(got.header("age").unwrap().parse::<u64>().unwrap() >= minutes * 60);
    }
    let insisting = github.get_with(A, &path, &[("cache-control", "no-cache")]).await;
    assert_eq!(insisting.status, 502, "who insists is told the truth");
    assert_eq!(github.get(C, &path).await.status, 502);
    github.rig.pass(121);
    assert_eq!(github.get(A, &path).await.status, 502, "an hour is over");
    assert_eq!(github.rig.stats().stale, 2);
    github.hub.outage(None);
    assert_eq!(github.get(A, &path).await.status, 200);
}

#[tokio::test]
async fn connection_that_is_refused_and_spent_quota_are_bridged_too() {
    let github = GitHub::with(
        EtagMode::Observed,
        |hub| hub.unlimited(false).bucket(A, "a", Some(1)),
        |proxy| proxy,
        true,
    )
    .await;
    let path = github.path("/issues/1");
    github.get(A, &path).await.expect(200, STORED);
    github.hub.touch(&path).unwrap();
    github.rig.pass(61);
    let before = github.hub.summary().requests;
    github.get(A, &path).await.expect(200, "peercache; fwd=stale; detail=rate-limited");
    assert_eq!(github.hub.summary().requests, before, "it is known that nothing is left");
    github.hub.outage(Some(Outage::Refuse));
    github.rig.pass(3500);
    let unreachable = "peercache; fwd=stale; detail=upstream-unreachable";
    let urgent = [("priority", "u=0")];
    github
        .get_with(B, &path, &urgent)
        .await
        .expect(502, "peercache; fwd=uri-miss; detail=upstream-unreachable");
    github.rig.pass(39);
    github.get(A, &path).await.expect(200, unreachable);
}

#[tokio::test]
async fn secondary_limit_is_passed_on_without_a_grant_and_keeps_one_that_is_there() {
    let github = GitHub::start(true).await;
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.rig.pass(61);
    github.hub.fail_next(429, 2, Some("30")).unwrap();
    let limited = github.get(B, &path).await;
    assert_eq!((limited.status.as_u16(), limited.header("retry-after")), (429, Some("30")));
    let limited = github.get(A, &path).await;
    assert_eq!((limited.status.as_u16(), limited.header("retry-after")), (429, Some("30")));
    github.get(A, &path).await.expect(200, crate::support::REVALIDATED);
}

#[tokio::test]
async fn max_stale_of_zero_serves_nothing_stale() {
    let github =
        GitHub::with(EtagMode::Observed, |hub| hub, |proxy| proxy.max_stale(Duration::ZERO), true).await;
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.rig.pass(61);
    github.hub.outage(Some(Outage::Status(503)));
    assert_eq!(github.get(A, &path).await.status, 503);
}
