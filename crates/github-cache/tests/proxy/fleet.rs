//! Against fakehub, the origin whose own log says what was asked and what it cost.

use peercache_fakehub::{Corpus, FakeHub};

use crate::support::Rig;

#[tokio::test]
async fn the_origins_own_log_confirms_what_was_saved() {
    let corpus = Corpus::generated(7);
    let target = corpus
        .exchanges()
        .iter()
        .find(|one| one.method == "GET" && one.status == 200 && one.target.contains("/issues?"))
        .map(|one| one.target.clone())
        .unwrap();
    let hub = FakeHub::builder(corpus).start().await.unwrap();
    let rig = Rig::new(&hub.url());
    let headers = [("authorization", "token a"), ("accept", "application/vnd.github+json")];
    let first = rig.get(&target, &headers).await;
    assert_eq!(first.status, 200, "{first:?}");
    for _ in 0..9 {
        let again = rig.get(&target, &headers).await;
        assert!(again.cache_status().starts_with("peercache; hit"), "{again:?}");
        assert_eq!(again.body, first.body);
    }
    rig.pass(61);
    let confirmed = rig.get(&target, &headers).await;
    confirmed.expect(200, "peercache; fwd=stale; fwd-status=304");
    assert_eq!(confirmed.body, first.body);
    let log = hub.log();
    assert_eq!(log.iter().map(|record| record.status).collect::<Vec<_>>(), [200, 304]);
    assert_eq!(log.iter().filter(|record| record.charged).count(), 1);
    hub.touch(&target).unwrap();
    rig.pass(61);
    rig.get(&target, &headers).await.expect(200, "peercache; fwd=stale; fwd-status=200; stored");
    hub.truncate_next(1);
    rig.pass(61);
    hub.touch(&target).unwrap();
    let cut = rig.get(&target, &headers).await;
    assert!(!cut.whole);
    let whole = rig.get(&target, &headers).await;
    assert!(whole.whole && whole.status == 200, "{whole:?}");
    hub.shutdown().await;
}
