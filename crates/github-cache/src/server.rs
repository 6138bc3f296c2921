//! Serving a [`GitHubCache`] on TCP and on unix sockets, until told to stop.

mod request_line;
mod rewound;
mod stream;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::AccessRecord;
use crate::arrival::{Arrival, Entrance};
use crate::ca::CertificateAuthority;
use crate::error::ServeError;
use crate::forward_proxy::{Connected, ForwardProxy, Refusal, read_connect, tunnel};
use crate::own::Stopping;
use crate::proxy::GitHubCache;
use crate::rate::MinimumRate;
pub(crate) use crate::server::rewound::Rewound;
use crate::server::stream::ClientStream;
use crate::shares::{ClientAddress, Shares};
#[cfg(unix)]
use crate::socket::Socket;
use crate::tls::TlsIdentity;

/// The most connections at a time; further ones wait in the system's queue.
pub const MAX_CONNECTIONS: usize = 1024;
/// The most bytes of a request's head; longer ones are answered 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long a connection may take to send a request's head, and how long it may be idle between
/// two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Within how long a client has to take at least [`MIN_BYTES_PER_WINDOW`] of an answer that is
/// ready.
const SEND_WINDOW: Duration = Duration::from_secs(30);
/// See [`SEND_WINDOW`].
const MIN_BYTES_PER_WINDOW: u64 = 8 * 1024;
/// For how long a tunnel may rest.
const TUNNEL_IDLE: Duration = Duration::from_secs(600);
/// The answer to an accepted `CONNECT`.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";
/// What a client gets whose address has all its connections.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
    Cache-Status: peercache; detail=too-many-connections\r\nConnection: close\r\n\
    Content-Type: application/json; charset=utf-8\r\nContent-Length: 75\r\n\r\n\
    {\"message\":\"peercache: too many connections from this address; close some\"}";

/// Accepts connections for a [`GitHubCache`].
///
/// HTTP/1.1, with or without TLS, and `CONNECT` where [`Server::forward_proxy`] is called. Header
/// names are written `Cache-Status` rather than `cache-status`. A request that is not HTTP at all,
/// or whose head exceeds its bound (64 KiB, 100 headers), is answered 400, 414 or 431 by the HTTP
/// library itself, and these are the only answers without a `Cache-Status`.
///
/// # What is bounded
/// Connections, in all and for each client address; the time for a request's head; for each
/// connection 256 KiB of an answer that its client does not read, and the time for which it may not
/// read. A client that reads less than 8 KiB in 30 s is disconnected.
#[derive(Debug)]
pub struct Server {
    proxy: GitHubCache,
    listeners: Vec<Listener>,
    drain: Duration,
    connections: usize,
    connections_each: Option<usize>,
    head_timeout: Duration,
    rate: MinimumRate,
    forward: Option<ForwardProxy>,
    access: Option<AccessLog>,
}

/// Where records of requests go. It must not wait.
#[derive(Clone)]
struct AccessLog(Arc<dyn Fn(AccessRecord) + Send + Sync>);

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessLog")
    }
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener, Option<TlsIdentity>),
    #[cfg(unix)]
    Unix(Socket),
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were cut off because their requests took longer than the drain timeout.
    pub aborted: usize,
}

impl Server {
    /// A server that listens on nothing yet.
    #[must_use]
    pub fn new(proxy: GitHubCache) -> Self {
        Self {
            proxy,
            listeners: Vec::new(),
            drain: Duration::from_secs(10),
            connections: MAX_CONNECTIONS,
            connections_each: None,
            head_timeout: HEAD_TIMEOUT,
            rate: MinimumRate { window: SEND_WINDOW, bytes: MIN_BYTES_PER_WINDOW },
            forward: None,
            access: None,
        }
    }

