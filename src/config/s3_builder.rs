//! The settings of the S3 tier, given in code.

use super::builder::ConfigBuilder;
use super::names::Name;
use super::source::Given;

/// The S3 tier. Without the cargo feature `s3` these have no effect, which is warned of.
impl ConfigBuilder {
    /// The bucket; `auto` has the S3 tier where there is one.
    pub fn s3_bucket(self, bucket: impl Into<String>) -> Self {
        self.with(Name::S3Bucket, Given::Text(bucket.into()))
    }

    /// What the names of all its objects begin with, at most 512 bytes.
    pub fn s3_prefix(self, prefix: impl Into<String>) -> Self {
        self.with(Name::S3Prefix, Given::Text(prefix.into()))
    }

    /// The URL of the store, if it is not AWS.
    pub fn s3_endpoint(self, url: impl Into<String>) -> Self {
        self.with(Name::S3Endpoint, Given::Text(url.into()))
    }

    /// The region of the bucket.
    pub fn s3_region(self, region: impl Into<String>) -> Self {
        self.with(Name::S3Region, Given::Text(region.into()))
    }

    /// Whether the bucket is named in the path of a request rather than in the host.
    pub fn s3_path_style(self, path_style: bool) -> Self {
        self.with(Name::S3PathStyle, Given::Text(path_style.to_string()))
    }
}
