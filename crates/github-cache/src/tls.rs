//! The identity of a TLS listener.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::ca::{CaError, CertificateAuthority, server_config};

/// What a TLS listener shows its clients.
#[derive(Clone)]
pub struct TlsIdentity(Kind);

#[derive(Clone)]
enum Kind {
    /// One certificate, renewed by whoever gave it and a restart.
    Fixed(Arc<ServerConfig>),
    /// Certificates of a week, for this machine's names.
    Own(Arc<CertificateAuthority>),
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}

impl TlsIdentity {
    /// A certificate, with the certificates between it and its authority behind it, and its private
    /// key, both as PEM.
    ///
    /// # Errors
    /// PEM without a certificate or key, or a key that does not fit.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, CaError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| CaError::Library(format!("the certificate is not PEM: {error}")))?;
        if chain.is_empty() {
            return Err(CaError::Library("there is no certificate in the PEM".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| CaError::Library(format!("the private key is not PEM: {error}")))?;
        Ok(Self(Kind::Fixed(server_config(chain, key)?)))
    }

    /// Certificates of this authority, for its names but GitHub's.
    #[must_use]
    pub fn from_authority(authority: Arc<CertificateAuthority>) -> Self {
        Self(Kind::Own(authority))
    }

    /// What the next connection is served with.
    pub(crate) fn config(&self) -> Result<Arc<ServerConfig>, CaError> {
        match &self.0 {
            Kind::Fixed(config) => Ok(Arc::clone(config)),
            Kind::Own(authority) => authority.own_server_config(),
        }
    }
}
