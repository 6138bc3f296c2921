//! No token gets a body that the origin would not give it, by any path.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use peercache_fakehub::{EtagMode, Outage, Verdict};
use peercache_github::GitHubCacheBuilder;

use crate::github::{A, B, C, D, GitHub};
use crate::support::{Origin, Rig, STORED};

const TARGETS: [&str; 7] =
    ["", "/languages", "/contents/README.md", "/issues/1", "/branches", "/actions/runs", "/releases/latest"];

async fn github(etag: EtagMode, private: bool) -> GitHub {
    github_with(etag, private, Duration::from_secs(60)).await
}

async fn github_with(etag: EtagMode, private: bool, public_for: Duration) -> GitHub {
    let proxy = |proxy: GitHubCacheBuilder| proxy.share_public(true).public_for(public_for);
    GitHub::with(etag, |hub| hub, proxy, private).await
}

#[tokio::test]
async fn foreign_token_never_gets_a_private_body_by_any_path() {
    for etag in [EtagMode::Observed, EtagMode::Opaque] {
        let github = github(etag, true).await;
        // It works elsewhere, so only the missing proof and the missing right keep it out.
        github.introduce(&[C, ""]).await;
        for rest in TARGETS {
            let path = github.path(rest);
            for token in [A, B] {
                let got = github.get(token, &path).await;
                assert_eq!(got.status, 200, "{path}: {got:?}");
            }
            let owner = github.get(A, &path).await;
            let tag = owner.header("etag").unwrap().to_owned();
            let spelled = format!("/repos/{}{rest}", github.name.to_ascii_uppercase());
            let by_id = format!("/repositories/{}{rest}", github.id);
            for token in [C, "", "ghp_unknown"] {
                for path in [&path, &spelled, &by_id] {
                    for headers in [
                        &[][..],
                        &[("cache-control", "only-if-cached")],
                        &[("cache-control", "max-stale=3600")],
                        &[("cache-control", "no-cache")],
                        &[("if-none-match", tag.as_str())],
                        &[("if-none-match", "*")],
                        &[("if-modified-since", "Tue, 15 Nov 2094 08:12:31 GMT")],
                        &[("accept", "*/*")],
                        &[("accept", "application/vnd.github.raw+json")],
                        &[("connection", "authorization")],
                        &[("host", "api.github.com")],
                        &[("range", "bytes=0-9")],
                        &[("cookie", "logged_in=yes")],
                    ] {
                        let got = github.get_with(token, path, headers).await;
                        let status = got.status.as_u16();
                        assert!([404, 504, 421].contains(&status), "{token} {path} {headers:?}: {got:?}");
                        assert_ne!(got.body, owner.body);
                        assert_ne!(got.header("etag"), Some(tag.as_str()));
                    }
                }
                let authorization = format!("token {token}");
                let head = github.rig.send("HEAD", &path, &[("authorization", &authorization)], "").await;
                assert_eq!(head.status, 404);
            }
        }
        assert_eq!(github.rig.stats().shared, 0);
        // Nor when GitHub is gone.
        github.hub.outage(Some(Outage::Status(502)));
        for rest in TARGETS {
            for token in [C, "", "ghp_unknown"] {
                github.rig.pass(6);
                let got = github.get(token, &github.path(rest)).await;
                assert_eq!(got.status, 502, "{got:?}");
            }
            assert_eq!(github.get(A, &github.path(rest)).await.status, 200, "who has a grant is served");
        }
    }
}

#[tokio::test]
async fn foreign_token_gets_nothing_of_a_request_that_is_under_way() {
    let github = github(EtagMode::Observed, true).await;
    github.introduce(&[C]).await;
    let path = github.path("/issues/1");
    github.hub.delay_next(Duration::from_millis(100), 1);
    let (owner, second, foreign) =
        tokio::join!(github.get(A, &path), github.get(A, &path), github.get(C, &path));
    assert_eq!((owner.status.as_u16(), second.status.as_u16()), (200, 200));
    assert_eq!((foreign.status.as_u16(), foreign.body == owner.body), (404, false), "{foreign:?}");
}

