//! Opens the tier: checks what was set.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use peercache_api::{BackendInfo, Capabilities, Clock, Error, ErrorKind, Operation, SystemClock};
use url::Url;

use crate::client::{Client, Service};
use crate::report::Counters;
use crate::storacha::Storacha;
use crate::store::Store;
use crate::token::Token;
use crate::ucan::did::Did;

/// Addresses of services that were seen in public sources. Whether one answers is not promised, and
/// none is ever used unless it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// The successor of the hosted service: `up.forge.storacha.network`.
    Forge,
}

impl Preset {
    const fn url(self) -> &'static str {
        match self {
            Self::Forge => "https://up.forge.storacha.network",
        }
    }

    const fn did(self) -> &'static str {
        match self {
            Self::Forge => "did:web:up.forge.storacha.network",
        }
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "forge" => Ok(Self::Forge),
            _ => Err(config("this is no preset of a Storacha service", "STORACHA_PRESET")
                .with_help("`forge` is the only one; any other service is named by STORACHA_SERVICE_URL and STORACHA_SERVICE_DID")),
        }
    }
}

/// Builds a [`Storacha`].
#[derive(Clone)]
#[must_use = "the tier is made by `open`"]
pub struct StorachaBuilder {
    token: Token,
    url: Option<String>,
    did: Option<String>,
    receipts: Option<String>,
    preset: Option<Preset>,
    prefix: String,
    allow_private: bool,
    read_only: bool,
    request_timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for StorachaBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorachaBuilder")
            .field("token", &self.token)
            .field("url", &self.url)
            .field("did", &self.did)
            .finish_non_exhaustive()
    }
}

// Here and not beside the type: the builder makes the tier, and the tier knows no builder.
impl Storacha {
    /// Starts with the credentials.
    pub fn builder(token: Token) -> StorachaBuilder {
        StorachaBuilder {
            url: None,
            did: None,
            receipts: None,
            preset: None,
            prefix: "peercache".to_owned(),
            allow_private: false,
            read_only: false,
            request_timeout: Storacha::DEFAULT_REQUEST_TIMEOUT,
            clock: Arc::new(SystemClock::new()),
            token,
        }
    }
}

impl StorachaBuilder {
    /// Where the service is and who it is: a URL of `https`, or `http` on this machine, and a DID.
    /// The key behind a `did:web:HOST` is asked from the service itself, or given as
    /// `did:web:HOST=did:key:KEY`.
    pub fn service(self, url: impl Into<String>, did: impl Into<String>) -> Self {
        self.url(url).did(did)
    }

    /// Where the service is; see [`StorachaBuilder::service`].
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Who the service is; see [`StorachaBuilder::service`].
    pub fn did(mut self, did: impl Into<String>) -> Self {
        self.did = Some(did.into());
        self
    }

    /// Where receipts are. Default: `receipt/` below the service.
    pub fn receipts(mut self, url: impl Into<String>) -> Self {
        self.receipts = Some(url.into());
        self
    }

    /// Fills in URL and DID where neither the token nor a call names them.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.preset = Some(preset);
        self
    }

    /// Keeps entries apart from those of another prefix in the same space; 1 to 128 bytes. Default:
    /// `peercache`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Whether private entries may be stored. Default: no. Removed bytes can stay readable there
    /// for who knows their address; sealed, they show sizes and times.
    pub fn allow_private(mut self, allow: bool) -> Self {
        self.allow_private = allow;
        self
    }

    /// Never writes: a put is answered with kind `Denied`, and nothing is sent.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The longest that a get, put or probe may take, however many requests it needs. Default
    /// [`Storacha::DEFAULT_REQUEST_TIMEOUT`]; not zero.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Where the time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the tier. Nothing is sent, so a service that is away does no harm.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where no service is named or an address or DID cannot be one, the
    /// delegation has expired, or it does not grant what the tier does. [`Error::context`] names as
    /// `variable` the one that makes the setting.
    pub fn open(self) -> Result<Storacha, Error> {
        let grant = self.token.grant();
        // Not the clock of the tier: the service goes by the true time.
        let now = UNIX_EPOCH + Duration::from_millis(SystemClock::new().now().as_millis());
        if grant.expires.is_some_and(|at| at <= now) {
            return Err(config("the delegation in the token has expired", "WEB3_STORAGE_TOKEN")
                .with_help("make a new delegation, and a token from it with `peercache storacha token`"));
        }
        let missing: Vec<_> =
            grant.missing.iter().filter(|can| !self.read_only || can.contains("get")).copied().collect();
        if !missing.is_empty() {
            return Err(config(
                "the delegation in the token does not grant what the tier does",
                "WEB3_STORAGE_TOKEN",
            )
            .with_context("missing", missing.join(", "))
            .with_context("granted", grant.abilities.join(", "))
            .with_help("delegate with `--can 'space/blob/*' --can 'upload/*'`"));
        }
        let preset = self.preset;
        let url =
            self.url.or_else(|| self.token.service.clone()).or_else(|| preset.map(|p| p.url().to_owned()));
        let did = self.did.or_else(|| self.token.did.clone()).or_else(|| preset.map(|p| p.did().to_owned()));
        let nobody = |message, variable| {
            config(message, variable).with_help(
                "name the service with STORACHA_SERVICE_URL and STORACHA_SERVICE_DID, or STORACHA_PRESET=forge; \
                 the hosted service of 2025 is closed, and there is no default",
            )
        };
        let url = url.ok_or_else(|| nobody("no upload service is named", "STORACHA_SERVICE_URL"))?;
        let did =
            did.ok_or_else(|| nobody("the DID of the upload service is not named", "STORACHA_SERVICE_DID"))?;
        let url = service_url(&url, "STORACHA_SERVICE_URL")?;
        let receipts = match &self.receipts {
            Some(receipts) => folder(service_url(receipts, "STORACHA_RECEIPTS_URL")?),
            None => {
                let mut receipts = folder(url.clone());
                receipts.set_path(&format!("{}receipt/", receipts.path()));
                receipts
            }
        };
        let (did, key) = service_did(&did)?;
        if self.prefix.is_empty() || self.prefix.len() > 128 {
            return Err(config("a prefix has 1 to 128 bytes", "STORACHA_PREFIX"));
        }
        if self.request_timeout.is_zero() {
            return Err(Error::new(ErrorKind::Config, Operation::Open, "the deadline of requests is zero")
                .with_backend("storacha"));
        }
        let counters = Arc::new(Counters::default());
        let client = Client::new(
            Service { url, receipts, did, key },
            self.token,
            self.request_timeout / 2,
            Arc::clone(&counters),
        )?;
        let store =
            Store::new(client, self.prefix, counters, self.clock, self.allow_private, self.request_timeout);
        let all = Capabilities::shared().with_ordered_writes().with_native_expiry().with_durable();
        let all = if self.allow_private { all } else { all.without_private_entries() };
        let capabilities = if self.read_only { all.with_read_only() } else { all };
        Ok(Storacha::new(BackendInfo::new("storacha", capabilities), Arc::new(store)))
    }
}

