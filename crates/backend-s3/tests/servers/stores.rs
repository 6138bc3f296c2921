//! A running server, as clients see it.

use aws_sdk_s3::config::{BehaviorVersion, Region};
use peercache_api::NodeId;
use peercache_s3::{S3, S3Builder};
use peercache_testkit::servers::Credentials;

/// A running server and one of its buckets.
pub(crate) struct Store {
    pub(crate) endpoint: String,
    pub(crate) bucket: &'static str,
    pub(crate) credentials: Credentials,
}

impl Store {
    pub(crate) fn new(endpoint: String, bucket: &'static str, credentials: Credentials) -> Self {
        Self { endpoint, bucket, credentials }
    }

    pub(crate) fn builder(&self, bucket: &str) -> S3Builder {
        S3::builder(bucket).endpoint(&self.endpoint).region("us-east-1").access_key(
            self.credentials.id,
            self.credentials.secret,
            None,
        )
    }

    /// A tier with a prefix that nobody else uses.
    pub(crate) fn fresh(&self) -> S3Builder {
        self.builder(self.bucket).prefix(unique())
    }

    pub(crate) fn client(&self) -> aws_sdk_s3::Client {
        let Credentials { id, secret } = self.credentials;
        let keys = aws_sdk_s3::config::Credentials::new(id, secret, None, None, "test");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(&self.endpoint)
            .region(Region::from_static("us-east-1"))
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(keys)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// A bucket that nobody else uses, for what concerns a whole bucket. Nothing is put there:
    /// SeaweedFS would reserve volumes.
    pub(crate) async fn fresh_bucket(&self) -> String {
        let bucket = unique();
        self.client().create_bucket().bucket(&bucket).send().await.unwrap();
        bucket
    }
}

pub(crate) fn unique() -> String {
    format!("peercache-{:016x}", NodeId::random().unwrap().as_u64())
}
