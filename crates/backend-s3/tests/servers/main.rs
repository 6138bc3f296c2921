//! The tier over real servers: conformance, order under contention, and what users read when
//! something is wrong.

#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod contended;
mod faults;
mod sources;
mod stores;

use std::sync::Arc;

use peercache_api::{CacheBackend, Clock, Entry, ErrorKind, Key, NodeId, SystemClock, VersionClock};
use peercache_s3::Finding;
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};
use peercache_testkit::servers::{Credentials, Moto, SeaweedFs};

use stores::Store;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn entry(versions: &VersionClock, value: impl Into<bytes::Bytes>) -> Entry {
    let now = SystemClock::new().now();
    let lifetime = std::time::Duration::from_secs(600);
    Entry::builder(value, versions.next(now), now).fresh_for(lifetime).build().unwrap()
}

fn versions(node: u64) -> VersionClock {
    VersionClock::new(NodeId::from_u64(node))
}

/// One server for all cases: it takes seconds to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_over_seaweedfs() {
    let Some(server) = SeaweedFs::start().await.unwrap() else { return };
    let (writer, reader) = (server.credentials(), server.read_only_credentials());
    let store = Store::new(server.endpoint(), server.bucket(), writer);
    conforms(&store).await;
    conditions_are_honoured_and_found_out_once(&store).await;
    a_lifecycle_rule_is_added_and_the_others_stay(&store).await;
    chunks_go_side_by_side(&store).await;
    mistakes_are_told_apart(&store).await;
    credentials_that_may_only_read_make_a_read_only_tier(&store, reader).await;
    sources::keys_of_the_environment(&store).await;
    sources::a_profile_and_one_that_is_mended_while_we_run(&store).await;
    sources::keys_that_expire_half_way(&store, server.renewed_credentials()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_over_moto() {
    let Some(server) = Moto::start().await.unwrap() else { return };
    let store = Store::new(server.endpoint(), server.bucket(), server.credentials());
    conforms(&store).await;
    conditions_are_honoured_and_found_out_once(&store).await;
    a_lifecycle_rule_is_added_and_the_others_stay(&store).await;
    sources::a_web_identity(&store).await;
}

async fn conforms(store: &Store) {
    let clock = Arc::new(ManualClock::new(SystemClock::new().now()));
    let builder = store.fresh().clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let harness = conformance::from_fn(Time::Manual(clock), move || {
        let opened = builder.clone().open();
        async move { Ok(Arc::new(opened.await?) as Arc<dyn CacheBackend>) }
    });
    conformance::assert_conforms(harness).await;
}

async fn conditions_are_honoured_and_found_out_once(store: &Store) {
    let fresh = store.fresh();
    for (process, expected) in [(0, 4), (1, 3)] {
        let tier = fresh.clone().open().await.unwrap();
        tier.put(&key(&format!("k{process}")), entry(&versions(process), "v")).await.unwrap();
        let report = tier.report();
        assert_eq!(report.conditional, Finding::Yes);
        assert_eq!(report.requests.put, expected, "three to find out, two where it was tried before");
    }
}

async fn chunks_go_side_by_side(store: &Store) {
    let fresh = store.fresh();
    let tier = Arc::new(fresh.clone().open().await.unwrap());
    let versions = Arc::new(versions(1));
    let chunk = |n: usize| vec![u8::try_from(n).unwrap(); 4 * 1024 * 1024 - n];
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (tier, versions) = (Arc::clone(&tier), Arc::clone(&versions));
        tasks.spawn(async move {
            let k = key(&format!("chunk{n}"));
            tier.put(&k, entry(&versions, chunk(n))).await.unwrap();
            let found = tier.get(&k).await.unwrap().unwrap();
            assert!(found.value()[..] == chunk(n)[..], "chunk {n}");
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn mistakes_are_told_apart(store: &Store) {
    let fresh = store.fresh();
    let wrong = fresh.clone().access_key(store.credentials.id, "not-the-secret", None).open().await.unwrap();
    let error = wrong.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("the secret key is wrong"), "{error}");

    let unknown = fresh.clone().access_key("AKNOBODY", "secret", None).open().await.unwrap();
    let error = unknown.probe().await.unwrap_err();
    assert!(error.message().contains("does not know the access key"), "{error}");

    let missing = store.builder("no-such-bucket-here").open().await.unwrap();
    for error in [
        missing.get(&key("k")).await.unwrap_err(),
        missing.probe().await.unwrap_err(),
        missing.put(&key("k"), entry(&versions(1), "v")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.message().contains("the bucket does not exist"), "{error}");
    }
}

async fn credentials_that_may_only_read_make_a_read_only_tier(store: &Store, reader: Credentials) {
    let fresh = store.fresh();
    let writer = fresh.clone().open().await.unwrap();
    let k = key("k");
    writer.put(&k, entry(&versions(1), "v")).await.unwrap();
    let reader = fresh.access_key(reader.id, reader.secret, None).open().await.unwrap();
    assert_eq!(reader.get(&k).await.unwrap().unwrap().value(), "v");
    assert_eq!(reader.get(&key("absent")).await.unwrap(), None);
    for _ in 0..2 {
        let error = reader.put(&k, entry(&versions(2), "w")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
    assert_eq!(reader.report().writable, Finding::No);
    assert_eq!(reader.report().requests.put, 1, "the second was refused here");
    assert_eq!(reader.get(&k).await.unwrap().unwrap().value(), "v");
}

async fn a_lifecycle_rule_is_added_and_the_others_stay(store: &Store) {
    use aws_sdk_s3::types::{
        BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule,
        LifecycleRuleFilter,
    };
    let bucket = store.fresh_bucket().await;
    let client = store.client();
    let tier = store.builder(&bucket).prefix("ci").open().await.unwrap();
    tier.apply_lifecycle(31).await.unwrap();
    let theirs = LifecycleRule::builder()
        .id("theirs")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("logs/").build())
        .expiration(LifecycleExpiration::builder().days(3).build())
        .build()
        .unwrap();
    let ours = client.get_bucket_lifecycle_configuration().bucket(&bucket).send().await.unwrap();
    let rules = ours.rules().iter().cloned().chain([theirs]).collect();
    let both = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build().unwrap();
    let put = client.put_bucket_lifecycle_configuration().bucket(&bucket);
    put.lifecycle_configuration(both).send().await.unwrap();

    tier.apply_lifecycle(40).await.unwrap();
    let now = client.get_bucket_lifecycle_configuration().bucket(&bucket).send().await.unwrap();
    let mut shown: Vec<_> = now
        .rules()
        .iter()
        .map(|rule| {
            let prefix = rule.filter().and_then(|filter| filter.prefix());
            (prefix.unwrap_or_default().to_owned(), rule.expiration().and_then(|e| e.days()))
        })
        .collect();
    shown.sort();
    assert_eq!(shown, [("ci/".to_owned(), Some(40)), ("logs/".to_owned(), Some(3))]);

    let bare = store.builder(&bucket).open().await.unwrap();
    assert_eq!(bare.apply_lifecycle(31).await.unwrap_err().kind(), ErrorKind::Config);
}