/// An origin whose answers to conditions are wrong: `token a` sees a secret, all others get 404,
/// but a condition of theirs is answered 304 with this tag.
async fn confirming(tag: Option<&'static str>) -> Origin {
    Origin::start(move |seen| {
        let response = Response::builder().header("cache-control", "private, max-age=60");
        match (seen.header("authorization"), seen.header("if-none-match")) {
            (Some("token a"), _) => {
                response.header("etag", "\"secret\"").body(Bytes::from_static(b"{\"secret\":1}"))
            }
            (_, Some(_)) => {
                let response = response.status(304);
                match tag {
                    Some(tag) => response.header("etag", tag),
                    None => response,
                }
                .body(Bytes::new())
            }
            _ => response.status(404).body(Bytes::from_static(b"Not Found")),
        }
        .unwrap()
    })
    .await
}

#[tokio::test]
async fn a_304_that_names_no_tag_that_was_sent_gives_no_token_what_another_got() {
    for tag in [None, Some("\"other\""), Some("\"secret\""), Some("W/\"secret\"")] {
        let origin = confirming(tag).await;
        let rig = Rig::new(&origin.url());
        rig.get("/repos/o/p/issues/1", &[("authorization", "token a")]).await.expect(200, STORED);
        for token in ["token b", "token c"] {
            let got = rig.get("/repos/o/p/issues/1", &[("authorization", token)]).await;
            assert_eq!((got.status.as_u16(), &got.body[..]), (404, &b"Not Found"[..]), "{tag:?}");
            assert!(origin.seen().iter().rev().nth(1).unwrap().header("if-none-match").is_some());
        }
        // Nothing was known here, so the condition was that of an empty list.
        let empty = rig.get("/repos/o/p/issues", &[("authorization", "token b")]).await;
        assert_eq!((empty.status.as_u16(), &empty.body[..]), (404, &b"Not Found"[..]), "{tag:?}");
        assert_eq!(rig.stats().contradicted, 3);
    }
}

