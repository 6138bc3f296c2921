//! Fresh, revalidated, changed; and what a client may ask for.

use crate::support::{HIT, MISS, REVALIDATED, STORED, first_tag, fixed, hub};

const A: (&str, &str) = ("authorization", "token a");

#[tokio::test]
async fn a_second_read_within_the_lifetime_sends_nothing() {
    let (_, origin, rig) = hub().await;
    let first = rig.get("/repos/o/r", &[A]).await;
    first.expect(200, STORED);
    rig.pass(7);
    let second = rig.get("/repos/O/R", &[A]).await;
    second.expect(200, "peercache; hit; ttl=53; detail=memory");
    assert_eq!(second.body, first.body);
    assert_eq!(second.header("age"), Some("7"));
    for name in ["etag", "content-type", "x-oauth-scopes", "cache-control", "vary", "date"] {
        assert_eq!(second.header(name), first.header(name), "{name}");
    }
    assert_eq!(second.header("content-length"), Some(first.body.len().to_string().as_str()));
    assert_eq!(origin.count(), 1);
    let stats = rig.stats();
    assert_eq!(
        (stats.requests, stats.fresh, stats.miss, stats.stored, stats.upstream_requests),
        (2, 1, 1, 1, 1)
    );
    assert_eq!(stats.bytes_from_cache, first.body.len() as u64);
}

#[tokio::test]
async fn after_the_lifetime_a_304_extends_it_and_keeps_what_a_304_lacks() {
    let (_, origin, rig) = hub().await;
    let first = rig.get("/repos/o/r", &[A]).await;
    rig.pass(60);
    let second = rig.get("/repos/o/r", &[A]).await;
    second.expect(200, REVALIDATED);
    assert_eq!(second.body, first.body);
    assert_eq!(first_tag(&origin.last()), first.header("etag"));
    assert_eq!(origin.last().header("accept-encoding"), Some("gzip"));
    for name in ["content-type", "link", "etag"] {
        assert_eq!(second.header(name), first.header(name), "{name}");
    }
    rig.get("/repos/o/r", &[A]).await.expect(200, HIT);
    assert_eq!(origin.count(), 2);
    let stats = rig.stats();
    assert_eq!((stats.revalidated, stats.upstream_not_modified, stats.extended, stats.stored), (1, 1, 1, 1));
}

