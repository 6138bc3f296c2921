//! A proxy before a real server counts requests and makes it fail: the tier ends in time, says why,
//! and returns by itself.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Clock, ErrorKind, SystemClock};
use peercache_s3::S3;
use peercache_testkit::ManualClock;
use peercache_testkit::servers::{Answer, FaultProxy, Log, Mode, SeaweedFs};

use crate::stores::Store;
use crate::{entry, key, versions};

fn counted(log: &Log) -> (usize, usize, usize) {
    (log.count("GET"), log.count("PUT"), log.requests.len())
}

/// Fails with this kind, and works again once the proxy passes requests and the pauses are over.
async fn fails_and_returns(tier: &S3, proxy: &FaultProxy, clock: &ManualClock, mode: Mode, kind: ErrorKind) {
    let shown = format!("{mode:?}");
    proxy.set(mode);
    let error = tier.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{shown}: {error}");
    let large = entry(&versions(1), vec![1; 40_000]);
    let refused = tier.put(&key("other"), large).await.unwrap_err();
    assert_eq!(refused.kind(), kind, "{shown}: {refused}");
    proxy.set(Mode::Pass);
    clock.advance(Duration::from_secs(30));
    tier.put(&key("other"), entry(&versions(1), "v")).await.unwrap();
    assert!(tier.get(&key("k")).await.unwrap().is_some(), "{shown}");
    tier.probe().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_end_in_time_and_pass() {
    let Some(mut server) = SeaweedFs::start().await.unwrap() else { return };
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let store = Store::new(proxy.endpoint(), server.bucket(), server.credentials());
    let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
    let builder = store.fresh().clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let tier = builder.clone().open().await.unwrap();
    let versions = versions(7);

    // Counted on the server's side.
    tier.put(&key("warm"), entry(&versions, "v")).await.unwrap();
    assert_eq!(counted(&proxy.take_log()), (0, 4, 4), "three find out what the store can do");
    tier.put(&key("k"), entry(&versions, vec![7; 40_000])).await.unwrap();
    assert_eq!(counted(&proxy.take_log()), (0, 1, 1), "a put");
    tier.put(&key("k"), entry(&versions, vec![8; 40_000])).await.unwrap();
    assert_eq!(counted(&proxy.take_log()), (0, 1, 1), "a put over what we wrote");
    tier.get(&key("k")).await.unwrap().unwrap();
    assert_eq!(counted(&proxy.take_log()), (1, 0, 1), "a hit");
    assert!(tier.get(&key("absent")).await.unwrap().is_none());
    assert_eq!(counted(&proxy.take_log()), (1, 0, 1), "a miss");

    // Long enough for a busy machine, and far below what 40,000 bytes take at 1,000 a second.
    let hasty = builder.request_timeout(Duration::from_secs(2)).open().await.unwrap();
    hasty.put(&key("warm"), entry(&versions, "w")).await.unwrap();
    fails_and_returns(&hasty, &proxy, &clock, Mode::Tarpit, ErrorKind::Timeout).await;
    fails_and_returns(&hasty, &proxy, &clock, Mode::Slow(1000), ErrorKind::Timeout).await;
    fails_and_returns(&hasty, &proxy, &clock, Mode::Refuse, ErrorKind::Unavailable).await;
    let expired = Mode::Answer(Answer::expired_token());
    fails_and_returns(&hasty, &proxy, &clock, expired, ErrorKind::Denied).await;
    let slow_down = Answer::slow_down(Some(Duration::from_secs(20)));
    drop(proxy.take_log());
    fails_and_returns(&hasty, &proxy, &clock, Mode::Answer(slow_down), ErrorKind::RateLimited).await;
    let refused =
        proxy.take_log().requests.iter().filter(|seen| seen.status == Some(503.try_into().unwrap())).count();
    assert_eq!(refused, 1, "what came after was held back here");

    server.kill();
    assert_eq!(tier.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart().await.unwrap();
    assert_eq!(tier.get(&key("k")).await.unwrap().unwrap().value()[..], [8; 40_000]);
}
