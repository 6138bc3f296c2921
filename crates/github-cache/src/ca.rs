//! A certificate authority of this machine's own, for the few hosts whose TLS ends in the proxy.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use peercache::Clock;
use peercache::backend::SystemClock;

use crate::hosts::PUBLIC_API;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a server certificate is valid. It is made anew when a day is left.
const LEAF_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Certificates are valid from a day ago, for clients whose clock is behind.
const BACKDATED: Duration = DAY;
/// The most names of one authority.
const MAX_NAMES: usize = 64;

/// Why a certificate authority cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A name is none that a certificate can carry.
    #[error("{0:?} is not a host name or an IP address that a certificate can carry")]
    Name(String),
    /// Too many names.
    #[error("there are {0} names; one authority has at most {MAX_NAMES}")]
    TooManyNames(usize),
    /// The key is not one that this program wrote.
    #[error("the key was not written by `peercache ca`: {0}; make a new one with `peercache ca --renew`")]
    Unreadable(&'static str),
    /// The authority is no longer valid.
    #[error("the certificate authority has expired; make a new one with `peercache ca --renew`")]
    Expired,
    /// The cryptography library refused.
    #[error("the certificate authority cannot be used: {0}")]
    Library(String),
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Library(error.to_string())
    }
}

/// A certificate authority that can vouch for a fixed list of names and for no other (RFC 5280,
/// section 4.2.1.10): a client that trusts it trusts it for these alone.
pub struct CertificateAuthority {
    issuer: rcgen::Certificate,
    key: KeyPair,
    certificate_pem: String,
    names: Vec<String>,
    until: SystemTime,
    clock: Arc<dyn Clock>,
    /// Server certificates that were made, by what they are for. Bounded by the names.
    issued: Mutex<HashMap<String, Issued>>,
}

struct Issued {
    config: Arc<ServerConfig>,
    until: SystemTime,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").field("names", &self.names).finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// The names that are always in it: GitHub's API, and this machine.
    pub const DEFAULT_NAMES: [&'static str; 4] = [PUBLIC_API, "localhost", "127.0.0.1", "::1"];

    /// A new one for these names beside [`Self::DEFAULT_NAMES`].
    ///
    /// # Errors
    /// A name that is none, more than 64, or a library that refuses.
    pub fn generate(names: &[String], valid: Duration) -> Result<Self, CaError> {
        Self::generate_at(names, valid, Arc::new(SystemClock::new()))
    }

    fn generate_at(names: &[String], valid: Duration, clock: Arc<dyn Clock>) -> Result<Self, CaError> {
        let mut all: Vec<String> = Self::DEFAULT_NAMES.iter().map(|&name| name.to_owned()).collect();
        for name in names {
            let name = name.to_ascii_lowercase();
            if !is_name(&name) {
                return Err(CaError::Name(name));
            }
            if !all.contains(&name) {
                all.push(name);
            }
        }
        if all.len() > MAX_NAMES {
            return Err(CaError::TooManyNames(all.len()));
        }
        let until = now(&*clock) + valid;
        Self::assemble(KeyPair::generate()?, all, until, None, clock)
    }

    /// The one that [`Self::key_pem`] and [`Self::certificate_pem`] were taken from.
    ///
    /// # Errors
    /// Files that were not written by this, or an authority that has expired.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        let field = |name: &str| key_pem.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let names = field("names:").ok_or(CaError::Unreadable("it has no line `names:`"))?;
        let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
        if names.len() > MAX_NAMES || names.iter().any(|name| !is_name(name)) {
            return Err(CaError::Unreadable("its line `names:` has something that is no name"));
        }
        let until: u64 = field("valid-until:")
            .and_then(|seconds| seconds.parse().ok())
            .ok_or(CaError::Unreadable("it has no line `valid-until:`"))?;
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(until);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        if until <= now(&*clock) {
            return Err(CaError::Expired);
        }
        let key = KeyPair::from_pem(key_pem).map_err(|_| CaError::Unreadable("it has no private key"))?;
        Self::assemble(key, names, until, Some(certificate_pem.to_owned()), clock)
    }

    fn assemble(
        key: KeyPair,
        names: Vec<String>,
        until: SystemTime,
        certificate_pem: Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // Not the machine's name: whoever reads the certificate need not learn it.
        params.distinguished_name.push(DnType::CommonName, "peercache local certificate authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: names.iter().map(|name| subtree(name)).collect(),
            excluded_subtrees: Vec::new(),
        });
        params.not_before = (now(&*clock) - BACKDATED).into();
        params.not_after = until.into();
        let issuer = params.self_signed(&key)?;
        let certificate_pem = certificate_pem.unwrap_or_else(|| issuer.pem());
        Ok(Self { issuer, key, certificate_pem, names, until, clock, issued: Mutex::default() })
    }

    /// What clients are told to trust, as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key and what [`Self::from_pem`] has to know, as PEM: a secret.
    #[must_use]
    pub fn key_pem(&self) -> String {
        let until = self.until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        format!("names: {}\nvalid-until: {until}\n{}", self.names.join(","), self.key.serialize_pem())
    }

    /// The names that it can vouch for.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// For how much longer it is valid.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.until.duration_since(now(&*self.clock)).unwrap_or_default()
    }

    /// What a TLS server for this host needs: a certificate of a week, made when it is first asked
    /// for and again when a day is left.
    pub(crate) fn server_config(&self, host: &str) -> Result<Arc<ServerConfig>, CaError> {
        if !self.names.iter().any(|name| name == host) {
            return Err(CaError::Name(host.to_owned()));
        }
        self.issue(host, &[host.to_owned()])
    }

    /// What a TLS server for everything but GitHub's own name needs: this machine's names.
    pub(crate) fn own_server_config(&self) -> Result<Arc<ServerConfig>, CaError> {
        let own: Vec<String> = self.names.iter().filter(|name| *name != PUBLIC_API).cloned().collect();
        self.issue("", &own)
    }

    fn issue(&self, purpose: &str, names: &[String]) -> Result<Arc<ServerConfig>, CaError> {
        let now = now(&*self.clock);
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = issued.get(purpose).filter(|found| now + DAY < found.until) {
            return Ok(Arc::clone(&found.config));
        }
        if now >= self.until {
            return Err(CaError::Expired);
        }
        let until = self.until.min(now + LEAF_LIFETIME);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "peercache");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATED).into();
        params.not_after = until.into();
        let leaf = params.signed_by(&key, &self.issuer, &self.key)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = server_config(vec![leaf.der().clone()], key)?;
        issued.insert(purpose.to_owned(), Issued { config: Arc::clone(&config), until });
        Ok(config)
    }
}