#[tokio::test]
async fn a_304_counts_as_proof_for_the_bytes_of_its_own_tag_only() {
    // Of two representations that are known, the origin confirms the second one.
    let turn = AtomicU64::new(0);
    let origin = Origin::start(move |seen| {
        let response = Response::builder().header("cache-control", "private, max-age=60");
        if let Some(tags) = seen.header("if-none-match")
            && seen.header("authorization") == Some("token c")
        {
            let last = tags.split(", ").last().unwrap().to_owned();
            return response.status(304).header("etag", last).body(Bytes::new()).unwrap();
        }
        let body = format!("{{\"turn\":{}}}", turn.fetch_add(1, Ordering::SeqCst));
        response.header("etag", format!("\"{body:?}\"")).body(Bytes::from(body)).unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    for token in ["token a", "token b"] {
        rig.get("/repos/o/p/issues/1", &[("authorization", token)]).await.expect(200, STORED);
    }
    let got = rig.get("/repos/o/p/issues/1", &[("authorization", "token c")]).await;
    assert_eq!((got.status.as_u16(), &got.body[..]), (200, &b"{\"turn\":0}"[..]));
    assert_eq!(origin.last().header("if-none-match").unwrap().split(", ").count(), 2);
}

#[tokio::test]
async fn opaque_tags_cost_misses_and_switch_guessing_off() {
    let github = github(EtagMode::Opaque, false).await;
    for number in 0..20 {
        for rest in ["/issues/1", "/contents/README.md"] {
            let token = format!("ghs_job{number}");
            let got = github.get(&token, &github.path(rest)).await;
            assert_eq!(github.judge(&token, &github.path(rest), &got, github.hub.now()), Verdict::Current);
        }
        github.rig.pass(61);
    }
    let stats = github.rig.stats();
    assert_eq!((stats.confirmed_across_tokens, stats.contradicted, stats.miss), (0, 0, 40));
    let check = github.rig.proxy.stats().entity_tags["ghs"];
    assert!(!check.in_use && check.matched == 0 && check.compared >= 10, "{check:?}");
}

#[tokio::test]
async fn another_tokens_answer_is_confirmed_for_a_token_that_may_see_it_and_costs_nothing() {
    let github = github(EtagMode::Observed, true).await;
    let path = github.path("/issues/1");
    let first = github.get(A, &path).await;
    let second = github.get(B, &path).await;
    second.expect(200, "peercache; fwd=uri-miss; fwd-status=304");
    assert_eq!((&second.body, second.header("content-type")), (&first.body, first.header("content-type")));
    assert_ne!(second.header("etag"), first.header("etag"), "each token has its own validator");
    let log = github.hub.log();
    assert_eq!(
        log.iter().map(|record| (record.status, record.charged)).collect::<Vec<_>>(),
        [(200, true), (304, false)]
    );
    github.get(B, &path).await.expect(200, crate::support::HIT);
    // Both forms of one token are one identity, and each revalidates with the validator of its own
    // form.
    github.rig.pass(61);
    let bearer = format!("Bearer {B}");
    let other_form = github.rig.get(&path, &[("authorization", &bearer)]).await;
    other_form.expect(200, crate::support::REVALIDATED);
    assert_eq!(github.rig.stats().confirmed_across_tokens, 1);
}

#[tokio::test]
async fn an_empty_list_costs_nothing_at_first_sight() {
    let github = github(EtagMode::Observed, false).await;
    let path = github.path("/issues/1/comments");
    let got = github.get(A, &path).await;
    got.expect(200, "peercache; fwd=uri-miss; fwd-status=304");
    assert_eq!(
        (&got.body[..], got.header("content-type")),
        (&b"[]"[..], Some("application/json; charset=utf-8"))
    );
    assert_eq!((github.hub.summary().charged, github.rig.stats().confirmed_empty), (0, 1));
    github.get(A, &path).await.expect(200, crate::support::HIT);
    // Only where GitHub would send it as JSON.
    github.get_with(A, &path, &[("accept", "application/vnd.github.raw+json")]).await;
    assert_eq!(github.rig.stats().confirmed_empty, 1);
}

#[tokio::test]
async fn lost_right_ends_what_a_token_holds_at_the_first_refusal() {
    let github = github(EtagMode::Observed, true).await;
    let (one, two) = (github.path("/issues/1"), github.path("/contents/README.md"));
    for path in [&one, &two] {
        github.get(A, path).await.expect(200, STORED);
    }
    github.hub.revoke(A).unwrap();
    github.rig.pass(1);
    assert_eq!(github.get(A, &github.path("/branches")).await.status, 401);
    for path in [&one, &two] {
        assert_eq!(github.get(A, path).await.status, 401, "it is asked about again");
    }
    // Another process that shares the store does not serve it either.
    let second = Rig::over(github.rig.cache.clone(), github.rig.clock.clone(), &github.hub.url(), |proxy| {
        proxy.share_public(true)
    });
    github.hub.outage(Some(Outage::Status(502)));
    for path in [&one, &two] {
        let authorization = format!("token {A}");
        assert_eq!(github.get(A, path).await.status, 502, "nothing stale for a token that is refused");
        assert_eq!(second.get(path, &[("authorization", &authorization)]).await.status, 502);
    }
}

#[tokio::test]
async fn lost_repository_is_not_served_stale_either() {
    for first_refused in ["", "/issues/1"] {
        let github = github(EtagMode::Observed, false).await;
        let (one, two) = (github.path("/issues/1"), github.path("/contents/README.md"));
        for path in [&one, &two] {
            assert_eq!(github.get(C, path).await.status, 200);
        }
        github.hub.set_private(&github.name, true).unwrap();
        github.rig.pass(61);
        assert_eq!(github.get(C, &github.path(first_refused)).await.status, 404);
        github.hub.outage(Some(Outage::Status(502)));
        assert_eq!(github.get(C, &two).await.status, 502, "after {first_refused:?} was refused");
    }
}

/// Requests of four tokens and nobody, in a world in which everything changes. What is new in a
/// repository may be shown to others for `public_for` after it was made private, and no longer.
async fn walk(etag: EtagMode, seed: u64, outages: bool, public_for: Duration) -> BTreeMap<&'static str, u64> {
    let github = github_with(etag, false, public_for).await;
    let mut private_since = None;
    let mut random = seed;
    let mut below = |bound: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let pick = |n: u64| usize::try_from(n).unwrap();
    let tokens = [A, B, C, D, ""];
    let mut seen = BTreeMap::new();
    for step in 0..1500 {
        let path = github.path(TARGETS[pick(below(7))]);
        match below(24) {
            0 => {
                github.hub.set_private(&github.name, true).unwrap();
                private_since = private_since.or(Some(github.hub.now()));
            }
            1 => {
                github.hub.set_private(&github.name, false).unwrap();
                private_since = None;
            }
            2 | 3 => drop(github.hub.touch(&path).unwrap()),
            4 if outages => github.hub.outage(Some(Outage::Status(502))),
            5 | 6 => github.hub.outage(None),
            7 => github.rig.pass(61),
            8 => github.rig.pass(5),
            9 if step > 1400 => github.hub.revoke(tokens[pick(below(3))]).unwrap(),
            10 => github.introduce_quietly(tokens[pick(below(5))]).await,
            _ => {}
        }
        github.rig.clock.advance(Duration::from_millis(1));
        let (token, sent_at) = (tokens[pick(below(5))], github.hub.now());
        let got = github.get(token, &path).await;
        let verdict = github.judge(token, &path, &got, sent_at);
        let what = match verdict {
            Verdict::Current => "current",
            Verdict::Stale { millis } | Verdict::AccessLost { millis } => {
                let bound = if outages { 3_700_000 } else { 61_000 };
                assert!(
                    millis <= bound,
                    "{token:?} {path} after {step} steps of {seed}: {millis} ms {got:?}"
                );
                if matches!(verdict, Verdict::Stale { .. }) { "stale" } else { "access lost" }
            }
            Verdict::Other => "refused",
            Verdict::Leak if !public_for.is_zero() => {
                let since = Duration::from_millis(sent_at - private_since.unwrap());
                assert!(
                    since <= public_for,
                    "{token:?} {path} after {step} steps of {seed}: {since:?} {got:?}"
                );
                "new in what was public"
            }
            // What is not there is remembered for five seconds.
            Verdict::WrongError => "wrong error",
            wrong => panic!("{wrong:?} for {token:?} {path} after {step} steps of {seed}: {got:?}"),
        };
        *seen.entry(what).or_default() += 1;
    }
    seen.insert("shared", github.rig.stats().shared);
    seen.insert("across tokens", github.rig.stats().confirmed_across_tokens);
    seen.insert("served stale", github.rig.stats().stale);
    seen
}

#[tokio::test]
async fn in_a_world_where_everything_changes_nobody_gets_what_was_never_theirs() {
    for (etag, seed, outages) in [
        (EtagMode::Observed, 1, false),
        (EtagMode::Observed, 2, true),
        (EtagMode::Observed, 3, false),
        (EtagMode::Opaque, 4, true),
    ] {
        let seen = walk(etag, seed, outages, Duration::ZERO).await;
        println!("{etag:?} seed {seed}: {seen:?}");
        assert!(seen["shared"] > 0 && seen["current"] > 600, "{seen:?}");
        assert_eq!(seen["across tokens"] > 0, etag == EtagMode::Observed, "{seen:?}");
        assert_eq!(seen["served stale"] > 0, outages, "{seen:?}");
    }
}

#[tokio::test]
async fn what_is_new_after_a_repository_was_made_private_is_shown_for_a_minute_at_most() {
    for seed in 1..4 {
        let seen = walk(EtagMode::Observed, seed, false, Duration::from_secs(60)).await;
        println!("seed {seed}: {seen:?}");
        assert!(seen["shared"] > 0 && seen["current"] > 600, "{seen:?}");
    }
}