    /// How long requests that are running may take after the signal to stop. Default: 10 s.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain = timeout;
        self
    }

    /// The most connections at a time, at least one. Default: [`MAX_CONNECTIONS`].
    #[must_use]
    pub fn max_connections(mut self, most: usize) -> Self {
        self.connections = most.max(1);
        self
    }

    /// The most connections at a time of one client address (an IPv6 network of 64 bits, or a user
    /// of this machine over a unix socket), at least one; more are answered 503. Default: half of
    /// all.
    #[must_use]
    pub fn max_connections_per_address(mut self, most: usize) -> Self {
        self.connections_each = Some(most.max(1));
        self
    }

    /// Within how long a client has to take at least 8 KiB of an answer that is ready for it,
    /// before its connection is closed. Default: 30 s.
    #[must_use]
    pub fn send_window(mut self, window: Duration) -> Self {
        self.rate.window = window;
        self
    }

    /// How long a connection may take to send a request's head, and be idle between two. Default:
    /// 60 s.
    #[must_use]
    pub fn head_timeout(mut self, timeout: Duration) -> Self {
        self.head_timeout = timeout;
        self
    }

    /// Listens on a TCP address; port 0 picks a free one. Gives the address.
    ///
    /// # Errors
    /// [`ServeError::Bind`].
    pub async fn listen_tcp(&mut self, address: SocketAddr) -> Result<SocketAddr, ServeError> {
        self.listen(address, None).await
    }

    /// Listens on a TCP address for TLS; port 0 picks a free one. Gives the address.
    ///
    /// # Errors
    /// [`ServeError::Bind`].
    pub async fn listen_tls(
        &mut self,
        address: SocketAddr,
        identity: TlsIdentity,
    ) -> Result<SocketAddr, ServeError> {
        self.listen(address, Some(identity)).await
    }

    /// Answers `CONNECT` on every listener. TLS for an API that `ca` can vouch for ends here and
    /// its requests are answered from the cache; everything else is tunnelled untouched. Clients of
    /// other machines have to show `client_token` as the password of `Proxy-Authorization`; without
    /// one they are refused.
    #[must_use]
    pub fn forward_proxy(
        mut self,
        ca: Option<Arc<CertificateAuthority>>,
        client_token: Option<String>,
    ) -> Self {
        self.forward = Some(ForwardProxy::new(ca, client_token));
        self
    }

    /// Gives a record of each request to `log`, which must not wait. Default: none.
    #[must_use]
    pub fn access_log(mut self, log: impl Fn(AccessRecord) + Send + Sync + 'static) -> Self {
        self.access = Some(AccessLog(Arc::new(log)));
        self
    }

    async fn listen(
        &mut self,
        address: SocketAddr,
        identity: Option<TlsIdentity>,
    ) -> Result<SocketAddr, ServeError> {
        let failed = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.listeners.push(Listener::Tcp(listener, identity));
        Ok(bound)
    }

    /// Listens on a unix socket with these permissions; `0o600` lets only this user connect. It is
    /// removed when serving ends. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ServeError::SocketInUse`], [`ServeError::NotASocket`] or [`ServeError::Socket`].
    #[cfg(unix)]
    pub fn listen_unix(&mut self, path: &std::path::Path, mode: u32) -> Result<(), ServeError> {
        self.listeners.push(Listener::Unix(Socket::bind(path, mode)?));
        Ok(())
    }

    /// Serves until `shutdown` completes; then accepts no more, lets running requests finish within
    /// the drain timeout, and waits as long for what is being stored.
    ///
    /// # Errors
    /// [`ServeError::NoListener`].
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<Drained, ServeError> {
        if self.listeners.is_empty() {
            return Err(ServeError::NoListener);
        }
        let shared = Arc::new(Shared {
            proxy: self.proxy,
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            places: Arc::new(Semaphore::new(self.connections)),
            shares: Shares::new(self.connections_each.unwrap_or(self.connections.div_ceil(2))),
            connections: TaskTracker::new(),
            open: AtomicUsize::new(0),
            head_timeout: self.head_timeout,
            rate: self.rate,
            forward: self.forward,
            access: self.access,
        });
        let accepting = TaskTracker::new();
        for listener in self.listeners {
            accepting.spawn(accept(listener, Arc::clone(&shared)));
        }
        accepting.close();
        shutdown.await;
        shared.stop.cancel();
        // Listeners are closed when their tasks end, so that new connections are refused.
        accepting.wait().await;
        shared.connections.close();
        let in_time = tokio::time::timeout(self.drain, shared.connections.wait()).await.is_ok();
        let aborted = if in_time { 0 } else { shared.open.load(Ordering::Relaxed) };
        shared.kill.cancel();
        shared.connections.wait().await;
        // What clients no longer wait for may still be on its way into the store.
        let settled = tokio::time::timeout(self.drain, shared.proxy.settle()).await;
        if settled.is_err() {
            tracing::warn!("upstream requests were still running when the server stopped");
        }
        Ok(Drained { aborted })
    }
}

