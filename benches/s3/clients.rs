//! Who asks the server: the tier, the SDK as it comes, the SDK set up as the tier sets it up, and
//! `object_store`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload};
use peercache_api::{
    CacheBackend, Clock, Entry, Key, NodeId, SystemClock, Timestamp, VersionClock, envelope,
};
use peercache_s3::S3;
use peercache_testkit::servers::SeaweedFs;

/// Where the tier keeps its objects.
const PREFIX: &str = "bench";
const REGION: &str = "us-east-1";

pub(crate) struct Clients {
    pub(crate) tier: S3,
    pub(crate) sdk: Client,
    /// The SDK with the tier's settings.
    bare: Client,
    pub(crate) objects: AmazonS3,
    pub(crate) bucket: &'static str,
    versions: VersionClock,
}

/// One way to write an object that is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Tier,
    /// The SDK as it comes, into one folder.
    Sdk,
    /// The same on the condition that nothing is there.
    SdkIfNone,
    /// The same under names like the tier's: each in a folder of its own within another.
    SdkFolders,
    /// The tier's request, made without the tier: its settings, name, condition and envelope.
    SdkSame,
    Objects,
    ObjectsIfNone,
}

/// One way to read an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Get {
    Tier,
    Sdk,
    Objects,
}

pub(crate) async fn tier(server: &SeaweedFs) -> S3 {
    let keys = server.credentials();
    let builder = S3::builder(server.bucket()).endpoint(server.endpoint()).region(REGION).prefix(PREFIX);
    builder.access_key(keys.id, keys.secret, None).open().await.unwrap()
}

/// A name like the tier's, by the digest of `text`.
fn in_folders(text: &str) -> String {
    let digest = Key::new(text).unwrap();
    let hex = digest.digest().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("{PREFIX}/{}/{}/{}", &hex[..2], &hex[2..4], &hex[4..])
}

impl Clients {
    pub(crate) async fn open(server: &SeaweedFs) -> Self {
        let keys = server.credentials();
        let given = aws_sdk_s3::config::Credentials::new(keys.id, keys.secret, None, None, "bench");
        let config = Builder::new()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(server.endpoint())
            .region(Region::from_static(REGION))
            .force_path_style(true)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(given);
        let bare = config
            .clone()
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let objects = AmazonS3Builder::new()
            .with_endpoint(server.endpoint())
            .with_allow_http(true)
            .with_region(REGION)
            .with_bucket_name(server.bucket())
            .with_access_key_id(keys.id)
            .with_secret_access_key(keys.secret);
        Self {
            tier: tier(server).await,
            sdk: Client::from_conf(config.build()),
            bare: Client::from_conf(bare.build()),
            objects: objects.build().unwrap(),
            bucket: server.bucket(),
            versions: VersionClock::new(NodeId::random().unwrap()),
        }
    }

    fn entry(&self, value: &Bytes) -> Entry {
        let now: Timestamp = SystemClock::new().now();
        let entry = Entry::builder(value.clone(), self.versions.next(now), now);
        entry.fresh_for(Duration::from_secs(600)).build().unwrap()
    }

    /// Writes `value` under a name that follows from `name` and was not there before.
    pub(crate) async fn put(&self, how: Put, name: &str, value: &Bytes) -> Duration {
        match how {
            Put::Tier => {
                let (key, entry) = (Key::new(name).unwrap(), self.entry(value));
                let began = Instant::now();
                self.tier.put(&key, entry).await.unwrap();
                began.elapsed()
            }
            Put::Sdk | Put::SdkIfNone | Put::SdkFolders | Put::SdkSame => {
                self.put_by_sdk(how, name, value).await
            }
            Put::Objects | Put::ObjectsIfNone => {
                let mode = if how == Put::Objects { PutMode::Overwrite } else { PutMode::Create };
                let (path, payload) =
                    (Path::from(format!("{how:?}/{name}")), PutPayload::from(value.clone()));
                let began = Instant::now();
                self.objects.put_opts(&path, payload, mode.into()).await.unwrap();
                began.elapsed()
            }
        }
    }

    async fn put_by_sdk(&self, how: Put, name: &str, value: &Bytes) -> Duration {
        let text = format!("{how:?}/{name}");
        let request = match how {
            Put::SdkSame => {
                let body = envelope::encode(&Key::new(name).unwrap(), &self.entry(value));
                self.bare.put_object().content_type("application/octet-stream").body(ByteStream::from(body))
            }
            _ => self.sdk.put_object().body(ByteStream::from(value.clone())),
        };
        let request = match how {
            Put::SdkFolders | Put::SdkSame => request.key(in_folders(&text)),
            _ => request.key(text),
        };
        let request = match how {
            Put::SdkIfNone | Put::SdkSame => request.if_none_match("*"),
            _ => request,
        };
        let request = request.bucket(self.bucket);
        let began = Instant::now();
        request.send().await.unwrap();
        began.elapsed()
    }

    /// Reads what [`Clients::put`] wrote under this name, or finds nothing if `length` is `None`.
    pub(crate) async fn get(&self, how: Get, name: &str, length: Option<usize>) -> Duration {
        let (took, found) = match how {
            Get::Tier => {
                let key = Key::new(name).unwrap();
                let began = Instant::now();
                let found = self.tier.get(&key).await.unwrap();
                (began.elapsed(), found.map(|entry| entry.value().len()))
            }
            Get::Sdk => {
                let request = self.sdk.get_object().bucket(self.bucket).key(format!("{:?}/{name}", Put::Sdk));
                let began = Instant::now();
                let found = match request.send().await {
                    Ok(answer) => Some(answer.body.collect().await.unwrap().into_bytes().len()),
                    Err(error) => {
                        assert!(error.into_service_error().is_no_such_key());
                        None
                    }
                };
                (began.elapsed(), found)
            }
            Get::Objects => {
                let path = Path::from(format!("{:?}/{name}", Put::Objects));
                let began = Instant::now();
                let found = match self.objects.get(&path).await {
                    Ok(found) => Some(found.bytes().await.unwrap().len()),
                    Err(error) => {
                        assert!(matches!(error, object_store::Error::NotFound { .. }), "{error}");
                        None
                    }
                };
                (began.elapsed(), found)
            }
        };
        assert_eq!(found, length);
        took
    }

    /// Requests that the tier has sent.
    pub(crate) fn sent(&self) -> u64 {
        let requests = self.tier.report().requests;
        requests.get + requests.put
    }
}
