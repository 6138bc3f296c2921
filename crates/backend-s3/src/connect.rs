//! The HTTP client, the region and the credentials that requests are made with.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::{Region, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, HttpClientError};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn};
use base64::Engine as _;
use peercache_api::util::environment_spares_proxy;
use peercache_api::{Error, ErrorKind, Operation};

use crate::credentials::{Origin, flaw_of_key};

/// The longest that making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// S3 closes idle connections after about 20 s; a request must not meet one that it is closing.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest that the metadata service of a machine may take to name its region.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// One client for the store and for whoever gives credentials: TLS by `ring`, certificates of the
/// system or else Mozilla's, proxies from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, and
/// connections that are kept. With `endpoint` as the store's own, what `NO_PROXY` says of that goes
/// for all.
pub(crate) fn http_client(endpoint: Option<&str>) -> Result<SharedHttpClient, Error> {
    let context = tls_context().map_err(|error| {
        Error::new(ErrorKind::Config, Operation::Open, "TLS could not be set up")
            .with_backend("s3")
            .with_source(error)
    })?;
    let is_spared = endpoint.and_then(|url| url.parse::<http::Uri>().ok()).is_some_and(|url| {
        let usual = if url.scheme() == Some(&http::uri::Scheme::HTTPS) { 443 } else { 80 };
        url.host().is_some_and(|host| environment_spares_proxy(host, url.port_u16().unwrap_or(usual)))
    });
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let mut builder = Connector::builder()
        .connector_settings(settings)
        .proxy_config(if is_spared { ProxyConfig::disabled() } else { ProxyConfig::from_env() })
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tls_provider(Provider::Rustls(CryptoMode::Ring));
    builder.set_tls_context(context);
    let connector = SharedHttpConnector::new(builder.build());
    Ok(http_client_fn(move |_, _| connector.clone()))
}

/// Images made FROM scratch have no certificates; the client would then panic in a debug build and
/// trust nobody in any other.
fn tls_context() -> Result<TlsContext, HttpClientError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a certificate of the system could not be read");
    }
    let trust = if found.certs.is_empty() {
        webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .fold(TrustStore::empty(), |trust, root| trust.with_pem_certificate(pem(root)))
    } else {
        TrustStore::default()
    };
    TlsContext::builder().with_trust_store(trust).build()
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, c) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

/// The region: of the environment, of the profile, or of the machine this runs on. A store with an
/// endpoint of its own needs none, and is asked in `us-east-1` then, as such stores expect. A
/// variable that is set and empty counts as unset.
pub(crate) async fn region(
    http: &SharedHttpClient,
    profile: Option<&str>,
    own_endpoint: bool,
) -> Result<Region, Error> {
    let config = ProviderConfig::without_region().with_http_client(http.clone());
    if let Some(region) = region_of_environment(|name| std::env::var(name).ok()) {
        return Ok(Region::new(region));
    }
    let of_profile = ProfileFileRegionProvider::builder().configure(&config);
    let of_profile = match profile {
        Some(name) => of_profile.profile_name(name),
        None => of_profile,
    };
    if let Some(region) = of_profile.build().region().await {
        return Ok(region);
    }
    if own_endpoint {
        return Ok(Region::from_static("us-east-1"));
    }
    let of_machine = ImdsRegionProvider::builder().configure(&config).build();
    match tokio::time::timeout(METADATA_TIMEOUT, of_machine.region()).await {
        Ok(Some(region)) => Ok(region),
        _ => Err(Error::new(ErrorKind::Config, Operation::Open, "no region is set")
            .with_backend("s3")
            .with_context("variable", "AWS_REGION")
            .with_help("set it to the bucket's region")),
    }
}

fn region_of_environment(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| {
        let value = variable(name)?.trim().to_owned();
        Some(value).filter(|value| !value.is_empty())
    })
}

/// Credentials that were given in code.
#[derive(Debug)]
pub(crate) struct Given(pub(crate) Credentials);

#[async_trait]
impl Origin for Given {
    async fn provider(&self) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(self.0.clone())
    }
}

/// The SDK's own chain: environment, profile, web identity, container, machine. Made anew each
/// time, because it reads files once.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) http: SharedHttpClient,
    pub(crate) region: Region,
    pub(crate) profile: Option<String>,
}

#[async_trait]
impl Origin for Chain {
    async fn provider(&self) -> SharedCredentialsProvider {
        let config = ProviderConfig::without_region().with_http_client(self.http.clone());
        let chain = DefaultCredentialsChain::builder().configure(config).region(self.region.clone());
        let chain = match &self.profile {
            Some(name) => chain.profile_name(name),
            None => chain,
        };
        SharedCredentialsProvider::new(chain.build().await)
    }
}