struct Shared {
    proxy: GitHubCache,
    stop: CancellationToken,
    kill: CancellationToken,
    places: Arc<Semaphore>,
    shares: Shares,
    connections: TaskTracker,
    open: AtomicUsize,
    head_timeout: Duration,
    rate: MinimumRate,
    forward: Option<ForwardProxy>,
    access: Option<AccessLog>,
}

async fn accept(listener: Listener, shared: Arc<Shared>) {
    loop {
        let next = tokio::select! {
            next = next(&listener, &shared) => next,
            () = shared.stop.cancelled() => return,
        };
        match next {
            Ok((stream, arrival, permit)) => {
                let place = shared.shares.try_enter(arrival.client);
                match (stream, place) {
                    (Stream::Tcp(stream, identity), Some(place)) => {
                        let places = (permit, place);
                        match identity {
                            None => shared.connections.spawn(connection(
                                stream,
                                arrival,
                                places,
                                Arc::clone(&shared),
                            )),
                            Some(identity) => {
                                let serving = secure(stream, identity, arrival, places, Arc::clone(&shared));
                                shared.connections.spawn(serving)
                            }
                        };
                    }
                    #[cfg(unix)]
                    (Stream::Unix(stream), Some(place)) => {
                        let serving = connection(stream, arrival, (permit, place), Arc::clone(&shared));
                        shared.connections.spawn(serving);
                    }
                    (Stream::Tcp(stream, _), None) => refuse(&stream, TcpStream::try_write),
                    #[cfg(unix)]
                    (Stream::Unix(stream), None) => refuse(&stream, UnixStream::try_write),
                }
            }
            Err(error) => {
                // Out of file descriptors, usually: waiting is all that helps.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Tells a client that its address has all its connections, without waiting for it.
fn refuse<S>(stream: &S, write: impl FnOnce(&S, &[u8]) -> io::Result<usize>) {
    tracing::debug!("a connection was refused: its address has all its connections");
    // A new socket takes this much; if it does not, closing says enough.
    let _unread = write(stream, REFUSAL);
}

enum Stream {
    Tcp(TcpStream, Option<TlsIdentity>),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A place first, then a connection: those that find no place wait in the system's queue.
async fn next(listener: &Listener, shared: &Shared) -> io::Result<(Stream, Arrival, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&shared.places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, arrival) = match listener {
        Listener::Tcp(listener, identity) => {
            let (stream, client) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let entrance = Entrance::Tcp { local: stream.local_addr()?, secure: identity.is_some() };
            let peer = client.ip();
            (
                Stream::Tcp(stream, identity.clone()),
                Arrival { client: ClientAddress::of(peer), peer: Some(peer), entrance },
            )
        }
        #[cfg(unix)]
        Listener::Unix(socket) => {
            let (stream, _) = socket.listener.accept().await?;
            let user = stream.peer_cred()?.uid();
            let client = ClientAddress::User(user);
            (Stream::Unix(stream), Arrival { client, peer: None, entrance: Entrance::Unix })
        }
    };
    Ok((stream, arrival, permit))
}

/// Counts a connection for as long as it lives, however its task ends.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn new(open: &'a AtomicUsize) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection whose client speaks TLS to this server.
async fn secure(
    stream: TcpStream,
    identity: TlsIdentity,
    arrival: Arrival,
    places: impl Send,
    shared: Arc<Shared>,
) {
    let config = match identity.config() {
        Ok(config) => config,
        Err(error) => {
            tracing::warn!(%error, "a TLS connection was refused: no certificate");
            return;
        }
    };
    if let Some(stream) = handshake(stream, config, &shared).await {
        connection(stream, arrival, places, shared).await;
    }
}

/// Ends TLS here; nothing if the client does not agree in time.
async fn handshake<S>(stream: S, config: Arc<ServerConfig>, shared: &Shared) -> Option<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let accepted = tokio::select! {
        accepted = timeout(shared.head_timeout, TlsAcceptor::from(config).accept(stream)) => accepted,
        () = shared.stop.cancelled() => return None,
    };
    match accepted {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a client did not agree on TLS");
            None
        }
        Err(_) => None,
    }
}

async fn connection<S>(stream: S, arrival: Arrival, _places: impl Send, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _open = Open::new(&shared.open);
    let mut stream = Rewound::new(stream);
    if let Some(forward) = &shared.forward {
        let connected = tokio::select! {
            connected = timeout(shared.head_timeout, connect(&mut stream, forward, &arrival, &shared)) => connected,
            () = shared.stop.cancelled() => return,
        };
        match connected {
            Ok(Ok(Some(connected))) => {
                return forwarded(stream, connected, arrival, Arc::clone(&shared)).await;
            }
            Ok(Ok(None)) => {}
            // The client is gone, was refused, or said nothing.
            Ok(Err(_)) | Err(_) => return,
        }
    }
    serve(stream, arrival, &shared).await;
}

/// Reads a `CONNECT`, if the connection begins with one, and decides about it. A client that has to
/// show its token may try again.
async fn connect<S>(
    stream: &mut Rewound<S>,
    forward: &ForwardProxy,
    arrival: &Arrival,
    shared: &Shared,
) -> io::Result<Option<Connected>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(request) = read_connect(stream).await? {
        let decided = request
            .map_err(|()| Refusal::Malformed)
            .and_then(|request| forward.decide(&request, arrival, &shared.proxy));
        match decided {
            Ok(connected) => return Ok(Some(connected)),
            Err(refusal) => {
                refusal.answer(stream).await?;
                if refusal != Refusal::Unauthorized {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
            }
        }
    }
    Ok(None)
}

/// Serves what comes through an accepted `CONNECT`.
async fn forwarded<S>(mut stream: Rewound<S>, connected: Connected, arrival: Arrival, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match connected {
        Connected::Intercept(host, config) => {
            if stream.write_all(ESTABLISHED).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            if let Some(stream) = handshake(stream, config, &shared).await {
                let arrival = Arrival { entrance: Entrance::Intercepted(host), ..arrival };
                serve(Rewound::new(stream), arrival, &shared).await;
            }
        }
        Connected::Tunnel(authority) => {
            let upstream = &shared.proxy.shared.upstream;
            let server = match upstream.connector().tunnel(&authority).await {
                Ok(server) => server,
                Err(error) => {
                    tracing::debug!(%error, "a tunnel has no other side");
                    let _client_gone = Refusal::Unreachable.answer(&mut stream).await;
                    return;
                }
            };
            if stream.write_all(ESTABLISHED).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            tokio::select! {
                ended = tunnel(stream, server, TUNNEL_IDLE) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a tunnel ended with an error");
                    }
                }
                () = shared.kill.cancelled() => {}
            }
        }
    }
}

