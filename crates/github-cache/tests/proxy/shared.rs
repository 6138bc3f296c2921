//! Answers about public repositories, given to tokens that did not fetch them.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use peercache::backend::{BackendInfo, Class, async_trait};
use peercache::{Cache, CacheBackend, Entry, Error, Key, Memory};
use peercache_fakehub::{EtagMode, TokenKind};
use peercache_github::GitHubCacheBuilder;

use crate::github::{A, B, C, D, GitHub};
use crate::support::{HIT, Rig, STORED};

const PUBLIC: &str = "peercache; hit; ttl=60; detail=public";

#[tokio::test]
async fn tokens_in_good_standing_share_answers_about_a_public_repository() {
    let github = GitHub::start(false).await;
    github.introduce(&[A, B, C, D]).await;
    let path = github.path("/issues/1");
    let first = github.get(A, &path).await;
    first.expect(200, STORED);
    // The second token that asks spends its one request on the proof, which is good for all others.
    let before = github.hub.summary().requests;
    github.get(B, &path).await.expect(200, PUBLIC);
    assert_eq!(github.hub.summary().requests, before + 1);
    github.rig.proxy.settle().await;
    let before = github.hub.summary().requests;
    for token in [C, D] {
        let got = github.get(token, &path).await;
        got.expect(200, PUBLIC);
        assert_eq!(got.body, first.body);
        for name in ["x-oauth-scopes", "x-github-request-id"] {
            assert_eq!(got.header(name), None, "another token's {name}");
        }
    }
    assert_eq!(github.hub.summary().requests, before);
    assert_eq!(github.rig.stats().shared, 3);
    let proofs = github.rig.stats().proofs;
    // What is asked for more than a minute later is beyond the proof: it is renewed once, by whom
    // it would be given to.
    let other = github.path("/contents/README.md");
    github.rig.pass(61);
    github.get(A, &other).await.expect(200, STORED);
    github.get(C, &other).await.expect(200, PUBLIC);
    github.get(D, &other).await.expect(200, PUBLIC);
    github.rig.proxy.settle().await;
    assert_eq!(github.rig.stats().proofs, proofs + 1);
    // The validator is the one that GitHub would give this token.
    let tag = github.get(D, &path).await.header("etag").unwrap().to_owned();
    let direct = github.get_with(D, &path, &[("cache-control", "no-cache")]).await;
    assert_eq!(direct.header("etag"), Some(tag.as_str()));
}

#[tokio::test]
async fn token_without_a_recent_success_is_not_served_anothers_answer() {
    let github = GitHub::start(false).await;
    github.introduce(&[A, B, C]).await;
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.prove().await;
    github.get(B, &path).await.expect(200, PUBLIC);
    // Never seen.
    let unknown = github.get(D, &path).await;
    assert!(unknown.cache_status().contains("fwd="), "{unknown:?}");
    // Refused since.
    github.hub.revoke(C).unwrap();
    github.rig.clock.advance(std::time::Duration::from_millis(1));
    assert_eq!(github.get(C, &github.path("")).await.status, 401);
    assert_eq!(github.get(C, &path).await.status, 401);
    // More than an hour ago.
    github.rig.pass(3601);
    github.get(A, &path).await;
    github.get(A, &github.path("")).await;
    let late = github.get(B, &path).await;
    assert!(late.cache_status().contains("fwd="), "{late:?}");
}

#[tokio::test]
async fn what_was_fetched_after_a_repository_became_private_is_not_shared_by_the_old_proof() {
    let github = GitHub::start(false).await;
    github.introduce(&[A, B, C, D]).await;
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.prove().await;
    github.get(C, &path).await.expect(200, PUBLIC);
    github.hub.set_private(&github.name, true).unwrap();
    github.hub.touch(&path).unwrap();
    github.rig.pass(61);
    // The proof is a minute old; what the owner fetches now is newer.
    let secret = github.get(A, &path).await;
    secret.expect(200, "peercache; fwd=stale; fwd-status=200; stored");
    for token in [D, C] {
        let got = github.get(token, &path).await;
        assert_eq!((got.status.as_u16(), got.body == secret.body), (404, false), "{token}: {got:?}");
    }
    assert_eq!(github.get(B, &path).await.body, secret.body, "who may see it does");
}

