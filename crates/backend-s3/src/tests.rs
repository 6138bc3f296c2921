//! The tier over a store that does as it is told: requests, order, refusals.

mod unconditional;

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{
    CacheBackend, CacheBackendExt, Clock, Entry, ErrorKind, Key, NodeId, Timestamp, Version, envelope,
};
use peercache_testkit::ManualClock;
use peercache_testkit::conformance::{self, Time};

use crate::fake::{Fake, Told};
use crate::{Finding, S3, S3Builder};

struct Setup {
    fake: Fake,
    clock: Arc<ManualClock>,
}

impl Setup {
    async fn new() -> Self {
        Self { fake: Fake::start().await, clock: Arc::default() }
    }

    fn builder(&self) -> S3Builder {
        S3::builder("cache")
            .prefix("p")
            .endpoint(&self.fake.url)
            .region("us-east-1")
            .access_key("AK", "secret", None)
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
    }

    async fn tier(&self) -> S3 {
        self.builder().open().await.unwrap()
    }

    /// A tier that has already found out what the store can do.
    async fn warm(&self) -> S3 {
        let tier = self.tier().await;
        tier.put(&key("warm"), self.entry("w", 0)).await.unwrap();
        self.fake.state().take_log();
        tier
    }

    fn entry(&self, value: &'static str, version: u32) -> Entry {
        let now = self.clock.now();
        let version = Version { wall: now, counter: version, node: NodeId::from_u64(1) };
        Entry::builder(value, version, now).fresh_for(Duration::from_secs(3600)).build().unwrap()
    }

    fn log(&self) -> String {
        self.fake.state().take_log()
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_with_conditions_and_without() {
    for ignores_conditions in [false, true] {
        let setup = Setup::new().await;
        setup.fake.state().ignores_conditions = ignores_conditions;
        let (builder, clock) = (setup.builder(), Arc::clone(&setup.clock));
        let harness = conformance::from_fn(Time::Manual(clock), move || {
            let opened = builder.clone().open();
            async move { Ok(Arc::new(opened.await?) as Arc<dyn CacheBackend>) }
        });
        conformance::assert_conforms(harness).await;
    }
}

#[tokio::test]
async fn the_usual_put_and_every_lookup_are_one_request() {
    let setup = Setup::new().await;
    let tier = setup.tier().await;
    let k = key("k");
    tier.put(&k, setup.entry("first", 1)).await.unwrap();
    assert_eq!(setup.log(), "PUT(absent) 200, PUT(absent) 412, PUT(match) 412, PUT(absent) 200");
    tier.put(&k, setup.entry("second", 2)).await.unwrap();
    assert_eq!(setup.log(), "PUT(match) 200");
    tier.get(&k).await.unwrap().unwrap();
    assert_eq!(setup.log(), "GET 200");
    assert_eq!(tier.get(&key("other")).await.unwrap(), None);
    assert_eq!(setup.log(), "GET 404");
    tier.put(&k, setup.entry("older", 1)).await.unwrap();
    assert_eq!(setup.log(), "", "an older write is known to lose");

    // Another process finds the probing object, and learns an entity tag by reading.
    let other = setup.tier().await;
    other.get(&k).await.unwrap().unwrap();
    other.put(&k, setup.entry("older", 1)).await.unwrap();
    assert_eq!(setup.log(), "GET 200", "it has read that this one loses");
    other.put(&k, setup.entry("third", 3)).await.unwrap();
    assert_eq!(setup.log(), "PUT(absent) 412, PUT(match) 412, PUT(match) 200");
    // The first one does not know that yet.
    tier.put(&k, setup.entry("fourth", 4)).await.unwrap();
    assert_eq!(setup.log(), "PUT(match) 412, GET 200, PUT(match) 200");
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "fourth");
    let report = tier.report();
    assert_eq!((report.conditional, report.writable, report.conflicts), (Finding::Yes, Finding::Yes, 1));
    assert_eq!((report.requests.get, report.requests.put), (4, 7));
}

#[tokio::test]
async fn a_removal_that_was_read_before_is_one_request_and_holds() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    let k = key("k");
    tier.put(&k, setup.entry("alive", 1)).await.unwrap();
    tier.remove(&k, setup.entry("", 2).version(), setup.clock.now()).await.unwrap();
    assert_eq!(setup.log(), "PUT(absent) 200, PUT(match) 200");
    // A process that knows nothing cannot raise the dead.
    let other = setup.warm().await;
    other.put(&k, setup.entry("dead", 1)).await.unwrap();
    assert_eq!(setup.log(), "PUT(absent) 412, GET 200");
    assert!(other.get(&k).await.unwrap().unwrap().is_tombstone());
}