#[tokio::test]
async fn what_changed_replaces_what_was_stored() {
    let (hub, origin, rig) = hub().await;
    rig.get("/repos/o/r", &[A]).await;
    hub.bump("/repos/o/r");
    rig.get("/repos/o/r", &[A]).await.expect(200, HIT);
    rig.pass(60);
    let changed = rig.get("/repos/o/r", &[A]).await;
    changed.expect(200, "peercache; fwd=stale; fwd-status=200; stored");
    let hit = rig.get("/repos/o/r", &[A]).await;
    hit.expect(200, HIT);
    assert_eq!(hit.body, changed.body);
    assert_eq!(hit.body, "{\"path\":\"/repos/o/r\",\"version\":1}");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn what_a_client_asks_for_is_obeyed() {
    let (_, origin, rig) = hub().await;
    let ask = async |value: &str| rig.get("/x", &[("cache-control", value)]).await;
    ask("only-if-cached").await.expect(504, "peercache; detail=only-if-cached");
    assert_eq!(origin.count(), 0);
    ask("max-age=10").await.expect(200, STORED);
    ask("only-if-cached").await.expect(200, HIT);
    rig.pass(20);
    ask("max-age=20").await.expect(200, "peercache; hit; ttl=40; detail=memory");
    ask("min-fresh=40").await.expect(200, "peercache; hit; ttl=40; detail=memory");
    ask("max-age=19, only-if-cached").await.expect(504, "peercache; detail=only-if-cached");
    ask("max-age=19").await.expect(200, "peercache; fwd=request; fwd-status=304");
    rig.pass(20);
    ask("min-fresh=41").await.expect(200, "peercache; fwd=request; fwd-status=304");
    ask("no-cache").await.expect(200, "peercache; fwd=request; fwd-status=304");
    ask("max-age=0").await.expect(200, "peercache; fwd=request; fwd-status=304");
    let pragma = rig.get("/x", &[("pragma", "no-cache")]).await;
    pragma.expect(200, "peercache; fwd=request; fwd-status=304");
    rig.pass(60);
    ask("max-stale=600").await.expect(200, REVALIDATED);
    ask("no-store").await.expect(200, "peercache; fwd=request; fwd-status=200; detail=no-store");
    rig.get("/y", &[("cache-control", "no-store")]).await;
    rig.get("/y", &[]).await.expect(200, STORED);
}

#[tokio::test]
async fn variants_are_kept_apart() {
    let (_, origin, rig) = hub().await;
    for headers in [
        &[][..],
        &[("accept", "application/vnd.github.raw+json")],
        &[("x-github-api-version", "2022-11-28")],
        &[("x-requested-with", "XMLHttpRequest")],
    ] {
        rig.get("/x", headers).await.expect(200, STORED);
        rig.get("/x", headers).await.expect(200, HIT);
    }
    rig.get("/x", &[("accept", "*/*")]).await.expect(200, HIT);
    rig.get("/x?b=1&a=2", &[]).await.expect(200, STORED);
    rig.get("/x?a=2&b=1", &[]).await.expect(200, HIT);
    assert_eq!(origin.count(), 5);
}

#[tokio::test]
async fn head_is_answered_from_a_fresh_get_and_passed_through_otherwise() {
    let (_, origin, rig) = hub().await;
    let miss = rig.send("HEAD", "/x", &[], "").await;
    miss.expect(200, MISS);
    assert!(miss.body.is_empty() && miss.header("content-length").is_some());
    rig.get("/x", &[]).await.expect(200, STORED);
    let hit = rig.send("HEAD", "/x", &[], "").await;
    hit.expect(200, HIT);
    assert!(hit.body.is_empty());
    assert_eq!(hit.header("content-length"), miss.header("content-length"));
    rig.pass(60);
    rig.send("HEAD", "/x", &[], "").await.expect(200, "peercache; fwd=stale; fwd-status=200");
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn the_age_of_a_response_shortens_its_life() {
    let (origin, rig) = fixed(200, &[("cache-control", "max-age=60"), ("age", "50")], "x").await;
    rig.get("/x", &[]).await.expect(200, STORED);
    let hit = rig.get("/x", &[]).await;
    hit.expect(200, "peercache; hit; ttl=10; detail=memory");
    assert_eq!(hit.header("age"), Some("50"));
    rig.pass(10);
    rig.get("/x", &[]).await.expect(200, "peercache; fwd=stale; fwd-status=200; stored");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn responses_that_must_not_be_stored_are_not() {
    for (headers, reason) in [
        (&[("cache-control", "max-age=60, no-store")][..], "no_store"),
        (&[("cache-control", "max-age=60"), ("set-cookie", "a=b")], "set_cookie"),
        (&[("cache-control", "max-age=60"), ("vary", "*")], "vary"),
        (&[("cache-control", "max-age=60"), ("vary", "Accept, User-Agent")], "vary"),
        (&[("cache-control", "no-cache")], "unusable"),
        (&[], "unusable"),
        (&[("cache-control", "max-age=60"), ("content-encoding", "br")], "encoding"),
    ] {
        let (origin, rig) = fixed(200, headers, "x").await;
        for _ in 0..2 {
            let got = rig.get("/x", &[("user-agent", "test")]).await;
            got.expect(200, MISS);
            assert_eq!(got.body, "x");
        }
        assert_eq!(origin.count(), 2, "{reason}");
        let not_stored = serde_json::to_value(rig.stats().not_stored).unwrap();
        assert_eq!(not_stored[reason], 2, "{not_stored}");
    }
}

#[tokio::test]
async fn a_header_that_vary_names_later_makes_another_request() {
    let (origin, rig) = fixed(200, &[("cache-control", "max-age=60"), ("vary", "X-Feature")], "x").await;
    rig.get("/x", &[]).await.expect(200, STORED);
    rig.get("/x", &[("x-feature", "1")]).await.expect(200, MISS);
    rig.get("/x", &[]).await.expect(200, HIT);
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn no_cache_with_a_validator_is_asked_for_every_time() {
    let (origin, rig) = fixed(200, &[("cache-control", "no-cache"), ("etag", "\"x\"")], "x").await;
    rig.get("/x", &[]).await.expect(200, STORED);
    rig.get("/x", &[]).await.expect(200, "peercache; fwd=stale; fwd-status=200; stored");
    assert_eq!(first_tag(&origin.last()), Some("\"x\""));
}

#[tokio::test]
async fn a_304_for_another_tag_is_not_believed() {
    let origin = crate::support::Origin::start(|seen| {
        let response = http::Response::builder().header("cache-control", "max-age=60");
        match seen.header("if-none-match") {
            Some(_) => response.status(304).header("etag", "\"other\"").body(bytes::Bytes::new()),
            None => response.header("etag", "\"mine\"").body(bytes::Bytes::from_static(b"x")),
        }
        .unwrap()
    })
    .await;
    let rig = crate::support::Rig::new(&origin.url());
    // Not even the tag of an empty list, which is sent when nothing is known, makes it so.
    let first = rig.get("/x", &[]).await;
    first.expect(200, STORED);
    assert_eq!((&first.body[..], origin.count()), (&b"x"[..], 2));
    rig.pass(60);
    rig.get("/x", &[]).await.expect(200, "peercache; fwd=stale; fwd-status=200; stored");
    assert_eq!((origin.count(), rig.stats().contradicted), (4, 2), "asked again without a condition");
}

#[tokio::test]
async fn hits_carry_the_newest_rate_limit_of_their_token() {
    let (_, _, rig) = hub().await;
    rig.get("/x", &[A]).await;
    rig.get("/y", &[A]).await;
    rig.get("/z", &[("authorization", "token b")]).await;
    let hit = rig.get("/x", &[A]).await;
    assert_eq!(
        (hit.header("x-ratelimit-used"), hit.header("x-ratelimit-remaining")),
        (Some("2"), Some("4998"))
    );
}

#[tokio::test]
async fn rate_limit_is_never_stored() {
    let (_, origin, rig) = hub().await;
    for _ in 0..2 {
        let got = rig.get("/rate_limit", &[]).await;
        got.expect(200, "peercache; fwd=bypass; fwd-status=200; detail=route");
    }
    assert_eq!(origin.count(), 2);
}
