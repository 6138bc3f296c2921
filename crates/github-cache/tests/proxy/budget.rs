//! What is left of a rate limit: whom it is kept for, and what the others get.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use peercache::{Cache, Memory};
use peercache_fakehub::{EtagMode, FakeHubBuilder, SecondaryLimits};
use peercache_github::GitHubCacheBuilder;
use peercache_testkit::fleet::Hub as Fleet;

use crate::github::{A, B, C, GitHub};
use crate::support::{Got, Rig};

/// Says that a request is urgent (RFC 9218).
const URGENT: (&str, &str) = ("priority", "u=0");

/// Tokens A and B share a limit of 100; a tenth of it is kept.
async fn limited() -> GitHub {
    let tenth = |proxy: GitHubCacheBuilder| proxy.share_public(false).reserve_percent(10);
    GitHub::with(EtagMode::Observed, limits, tenth, false).await
}

fn limits(hub: FakeHubBuilder) -> FakeHubBuilder {
    hub.unlimited(false).bucket(A, "o/r", Some(100)).bucket(B, "o/r", None)
}

impl GitHub {
    /// Asks for `count` paths that nobody asked for before; each is charged.
    async fn spend(&self, token: &str, count: usize, headers: &[(&str, &str)]) -> Vec<Got> {
        let first = self.hub.summary().requests;
        let mut all = Vec::new();
        for n in 0..count {
            all.push(self.get_with(token, &self.path(&format!("/absent/{first}-{n}")), headers).await);
        }
        all
    }

    fn refused_by_origin(&self) -> u64 {
        let by_status = self.hub.summary().by_status;
        [403, 429].iter().filter_map(|status| by_status.get(status)).sum()
    }
}