#[tokio::test]
async fn an_object_that_vanished_is_written_again() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    let k = key("k");
    tier.put(&k, setup.entry("one", 1)).await.unwrap();
    setup.fake.state().objects.clear();
    setup.log();
    tier.put(&k, setup.entry("two", 2)).await.unwrap();
    assert_eq!(setup.log(), "PUT(match) 404, GET 404, PUT(absent) 200");
    setup.fake.state().objects.clear();
    assert_eq!(tier.get(&k).await.unwrap(), None);
    tier.put(&k, setup.entry("two", 2)).await.unwrap();
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "two", "a miss is not forgotten");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_recognised() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    let k = key("k");
    setup.fake.next(Told::ServeAndHangUp);
    tier.put(&k, setup.entry("v", 1)).await.unwrap();
    assert_eq!(setup.log(), "PUT(absent) 200, PUT(absent) 412, GET 200");
    assert_eq!(tier.report().retries, 1);
}

#[tokio::test]
async fn writes_of_others_in_between_are_compared() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    let k = key("k");
    let race = |version| Told::Race(envelope::encode(&k, &setup.entry("theirs", version)));
    setup.fake.next(race(5));
    tier.put(&k, setup.entry("ours", 4)).await.unwrap();
    assert_eq!(setup.log(), "PUT(absent) 412, GET 200");
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "theirs");
    setup.log();
    setup.fake.next(race(6));
    tier.put(&k, setup.entry("ours", 7)).await.unwrap();
    assert_eq!(setup.log(), "PUT(match) 412, GET 200, PUT(match) 200");
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "ours");
}

#[tokio::test]
async fn what_is_not_ours_is_corrupt_until_it_is_replaced() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    let k = key("k");
    let path = format!("/cache/{}", tier.blobs.blob_name(&k));
    let mut damaged = envelope::encode(&k, &setup.entry("v", 9)).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let foreign = envelope::encode(&key("other"), &setup.entry("theirs", 9)).to_vec();
    for bytes in [damaged, foreign, b"a file".to_vec(), Vec::new(), vec![0; 9 * 1024 * 1024]] {
        setup.fake.state().objects.insert(path.clone(), bytes.into());
        let error = tier.get(&k).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        tier.put(&k, setup.entry("good", 1)).await.unwrap();
        assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "good");
    }
    assert_eq!(tier.report().corrupt, 5);
    // A newer build's format is a miss, and may be replaced.
    let mut newer = envelope::encode(&k, &setup.entry("v", 9)).to_vec();
    newer[4] = 200;
    setup.fake.state().objects.insert(path, newer.into());
    assert_eq!(tier.get(&k).await.unwrap(), None);
    tier.put(&k, setup.entry("good", 1)).await.unwrap();
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "good");
}

#[tokio::test]
async fn throttling_is_not_retried_and_the_wait_is_kept() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    let wait = Some(("retry-after", "7".to_owned()));
    setup.fake.next(Told::Answer(503, "SlowDown", wait));
    let error = tier.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    insta::assert_snapshot!(error, @"s3: get failed (rate limited): the store asks for fewer requests [bucket=cache, status=503, code=SlowDown, retry-after-seconds=7]");
    setup.log();
    for _ in 0..3 {
        assert_eq!(tier.get(&key("k")).await.unwrap_err().kind(), ErrorKind::RateLimited);
        assert_eq!(tier.probe().await.unwrap_err().kind(), ErrorKind::RateLimited);
    }
    assert_eq!(setup.log(), "", "nothing is sent meanwhile");
    setup.clock.advance(Duration::from_secs(7));
    assert_eq!(tier.get(&key("k")).await.unwrap(), None);
    assert_eq!((tier.report().throttled, tier.report().held_back), (1, 6));
}

#[tokio::test]
async fn a_refusal_of_everything_is_not_asked_for_again_at_once() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    setup.fake.next(Told::Answer(403, "ExpiredToken", None));
    assert_eq!(tier.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(tier.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(setup.log(), "GET 403");
    tier.probe().await.unwrap();
    assert_eq!(tier.get(&key("k")).await.unwrap(), None, "a probe that succeeds ends it");
    setup.fake.next(Told::Answer(404, "NoSuchBucket", None));
    assert_eq!(tier.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Config);
    setup.clock.advance(Duration::from_secs(5));
    assert_eq!(tier.get(&key("k")).await.unwrap(), None, "and so does time");
}

#[tokio::test]
async fn credentials_that_may_not_write_make_a_read_only_tier() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    tier.put(&key("k"), setup.entry("v", 1)).await.unwrap();
    setup.fake.state().read_only = true;
    let error = tier.put(&key("k"), setup.entry("v", 2)).await.unwrap_err();
    insta::assert_snapshot!(error, @"s3: put failed (denied): these credentials may not write to the bucket [bucket=cache, status=403, code=AccessDenied]; allow s3:PutObject, or set CACHE_READ_ONLY=true if they are not to write");
    setup.log();
    let error = tier.put(&key("k"), setup.entry("v", 3)).await.unwrap_err();
    insta::assert_snapshot!(error, @"s3: put failed (denied): these credentials may not write to the bucket [bucket=cache, status=403, code=AccessDenied, asked-again-in-seconds=600]; allow s3:PutObject, or set CACHE_READ_ONLY=true if they are not to write");
    assert_eq!(setup.log(), "");
    assert_eq!(tier.report().writable, Finding::No);
    assert_eq!(tier.get(&key("k")).await.unwrap().unwrap().value(), "v", "reads go on");
    setup.fake.state().read_only = false;
    setup.clock.advance(Duration::from_secs(600));
    tier.put(&key("k"), setup.entry("mended", 4)).await.unwrap();
    assert_eq!(tier.report().writable, Finding::Yes);

    let read_only = setup.builder().read_only(true).open().await.unwrap();
    setup.log();
    let error = read_only.put(&key("k"), setup.entry("v", 5)).await.unwrap_err();
    insta::assert_snapshot!(error, @"s3: put failed (denied): the backend is read-only");
    assert_eq!(setup.log(), "");
    assert!(!read_only.info().capabilities.writable);
}

