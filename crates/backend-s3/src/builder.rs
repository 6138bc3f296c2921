//! Opens the tier: checks what was said, takes the rest from where the SDK takes it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use peercache_api::{Clock, Error, ErrorKind, Operation, SystemClock};
use peercache_blob::BlobBackend;

use crate::bucket::Bucket;
use crate::connect::{self, Chain, Given};
use crate::credentials::{Loader, Origin, Provider};
use crate::request_error::{Addressing, Target};
use crate::s3::S3;

/// The SDK's behaviour that this was written for and tested with.
fn behavior() -> BehaviorVersion {
    BehaviorVersion::v2026_01_12()
}

/// Builds an [`S3`].
#[derive(Clone)]
#[must_use = "the tier is made by `open`"]
pub struct S3Builder {
    bucket: String,
    prefix: String,
    region: Option<String>,
    endpoint: Option<String>,
    path_style: Option<bool>,
    profile: Option<String>,
    keys: Option<(String, String, Option<String>)>,
    request_timeout: Duration,
    read_only: bool,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for S3Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Builder")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("region", &self.region)
            .field("profile", &self.profile)
            .field("explicit_keys", &self.keys.is_some())
            .finish_non_exhaustive()
    }
}

impl S3 {
    /// Starts with a bucket; credentials and region are the SDK's own unless given.
    pub fn builder(bucket: impl Into<String>) -> S3Builder {
        S3Builder::new(bucket.into())
    }
}