#[tokio::test]
async fn reserve_is_kept_for_urgent_requests_and_the_origin_refuses_nobody() {
    let github = limited().await;
    let answers = github.spend(A, 95, &[]).await;
    let sent = answers.iter().filter(|got| got.status == 404).count();
    assert_eq!(sent, 90, "all but the reserve");
    let refused = answers.last().unwrap();
    refused.expect(403, "peercache; fwd=uri-miss; detail=reserve");
    for (name, value) in [
        ("x-ratelimit-limit", "100"),
        ("x-ratelimit-used", "90"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-resource", "core"),
        ("retry-after", "3600"),
    ] {
        assert_eq!(refused.header(name), Some(value), "{name}");
    }
    let reset = refused.header("x-ratelimit-reset").unwrap().parse::<u64>().unwrap();
    assert_eq!(reset, github.hub.now() / 1000 + 3600);
    let body: serde_json::Value = serde_json::from_slice(&refused.body).unwrap();
    assert!(body["message"].as_str().unwrap().starts_with("API rate limit exceeded"), "{body}");
    // The deploy lane goes on, with each token of the owner, until nothing is left.
    for token in [A, B] {
        assert!(github.spend(token, 5, &[URGENT]).await.iter().all(|got| got.status == 404));
    }
    assert_eq!(github.hub.summary().charged, 100);
    github.spend(A, 1, &[URGENT]).await[0].expect(403, "peercache; fwd=uri-miss; detail=rate-limited");
    assert_eq!(github.refused_by_origin(), 0);
    assert_eq!(github.rig.stats().held_back, 6);
    // A new window frees it.
    github.rig.pass(3600);
    assert_eq!(github.spend(A, 1, &[]).await[0].status, 404);
}

#[tokio::test]
async fn granted_answer_is_served_stale_at_the_reserve() {
    let github = limited().await;
    let path = github.path("/issues/1");
    github.get(A, &path).await.expect(200, crate::support::STORED);
    github.rig.pass(61);
    github.spend(A, 89, &[]).await;
    github.get(A, &path).await.expect(200, "peercache; fwd=stale; detail=reserve");
    let insists = github.get_with(A, &path, &[("cache-control", "no-cache")]).await;
    insists.expect(403, "peercache; fwd=request; detail=reserve");
    github.get_with(A, &path, &[URGENT]).await.expect(200, crate::support::REVALIDATED);
    // Writes are not sent either, and say so.
    let write = [("authorization", "token ghs_a")];
    let got = github.rig.send("POST", &github.path("/issues"), &write, "{}").await;
    got.expect(403, "peercache; fwd=method; detail=reserve");
    // What costs nothing is asked.
    assert_eq!(github.get(A, "/rate_limit").await.status, 200);
}

#[tokio::test]
async fn revalidations_use_nothing_up() {
    let github = limited().await;
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.spend(A, 88, &[]).await;
    for _ in 0..50 {
        github.rig.pass(61);
        github.get(A, &path).await.expect(200, crate::support::REVALIDATED);
    }
    assert_eq!(github.hub.summary().charged, 89);
}

#[tokio::test]
async fn many_callers_at_once_do_not_go_beyond_the_reserve() {
    let github = limited().await;
    // What was sent before anything was known is no more than may be under way.
    github.spend(A, 1, &[]).await;
    github.hub.delay_next(Duration::from_millis(20), 1000);
    let paths: Vec<String> = (0..300).map(|n| github.path(&format!("/absent/{n}"))).collect();
    let answers = join_all(paths.iter().map(|path| github.get(A, path))).await;
    let sent = answers.iter().filter(|got| got.status == 404).count() as u64;
    assert!(answers.iter().all(|got| [403, 404].contains(&got.status.as_u16())));
    assert_eq!(github.hub.summary().charged, sent + 1);
    assert!(sent < 90, "{sent} were sent of 89 that others may have");
    assert_eq!(github.refused_by_origin(), 0);
    // Urgent ones at once: all that is left is theirs.
    let urgent: Vec<String> = (0..5).map(|n| github.path(&format!("/absent/urgent-{n}"))).collect();
    let answers = join_all(urgent.iter().map(|path| github.get_with(A, path, &[URGENT]))).await;
    assert!(answers.iter().all(|got| got.status == 404));
}

#[tokio::test]
async fn owner_of_another_limit_is_not_held_back() {
    let github = GitHub::with(
        EtagMode::Observed,
        |hub| limits(hub).bucket(C, "x/y", Some(100)),
        |proxy| proxy.share_public(false).reserve_percent(10),
        false,
    )
    .await;
    github.spend(A, 3, &[]).await;
    github.spend(C, 1, &[]).await;
    github.spend(A, 90, &[]).await;
    assert_eq!(github.spend(A, 1, &[]).await[0].status, 403);
    // Same size, same reset, and yet another owner: it was told less than was known.
    assert!(github.spend(C, 40, &[]).await.iter().all(|got| got.status == 404));
}

#[tokio::test]
async fn machines_tell_each_other_what_is_left() {
    let github = limited().await;
    let clock = Arc::clone(&github.rig.clock);
    let fleet = Fleet::new(clock.clone());
    let machine = || {
        let memory = Memory::builder().capacity(8 << 20).clock(clock.clone()).build();
        let cache = Cache::builder().tier(memory).tier(fleet.member("peers")).clock(clock.clone());
        let tenth = |proxy: GitHubCacheBuilder| proxy.share_public(false).reserve_percent(10);
        Rig::over(cache.build().unwrap(), clock.clone(), &github.hub.url(), tenth)
    };
    let (one, two) = (machine(), machine());
    let token = [("authorization", "token ghs_a")];
    two.get(&github.path("/absent/two"), &token).await;
    for n in 0..95 {
        one.get(&github.path(&format!("/absent/{n}")), &token).await;
        clock.advance(Duration::from_millis(50));
    }
    one.proxy.settle().await;
    assert_eq!(github.hub.summary().charged, 90);
    // The first request after a while makes the second machine ask what others know; the next one
    // is judged by it.
    clock.advance(Duration::from_secs(2));
    let before = github.hub.summary().requests;
    two.get(&github.path("/absent/three"), &token).await;
    two.proxy.settle().await;
    two.get(&github.path("/absent/four"), &token)
        .await
        .expect(403, "peercache; fwd=uri-miss; detail=reserve");
    assert!(github.hub.summary().requests <= before + 1, "one request is how late it learns of it");
    assert_eq!(github.refused_by_origin(), 0);
}

#[tokio::test]
async fn secondary_limit_makes_a_token_with_a_pace_pause() {
    let mut limits = SecondaryLimits::documented();
    limits.points_per_minute = 10;
    limits.retry_after = Some(90);
    let github = GitHub::with(
        EtagMode::Observed,
        |hub| hub.secondary(limits),
        |proxy| proxy.share_public(false).pace(Duration::from_millis(1)),
        false,
    )
    .await;
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.rig.pass(61);
    let answers = github.spend(A, 12, &[]).await;
    let passed_on = answers.iter().position(|got| got.status == 403).unwrap();
    assert_eq!(passed_on, 10, "GitHub's own refusal");
    answers[11].expect(403, "peercache; fwd=uri-miss; detail=secondary-limit");
    assert_eq!(answers[11].header("retry-after"), Some("90"));
    assert!(String::from_utf8_lossy(&answers[11].body).contains("secondary rate limit"));
    github.get(A, &path).await.expect(200, "peercache; fwd=stale; detail=secondary-limit");
    let refused = github.refused_by_origin();
    assert_eq!(refused, 1, "nobody was sent into it again");
    github.rig.pass(90);
    github.get(A, &path).await.expect(200, crate::support::REVALIDATED);
}

#[tokio::test]
async fn pace_spaces_the_requests_of_a_token() {
    let github = GitHub::with(
        EtagMode::Observed,
        |hub| hub,
        |proxy| proxy.share_public(false).pace(Duration::from_millis(100)),
        false,
    )
    .await;
    let start = std::time::Instant::now();
    github.spend(A, 5, &[]).await;
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    github.get(A, &github.path("/absent/x")).await;
    let before = github.rig.stats();
    for _ in 0..20 {
        github.get(A, &github.path("/absent/x")).await;
    }
    let now = github.rig.stats();
    assert_eq!((now.fresh, now.upstream_requests), (before.fresh + 20, before.upstream_requests));
}

#[tokio::test]
async fn explanation_tells_what_is_left_and_that_nothing_is_sent() {
    let github = limited().await;
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.rig.pass(61);
    github.spend(A, 89, &[]).await;
    let explain = |target: String| {
        let github = &github;
        async move {
            let got = github.get(A, &format!("/-/explain?url={target}")).await;
            serde_json::from_slice::<serde_json::Value>(&got.body).unwrap()
        }
    };
    let stale = explain(path.clone()).await;
    assert_eq!((&stale["verdict"], &stale["sends"]), (&"stale".into(), &"nothing".into()), "{stale}");
    assert_eq!((&stale["budget"]["used"], &stale["budget"]["limit"]), (&90.into(), &100.into()));
    assert_eq!(explain(github.path("/labels")).await["verdict"], "refused");
}
