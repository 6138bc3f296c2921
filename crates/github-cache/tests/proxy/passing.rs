//! What is passed through, and what goes wrong upstream.

use crate::support::{Rig, fixed, hub, raw_origin};

#[tokio::test]
async fn errors_and_redirects_are_passed_on_and_not_stored() {
    for status in [202, 204, 301, 302, 403, 422, 429, 500, 503] {
        let (origin, rig) =
            fixed(status, &[("cache-control", "max-age=60"), ("x-github-request-id", "1")], "").await;
        for _ in 0..2 {
            let got = rig.get("/x", &[]).await;
            got.expect(status, &format!("peercache; fwd=uri-miss; fwd-status={status}"));
            assert_eq!(got.header("x-github-request-id"), Some("1"));
            // The pause that a 429 asks for is over.
            rig.pass(60);
        }
        assert_eq!((origin.count(), rig.stats().not_stored.status), (2, 2));
    }
}

#[tokio::test]
async fn what_is_not_there_is_remembered_for_five_seconds() {
    for status in [404, 410] {
        let (origin, rig) =
            fixed(status, &[("cache-control", "max-age=60"), ("x-github-request-id", "1")], "").await;
        let miss = format!("peercache; fwd=uri-miss; fwd-status={status}; stored");
        rig.get("/x", &[]).await.expect(status, &miss);
        rig.pass(4);
        let hit = rig.get("/x", &[]).await;
        hit.expect(status, "peercache; hit; ttl=1; detail=memory");
        assert_eq!((hit.header("x-github-request-id"), origin.count()), (Some("1"), 1));
        rig.get("/x", &[("authorization", "token b")]).await.expect(status, &miss);
        rig.pass(1);
        rig.get("/x", &[]).await;
        assert_eq!(origin.count(), 3);
    }
}

#[tokio::test]
async fn requests_that_are_for_the_origin_go_there_untouched() {
    let (_, origin, rig) = hub().await;
    for (name, value, detail) in [
        ("cookie", "a=b", "cookie"),
        ("x-github-otp", "123", "otp"),
        ("range", "bytes=0-1", "range"),
        ("if-range", "\"x\"", "range"),
        ("if-match", "\"x\"", "precondition"),
    ] {
        for _ in 0..2 {
            let got = rig.get("/x", &[(name, value), ("accept-encoding", "br")]).await;
            got.expect(200, &format!("peercache; fwd=bypass; fwd-status=200; detail={detail}"));
            assert_eq!(origin.last().header(name), Some(value));
            assert_eq!(origin.last().header("accept-encoding"), Some("br"));
        }
    }
    rig.send("GET", "/x", &[], "body")
        .await
        .expect(200, "peercache; fwd=bypass; fwd-status=200; detail=body");
    assert_eq!(origin.last().body, "body");
    assert_eq!(rig.stats().stored, 0);
}

#[tokio::test]
async fn nothing_surprising_is_added_upstream() {
    let (_, origin, rig) = hub().await;
    rig.get("/x", &[("user-agent", "test"), ("connection", "x-hop"), ("x-hop", "1"), ("te", "trailers")])
        .await;
    let mut names: Vec<_> = origin.last().headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "host", "if-none-match", "user-agent", "via"]);
    // The tag that GitHub would give nobody for an empty list.
    let empty = "\"74d1db57f0fec3481bb6b4d9bcdc020d656635ec6c53ee589d27a8831cbbe280\"";
    assert_eq!(origin.last().header("if-none-match"), Some(empty));
    assert!(origin.last().header("user-agent").unwrap().starts_with("peercache/"));
    assert_eq!(origin.last().header("host"), Some(origin.address.to_string().as_str()));
}

#[tokio::test]
async fn hop_by_hop_headers_of_a_response_stay_with_upstream() {
    let (_, rig) = fixed(
        200,
        &[
            ("cache-control", "max-age=60"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("cache-status", "edge; hit"),
        ],
        "x",
    )
    .await;
    let miss = rig.get("/x", &[]).await;
    assert_eq!(
        (miss.header("x-hop"), miss.header("keep-alive"), miss.header("connection")),
        (None, None, None)
    );
    let all: Vec<_> = miss.headers.get_all("cache-status").iter().collect();
    assert_eq!(all, ["edge; hit", crate::support::STORED]);
    let hit = rig.get("/x", &[]).await;
    assert_eq!((hit.header("x-hop"), hit.header("cache-status")), (None, Some(crate::support::HIT)));
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_502_without_internals() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let rig = Rig::new(&format!("http://{address}"));
    let got = rig.get("/repos/o/secret", &[]).await;
    got.expect(502, "peercache; fwd=uri-miss; detail=upstream-unreachable");
    let text = String::from_utf8(got.body.to_vec()).unwrap();
    assert!(!text.contains(&address) && !text.contains("secret"), "{text}");
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["message"].is_string());
    rig.send("POST", "/x", &[], "{}").await.expect(502, "peercache; fwd=method; detail=upstream-unreachable");
    assert_eq!(rig.stats().error, 2);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_a_504() {
    let (_, origin, _) = hub().await;
    let rig = Rig::with(&origin.url(), |builder| {
        let mut limits = crate::support::quick();
        limits.response = std::time::Duration::from_millis(50);
        builder.limits(limits)
    });
    origin.hold();
    rig.get("/x", &[]).await.expect(504, "peercache; fwd=uri-miss; detail=upstream-timeout");
    rig.send("POST", "/x", &[], "{}").await.expect(504, "peercache; fwd=method; detail=upstream-timeout");
}

#[tokio::test]
async fn an_upstream_that_talks_nonsense_is_a_502() {
    let rig = Rig::new(&raw_origin("SSH-2.0-OpenSSH\r\n\r\n").await);
    rig.get("/x", &[]).await.expect(502, "peercache; fwd=uri-miss; detail=upstream-unreachable");
}

#[tokio::test]
async fn connect_and_bad_requests_are_refused_with_a_reason() {
    let (_, origin, rig) = hub().await;
    let got = rig.send("CONNECT", "api.github.com:443", &[], "").await;
    got.expect(501, "peercache; detail=connect");
    assert!(String::from_utf8_lossy(&got.body).contains("--forward-proxy"));
    rig.get("/a/../b", &[]).await.expect(400, "peercache; detail=bad-path");
    rig.get("/x", &[("host", "a@b")]).await.expect(400, "peercache; detail=bad-host");
    assert_eq!(origin.count(), 0);
}