impl S3Builder {
    fn new(bucket: String) -> Self {
        Self {
            bucket,
            prefix: String::new(),
            region: None,
            endpoint: None,
            path_style: None,
            profile: None,
            keys: None,
            request_timeout: S3::DEFAULT_REQUEST_TIMEOUT,
            read_only: false,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// What every object's name begins with, at most 512 bytes of letters, digits and
    /// `-_./=+@!'()*`. Default: nothing. Tiers of one bucket that are not to share entries have
    /// prefixes of their own.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The bucket's region. Default: `AWS_REGION`, the profile's, this machine's; `us-east-1` for a
    /// store with an endpoint of its own.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Where the store is, `http://` or `https://`, if it is not AWS. Default:
    /// `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile's.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// Whether the bucket is named in the path rather than in the host. Default: with an endpoint
    /// of its own, yes; with AWS, no.
    pub fn path_style(mut self, path_style: bool) -> Self {
        self.path_style = Some(path_style);
        self
    }

    /// The profile of `~/.aws/config` to use. Default: `AWS_PROFILE`, else `default`.
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = Some(name.into());
        self
    }

    /// These credentials rather than the SDK's own chain (environment, profile, web identity,
    /// container, machine). They are kept in memory and shown nowhere.
    pub fn access_key(
        mut self,
        id: impl Into<String>,
        secret: impl Into<String>,
        session_token: Option<String>,
    ) -> Self {
        self.keys = Some((id.into(), secret.into(), session_token));
        self
    }

    /// The longest that a get, put or probe may take, however many requests it needs. Default
    /// [`S3::DEFAULT_REQUEST_TIMEOUT`]; not zero.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Never writes: a put is answered with kind `Denied`, and nothing is sent.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Where the time comes from, for expiry and pauses. Requests are signed by the machine's own
    /// clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the tier. Nothing is sent to the store, so one that is away does no harm; on a machine
    /// without a region its metadata service is asked for one, for at most two seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a bucket or prefix that cannot be one, an endpoint that is no URL,
    /// no region, a deadline of zero, or credentials that are empty or malformed. But for the
    /// deadline, which is given in code alone, [`Error::context`] names as `variable` the one that
    /// makes the setting at fault.
    pub async fn open(self) -> Result<S3, Error> {
        check_bucket(&self.bucket)?;
        if self.request_timeout.is_zero() {
            return Err(mistake("the request timeout is zero; the least is 1 ms"));
        }
        let variable = |name: &str| std::env::var(name).ok();
        let given = self.endpoint.clone().filter(|url| !url.is_empty());
        let endpoint = given.map(|url| (ENDPOINT, url)).or_else(|| endpoint_of(variable));
        if let Some((variable, url)) = &endpoint {
            check_endpoint(variable, url)?;
        }
        let endpoint = endpoint.map(|(_, url)| url);
        let http = connect::http_client(endpoint.as_deref())?;
        let region = match self.region.as_deref().map(str::trim).filter(|region| !region.is_empty()) {
            Some(region) => Region::new(region.to_owned()),
            None => connect::region(&http, self.profile.as_deref(), endpoint.is_some()).await?,
        };
        check_region(&region)?;
        let origin: Arc<dyn Origin> = match self.keys {
            Some((id, secret, token)) => {
                let token = token.filter(|token| !token.is_empty());
                connect::check_keys(|name| match name {
                    "AWS_ACCESS_KEY_ID" => Some(id.clone()),
                    "AWS_SECRET_ACCESS_KEY" => Some(secret.clone()),
                    "AWS_SESSION_TOKEN" => token.clone(),
                    _ => None,
                })?;
                Arc::new(Given(Credentials::new(id, secret, token, None, "peercache")))
            }
            None => {
                if self.profile.is_none() {
                    connect::check_keys(variable)?;
                }
                Arc::new(Chain { http: http.clone(), region: region.clone(), profile: self.profile.clone() })
            }
        };
        let loader = Loader::new(origin, Arc::clone(&self.clock));
        let mut sdk = aws_config::defaults(behavior())
            .http_client(http)
            .region(region.clone())
            .identity_cache(IdentityCache::no_cache())
            .credentials_provider(SharedCredentialsProvider::new(Provider(Arc::clone(&loader))));
        if let Some(profile) = &self.profile {
            sdk = sdk.profile_name(profile);
        }
        if let Some(url) = &endpoint {
            sdk = sdk.endpoint_url(url);
        }
        let sdk = sdk.load().await;
        let path_style = self.path_style.unwrap_or(endpoint.is_some() || sdk.endpoint_url().is_some());
        let config = aws_sdk_s3::config::Builder::from(&sdk)
            .force_path_style(path_style)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            // Our deadline ends a slow body too.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // An envelope carries a checksum of its own, and many stores do not know the SDK's new
            // ones.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        let shown = endpoint.or_else(|| sdk.endpoint_url().map(str::to_owned)).map(|url| without_user(&url));
        let addressing = match (&shown, path_style) {
            (None, _) => Addressing::Aws,
            (Some(_), true) => Addressing::Path,
            (Some(_), false) => Addressing::Host,
        };
        let target = Target { bucket: self.bucket, addressing };
        let bucket = Bucket::new(client, target, &self.prefix, Arc::clone(&self.clock), loader);
        let blobs = BlobBackend::builder(bucket)
            .prefix(self.prefix)
            .request_timeout(self.request_timeout)
            .read_only(self.read_only)
            .clock(self.clock)
            .build()
            .map_err(|error| error.with_context("variable", "S3_PREFIX"))?;
        Ok(S3 { blobs, region: region.as_ref().to_owned(), endpoint: shown })
    }
}

/// The variable of the endpoint, the one to use first.
const ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";

fn mistake(message: &'static str) -> Error {
    Error::new(ErrorKind::Config, Operation::Open, message).with_backend("s3")
}

/// The endpoint of the environment, and the variable that names it.
fn endpoint_of(variable: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    // The SDK's own switch to leave them aside.
    if variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|on| on.eq_ignore_ascii_case("true")) {
        return None;
    }
    [ENDPOINT, "AWS_ENDPOINT_URL"]
        .into_iter()
        .find_map(|name| variable(name).filter(|url| !url.is_empty()).map(|url| (name, url)))
}

/// The rules of AWS, loosened to what other stores take: they allow upper case, `_` and 2 to 255
/// bytes.
fn check_bucket(bucket: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (2..=255).contains(&bucket.len()) && bucket.chars().all(plain) && !bucket.starts_with('.') {
        return Ok(());
    }
    // Not the value: where a name is expected, a URL with credentials in it is a common mistake.
    Err(mistake("the bucket's name is not one")
        .with_context("variable", "AWS_S3_BUCKET")
        .with_context("characters", bucket.chars().count())
        .with_help("give the name alone, without s3:// and path: lower-case letters, digits, `-` and `.`"))
}

