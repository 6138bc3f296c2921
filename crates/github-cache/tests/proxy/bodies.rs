//! Bodies whose URLs are turned to the base URL of the client.

use bytes::Bytes;
use http::Response;
use peercache_github::RewriteBodies;

use crate::support::{Origin, Rig};

const BODY: &str = r#"{"url":"https://api.github.com/repos/o/r","body":"see https://api.github.com/x"}"#;
const REWRITTEN: &str =
    r#"{"url":"http://proxy.test:8080/api/v3/repos/o/r","body":"see https://api.github.com/x"}"#;

async fn origin() -> Origin {
    Origin::start(|seen| {
        let response = Response::builder()
            .header("etag", "\"tag\"")
            .header("cache-control", "private, max-age=60")
            .header("content-type", "application/json; charset=utf-8");
        if seen.header("if-none-match").is_some_and(|tags| tags.contains("\"tag\"")) {
            return response.status(304).body(Bytes::new()).unwrap();
        }
        response.body(Bytes::from_static(BODY.as_bytes())).unwrap()
    })
    .await
}

#[tokio::test]
async fn enterprise_client_follows_urls_through_the_proxy() {
    let origin = origin().await;
    let rig = Rig::new(&origin.url());
    let mut tags = Vec::new();
    for what in ["miss", "hit", "revalidated"] {
        if what == "revalidated" {
            rig.pass(61);
        }
        let got = rig.get("/api/v3/repos/o/r", &[]).await;
        assert_eq!((got.status.as_u16(), &got.body[..]), (200, REWRITTEN.as_bytes()), "{what}");
        let tag = got.header("etag").unwrap().to_owned();
        assert!(tag.starts_with("W/\"tag.peercache-"), "{tag}");
        tags.push(tag);
    }
    assert!(tags.iter().all(|tag| *tag == tags[0]), "{tags:?}");
    // The client's own condition, answered here and, with another token, by the origin.
    for headers in [
        &[("if-none-match", tags[0].as_str())][..],
        &[("if-none-match", &tags[0]), ("authorization", "token b")],
    ] {
        let got = rig.get("/api/v3/repos/o/r", headers).await;
        assert_eq!((got.status.as_u16(), got.header("etag")), (304, Some(tags[0].as_str())), "{headers:?}");
    }
    // What others get is as the origin sent it.
    let plain = rig.get("/repos/o/r", &[]).await;
    assert_eq!((&plain.body[..], plain.header("etag")), (BODY.as_bytes(), Some("\"tag\"")));
    let transparent = rig.get("/repos/o/r", &[("host", "api.github.com")]).await;
    assert_eq!(&transparent.body[..], BODY.as_bytes());
    let written = rig.send("POST", "/api/v3/repos/o/r/issues", &[("accept-encoding", "gzip")], "{}").await;
    assert_eq!(&written.body[..], REWRITTEN.as_bytes());
    assert_eq!(origin.last().header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn setting_decides_whose_bodies_are_rewritten() {
    let origin = origin().await;
    for (bodies, below, root) in [
        (RewriteBodies::Auto, true, false),
        (RewriteBodies::Always, true, true),
        (RewriteBodies::Never, false, false),
    ] {
        let rig = Rig::with(&origin.url(), |builder| builder.rewrite_bodies(bodies));
        for (target, expected) in [("/api/v3/repos/o/r", below), ("/repos/o/r", root)] {
            let got = rig.get(target, &[]).await;
            let text = String::from_utf8(got.body.to_vec()).unwrap();
            assert_eq!(text.contains("\"url\":\"http://proxy.test:8080/"), expected, "{bodies:?} {target}");
            assert!(text.contains("see https://api.github.com/x"));
        }
        let agent = ("user-agent", "octokit-rest.js/22.0.0 octokit-core.js/7.0.0 Node.js/24");
        let octokit = rig.get("/repos/o/r", &[agent]).await;
        let rewritten =
            String::from_utf8(octokit.body.to_vec()).unwrap().contains("\"url\":\"http://proxy.test");
        assert_eq!(rewritten, bodies != RewriteBodies::Never, "{bodies:?}");
    }
}
