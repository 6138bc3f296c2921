//! Which servers there are. `PEERCACHE_TEST_S3_SEAWEEDFS` and `PEERCACHE_TEST_S3_MOTO` name running ones, as
//! `URL,KEY,SECRET` and optionally `,KEY,SECRET` of somebody who may only read.

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use peercache_api::NodeId;
use peercache_s3::{S3, S3Builder};

/// The bucket of all tests.
pub(crate) const BUCKET: &str = "peercache-tests";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Checks signatures and permissions.
    SeaweedFs,
    /// Answers as AWS does, and lets everybody in.
    Moto,
}

/// A running server.
pub(crate) struct Store {
    pub(crate) endpoint: String,
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) reader: Option<(String, String)>,
}

/// The server, or `None` when the test is to be skipped.
pub(crate) fn store(kind: Kind) -> Option<Store> {
    let variable = match kind {
        Kind::SeaweedFs => "PEERCACHE_TEST_S3_SEAWEEDFS",
        Kind::Moto => "PEERCACHE_TEST_S3_MOTO",
    };
    let Ok(told) = std::env::var(variable) else {
        let required = std::env::var_os("PEERCACHE_TEST_REQUIRE").is_some_and(|value| value == "all");
        assert!(!required, "{variable} names no server");
        eprintln!("skipped: {variable} names no server");
        return None;
    };
    let mut parts = told.split(',').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_else(|| panic!("{variable} is URL,KEY,SECRET"));
    let (endpoint, key, secret) = (part(), part(), part());
    Some(Store { endpoint, key, secret, reader: parts.next().zip(parts.next()) })
}

impl Store {
    pub(crate) fn builder(&self, bucket: &str) -> S3Builder {
        S3::builder(bucket).endpoint(&self.endpoint).region("us-east-1").access_key(
            &self.key,
            &self.secret,
            None,
        )
    }

    pub(crate) fn client(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(&self.endpoint)
            .region(Region::from_static("us-east-1"))
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(Credentials::new(&self.key, &self.secret, None, None, "test"))
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// A tier in the bucket of all tests, with a prefix that nobody else uses.
    pub(crate) async fn fresh(&self) -> S3Builder {
        self.shared_bucket().await;
        self.builder(BUCKET).prefix(unique())
    }

    /// Makes the bucket of all tests. One for all, because SeaweedFS reserves volumes for each.
    pub(crate) async fn shared_bucket(&self) {
        use aws_sdk_s3::operation::create_bucket::CreateBucketError;
        if let Err(error) = self.client().create_bucket().bucket(BUCKET).send().await {
            let error = error.into_service_error();
            let there = matches!(
                error,
                CreateBucketError::BucketAlreadyExists(_) | CreateBucketError::BucketAlreadyOwnedByYou(_)
            );
            assert!(there, "{error:?}");
        }
    }

    /// A bucket that nobody else uses, for what concerns a whole bucket. Nothing is put there.
    pub(crate) async fn fresh_bucket(&self) -> String {
        let bucket = unique();
        self.client().create_bucket().bucket(&bucket).send().await.unwrap();
        bucket
    }
}

pub(crate) fn unique() -> String {
    format!("peercache-{:016x}", NodeId::random().unwrap().as_u64())
}