/// A TLS server with this certificate, speaking HTTP/1.1.
pub(crate) fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, CaError> {
    let library = |error: rustls::Error| CaError::Library(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(library)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(library)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn now(clock: &dyn Clock) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(clock.now().as_millis())
}

fn is_name(name: &str) -> bool {
    let is_host = name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
    is_host || name.parse::<IpAddr>().is_ok()
}

fn subtree(name: &str) -> GeneralSubtree {
    match name.parse::<IpAddr>() {
        Ok(address) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
        }
        Err(_) => GeneralSubtree::DnsName(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{ServerName, UnixTime, pem::PemObject};

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    /// Whether a client that trusts `ca` alone believes a server of this configuration to be
    /// `host`.
    fn is_believed(ca: &CertificateAuthority, config: &Arc<ServerConfig>, host: &str) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::clone(config)).unwrap();
        for _ in 0..10 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        !client.is_handshaking()
    }

    #[test]
    fn certificates_are_believed_for_their_names_and_no_others() {
        let ca = CertificateAuthority::generate(&["Ghe.Example.com".to_owned()], YEAR).unwrap();
        let github = ca.server_config(PUBLIC_API).unwrap();
        assert!(is_believed(&ca, &github, PUBLIC_API));
        assert!(!is_believed(&ca, &github, "github.com"));
        assert!(is_believed(&ca, &ca.server_config("ghe.example.com").unwrap(), "ghe.example.com"));
        let own = ca.own_server_config().unwrap();
        for name in ["localhost", "127.0.0.1", "::1"] {
            assert!(is_believed(&ca, &own, name), "{name}");
        }
        assert!(!is_believed(&ca, &own, PUBLIC_API));
        assert!(matches!(ca.server_config("github.com"), Err(CaError::Name(_))));
        assert!(Arc::ptr_eq(&github, &ca.server_config(PUBLIC_API).unwrap()), "made once");
        let other = CertificateAuthority::generate(&[], YEAR).unwrap();
        assert!(!is_believed(&other, &github, PUBLIC_API), "another authority");
    }

    #[test]
    fn certificate_for_a_name_outside_the_constraints_is_not_believed() {
        let ca = CertificateAuthority::generate(&[], YEAR).unwrap();
        // Whoever has the key can sign what they like; clients do not believe it.
        let stolen = ca.issue("stolen", &["bank.example".to_owned()]).unwrap();
        assert!(!is_believed(&ca, &stolen, "bank.example"));
    }

    #[test]
    fn server_certificate_is_made_anew_when_a_day_is_left() {
        let clock = Arc::new(peercache_testkit::ManualClock::default());
        let ca = CertificateAuthority::generate_at(&[], 10 * DAY, clock.clone()).unwrap();
        let first = ca.server_config(PUBLIC_API).unwrap();
        clock.advance(5 * DAY);
        assert!(Arc::ptr_eq(&first, &ca.server_config(PUBLIC_API).unwrap()));
        clock.advance(DAY + Duration::from_secs(1));
        assert!(!Arc::ptr_eq(&first, &ca.server_config(PUBLIC_API).unwrap()));
        assert_eq!(ca.remaining(), 4 * DAY - Duration::from_secs(1));
        clock.advance(4 * DAY);
        assert!(matches!(ca.server_config(PUBLIC_API), Err(CaError::Expired)));
    }

    #[test]
    fn what_was_written_is_read_again() {
        let ca = CertificateAuthority::generate(&["10.0.0.1".to_owned()], YEAR).unwrap();
        let again = CertificateAuthority::from_pem(ca.certificate_pem(), &ca.key_pem()).unwrap();
        assert_eq!(again.names(), ca.names());
        let config = again.server_config(PUBLIC_API).unwrap();
        assert!(is_believed(&ca, &config, PUBLIC_API), "clients trust the first certificate");
        let now = UnixTime::now().as_secs();
        let old = ca.key_pem().replace("valid-until: ", "valid-until: 1\n#");
        assert!(now > 1 && matches!(CertificateAuthority::from_pem("", &old), Err(CaError::Expired)));
        let foreign = "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----";
        assert!(matches!(CertificateAuthority::from_pem("", foreign), Err(CaError::Unreadable(_))));
        for name in ["", "a b", "*.github.com", "https://x"] {
            let error = CertificateAuthority::generate(&[name.to_owned()], YEAR).unwrap_err();
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }
}
