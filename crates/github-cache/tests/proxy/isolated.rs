//! No token gets what another token fetched.

use bytes::Bytes;
use http::Response;

use crate::support::{HIT, Origin, Rig, STORED, hub};

#[tokio::test]
async fn another_token_and_nobody_have_to_ask() {
    let (_, origin, rig) = hub().await;
    let (a, b) = (("authorization", "token a"), ("authorization", "token b"));
    rig.get("/x", &[a]).await.expect(200, STORED);
    rig.get("/x", &[b]).await.expect(200, STORED);
    rig.get("/x", &[]).await.expect(200, STORED);
    // What others got is guessed at with validators that are this token's own.
    let tags = origin.last().header("if-none-match").unwrap().to_owned();
    assert!(!tags.contains("token"), "not another token's validator: {tags}");
    let hit = rig.get("/x", &[b]).await;
    hit.expect(200, HIT);
    assert_eq!(hit.header("x-oauth-scopes"), Some("token b"), "each gets its own headers");
    rig.get("/x", &[("authorization", "Bearer a")]).await.expect(200, HIT);
    assert_eq!(origin.count(), 3);
    rig.get("/x", &[b, ("cache-control", "only-if-cached")]).await.expect(200, HIT);
    let stranger = rig.get("/x", &[("authorization", "token c"), ("cache-control", "only-if-cached")]).await;
    stranger.expect(504, "peercache; detail=only-if-cached");
}

/// An origin with a private repository that only `token a` may see, while `open` says so.
async fn private() -> (Origin, std::sync::Arc<std::sync::atomic::AtomicU16>) {
    let status = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(200));
    let current = std::sync::Arc::clone(&status);
    let origin = Origin::start(move |seen| {
        let status = current.load(std::sync::atomic::Ordering::SeqCst);
        let response =
            Response::builder().header("cache-control", "private, max-age=60").header("etag", "\"s\"");
        match (seen.header("authorization"), status) {
            (Some("token a"), 200) => response.body(Bytes::from_static(b"secret")),
            (Some("token a"), other) => response.status(other).body(Bytes::from_static(b"refused")),
            _ => response.status(404).body(Bytes::from_static(b"Not Found")),
        }
        .unwrap()
    })
    .await;
    (origin, status)
}

#[tokio::test]
async fn a_private_404_is_not_shared_in_either_direction() {
    let (origin, _) = private().await;
    let rig = Rig::new(&origin.url());
    let stranger = ("authorization", "token b");
    rig.get("/repos/o/p", &[stranger]).await.expect(404, "peercache; fwd=uri-miss; fwd-status=404; stored");
    assert_eq!(rig.get("/repos/o/p", &[("authorization", "token a")]).await.body, "secret");
    let again = rig.get("/repos/o/p", &[stranger]).await;
    again.expect(404, "peercache; hit; ttl=5; detail=memory");
    assert_eq!(again.body, "Not Found");
    rig.pass(5);
    let later = rig.get("/repos/o/p", &[stranger]).await;
    assert_eq!((later.status.as_u16(), &later.body[..]), (404, &b"Not Found"[..]));
    assert_eq!(rig.get("/repos/o/p", &[]).await.status, 404);
    assert_eq!(rig.get("/repos/o/p", &[("authorization", "token a")]).await.body, "secret");
}

#[tokio::test]
async fn lost_access_ends_a_grant_and_trouble_does_not() {
    let (origin, status) = private().await;
    let set = |code| status.store(code, std::sync::atomic::Ordering::SeqCst);
    let rig = Rig::new(&origin.url());
    let a = ("authorization", "token a");
    let insist = ("cache-control", "no-cache");
    for (code, kept) in [(500, true), (429, true), (404, false), (401, false), (403, false), (301, false)] {
        // A token that asked too much pauses for a minute.
        rig.pass(61);
        set(200);
        rig.get("/repos/o/p", &[a, insist]).await;
        rig.get("/repos/o/p", &[a]).await.expect(200, HIT);
        set(code);
        assert_eq!(rig.get("/repos/o/p", &[a, insist]).await.status, code);
        let after = rig.get("/repos/o/p", &[a]).await;
        assert_eq!(after.status.as_u16(), if kept { 200 } else { code }, "{code}");
    }
}

#[tokio::test]
async fn nothing_stored_and_nothing_reported_contains_a_token() {
    let (_, _, rig) = hub().await;
    rig.get("/x", &[("authorization", "token ghp_hush")]).await;
    let shown =
        format!("{:?} {:?} {}", rig.proxy, rig.cache, serde_json::to_string(&rig.proxy.stats()).unwrap());
    assert!(!shown.contains("ghp_hush"), "{shown}");
}

#[tokio::test]
async fn two_authorizations_are_refused() {
    let (_, origin, rig) = hub().await;
    let got = rig.get("/x", &[("authorization", "token a"), ("authorization", "token b")]).await;
    got.expect(400, "peercache; detail=bad-authorization");
    assert_eq!(origin.count(), 0);
}
