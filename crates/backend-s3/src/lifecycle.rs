//! The sweeper: a rule of the bucket that removes what has expired long ago.

use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule as SdkRule,
    LifecycleRuleFilter,
};
use peercache_api::{Error, ErrorKind, Operation};
use serde::Serialize;

use crate::report::Request;
use crate::request_error::RequestError;
use crate::s3::S3;

/// The most days that a rule may name.
const MAX_DAYS: u16 = 3650;

/// A lifecycle rule for the tier's objects.
///
/// Serialized as AWS writes rules: `{"Rules": [RULE]}` is what
/// `aws s3api put-bucket-lifecycle-configuration --lifecycle-configuration` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[non_exhaustive]
pub struct LifecycleRule {
    /// Names the rule: another one for the same prefix replaces it.
    #[serde(rename = "ID")]
    pub id: String,
    /// Always `Enabled`.
    pub status: &'static str,
    /// Which objects it is about.
    pub filter: LifecycleFilter,
    /// When they go.
    pub expiration: LifecycleDays,
}

/// The objects that a [`LifecycleRule`] is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[non_exhaustive]
pub struct LifecycleFilter {
    /// What their names begin with.
    pub prefix: String,
}

/// When a [`LifecycleRule`] removes objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[non_exhaustive]
pub struct LifecycleDays {
    /// Days after the object was last written.
    pub days: u16,
}

impl LifecycleRule {
    fn to_sdk(&self) -> Result<SdkRule, RequestError> {
        SdkRule::builder()
            .id(&self.id)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(&self.filter.prefix).build())
            .expiration(LifecycleExpiration::builder().days(i32::from(self.expiration.days)).build())
            .build()
            .map_err(|error| RequestError::Unsendable(error.to_string()))
    }
}

impl S3 {
    /// After how many days an object may go unless told otherwise: no entry lives for longer than
    /// 30, and no tombstone for more than minutes beyond that.
    pub const DEFAULT_SWEEP_DAYS: u16 = 31;

    /// The rule that removes this tier's objects `days` days after they were last written.
    ///
    /// Expired entries are never served, rule or not; it only saves the storage. Below
    /// [`S3::DEFAULT_SWEEP_DAYS`] tombstones go earlier than they should: what was removed could
    /// come back from a machine that was away for longer than `days`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless `days` is 1 to 3650.
    pub fn lifecycle_rule(&self, days: u16) -> Result<LifecycleRule, Error> {
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(Error::new(ErrorKind::Config, Operation::Configure, "a rule has 1 to 3650 days")
                .with_backend("s3")
                .with_context("days", days));
        }
        let prefix = self.blobs.prefix().to_owned();
        Ok(LifecycleRule {
            id: format!("peercache {prefix}").trim_end().to_owned(),
            status: "Enabled",
            filter: LifecycleFilter { prefix },
            expiration: LifecycleDays { days },
        })
    }

    /// Adds [`S3::lifecycle_rule`] to the bucket's rules; all others stay. Needs
    /// `s3:GetLifecycleConfiguration` and `s3:PutLifecycleConfiguration`. Returns the rule.
    ///
    /// Reads the rules and writes them back: a rule that somebody else adds in between is lost.
    ///
    /// # Errors
    /// As [`S3::lifecycle_rule`]; [`ErrorKind::Config`] when the tier has no prefix while the
    /// bucket has other rules, or could hold other things; otherwise as for a put.
    pub async fn apply_lifecycle(&self, days: u16) -> Result<LifecycleRule, Error> {
        let rule = self.lifecycle_rule(days)?;
        if rule.filter.prefix.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                Operation::Configure,
                "without a prefix the rule would remove everything in the bucket",
            )
            .with_backend("s3")
            .with_context("bucket", &self.bucket().target.bucket)
            .with_help("set S3_PREFIX, or set the rule yourself if the bucket holds nothing else"));
        }
        let work = async {
            self.replace_rule(&rule).await.map_err(|error| {
                let denied = error.is_access_denied();
                let error = self.bucket().fail(error, Operation::Configure);
                if denied {
                    Error::new(
                        ErrorKind::Denied,
                        Operation::Configure,
                        "these credentials may not change the bucket's lifecycle rules",
                    )
                    .with_backend("s3")
                    .with_context("bucket", &self.bucket().target.bucket)
                    .with_help("allow s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration")
                } else {
                    error
                }
            })
        };
        self.blobs.run(Operation::Configure, work).await.map_err(|error| self.explain(error))?;
        Ok(rule)
    }

    async fn replace_rule(&self, rule: &LifecycleRule) -> Result<(), RequestError> {
        let (client, bucket) = (&self.bucket().client, &self.bucket().target.bucket);
        let read = || async {
            client.get_bucket_lifecycle_configuration().bucket(bucket).send().await.map_err(RequestError::of)
        };
        let mut rules = match self.bucket().send(Request::Lifecycle, Operation::Configure, read).await {
            Ok(answer) => answer.rules.unwrap_or_default(),
            // No rule yet is a 404 too.
            Err(error) if error.is_no_such_object() => Vec::new(),
            Err(error) => return Err(error),
        };
        rules.retain(|other| other.id() != Some(&rule.id));
        rules.push(rule.to_sdk()?);
        let configuration = BucketLifecycleConfiguration::builder()
            .set_rules(Some(rules))
            .build()
            .map_err(|error| RequestError::Unsendable(error.to_string()))?;
        let write = || async {
            let request = client.put_bucket_lifecycle_configuration().bucket(bucket);
            request.lifecycle_configuration(configuration.clone()).send().await.map_err(RequestError::of)
        };
        self.bucket().send(Request::Lifecycle, Operation::Configure, write).await.map(|_| ())
    }
}
