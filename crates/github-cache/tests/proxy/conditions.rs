//! A client's own conditions.

use crate::support::{HIT, REVALIDATED, STORED, first_tag, hub};

#[tokio::test]
async fn conditions_are_judged_against_a_fresh_answer() {
    let (_, origin, rig) = hub().await;
    let tag = rig.get("/x", &[]).await.header("etag").unwrap().to_owned();
    let strong = tag.strip_prefix("W/").unwrap().to_owned();
    for (headers, status) in [
        (vec![("if-none-match", tag.as_str())], 304),
        (vec![("if-none-match", strong.as_str())], 304),
        (vec![("if-none-match", "*")], 304),
        (vec![("if-none-match", "\"other\"")], 200),
        (vec![("if-none-match", "\"other\""), ("if-modified-since", "Tue, 15 Nov 2094 08:12:31 GMT")], 200),
        (vec![("if-modified-since", "Tue, 15 Nov 2094 08:12:31 GMT")], 200),
    ] {
        let got = rig.get("/x", &headers).await;
        got.expect(status, HIT);
        assert_eq!(got.body.is_empty(), status == 304, "{headers:?}");
        assert_eq!(got.header("etag"), Some(tag.as_str()));
        assert_eq!(got.header("content-type").is_some(), status == 200);
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_stale_answer_is_revalidated_with_our_validator_first() {
    let (hub, origin, rig) = hub().await;
    let tag = rig.get("/x", &[]).await.header("etag").unwrap().to_owned();
    rig.pass(60);
    let mine = rig.get("/x", &[("if-none-match", "\"something else\"")]).await;
    mine.expect(200, REVALIDATED);
    assert_eq!(first_tag(&origin.last()), Some(tag.as_str()));
    assert!(!origin.last().header("if-none-match").unwrap().contains("something else"));
    rig.pass(60);
    rig.get("/x", &[("if-none-match", &tag)]).await.expect(304, REVALIDATED);
    // It changed, and the client happens to have what it is now.
    hub.bump("/x");
    rig.pass(60);
    let newer = rig.get("/x", &[("if-none-match", "\"1-nobody\"")]).await;
    newer.expect(304, "peercache; fwd=stale; fwd-status=200; stored");
    assert!(newer.body.is_empty());
    rig.proxy.settle().await;
    rig.get("/x", &[]).await.expect(200, HIT);
}

#[tokio::test]
async fn with_nothing_stored_conditions_go_upstream_as_they_are() {
    let (_, origin, rig) = hub().await;
    let got = rig.get("/x", &[("if-none-match", "W/\"0-nobody\"")]).await;
    got.expect(304, "peercache; fwd=uri-miss; fwd-status=304");
    assert_eq!(origin.last().header("if-none-match"), Some("W/\"0-nobody\""));
    rig.get("/x", &[("if-none-match", "\"old\"")]).await.expect(200, STORED);
    rig.get("/x", &[]).await.expect(200, HIT);
}

#[tokio::test]
async fn without_an_entity_tag_the_date_is_the_validator() {
    const DATE: &str = "Tue, 15 Nov 1994 08:12:31 GMT";
    let origin = crate::support::Origin::start(|seen| {
        let response = http::Response::builder().header("cache-control", "max-age=60");
        match seen.header("if-modified-since") {
            Some(_) => response.status(304).body(bytes::Bytes::new()),
            None => response.header("last-modified", DATE).body(bytes::Bytes::from_static(b"x")),
        }
        .unwrap()
    })
    .await;
    let rig = crate::support::Rig::new(&origin.url());
    rig.get("/x", &[]).await.expect(200, STORED);
    rig.get("/x", &[("if-modified-since", DATE)]).await.expect(304, HIT);
    rig.get("/x", &[("if-modified-since", "Tue, 15 Nov 1994 08:12:30 GMT")]).await.expect(200, HIT);
    rig.pass(60);
    rig.get("/x", &[]).await.expect(200, REVALIDATED);
    assert_eq!(origin.last().header("if-modified-since"), Some(DATE));
    assert_eq!(origin.last().header("if-none-match"), None);
}