fn check_region(region: &Region) -> Result<(), Error> {
    let (region, plain) = (region.as_ref(), |c: char| c.is_ascii_alphanumeric() || c == '-');
    if (1..=64).contains(&region.len()) && region.chars().all(plain) {
        return Ok(());
    }
    Err(mistake("the region is not one")
        .with_context("variable", "AWS_REGION")
        .with_help("give something like eu-central-1"))
}

fn check_endpoint(variable: &str, url: &str) -> Result<(), Error> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    if !host.is_empty() && host.chars().all(plain) && !url.contains(['?', '#', ' ']) {
        return Ok(());
    }
    Err(mistake("the endpoint is not a URL of a store")
        .with_context("variable", variable)
        .with_help("it begins with http:// or https:// and has a host, and no user, password or query"))
}

fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> S3Builder {
        S3::builder("cache").endpoint("http://127.0.0.1:1").access_key("AK", "hush-secret", None)
    }

    async fn refused(builder: S3Builder) -> Error {
        let error = builder.open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        error
    }

    #[tokio::test]
    async fn a_store_that_is_away_does_not_hinder_opening() {
        let tier = ready().open().await.unwrap();
        assert_eq!(tier.report().endpoint.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(tier.report().region, "us-east-1");
    }

    #[tokio::test]
    async fn mistakes_are_told_at_once() {
        insta::assert_snapshot!(refused(S3::builder("s3://cache/x").endpoint("http://h")).await, @"s3: open failed (configuration): the bucket's name is not one [variable=AWS_S3_BUCKET, characters=12]; give the name alone, without s3:// and path: lower-case letters, digits, `-` and `.`");
        insta::assert_snapshot!(refused(ready().endpoint("h:9000")).await, @"s3: open failed (configuration): the endpoint is not a URL of a store [variable=AWS_ENDPOINT_URL_S3]; it begins with http:// or https:// and has a host, and no user, password or query");
        insta::assert_snapshot!(refused(ready().region("eu central")).await, @"s3: open failed (configuration): the region is not one [variable=AWS_REGION]; give something like eu-central-1");
        insta::assert_snapshot!(refused(ready().request_timeout(Duration::ZERO)).await, @"s3: open failed (configuration): the request timeout is zero; the least is 1 ms");
        assert_eq!(refused(ready().prefix("../x")).await.context("variable"), Some("S3_PREFIX"));
        refused(ready().endpoint("http://user:pw@host")).await;
        refused(ready().access_key("", "hush-secret", None)).await;
        insta::assert_snapshot!(refused(ready().access_key("AK", "", None)).await, @"s3: open failed (configuration): a credential is set and empty [variable=AWS_SECRET_ACCESS_KEY]; give it a value, or unset it to use another source; in GitHub Actions, jobs of forks get no secrets");
    }

    #[tokio::test]
    async fn secrets_show_nowhere() {
        let builder = ready().access_key("AKIDSHOWN", "hush-secret", Some("hush-token".to_owned()));
        let shown = format!("{builder:?}");
        let tier = builder.open().await.unwrap();
        let shown = format!("{shown} {tier:?} {:?} {:?}", tier.report(), tier.bucket().client);
        assert!(!shown.contains("hush"), "{shown}");
    }

    #[test]
    fn the_endpoint_of_the_service_comes_before_the_general_one() {
        let both = |name: &str| Some(format!("http://{}", name.to_lowercase()));
        let own = |name: &str| both(name).filter(|_| name.starts_with("AWS_ENDPOINT"));
        assert_eq!(
            endpoint_of(own).unwrap(),
            ("AWS_ENDPOINT_URL_S3", "http://aws_endpoint_url_s3".to_owned())
        );
        let general = |name: &str| both(name).filter(|_| name == "AWS_ENDPOINT_URL");
        assert_eq!(endpoint_of(general).unwrap().0, "AWS_ENDPOINT_URL");
        let ignored = |name: &str| match name {
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" => Some("true".to_owned()),
            _ => both(name),
        };
        assert_eq!(endpoint_of(ignored), None);
    }
}