#[tokio::test]
async fn what_is_new_after_a_proof_counts_as_public_for_the_time_that_is_set() {
    for (seconds, told) in [(60, false), (0, false), (60, true)] {
        let public_for = std::time::Duration::from_secs(seconds);
        let proxy = |proxy: GitHubCacheBuilder| proxy.share_public(true).public_for(public_for);
        let github = GitHub::with(EtagMode::Observed, |hub| hub, proxy, false).await;
        github.introduce(&[A, B, C, D]).await;
        github.get(A, &github.path("/issues/1")).await;
        github.prove().await;
        github.rig.pass(5);
        github.hub.set_private(&github.name, true).unwrap();
        let path = github.path("/contents/README.md");
        github.get(A, &path).await.expect(200, STORED);
        if told {
            github.get(A, &github.path("")).await;
        }
        let within = github.get(C, &path).await;
        let shown = seconds > 0 && !told;
        assert_eq!(within.status.as_u16(), if shown { 200 } else { 404 }, "{seconds} {told}: {within:?}");
        github.rig.pass(56);
        assert_eq!(github.get(D, &path).await.status, 404, "{seconds} {told}");
        assert_eq!(github.get(C, &path).await.status, 404, "an answer that was shared is no grant");
    }
}

#[tokio::test]
async fn proof_is_good_for_ten_minutes_and_no_longer() {
    let github = GitHub::start(false).await;
    github.introduce(&[A, B, C, D]).await;
    // By its SHA: fresh for an hour.
    let path = github.tree.clone();
    github.get(A, &path).await.expect(200, STORED);
    github.prove().await;
    let shared = github.get(B, &path).await;
    assert!(shared.cache_status().ends_with("detail=public"), "{shared:?}");
    github.hub.set_private(&github.name, true).unwrap();
    github.rig.pass(598);
    github.introduce(&[C, D]).await;
    let within = github.get(C, &path).await;
    assert!(within.cache_status().ends_with("detail=public"), "{within:?}");
    github.rig.pass(3);
    assert_eq!(github.get(D, &path).await.status, 404);
    assert_eq!(github.get(C, &path).await.status, 404, "an answer that was shared is no grant");
}

#[tokio::test]
async fn a_repository_that_says_it_is_private_is_not_shared_any_more_at_once() {
    for refused in [false, true] {
        let github = GitHub::start(false).await;
        github.introduce(&[A, B, C, D]).await;
        let path = github.tree.clone();
        github.get(A, &path).await;
        github.prove().await;
        assert!(github.get(B, &path).await.cache_status().ends_with("detail=public"));
        github.hub.set_private(&github.name, true).unwrap();
        github.rig.pass(61);
        // Its own answer to who may see it, or the refusal to who may not.
        let root = github.get(if refused { D } else { A }, &github.path("")).await;
        assert_eq!(root.status.as_u16(), if refused { 404 } else { 200 });
        assert_eq!(github.get(C, &path).await.status, 404, "{refused}");
    }
}

#[tokio::test]
async fn a_write_to_a_repository_ends_sharing_until_it_was_asked_about_again() {
    let github = GitHub::start(false).await;
    github.introduce(&[A, B, C, D]).await;
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.prove().await;
    github.get(B, &path).await.expect(200, PUBLIC);
    let authorization = format!("token {A}");
    github.rig.send("POST", &github.path("/labels"), &[("authorization", &authorization)], "{}").await;
    let after = github.get(C, &path).await;
    assert!(after.cache_status().contains("fwd-status="), "{after:?}");
}

#[tokio::test]
async fn what_depends_on_rights_is_never_shared() {
    let github = GitHub::start(false).await;
    github.hub.add_token("ghp_p", TokenKind::Personal, [""; 0]).unwrap();
    github.introduce(&[A, B, "ghp_p"]).await;
    let root = github.path("");
    let mut bodies = Vec::new();
    for token in [A, B, "ghp_p", ""] {
        let got = github.get(token, &root).await;
        assert!(got.cache_status().contains("fwd="), "{got:?}");
        bodies.push(String::from_utf8(got.body.to_vec()).unwrap());
        github.get(token, &root).await.expect(200, HIT);
    }
    assert!(bodies[0].contains("\"admin\":false") && bodies[2].contains("\"admin\":true"));
    assert!(!bodies[3].contains("permissions"));
    // A token of another kind asks about the rest, too.
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.prove().await;
    assert_eq!(github.get(B, &path).await.cache_status(), PUBLIC);
    assert!(github.get("ghp_p", &path).await.cache_status().contains("fwd="));
}

#[tokio::test]
async fn sharing_is_off_where_the_upstream_is_not_githubs_unless_asked_for() {
    for (setting, shared) in [(None, false), (Some(false), false), (Some(true), true)] {
        let github = GitHub::with(
            EtagMode::Observed,
            |hub| hub,
            |proxy| match setting {
                Some(share) => proxy.share_public(share),
                None => proxy,
            },
            false,
        )
        .await;
        github.introduce(&[A, B]).await;
        let path = github.path("/issues/1");
        github.get(A, &path).await;
        github.prove().await;
        let got = github.get(B, &path).await;
        assert_eq!(got.cache_status() == PUBLIC, shared, "{setting:?}: {got:?}");
    }
}

