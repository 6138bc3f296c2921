//! Connections to upstream servers: directly, or through the proxy that the environment names; TLS
//! where the URL says so.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::error::BuildError;

/// Probes of a connection on which nothing moves, so that a peer that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes connections for the HTTP client, and tunnels for clients.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Parts>);

struct Parts {
    tcp: HttpConnector,
    tls: Arc<ClientConfig>,
    /// The proxies that the environment names, unless it is not obeyed.
    proxies: Option<Matcher>,
    within: Duration,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("within", &self.0.within).finish_non_exhaustive()
    }
}

impl Connector {
    /// `within` is for a whole connection, TLS and proxies included.
    pub(crate) fn new(within: Duration, system_proxy: bool) -> Result<Self, BuildError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_connect_timeout(Some(within));
        let proxies = system_proxy.then(Matcher::from_env);
        Ok(Self(Arc::new(Parts { tcp, tls: client_config()?, proxies, within })))
    }

    /// What a request for this plain-HTTP URL has to show the proxy that it goes through.
    pub(crate) fn proxy_authorization(&self, url: &Uri) -> Option<HeaderValue> {
        if url.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        self.0.intercept(url)?.basic_auth().cloned()
    }

    /// A connection to a host and port for somebody else's bytes.
    pub(crate) async fn tunnel(&self, authority: &Authority) -> Result<Box<dyn Io>, BoxError> {
        let url =
            Uri::builder().scheme(Scheme::HTTPS).authority(authority.clone()).path_and_query("/").build()?;
        Ok(tokio::time::timeout(self.0.within, self.0.dial(&url, true)).await??.0)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UpstreamStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let parts = Arc::clone(&self.0);
        Box::pin(async move {
            let within = parts.within;
            Ok(TokioIo::new(tokio::time::timeout(within, parts.connect(&url)).await??))
        })
    }
}

impl Parts {
    fn intercept(&self, url: &Uri) -> Option<Intercept> {
        self.proxies.as_ref()?.intercept(url)
    }

    async fn connect(&self, url: &Uri) -> Result<UpstreamStream, BoxError> {
        let secure = url.scheme() == Some(&Scheme::HTTPS);
        let (stream, proxied) = self.dial(url, secure).await?;
        if !secure {
            return Ok(UpstreamStream { stream, proxied });
        }
        Ok(UpstreamStream { stream: self.secure(stream, url).await?, proxied: false })
    }

    /// A connection to the URL's host, or through a proxy. Says whether requests have to be in the
    /// form for a proxy.
    async fn dial(&self, url: &Uri, secure: bool) -> Result<(Box<dyn Io>, bool), BoxError> {
        let Some(intercept) = self.intercept(url) else {
            return Ok((self.tcp(url.clone()).await?, false));
        };
        let proxy = intercept.uri().clone();
        let is_https = match proxy.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            other => {
                let scheme = other.unwrap_or("none").to_owned();
                return Err(format!("a proxy with the scheme {scheme:?}; http and https are usable").into());
            }
        };
        if !secure {
            let stream = self.tcp(proxy.clone()).await?;
            let stream = if is_https { self.secure(stream, &proxy).await? } else { stream };
            return Ok((stream, true));
        }
        let mut tunnel = Tunnel::new(proxy, ProxyConnector { tcp: self.tcp.clone(), tls: self.tls.clone() });
        if let Some(authorization) = intercept.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Ok((Box::new(tunnel.call(url.clone()).await?.into_inner()), false))
    }

    async fn tcp(&self, url: Uri) -> Result<Box<dyn Io>, BoxError> {
        let stream = self.tcp.clone().call(url).await?;
        Ok(Box::new(PatientWriter::new(stream.into_inner())))
    }

    async fn secure(&self, stream: Box<dyn Io>, url: &Uri) -> Result<Box<dyn Io>, BoxError> {
        secure(&self.tls, stream, url).await
    }
}

async fn secure(tls: &Arc<ClientConfig>, stream: Box<dyn Io>, url: &Uri) -> Result<Box<dyn Io>, BoxError> {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned())?;
    Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?))
}

/// Connects to a proxy, for the tunnel that is made through it.
#[derive(Clone)]
struct ProxyConnector {
    tcp: HttpConnector,
    tls: Arc<ClientConfig>,
}

impl Service<Uri> for ProxyConnector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, proxy: Uri) -> Self::Future {
        let (mut tcp, tls) = (self.tcp.clone(), Arc::clone(&self.tls));
        Box::pin(async move {
            let stream = tcp.call(proxy.clone()).await?;
            let stream: Box<dyn Io> = Box::new(PatientWriter::new(stream.into_inner()));
            let is_https = proxy.scheme() == Some(&Scheme::HTTPS);
            Ok(TokioIo::new(if is_https { secure(&tls, stream, &proxy).await? } else { stream }))
        })
    }
}

/// The system's certificate authorities, as an administrator may have changed them; those of this
/// build on a system that has none, such as an image made FROM scratch.
fn client_config() -> Result<Arc<ClientConfig>, BuildError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (usable, _unusable) = roots.add_parsable_certificates(native.certs);
    if usable == 0 {
        tracing::info!("no CA certificates on this system; using those of this build");
        let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
        roots.add_parsable_certificates(bundled);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BuildError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Bytes both ways.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection to upstream, as the HTTP client gets it.
pub(crate) struct UpstreamStream {
    stream: Box<dyn Io>,
    proxied: bool,
}

impl Connection for UpstreamStream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// A socket whose broken sending side does not hide what was received.
///
/// A server that refuses an upload answers and closes. Sending then fails, often before the answer
/// was read, and the HTTP client would report the failure instead of the answer. So a write that
/// the other side does not take any more is dropped, and reading says what there is: the answer, or
/// that there is none.
struct PatientWriter {
    socket: TcpStream,
    broken: bool,
}

impl PatientWriter {
    const fn new(socket: TcpStream) -> Self {
        Self { socket, broken: false }
    }

    fn written(&mut self, bytes: usize, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_closed_by_peer(&error) => {
                self.broken = true;
                Poll::Ready(Ok(bytes))
            }
            other => other,
        }
    }
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted)
}

impl AsyncRead for PatientWriter {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for PatientWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.broken {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.socket).poll_write(context, bytes);
        this.written(bytes.len(), written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let all = bytes.iter().map(|piece| piece.len()).sum();
        if this.broken {
            return Poll::Ready(Ok(all));
        }
        let written = Pin::new(&mut this.socket).poll_write_vectored(context, bytes);
        this.written(all, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
