//! What a write makes doubtful.

use bytes::Bytes;
use http::Response;

use crate::support::{HIT, Origin, REVALIDATED, Rig, hub};

const A: (&str, &str) = ("authorization", "token a");

#[tokio::test]
async fn a_write_makes_its_whole_repository_doubtful_for_every_token() {
    let (_, origin, rig) = hub().await;
    let affected = [
        "/repos/o/r/issues/1/labels",
        "/repos/o/r/issues/1",
        "/repos/o/r/issues?state=open",
        "/repos/o/r",
        "/repos/o/r/pulls",
    ];
    let untouched = ["/repos/o/other", "/repos/o/other/issues"];
    const B: (&str, &str) = ("authorization", "token b");
    for path in affected.iter().chain(&untouched).chain(&["/user"]) {
        rig.get(path, &[A]).await;
        rig.get(path, &[B]).await;
    }
    let before = origin.count();
    let write = rig.send("PATCH", "/repos/O/R/issues/1/labels", &[A], "{}").await;
    write.expect(200, "peercache; fwd=method; fwd-status=200");
    for path in untouched {
        rig.get(path, &[A]).await.expect(200, HIT);
        rig.get(path, &[B]).await.expect(200, HIT);
    }
    rig.get("/user", &[B]).await.expect(200, HIT);
    assert_eq!(origin.count(), before + 1);
    // Lists outside of repositories name what was written under names that only GitHub knows.
    rig.get("/user", &[A]).await.expect(200, REVALIDATED);
    for path in affected {
        for token in [A, B] {
            rig.get(path, &[token]).await.expect(200, REVALIDATED);
            rig.get(path, &[token]).await.expect(200, HIT);
        }
    }
    assert_eq!(rig.stats().invalidations, 1);
}

#[tokio::test]
async fn location_and_content_location_on_the_same_server_are_doubtful_too() {
    let origin = Origin::start(|seen| {
        let response = Response::builder().header("cache-control", "max-age=60").header("etag", "\"x\"");
        match (seen.method.as_str(), seen.header("if-none-match")) {
            ("POST", _) => response
                .status(201)
                .header("location", "https://api.github.com/repos/o/new")
                .header("content-location", "/gists/7?x"),
            (_, Some(_)) => response.status(304),
            _ => response,
        }
        .body(Bytes::new())
        .unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    let other = ("authorization", "token b");
    for path in ["/repos/o/new/issues", "/gists/7", "/orgs/o/repos", "/orgs/p/repos"] {
        rig.get(path, &[other]).await;
    }
    rig.send("POST", "/user/repos", &[], "{}").await;
    rig.get("/repos/o/new/issues", &[other]).await.expect(200, REVALIDATED);
    rig.get("/gists/7", &[other]).await.expect(200, REVALIDATED);
    rig.get("/orgs/o/repos", &[other]).await.expect(200, REVALIDATED);
    rig.get("/orgs/p/repos", &[other]).await.expect(200, HIT);
}

#[tokio::test]
async fn a_read_that_was_under_way_during_a_write_is_not_believed() {
    let (_, origin, rig) = hub().await;
    origin.hold();
    let mut read = Box::pin(rig.get("/repos/o/r", &[]));
    let mut write = Box::pin(rig.send("PATCH", "/repos/o/r", &[], "{}"));
    // The read is sent first, then the write; both are answered afterwards.
    tokio::select! {
        _ = &mut read => panic!("held"),
        () = origin.arrived(1) => {}
    }
    tokio::select! {
        _ = &mut write => panic!("held"),
        () = origin.arrived(2) => {}
    }
    origin.release();
    write.await.expect(200, "peercache; fwd=method; fwd-status=200");
    read.await.expect(200, "peercache; fwd=uri-miss; fwd-status=200; stored");
    rig.get("/repos/o/r", &[]).await.expect(200, REVALIDATED);
    rig.get("/repos/o/r", &[]).await.expect(200, HIT);
}

#[tokio::test]
async fn who_waited_for_a_read_from_before_the_write_asks_again() {
    let (_, origin, rig) = hub().await;
    rig.get("/warm", &[]).await;
    origin.hold();
    let mut leader = Box::pin(rig.get("/repos/o/r", &[]));
    tokio::select! {
        _ = &mut leader => panic!("held"),
        () = origin.arrived(2) => {}
    }
    let mut write = Box::pin(rig.send("DELETE", "/repos/o/r", &[], ""));
    tokio::select! {
        _ = &mut write => panic!("held"),
        () = origin.arrived(3) => {}
    }
    let mut follower = Box::pin(rig.get("/repos/o/r", &[]));
    assert!(futures_util::poll!(&mut follower).is_pending());
    origin.release();
    write.await;
    leader.await;
    let got = follower.await;
    assert!(!got.cache_status().contains("collapsed"), "{got:?}");
    assert_eq!(origin.count(), 4);
}

#[tokio::test]
async fn a_refused_write_changes_nothing_and_one_of_unknown_outcome_does() {
    let origin = Origin::start(|seen| {
        let response = Response::builder().header("cache-control", "max-age=60").header("etag", "\"x\"");
        match (seen.method.as_str(), seen.header("if-none-match")) {
            ("PUT", _) => response.status(422),
            ("POST", _) => response.status(502),
            (_, Some(_)) => response.status(304),
            _ => response,
        }
        .body(Bytes::new())
        .unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    rig.get("/x/y", &[]).await;
    rig.send("PUT", "/x/y", &[], "{}").await.expect(422, "peercache; fwd=method; fwd-status=422");
    rig.get("/x/y", &[]).await.expect(200, HIT);
    rig.send("POST", "/x/y", &[], "{}").await;
    rig.get("/x/y", &[]).await.expect(200, REVALIDATED);
}

#[tokio::test]
async fn a_write_counts_even_if_its_client_leaves() {
    let (_, origin, rig) = hub().await;
    rig.get("/x", &[]).await;
    origin.hold();
    let write = rig.send("DELETE", "/x", &[], "");
    tokio::select! {
        _ = write => panic!("held"),
        () = origin.arrived(2) => {}
    }
    origin.release();
    rig.proxy.settle().await;
    rig.get("/x", &[]).await.expect(200, REVALIDATED);
}

#[tokio::test]
async fn graphql_passes_through_byte_by_byte_and_marks_nothing() {
    let (_, origin, rig) = hub().await;
    rig.get("/repos/o/r", &[]).await;
    let query = "{\"query\" : \"mutation { x }\",\n\"variables\":{\"é\":null}}";
    for path in ["/graphql", "/api/graphql"] {
        let got = rig.send("POST", path, &[("content-type", "application/json")], query).await;
        got.expect(200, "peercache; fwd=method; fwd-status=200");
        assert_eq!(origin.last().target, "/graphql");
        assert_eq!(origin.last().body, query);
        assert_eq!(origin.last().header("content-length"), Some(query.len().to_string().as_str()));
    }
    rig.get("/repos/o/r", &[]).await.expect(200, HIT);
}