/// Answers the requests of a connection.
async fn serve<S>(stream: Rewound<S>, arrival: Arrival, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let proxy = shared.proxy.clone();
    let access = shared.access.clone();
    let stopping = Stopping(shared.stop.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (proxy, access) = (proxy.clone(), access.clone());
        let client = arrival.peer;
        request.extensions_mut().insert(arrival.clone());
        request.extensions_mut().insert(stopping.clone());
        // Boxed, so that the connection can be taken apart when it has ended.
        Box::pin(async move {
            let Some(AccessLog(log)) = access else {
                return Ok::<_, Infallible>(proxy.handle(request).await);
            };
            let (method, uri, began) = (request.method().clone(), request.uri().clone(), Instant::now());
            let response = proxy.handle(request).await;
            let (status, headers) = (response.status(), response.headers());
            log(AccessRecord::new(client, &method, uri.path(), status, headers, began.elapsed()));
            Ok(response)
        })
    });
    let stream = TokioIo::new(ClientStream::new(stream, shared.rate));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.head_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .title_case_headers(true)
        .serve_connection(stream, service);
    let stopped = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(ended),
        () = shared.stop.cancelled() => None,
    };
    let ended = match stopped {
        Some(ended) => ended,
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
                () = shared.kill.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        // Clients that hang up are no reason for more than this.
        tracing::debug!(%error, "a connection ended with an error");
        if error.is_user() || error.is_timeout() || error.is_body_write_aborted() {
            // The body of an answer was cut: an orderly end could be taken for its end.
            return;
        }
    }
    let rest = connection.into_parts().io.into_inner().linger();
    tokio::select! {
        () = rest => {}
        () = shared.kill.cancelled() => {}
    }
}