#[tokio::test]
async fn who_is_refused_does_not_notice_that_others_are_answered() {
    let github = GitHub::start(true).await;
    github.introduce(&[A, B, C, D]).await;
    // Others have fetched the one and not the other.
    let (known, unknown) = (github.path("/issues/1"), github.path("/releases/latest"));
    for token in [A, B] {
        github.get(token, &known).await;
    }
    github.rig.proxy.settle().await;
    for path in [&known, &unknown] {
        let before = github.hub.summary().requests;
        let got = github.get(C, path).await;
        got.expect(404, "peercache; fwd=uri-miss; fwd-status=404; stored");
        github.rig.proxy.settle().await;
        assert_eq!(github.hub.summary().requests - before, 1, "one request, as for anything else");
    }
}

#[tokio::test]
async fn what_was_fetched_before_a_repository_became_public_is_not_shared_by_the_new_proof() {
    let github = GitHub::start(true).await;
    github.introduce(&[A, B, C, D]).await;
    let path = github.path("/issues/1");
    let secret = github.get(A, &path).await;
    // It is cleaned up, then opened.
    github.rig.pass(5);
    github.hub.touch(&path).unwrap();
    github.hub.set_private(&github.name, false).unwrap();
    github.rig.pass(10);
    github.prove().await;
    let got = github.get(C, &path).await;
    assert_eq!(got.status, 200);
    assert_ne!(got.body, secret.body);
}

/// A tier that takes public entries only, as one that everybody can read does.
#[derive(Debug)]
struct PublicOnly {
    inner: Memory,
    info: BackendInfo,
    values: Arc<Mutex<Vec<Bytes>>>,
}

#[async_trait]
impl CacheBackend for PublicOnly {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        if entry.class() == Class::Public && !entry.is_tombstone() {
            self.values.lock().unwrap().push(entry.value().clone());
        }
        self.inner.put(key, entry).await
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    fn fleet(&self) -> Option<&dyn peercache::backend::Fleet> {
        None
    }
}

#[tokio::test]
async fn only_what_is_proven_public_is_stored_as_public() {
    for private in [false, true] {
        let github = GitHub::start(private).await;
        let values = Arc::<Mutex<Vec<Bytes>>>::default();
        let inner = Memory::builder().capacity(1 << 20).clock(github.rig.clock.clone()).build();
        let info = BackendInfo::new("public", inner.info().capabilities);
        let tier = PublicOnly { inner, info, values: Arc::clone(&values) };
        let cache = Cache::builder().tier(tier).clock(github.rig.clock.clone()).build().unwrap();
        let rig =
            Rig::over(cache, github.rig.clock.clone(), &github.hub.url(), |proxy| proxy.share_public(true));
        let path = github.path("/issues/1");
        let mut bodies = Vec::new();
        for token in [A, B, C] {
            let authorization = format!("token {token}");
            // The repository's own answer has the token's rights in it.
            for target in [&github.path(""), &path] {
                bodies.push(rig.get(target, &[("authorization", &authorization)]).await.body);
                rig.proxy.settle().await;
            }
        }
        let stored = values.lock().unwrap().clone();
        let holds = |body: &Bytes| stored.iter().any(|value| value.ends_with(body));
        assert_eq!(holds(&bodies[1]), !private, "{private}");
        assert!(!holds(&bodies[0]), "{private}");
        assert!(stored.len() <= 1, "no grant, no mark, nothing of a token: {}", stored.len());
    }
}

#[tokio::test]
async fn jobs_that_ask_at_the_same_time_are_charged_once_for_all() {
    let github = GitHub::start(false).await;
    let path = github.path("/contents/README.md");
    github.hub.delay_next(std::time::Duration::from_millis(100), 1);
    let tokens: Vec<_> = (0..50).map(|number| format!("ghs_{number}")).collect();
    let all = futures_util::future::join_all(tokens.iter().map(|token| github.get(token, &path))).await;
    assert!(all.iter().all(|got| got.status == 200 && got.body == all[0].body));
    github.rig.proxy.settle().await;
    let summary = github.hub.summary();
    assert!(summary.charged <= 3, "{summary:?}");
    // Those that are known here do not even send it.
    github.rig.pass(61);
    let before = github.hub.summary().requests;
    let all = futures_util::future::join_all(tokens.iter().map(|token| github.get(token, &path))).await;
    assert!(all.iter().all(|got| got.status == 200));
    github.rig.proxy.settle().await;
    let sent = github.hub.summary().requests - before;
    assert!(sent <= 6, "{sent} requests");
}

#[tokio::test]
async fn three_hundred_jobs_that_ask_for_one_file_are_charged_three_at_most() {
    let github = GitHub::start(false).await;
    let path = github.path("/contents/README.md");
    for number in 0..300 {
        let got = github.get(&format!("ghs_{number}"), &path).await;
        assert_eq!(got.status, 200);
    }
    let summary = github.hub.summary();
    assert!(summary.charged <= 3, "{summary:?}");
}
