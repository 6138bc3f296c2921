//! The bucket that the settings name. Credentials, profiles and roles are the AWS SDK's own matter:
//! they are neither read nor shown here.

use std::sync::Arc;

use peercache_api::CacheBackend;
use peercache_chain::TierOptions;
use peercache_s3::S3;

use crate::cache::CacheBuilder;

use super::configuration::Config;
use super::error::{ConfigError, without_help};
use super::name::{Group, Name};
use super::open::opened_tier;
use super::secret::Ring;
use super::value::{Given, Raw};

impl Config {
    /// The bucket that these settings name, without a seal: for what is not an entry, such as its
    /// lifecycle rules. Nothing is sent to it; on a machine without a region the machine's metadata
    /// service is asked.
    ///
    /// # Errors
    /// No bucket, or settings that cannot be used, in terms of the one to change.
    pub async fn bucket(&self) -> Result<S3, ConfigError> {
        let values = &self.values;
        let Some(bucket) = &values.s3_bucket.value else {
            return Err(ConfigError::of_variable(
                Name::S3Bucket.variables()[0],
                "no bucket is named",
                "set it to the name of a bucket",
            ));
        };
        let mut builder = S3::builder(bucket).read_only(values.read_only.value).clock(self.clock.shared());
        if let Some(prefix) = &values.s3_prefix.value {
            builder = builder.prefix(prefix);
        }
        if let Some(endpoint) = &values.s3_endpoint.value {
            builder = builder.endpoint(endpoint);
        }
        if let Some(region) = &values.s3_region.value {
            builder = builder.region(region);
        }
        if let Some(path_style) = values.s3_path_style.value {
            builder = builder.path_style(path_style);
        }
        builder.open().await.map_err(|error| self.s3_at_fault(error))
    }

    /// Adds the tier that stands on the bucket.
    pub(super) async fn open_s3(
        &self,
        ring: Option<&Ring>,
        builder: CacheBuilder,
        options: TierOptions,
    ) -> Result<CacheBuilder, ConfigError> {
        if ring.is_none() && !self.values.insecure_plaintext.value {
            return Err(ConfigError::of_variable(
                Name::Secret.variables()[0],
                "a bucket shares entries with other machines, and there is no secret to seal them with",
                "make one with `peercache keygen` and give it to every machine as CACHE_SECRET, or set \
                 CACHE_BACKEND=memory,disk to do without the bucket (CACHE_INSECURE_PLAINTEXT=true shares in clear, \
                 with whoever may read the bucket)",
            ));
        }
        let bucket = Arc::new(self.bucket().await?);
        let tier: Arc<dyn CacheBackend> = match ring {
            Some(ring) => ring.seal_shared(Arc::clone(&bucket), self.clock.shared()),
            None => {
                tracing::warn!(
                    "CACHE_INSECURE_PLAINTEXT is true and there is no secret: whoever may read the bucket reads \
                     everything that is shared there, and whoever may write it changes it"
                );
                Arc::clone(&bucket) as Arc<dyn CacheBackend>
            }
        };
        Ok(opened_tier(builder.s3(bucket), tier, options))
    }

    /// The error of a bucket that cannot be opened, in terms of the setting at fault.
    fn s3_at_fault(&self, error: peercache_api::Error) -> ConfigError {
        const OF_THE_SDK: [&str; 4] =
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"];
        let remedy =
            error.help().unwrap_or("leave `s3` out of CACHE_BACKEND to do without the bucket").to_owned();
        let variable = error.context("variable").unwrap_or_default();
        let mut shown = self.values.shown().into_iter();
        let setting = shown.find(|(name, ..)| name.group() == Group::S3 && name.variables()[0] == variable);
        let told = match (setting, OF_THE_SDK.iter().find(|known| **known == variable)) {
            (Some((name, Some(value), origin)), _) => {
                let raw = Raw { name, given: Given::Text(value), origin: origin.clone() };
                ConfigError::of(&raw, error.message(), remedy)
            }
            (Some((name, None, _)), _) => {
                ConfigError::of_variable(name.variables()[0], error.message(), remedy)
            }
            (None, Some(variable)) => ConfigError::of_variable(variable, error.message(), remedy),
            (None, None) => {
                ConfigError::of_variable(Name::S3Bucket.variables()[0], without_help(&error), remedy)
            }
        };
        told.with_source(error)
    }
}
