//! What `/-/explain` says is what happens then.

use serde_json::Value;

use crate::github::{A, B, C, GitHub};

/// What would happen with this token, and what the origin was asked meanwhile: nothing.
async fn explain(github: &GitHub, token: &str, path: &str, headers: &[(&str, &str)]) -> Value {
    let before = github.hub.summary().requests;
    let stored = github.rig.stats();
    let target = format!("/-/explain?url={}", path.replace('?', "%3F").replace('&', "%26"));
    let got = github.get_with(token, &target, headers).await;
    assert_eq!(got.status, 200, "{got:?}");
    assert!(!String::from_utf8_lossy(&got.body).contains("ghs_"), "no token is shown: {got:?}");
    assert_eq!(github.hub.summary().requests, before, "nothing is sent");
    let now = github.rig.stats();
    assert_eq!((now.stored, now.extended, now.fresh), (stored.stored, stored.extended, stored.fresh));
    serde_json::from_slice(&got.body).unwrap()
}

/// The verdict, and what the request itself then does.
async fn explained_and_done(github: &GitHub, token: &str, path: &str) -> (String, String) {
    let explained = explain(github, token, path, &[]).await;
    let sent = github.hub.summary().requests;
    let got = github.get(token, path).await;
    let sends = github.hub.summary().requests > sent;
    assert_eq!(explained["sends"] != "nothing", sends, "{explained} {got:?}");
    github.rig.proxy.settle().await;
    (explained["verdict"].as_str().unwrap().to_owned(), got.cache_status().to_owned())
}

#[tokio::test]
async fn verdict_is_what_the_next_request_does() {
    let github = GitHub::start(false).await;
    let path = github.path("/issues/1");
    let (verdict, done) = explained_and_done(&github, A, &path).await;
    assert_eq!(verdict, "revalidated", "with the guess of an empty list");
    assert!(done.contains("fwd=uri-miss; fwd-status=200"), "{done}");
    assert_eq!(explained_and_done(&github, A, &path).await.0, "hit");
    let (verdict, done) = explained_and_done(&github, B, &path).await;
    assert_eq!(verdict, "revalidated");
    assert!(done.contains("fwd-status=304"), "{done}");
    // The repository is proven public by now, and the third token is known.
    github.prove().await;
    github.introduce(&[C]).await;
    let (verdict, done) = explained_and_done(&github, C, &path).await;
    assert_eq!((verdict.as_str(), done.contains("detail=public")), ("shared", true), "{done}");
    github.rig.pass(61);
    let (verdict, done) = explained_and_done(&github, A, &path).await;
    assert_eq!((verdict.as_str(), done.contains("fwd-status=304")), ("revalidated", true), "{done}");
    // What the first token got is beyond the proof, so another one is asked for.
    let (verdict, done) = explained_and_done(&github, C, &path).await;
    assert_eq!((verdict.as_str(), done.contains("detail=public")), ("shared", true), "{done}");
    github.rig.send("POST", &github.path("/issues"), &[("authorization", "token ghs_a")], "{}").await;
    let (verdict, _) = explained_and_done(&github, A, "/rate_limit").await;
    assert_eq!(verdict, "bypass");
}

#[tokio::test]
async fn explanation_names_grant_route_mark_and_what_would_be_sent() {
    let github = GitHub::start(false).await;
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.rig.pass(20);
    let explained = explain(&github, A, &format!("{path}?b=2&a=1"), &[]).await;
    assert_eq!(explained["url"], format!("{}?a=1&b=2", path.to_ascii_lowercase()));
    assert_eq!(explained["grant"], Value::Null, "that is another URL");
    let explained = explain(&github, A, &path, &[]).await;
    assert_eq!((&explained["verdict"], &explained["token_kind"]), (&"hit".into(), &"ghs".into()));
    assert_eq!(explained["route"], "/repos/{owner}/{repo}/issues/**");
    assert_eq!(explained["grant"]["age_seconds"], 20);
    assert_eq!(explained["grant"]["fresh_for_seconds"], 40);
    assert_eq!(explained["grant"]["believed"], true);
    assert_eq!(explained["candidates"], 1);
    let raw = explain(&github, A, &path, &[("accept", "application/vnd.github.raw+json")]).await;
    assert_eq!((&raw["grant"], &raw["accept"]), (&Value::Null, &"application/vnd.github.raw+json".into()));
    let insisting = explain(&github, A, &path, &[("cache-control", "no-cache")]).await;
    assert_eq!(insisting["verdict"], "revalidated");
    assert!(insisting["why"].as_str().unwrap().contains("insists"), "{insisting}");
}

#[tokio::test]
async fn written_resource_is_explained_by_its_mark() {
    let github = GitHub::start(false).await;
    let path = github.path("/issues/1");
    github.get(A, &path).await;
    github.rig.pass(5);
    github.rig.proxy.invalidate_repository(&github.name).await;
    let explained = explain(&github, A, &path, &[]).await;
    assert_eq!(
        (&explained["verdict"], &explained["grant"]["believed"]),
        (&"revalidated".into(), &false.into())
    );
}

/// Who may not see a private repository must not learn that others asked for it.
#[tokio::test]
async fn token_without_a_grant_learns_nothing_about_a_private_repository() {
    let github = GitHub::start(true).await;
    let (path, never) = (github.path("/issues/1"), github.path("/languages"));
    assert_eq!(github.get(A, &path).await.status, 200);
    let known = explain(&github, C, &path, &[]).await;
    let mut unknown = explain(&github, C, &never, &[]).await;
    unknown["url"] = known["url"].clone();
    unknown["route"] = known["route"].clone();
    assert_eq!(known, unknown, "what was asked for looks like what was not");
    assert_eq!(known["candidates"], Value::Null);
}

#[tokio::test]
async fn what_is_not_of_the_api_is_refused() {
    let github = GitHub::start(false).await;
    let refused = |target: &'static str| github.get(A, target);
    assert_eq!(refused("/-/explain").await.status, 400);
    assert_eq!(refused("/-/explain?url=https%3A%2F%2Fcodeload.github.com%2Fx").await.status, 400);
    assert_eq!(refused("/-/explain?url=https%3A%2F%2Fevil.example%2Fx").await.status, 421);
    assert_eq!(refused("/-/explain?url=%2F-%2Fstats").await.status, 400);
    let page = github.get_with(A, "/-/explain?url=/meta", &[("origin", "https://evil.example")]).await;
    assert_eq!(page.status, 403);
}
