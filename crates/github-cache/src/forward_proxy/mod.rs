//! The forward proxy: `CONNECT` to a host and port. TLS for the API ends here, where a certificate
//! authority is given, so that its requests are answered from the cache; everything else is
//! tunnelled untouched.

mod connect_request;
mod tunnel;

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use rustls::ServerConfig;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::arrival::Arrival;
use crate::ca::CertificateAuthority;
use crate::proxy::GitHubCache;
use crate::server::Rewound;
pub(crate) use connect_request::{ConnectRequest, read_connect};
pub(crate) use tunnel::tunnel;

/// What the forward proxy is allowed to do.
pub(crate) struct ForwardProxy {
    ca: Option<Arc<CertificateAuthority>>,
    /// What clients beyond loopback have to show.
    token: Option<String>,
}

impl fmt::Debug for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardProxy").field("ca", &self.ca).finish_non_exhaustive()
    }
}

/// What becomes of a `CONNECT`.
pub(crate) enum Connected {
    /// TLS for this host ends here.
    Intercept(Arc<str>, Arc<ServerConfig>),
    /// Its bytes are passed on.
    Tunnel(http::uri::Authority),
}

/// Why a `CONNECT` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not one that can be understood.
    Malformed,
    /// The client has to show the token.
    Unauthorized,
    /// There is no token that a client beyond loopback could show.
    BeyondLoopback,
    /// The other side cannot be reached.
    Unreachable,
}

impl ForwardProxy {
    pub(crate) const fn new(ca: Option<Arc<CertificateAuthority>>, token: Option<String>) -> Self {
        Self { ca, token }
    }

    /// Decides about a `CONNECT`.
    pub(crate) fn decide(
        &self,
        request: &ConnectRequest,
        arrival: &Arrival,
        proxy: &GitHubCache,
    ) -> Result<Connected, Refusal> {
        self.authorize(request, arrival)?;
        let host = request.authority.host().to_ascii_lowercase();
        let is_api =
            request.authority.port_u16() == Some(443) && proxy.shared.hosts.is_api(&host, &request.authority);
        let config = self.ca.as_ref().filter(|_| is_api).map(|ca| ca.server_config(&host));
        match config {
            Some(Ok(config)) => Ok(Connected::Intercept(host.into(), config)),
            Some(Err(error)) => {
                // The client is served, from GitHub itself.
                tracing::warn!(%error, "TLS of the API is tunnelled: no certificate for it");
                Ok(Connected::Tunnel(request.authority.clone()))
            }
            None => Ok(Connected::Tunnel(request.authority.clone())),
        }
    }

    fn authorize(&self, request: &ConnectRequest, arrival: &Arrival) -> Result<(), Refusal> {
        // No address: a unix socket, whose mode says who may connect.
        let is_near = arrival.peer.is_none_or(|peer| peer.to_canonical().is_loopback());
        match &self.token {
            _ if is_near => Ok(()),
            None => Err(Refusal::BeyondLoopback),
            Some(token) => {
                let shown = request.credential.as_deref().unwrap_or_default();
                let same = bool::from(shown.as_bytes().ct_eq(token.as_bytes()));
                if same { Ok(()) } else { Err(Refusal::Unauthorized) }
            }
        }
    }
}

impl Refusal {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "bad-connect",
                "peercache: CONNECT needs a host and a port, such as api.github.com:443",
            ),
            Self::Unauthorized => (
                StatusCode::PROXY_AUTHENTICATION_REQUIRED,
                "client-token",
                "peercache: show the client token, for example with http://x:TOKEN@HOST:PORT as the proxy",
            ),
            Self::BeyondLoopback => (
                StatusCode::FORBIDDEN,
                "client-token",
                "peercache: the forward proxy answers clients of other machines only when it is started with \
                 --client-token",
            ),
            Self::Unreachable => (
                StatusCode::BAD_GATEWAY,
                "tunnel-unreachable",
                "peercache: the host of the tunnel cannot be reached",
            ),
        }
    }

    /// Answers the client. It may try again on the same connection only where that can help.
    pub(crate) async fn answer<S>(self, stream: &mut Rewound<S>) -> std::io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (status, detail, message) = self.parts();
        let body = serde_json::json!({ "message": message }).to_string();
        let challenge = match self {
            Self::Unauthorized => "Proxy-Authenticate: Basic realm=\"peercache\"\r\n",
            _ => "Connection: close\r\n",
        };
        let reason = status.canonical_reason().unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nCache-Status: peercache; detail={detail}\r\n{challenge}\
             Content-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            status.as_u16(),
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await
    }
}
