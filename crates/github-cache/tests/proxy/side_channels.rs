//! No token learns of another's requests: by time, by a guessed validator, by a remembered refusal,
//! by a repository's old name, or by what one answer says another depends on. `leaks` has the
//! bodies themselves.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use sha2::{Digest, Sha256};

use crate::github::{A, B, C, D, GitHub};
use crate::support::{Origin, Rig, STORED};

/// The tag that GitHub gives a body for this token, as anybody can compute it who guesses the body.
fn derived(token: &str, body: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("application/vnd.github+json:token {token}:"));
    digest.update(body);
    let hex = digest.finalize().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    format!("\"{hex}\"")
}

#[tokio::test]
async fn validator_that_a_foreign_token_guesses_is_not_confirmed() {
    let github = GitHub::start(true).await;
    github.introduce(&[C]).await;
    let path = github.path("/issues/1");
    let owner = github.get(A, &path).await;
    // The derivation is right: the owner's own is confirmed.
    let own = derived(A, &owner.body);
    assert_eq!(github.get_with(A, &path, &[("if-none-match", &own)]).await.status, 304);
    for tag in [derived(C, &owner.body), own] {
        for directive in ["", "only-if-cached", "no-cache"] {
            let headers = [("if-none-match", tag.as_str()), ("cache-control", directive)];
            let got = github.get_with(C, &path, &headers).await;
            assert!([404, 504].contains(&got.status.as_u16()), "{directive}: {got:?}");
        }
    }
}

#[tokio::test]
async fn foreign_token_does_not_wait_for_a_private_request_that_is_under_way() {
    let github = GitHub::start(true).await;
    github.introduce(&[C]).await;
    // It is known to be private from here on.
    assert_eq!(github.get(A, &github.path("")).await.status, 200);
    let path = github.path("/issues/1");
    github.hub.delay_next(Duration::from_secs(3), 1);
    let owner = github.get(A, &path);
    let foreign = async {
        // The owner's request has the delay.
        tokio::time::sleep(Duration::from_millis(300)).await;
        github.get(C, &path).await
    };
    let (mut owner, mut foreign) = (Box::pin(owner), Box::pin(foreign));
    let first = tokio::select! {
        got = &mut owner => panic!("the owner's came first: {got:?}"),
        got = &mut foreign => got,
    };
    assert_eq!(first.status, 404);
    assert_eq!(owner.await.status, 200);
}

#[tokio::test]
async fn remembered_refusal_is_for_its_token_alone_and_so_is_the_answer() {
    let github = GitHub::start(true).await;
    github.introduce(&[C, D]).await;
    let path = github.path("/issues/1");
    assert_eq!(github.get(C, &path).await.status, 404);
    assert_eq!(github.get(C, &path).await.cache_status(), "peercache; hit; ttl=5; detail=memory");
    github.get(A, &path).await.expect(200, STORED);
    // Within the five seconds of the refusal.
    let second = github.get(D, &path).await;
    second.expect(404, "peercache; fwd=uri-miss; fwd-status=404; stored");
    assert_eq!(github.get(B, &path).await.status, 200);
    for (token, status) in [(A, 200), (B, 200), (C, 404), (D, 404)] {
        let authorization = format!("token {token}");
        let head = github.rig.send("HEAD", &path, &[("authorization", &authorization)], "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (status, 0), "{token}");
        assert_eq!(github.get(token, &path).await.status.as_u16(), status, "{token}");
    }
}

#[tokio::test]
async fn old_name_of_a_repository_gives_nobody_what_its_new_owner_keeps_private() {
    let github = GitHub::start(false).await;
    github.introduce(&[A, B, C, D]).await;
    let by_name = github.path("/issues/1");
    let by_id = format!("/repositories/{}/issues/1", github.id);
    github.get(A, &by_name).await;
    github.prove().await;
    assert!(github.get(C, &by_name).await.cache_status().ends_with("detail=public"));
    // It is made private, changes, and is renamed.
    github.hub.set_private(&github.name, true).unwrap();
    github.hub.touch(&by_name).unwrap();
    github.rig.pass(61);
    let secret = github.get(A, &by_name).await;
    assert_eq!(secret.status, 200, "{secret:?}");
    github.hub.rename(&github.name, github.id).unwrap();
    github.rig.pass(61);
    for token in [C, D, ""] {
        for path in [&by_name, &by_id] {
            let got = github.get(token, path).await;
            assert!([301, 404].contains(&got.status.as_u16()), "{token} {path}: {got:?}");
            assert_ne!(got.body, secret.body);
        }
    }
}

#[tokio::test]
async fn answer_that_depends_on_another_header_is_not_offered_to_a_request_with_it() {
    let origin = Origin::start(|seen| {
        let body = format!("{{\"feature\":{:?}}}", seen.header("x-feature"));
        Response::builder()
            .header("etag", format!("\"{}\"", body.len()))
            .header("cache-control", "private, max-age=60")
            .header("vary", "Accept, Authorization, X-Feature")
            .body(Bytes::from(body))
            .unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    rig.get("/repos/o/p/issues/1", &[("authorization", "token a")]).await.expect(200, STORED);
    for token in ["token a", "token b"] {
        let headers = [("authorization", token), ("x-feature", "on")];
        let got = rig.get("/repos/o/p/issues/1", &headers).await;
        assert!(got.cache_status().contains("fwd="), "{got:?}");
        let tags = origin.last().header("if-none-match").unwrap_or_default().to_owned();
        let offered = tags.contains(&derived(token.trim_start_matches("token "), b"{\"feature\":None}"));
        assert!(!offered, "{tags}");
    }
    // Whereas without it, what the other token got is offered.
    rig.get("/repos/o/p/issues/1", &[("authorization", "token c")]).await;
    assert!(origin.last().header("if-none-match").unwrap().contains(&derived("c", b"{\"feature\":None}")));
}