#[tokio::test]
async fn accidents_are_tried_once_more_and_no_oftener() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    setup.fake.next(Told::Answer(500, "InternalError", None));
    assert_eq!(tier.get(&key("k")).await.unwrap(), None);
    assert_eq!(setup.log(), "GET 500, GET 404");
    setup
        .fake
        .state()
        .next
        .extend([Told::Answer(500, "InternalError", None), Told::Answer(500, "InternalError", None)]);
    let error = tier.get(&key("k")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    assert_eq!(setup.log(), "GET 500, GET 500");
}

#[tokio::test]
async fn a_store_that_says_nothing_ends_at_the_deadline() {
    let setup = Setup::new().await;
    let tier = setup.builder().request_timeout(Duration::from_millis(200)).open().await.unwrap();
    setup.fake.next(Told::Hang);
    let error = tier.get(&key("k")).await.unwrap_err();
    insta::assert_snapshot!(error, @"s3: get failed (timeout): the store did not answer within the deadline [milliseconds=200]");
    assert_eq!(tier.get(&key("k")).await.unwrap(), None, "and is asked again");
    assert_eq!(tier.report().timeouts, 1);
}

#[tokio::test]
async fn a_body_that_trickles_ends_at_the_deadline_and_a_slow_one_arrives() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    let now = setup.clock.now();
    let version = setup.entry("", 1).version();
    let entry =
        Entry::builder(vec![7; 20_000], version, now).fresh_for(Duration::from_secs(60)).build().unwrap();
    tier.put(&key("k"), entry.clone()).await.unwrap();
    setup.fake.next(Told::Trickle(2_500));
    assert_eq!(tier.get(&key("k")).await.unwrap(), Some(entry.clone()));
    // A kilobyte per second: the bytes never stop coming, and would for twenty seconds.
    let hasty = setup.builder().request_timeout(Duration::from_millis(300)).open().await.unwrap();
    setup.fake.next(Told::Trickle(10));
    assert_eq!(hasty.get(&key("k")).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(hasty.get(&key("k")).await.unwrap(), Some(entry));
}

#[tokio::test]
async fn a_store_that_is_gone_is_unavailable() {
    let tier = S3::builder("cache")
        .endpoint("http://127.0.0.1:1")
        .access_key("AK", "secret", None)
        .open()
        .await
        .unwrap();
    let error = tier.get(&key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_report_is_data() {
    let setup = Setup::new().await;
    let tier = setup.tier().await;
    let json = serde_json::to_value(tier.report()).unwrap();
    assert_eq!(json["conditional"], "unknown");
    assert_eq!(json["requests"]["get"], 0);
    assert_eq!(json["prefix"], "p/");
    let rule = tier.lifecycle_rule(31).unwrap();
    insta::assert_snapshot!(serde_json::to_string(&rule).unwrap(), @r#"{"ID":"peercache p/","Status":"Enabled","Filter":{"Prefix":"p/"},"Expiration":{"Days":31}}"#);
    assert_eq!(tier.lifecycle_rule(0).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn the_future_is_not_remembered() {
    let setup = Setup::new().await;
    let tier = setup.warm().await;
    let k = key("k");
    let ahead = setup.clock.now().saturating_add(Duration::from_secs(7200));
    let version = Version { wall: ahead, counter: 0, node: NodeId::from_u64(9) };
    let future = Entry::builder("future", version, ahead).fresh_for(Duration::from_secs(9)).build().unwrap();
    tier.put(&k, future).await.unwrap();
    // Another machine replaces it by an honest one; later, what was the future has come.
    setup.warm().await.put(&k, setup.entry("honest", 1)).await.unwrap();
    setup.clock.set_wall(Timestamp::from_millis(ahead.as_millis() - 1000));
    tier.put(&k, setup.entry("later", 2)).await.unwrap();
    assert_eq!(tier.get(&k).await.unwrap().unwrap().value(), "later");
}
