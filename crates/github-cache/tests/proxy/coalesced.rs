//! Concurrent identical requests.

use std::sync::Arc;

use crate::support::{COLLAPSED, HIT, MISS, Rig, STORED, fixed, hub};

#[tokio::test]
async fn a_hundred_at_once_are_one_upstream_request() {
    let (_, origin, rig) = hub().await;
    let rig = Arc::new(rig);
    origin.hold();
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move { rig.get("/x", &[("authorization", "token a")]).await })
        })
        .collect();
    origin.arrived(1).await;
    origin.release();
    let mut leaders = 0;
    for client in clients {
        let got = client.await.unwrap();
        assert_eq!(got.body, "{\"path\":\"/x\",\"version\":0}");
        leaders += usize::from(got.cache_status() == STORED);
        assert!([STORED, COLLAPSED, HIT].contains(&got.cache_status()), "{got:?}");
    }
    assert_eq!((origin.count(), leaders), (1, 1));
    let stats = rig.stats();
    assert_eq!((stats.miss, stats.fresh + stats.coalesced), (1, 99));
}

/// Polls a request until it has been sent upstream, and drops it.
async fn begin_and_leave(rig: &Rig, origin: &crate::support::Origin, target: &str) {
    let leaving = rig.get(target, &[]);
    tokio::select! {
        _ = leaving => panic!("the origin holds its answer"),
        () = origin.arrived(1) => {}
    }
}

#[tokio::test]
async fn when_the_first_client_leaves_nobody_loses_anything() {
    let (_, origin, rig) = hub().await;
    origin.hold();
    begin_and_leave(&rig, &origin, "/x").await;
    let mut follower = Box::pin(rig.get("/x", &[]));
    assert!(futures_util::poll!(&mut follower).is_pending());
    origin.release();
    follower.await.expect(200, COLLAPSED);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_fill_ends_without_any_client() {
    let (_, origin, rig) = hub().await;
    origin.hold();
    begin_and_leave(&rig, &origin, "/x").await;
    origin.release();
    rig.proxy.settle().await;
    rig.get("/x", &[]).await.expect(200, HIT);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn an_answer_that_is_not_for_others_sends_them_upstream_by_themselves() {
    let (origin, rig) = fixed(200, &[("cache-control", "no-store")], "x").await;
    origin.hold();
    let both = async { tokio::join!(rig.get("/x", &[]), rig.get("/x", &[])) };
    let release = async {
        origin.arrived(1).await;
        origin.release();
    };
    let ((first, second), ()) = tokio::join!(both, release);
    first.expect(200, MISS);
    second.expect(200, MISS);
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn different_tokens_and_variants_do_not_wait_for_each_other() {
    let (_, origin, rig) = hub().await;
    origin.hold();
    let all = async {
        tokio::join!(
            rig.get("/x", &[("authorization", "token a")]),
            rig.get("/x", &[("authorization", "token b")]),
            rig.get("/x", &[]),
            rig.get("/x", &[("accept", "text/html")]),
        )
    };
    let release = async {
        origin.arrived(4).await;
        origin.release();
    };
    let ((a, b, c, d), ()) = tokio::join!(all, release);
    for got in [a, b, c, d] {
        got.expect(200, STORED);
    }
}

#[tokio::test]
async fn more_than_the_allowed_requests_wait_and_then_hear_to_come_back() {
    let (_, origin, _) = hub().await;
    let rig = Rig::with(&origin.url(), |builder| {
        let mut limits = crate::support::quick();
        limits.concurrency = 1;
        limits.queue = std::time::Duration::from_millis(50);
        builder.limits(limits)
    });
    origin.hold();
    let second = async {
        origin.arrived(1).await;
        let got = rig.get("/y", &[]).await;
        origin.release();
        got
    };
    let (first, second) = tokio::join!(rig.get("/x", &[]), second);
    first.expect(200, STORED);
    second.expect(503, "peercache; fwd=uri-miss; detail=upstream-queue-full");
    assert!(second.header("retry-after").is_some());
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn what_went_stale_is_revalidated_once_for_all() {
    let (_, origin, rig) = hub().await;
    rig.get("/x", &[]).await;
    rig.pass(60);
    origin.hold();
    let release = async {
        origin.arrived(2).await;
        origin.release();
    };
    let (all, ()) =
        tokio::join!(futures_util::future::join_all((0..20).map(|_| rig.get("/x", &[]))), release);
    assert_eq!(all.iter().filter(|got| got.cache_status() == crate::support::REVALIDATED).count(), 1);
    assert!(all.iter().all(|got| got.status == 200 && !got.body.is_empty()));
    assert_eq!(all.iter().filter(|got| got.cache_status() == "peercache; fwd=stale; collapsed").count(), 19);
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn pages_of_one_path_that_are_fetched_at_once_are_all_believed() {
    let (_, origin, rig) = hub().await;
    origin.hold();
    let pages = ["/x?page=1", "/x?page=2", "/x?page=3"];
    let release = async {
        origin.arrived(3).await;
        origin.release();
    };
    tokio::join!(futures_util::future::join_all(pages.iter().map(|page| rig.get(page, &[]))), release);
    for page in pages {
        rig.get(page, &[]).await.expect(200, HIT);
    }
    assert_eq!(origin.count(), 3);
}