fn service_url(text: &str, variable: &'static str) -> Result<Url, Error> {
    let url = Url::parse(text).map_err(|_| {
        config("this is no URL", variable).with_help("give one such as https://up.example.org")
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(config("the URL holds credentials, which the service does not take", variable));
    }
    let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        scheme => Err(config("the service is not asked in clear", variable)
            .with_context("scheme", scheme)
            .with_help("give a URL of https; http is for a service on this machine")),
    }
}

/// With a slash at the end, so that names can be joined to it.
fn folder(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}

fn service_did(text: &str) -> Result<(Did, Option<ed25519_dalek::VerifyingKey>), Error> {
    let (did, key) = text.split_once('=').map_or((text, None), |(did, key)| (did, Some(key)));
    let parse = |text: &str| {
        text.trim().parse::<Did>().map_err(|why| {
            config("this is no DID", "STORACHA_SERVICE_DID")
                .with_context("reason", why)
                .with_help("give one such as did:web:up.example.org, or did:web:HOST=did:key:KEY")
        })
    };
    let key = match key {
        Some(key) => Some(
            parse(key)?
                .key()
                .ok_or_else(|| config("the DID behind `=` is no Ed25519 key", "STORACHA_SERVICE_DID"))?,
        ),
        None => None,
    };
    Ok((parse(did)?, key))
}

fn config(message: &'static str, variable: &'static str) -> Error {
    Error::new(ErrorKind::Config, Operation::Open, message)
        .with_backend("storacha")
        .with_context("variable", variable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ucan::sample::printed;

    fn builder(abilities: &[&str], expires: Option<u64>) -> StorachaBuilder {
        let (key, proof) = printed(abilities, expires);
        Storacha::builder(Token::new(&key, &proof, None, None).unwrap())
    }

    #[test]
    fn each_wrong_setting_names_its_variable_and_a_remedy() {
        let all = ["space/blob/*", "upload/*"];
        let good = "https://up.example.org";
        let did = "did:web:up.example.org";
        for (builder, expected) in [
            (builder(&all, None), "STORACHA_SERVICE_URL"),
            (builder(&all, None).url(good), "STORACHA_SERVICE_DID"),
            (builder(&all, None).service("http://up.example.org", did), "STORACHA_SERVICE_URL"),
            (builder(&all, None).service("https://a:b@up.example.org", did), "STORACHA_SERVICE_URL"),
            (builder(&all, None).service(good, "up.example.org"), "STORACHA_SERVICE_DID"),
            (builder(&all, Some(1)).service(good, did), "WEB3_STORAGE_TOKEN"),
            (builder(&["upload/*"], None).service(good, did), "WEB3_STORAGE_TOKEN"),
        ] {
            let error = builder.open().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(builder(&all, None).service(good, did).open().is_ok());
        assert!(builder(&all, None).preset("forge".parse().unwrap()).open().is_ok());
        assert!(
            builder(&["upload/get", "space/blob/get/0/1"], None)
                .service(good, did)
                .read_only(true)
                .open()
                .is_ok()
        );
        assert!("hot".parse::<Preset>().is_err());
    }
}