/// Refuses keys that cannot be right: set and empty, which is what a secret looks like that a job
/// does not get, unless another source is set as well; or with a character that no request can
/// carry. White space around a key, such as the line break of a file, is not part of it.
/// `variable` reads the environment.
pub(crate) fn check_keys(variable: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
    for name in KEYS {
        if let Some(value) = variable(name).filter(|value| !value.trim().is_empty())
            && let Some(flaw) = flaw_of_key(value.trim())
        {
            return Err(Error::new(ErrorKind::Config, Operation::Open, format!("a credential {flaw}"))
                .with_backend("s3")
                .with_context("variable", name)
                .with_help("set it to the key alone: no quotes, and no spaces or line breaks in it"));
        }
    }
    const OTHERS: [&str; 4] = [
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let filled = |name: &str| variable(name).is_some_and(|value| !value.trim().is_empty());
    if OTHERS.iter().any(|name| filled(name)) {
        return Ok(());
    }
    for name in &KEYS[..2] {
        if variable(name).is_some_and(|value| value.trim().is_empty()) {
            return Err(empty(name));
        }
    }
    Ok(())
}

/// The variables of keys.
const KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// The error for a credential that is set and empty.
fn empty(name: &'static str) -> Error {
    Error::new(ErrorKind::Config, Operation::Open, "a credential is set and empty")
        .with_backend("s3")
        .with_context("variable", name)
        .with_help(
            "give it a value, or unset it to use another source; in GitHub Actions, jobs of forks get no secrets",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_key_is_refused_unless_there_is_another_source() {
        let with = |set: &[(&str, &str)]| {
            check_keys(|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(with(&[]).is_ok());
        assert!(with(&[("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "s")]).is_ok());
        assert!(with(&[("AWS_ACCESS_KEY_ID", ""), ("AWS_PROFILE", "ci")]).is_ok());
        let error = with(&[("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", " ")]).unwrap_err();
        insta::assert_snapshot!(error, @"s3: open failed (configuration): a credential is set and empty [variable=AWS_SECRET_ACCESS_KEY]; give it a value, or unset it to use another source; in GitHub Actions, jobs of forks get no secrets");
    }

    #[test]
    fn malformed_key_is_refused_by_name_and_not_repeated() {
        let with = |name: &'static str, value: &'static str| {
            check_keys(|known| match known {
                _ if known == name => Some(value.to_owned()),
                "AWS_ACCESS_KEY_ID" => Some("AK".to_owned()),
                "AWS_SECRET_ACCESS_KEY" => Some("aws+/secret=".to_owned()),
                _ => None,
            })
        };
        for name in KEYS {
            for value in ["hu\rsh", "hu\nsh", "hu sh", "hu\u{a0}sh", "\"hush\"", "'hush'", "hü"] {
                let error = with(name, value).unwrap_err();
                assert_eq!(error.context("variable"), Some(name), "{value:?}");
                assert!(!error.to_string().contains("hush"), "{error}");
            }
            for value in ["aws+/secret=", " aws+/secret=", "aws+/secret=\r", "aws+/secret=\n"] {
                assert!(with(name, value).is_ok(), "{value:?}");
            }
        }
        insta::assert_snapshot!(with("AWS_ACCESS_KEY_ID", "hu\rsh").unwrap_err(), @"s3: open failed (configuration): a credential has a line break or another control character in it [variable=AWS_ACCESS_KEY_ID]; set it to the key alone: no quotes, and no spaces or line breaks in it");
    }

    #[test]
    fn empty_region_counts_as_unset() {
        let with = |first: &str, second: &str| {
            let (first, second) = (first.to_owned(), second.to_owned());
            region_of_environment(move |name| {
                Some(if name == "AWS_REGION" { first.clone() } else { second.clone() })
            })
        };
        assert_eq!(with("", ""), None);
        assert_eq!(with(" ", "eu-west-1\r").as_deref(), Some("eu-west-1"));
        assert_eq!(with("eu-central-1\n", "eu-west-1").as_deref(), Some("eu-central-1"));
    }

    #[test]
    fn bundled_roots_are_readable_as_text() {
        use rustls_pki::PemObject as _;
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        assert!(roots.len() > 100);
        for root in roots {
            let read = rustls_pki::CertificateDer::from_pem_slice(pem(root).as_bytes()).unwrap();
            assert_eq!(&read, root);
        }
    }

    mod rustls_pki {
        pub(super) use rustls::pki_types::CertificateDer;
        pub(super) use rustls::pki_types::pem::PemObject;
    }
}
