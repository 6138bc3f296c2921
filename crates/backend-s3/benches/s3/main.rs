//! The S3 tier beside the AWS SDK called directly, on the same SeaweedFS, taking turns: what the tier adds to a
//! request is its conditions, its envelope and its accounts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on says where")]

use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use peercache_api::{CacheBackend, Clock, Entry, Key, NodeId, SystemClock, VersionClock};
use peercache_s3::S3;
use peercache_testkit::servers::SeaweedFs;

/// The most that a tier's request may take, as a multiple of the SDK's, at p50.
const BAR: f64 = 1.1;
const SIZES: [(usize, &str); 2] = [(1 << 10, "1 KiB"), (1 << 20, "1 MiB")];
const PREFIX: &str = "bench";

struct Both {
    tier: S3,
    sdk: aws_sdk_s3::Client,
    bucket: &'static str,
    versions: VersionClock,
}

impl Both {
    async fn open(server: &SeaweedFs) -> Self {
        let keys = server.credentials();
        let tier = S3::builder(server.bucket())
            .endpoint(server.endpoint())
            .region("us-east-1")
            .prefix(PREFIX)
            .access_key(keys.id, keys.secret, None);
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(server.endpoint())
            .region(Region::from_static("us-east-1"))
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(aws_sdk_s3::config::Credentials::new(
                keys.id,
                keys.secret,
                None,
                None,
                "bench",
            ))
            .build();
        Self {
            tier: tier.open().await.unwrap(),
            sdk: aws_sdk_s3::Client::from_conf(config),
            bucket: server.bucket(),
            versions: VersionClock::new(NodeId::random().unwrap()),
        }
    }

    async fn put(&self, name: &str, value: &Bytes) -> Duration {
        let now = SystemClock::new().now();
        let entry = Entry::builder(value.clone(), self.versions.next(now), now);
        let entry = entry.fresh_for(Duration::from_secs(600)).build().unwrap();
        let key = Key::new(name).unwrap();
        let began = Instant::now();
        self.tier.put(&key, entry).await.unwrap();
        began.elapsed()
    }

    async fn get(&self, name: &str, length: Option<usize>) -> Duration {
        let key = Key::new(name).unwrap();
        let began = Instant::now();
        let found = self.tier.get(&key).await.unwrap();
        let took = began.elapsed();
        assert_eq!(found.map(|entry| entry.value().len()), length);
        took
    }

    async fn put_directly(&self, name: &str, value: &Bytes) -> Duration {
        let body = ByteStream::from(value.clone());
        let began = Instant::now();
        self.sdk.put_object().bucket(self.bucket).key(name).body(body).send().await.unwrap();
        began.elapsed()
    }

    async fn get_directly(&self, name: &str, length: Option<usize>) -> Duration {
        let began = Instant::now();
        let answer = self.sdk.get_object().bucket(self.bucket).key(name).send().await;
        let found = match answer {
            Ok(answer) => Some(answer.body.collect().await.unwrap().into_bytes().len()),
            Err(error) => {
                assert!(error.into_service_error().is_no_such_key());
                None
            }
        };
        let took = began.elapsed();
        assert_eq!(found, length);
        took
    }
}

/// The times of one operation, ours and the SDK's.
#[derive(Default)]
struct Times {
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
}

fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * part) as usize]
}

impl Times {
    fn print(mut self, operation: &str, size: &str, requests: f64) {
        let [ours, theirs] = [&mut self.ours, &mut self.theirs].map(|times| quantile(times, 0.5));
        let tail = [&mut self.ours, &mut self.theirs].map(|times| quantile(times, 0.99));
        let ratio = |ours: Duration, theirs: Duration| ours.as_secs_f64() / theirs.as_secs_f64();
        let middle = ratio(ours, theirs);
        println!(
            "{operation:<6} {size:>6} {:>12} {:>12} {middle:>9.2} {:>9.2} {requests:>9.2}  {}",
            format!("{} us", ours.as_micros()),
            format!("{} us", theirs.as_micros()),
            ratio(tail[0], tail[1]),
            if middle <= BAR { "within the bar" } else { "ABOVE THE BAR" },
        );
    }
}

async fn sized(both: &Both, size: usize, name: &str, rounds: usize) {
    let value =
        Bytes::from((0..size).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>());
    let sent = || {
        let requests = both.tier.report().requests;
        requests.get + requests.put
    };
    let per = |before: u64| (sent() - before) as f64 / rounds as f64;
    // Connections, volumes and the probe of the conditions are not what is measured.
    for n in 0..8 {
        both.put(&format!("{size} warm {n}"), &value).await;
        both.put_directly(&format!("{size}/warm/{n}"), &value).await;
    }

    let (mut times, before) = (Times::default(), sent());
    for n in 0..rounds {
        times.ours.push(both.put(&format!("{size} {n}"), &value).await);
        times.theirs.push(both.put_directly(&format!("{size}/{n}"), &value).await);
    }
    times.print("put", name, per(before));

    let (mut times, before) = (Times::default(), sent());
    for n in 0..rounds {
        times.ours.push(both.get(&format!("{size} {n}"), Some(size)).await);
        times.theirs.push(both.get_directly(&format!("{size}/{n}"), Some(size)).await);
    }
    times.print("hit", name, per(before));

    if size == SIZES[0].0 {
        let (mut times, before) = (Times::default(), sent());
        for n in 0..rounds {
            times.ours.push(both.get(&format!("nothing {n}"), None).await);
            times.theirs.push(both.get_directly(&format!("nothing/{n}"), None).await);
        }
        times.print("miss", "", per(before));
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rounds = if std::env::args().any(|arg| arg == "--quick") { 200 } else { 2000 };
    let Some(server) = SeaweedFs::start().await.unwrap() else { return };
    let both = Both::open(&server).await;
    println!("{rounds} of each, one at a time, taking turns with the AWS SDK on the same SeaweedFS\n");
    println!("operation  size     ours p50      SDK p50 ratio p50 ratio p99  requests");
    for (size, name) in SIZES {
        sized(&both, size, name, if size > 1 << 16 { rounds / 4 } else { rounds }).await;
    }
    println!("\nThe bar: at most {BAR} times the SDK at p50.");
    both.tier.close().await.unwrap();
}
