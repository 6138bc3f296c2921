//! The settings of the S3 tier, and the bucket that they name. Credentials, profiles and roles are the AWS
//! SDK's own matter: they are neither read nor shown here.

#[cfg(feature = "s3")]
use std::sync::Arc;

#[cfg(feature = "s3")]
use {super::Config, peercache_api::CacheBackend, peercache_s3::S3};

use super::error::ConfigError;
#[cfg(feature = "s3")]
use super::error::without_help;
use super::names::Name;
#[cfg(feature = "s3")]
use super::secret::Ring;
#[cfg(feature = "s3")]
use super::source::{Given, Raw};
use super::source::{Origin, Set, Sources};
use super::values::{cargo_line, switch};

/// What was said about the S3 tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct S3Settings {
    bucket: Set<Option<String>>,
    prefix: Set<Option<String>>,
    endpoint: Set<Option<String>>,
    region: Set<Option<String>>,
    path_style: Set<Option<bool>>,
}

impl S3Settings {
    pub(super) fn read(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            bucket: text(sources, Name::S3Bucket),
            prefix: text(sources, Name::S3Prefix),
            endpoint: text(sources, Name::S3Endpoint),
            region: text(sources, Name::S3Region),
            path_style: switch(sources, Name::S3PathStyle)?,
        })
    }

    /// Whether `auto` takes the tier.
    pub(super) fn is_present(&self) -> bool {
        self.bucket.value.is_some()
    }

    /// The error of a bucket that cannot be opened, in terms of the setting at fault.
    #[cfg(feature = "s3")]
    fn at_fault(&self, error: peercache_api::Error) -> ConfigError {
        const OF_THE_SDK: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"];
        let remedy =
            error.help().unwrap_or("leave `s3` out of CACHE_BACKEND to do without the bucket").to_owned();
        let variable = error.context("variable").unwrap_or_default();
        let setting = self.show().find(|(name, ..)| name.variables()[0] == variable);
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

    /// The settings as they may be shown.
    pub(super) fn show(&self) -> impl Iterator<Item = (Name, Option<String>, &Origin)> {
        let [bucket, endpoint] =
            [&self.bucket, &self.endpoint].map(|setting| setting.value.as_deref().map(without_user));
        let path_style = self.path_style.value.map(|yes| yes.to_string());
        [
            (Name::S3Bucket, bucket, &self.bucket.origin),
            (Name::S3Prefix, self.prefix.value.clone(), &self.prefix.origin),
            (Name::S3Endpoint, endpoint, &self.endpoint.origin),
            (Name::S3Region, self.region.value.clone(), &self.region.origin),
            (Name::S3PathStyle, path_style, &self.path_style.origin),
        ]
        .into_iter()
    }
}

/// A bucket that nobody uses, since this build cannot. A list without `s3` is a choice, not a mistake:
/// the variables of the bucket are others' too.
pub(super) fn warnings(sources: &Sources<'_>) -> Vec<String> {
    let Some(raw) = sources.get(Name::S3Bucket).filter(|_| !cfg!(feature = "s3")) else { return Vec::new() };
    let (name, line) = (raw.called(), cargo_line(env!("CARGO_PKG_VERSION"), "s3"));
    vec![format!(
        "{name} is set, but this build has no S3, its cargo feature `s3` is off; in Cargo.toml: {line}"
    )]
}

fn text(sources: &Sources<'_>, name: Name) -> Set<Option<String>> {
    let Some(raw) = sources.get(name) else { return Set::default(None) };
    let value = raw.given.text().trim().to_owned();
    Set { value: Some(value).filter(|value| !value.is_empty()), origin: raw.origin }
}

/// Without what stands before the last `@`: an address may hold a password, also where a name is expected.
fn without_user(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    format!("{scheme}{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
}

#[cfg(feature = "s3")]
impl Config {
    /// The bucket that these settings name, without a seal: for what is not an entry, such as its
    /// lifecycle rules. Nothing is sent to it; on a machine without a region the machine's metadata service is asked.
    ///
    /// # Errors
    /// No bucket, or settings that cannot be used, in terms of the one to change.
    pub async fn bucket(&self) -> Result<S3, ConfigError> {
        let variable = Name::S3Bucket.variables()[0];
        let Some(bucket) = &self.s3.bucket.value else {
            return Err(ConfigError::of_variable(
                variable,
                "no bucket is named",
                "set it to the name of a bucket",
            ));
        };
        let mut builder = S3::builder(bucket).read_only(self.read_only.value);
        if let Some(prefix) = &self.s3.prefix.value {
            builder = builder.prefix(prefix);
        }
        if let Some(endpoint) = &self.s3.endpoint.value {
            builder = builder.endpoint(endpoint);
        }
        if let Some(region) = &self.s3.region.value {
            builder = builder.region(region);
        }
        if let Some(path_style) = self.s3.path_style.value {
            builder = builder.path_style(path_style);
        }
        builder.open().await.map_err(|error| self.s3.at_fault(error))
    }

    /// The tier that stands on the bucket.
    pub(super) async fn open_s3(
        &self,
        ring: Option<&Ring>,
    ) -> Result<(Arc<dyn CacheBackend>, Arc<S3>), ConfigError> {
        if ring.is_none() && !self.peers.plaintext.value {
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
            Some(ring) => ring.seal_shared(Arc::clone(&bucket)),
            None => {
                tracing::warn!(
                    "CACHE_INSECURE_PLAINTEXT is true and there is no secret: whoever may read the bucket reads \
                     everything that is shared there, and whoever may write it changes it"
                );
                Arc::clone(&bucket) as Arc<dyn CacheBackend>
            }
        };
        Ok((tier, bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::without_user;

    #[test]
    fn who_logs_in_is_no_part_of_what_is_shown() {
        assert_eq!(without_user("https://s3.example.net/a"), "https://s3.example.net/a");
        assert_eq!(without_user("http://user:word@s3.example.net:1/x"), "http://s3.example.net:1/x");
        assert_eq!(without_user("http://user:w/rd@s3.example.net"), "http://s3.example.net");
        assert_eq!(without_user("user:word@team-cache"), "team-cache");
        assert_eq!(without_user("nonsense"), "nonsense");
    }
}
