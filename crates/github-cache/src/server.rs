//! Serving a [`GitHubCache`] on TCP and on unix sockets, until told to stop.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::ServeError;
use crate::proxy::GitHubCache;
#[cfg(unix)]
use crate::socket::Socket;

/// The most connections at a time; further ones wait in the system's queue.
pub const MAX_CONNECTIONS: usize = 1024;
/// The most bytes of a request's head; longer ones are answered 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long a connection may take to send a request's head, and how long it may be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Accepts connections for a [`GitHubCache`].
///
/// HTTP/1.1 without TLS. Header names are written `Cache-Status` rather than `cache-status`. A request that
/// is not HTTP at all is answered by the HTTP library itself, and that is the only answer without a
/// `Cache-Status`.
#[derive(Debug)]
pub struct Server {
    proxy: GitHubCache,
    listeners: Vec<Listener>,
    drain: Duration,
    connections: usize,
    head_timeout: Duration,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
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
            head_timeout: HEAD_TIMEOUT,
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

    /// How long a connection may take to send a request's head, and be idle between two. Default: 60 s.
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
        let failed = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        self.listeners.push(Listener::Tcp(listener));
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
            connections: TaskTracker::new(),
            open: AtomicUsize::new(0),
            head_timeout: self.head_timeout,
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
    connections: TaskTracker,
    open: AtomicUsize,
    head_timeout: Duration,
}

async fn accept(listener: Listener, shared: Arc<Shared>) {
    loop {
        let next = tokio::select! {
            next = next(&listener, &shared) => next,
            () = shared.stop.cancelled() => return,
        };
        match next {
            Ok((stream, permit)) => match stream {
                Stream::Tcp(stream) => {
                    shared.connections.spawn(connection(stream, permit, Arc::clone(&shared)));
                }
                #[cfg(unix)]
                Stream::Unix(stream) => {
                    shared.connections.spawn(connection(stream, permit, Arc::clone(&shared)));
                }
            },
            Err(error) => {
                // Out of file descriptors, usually: waiting is all that helps.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

/// A place first, then a connection: those that find no place wait in the system's queue.
async fn next(listener: &Listener, shared: &Shared) -> io::Result<(Stream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&shared.places).acquire_owned().await.map_err(io::Error::other)?;
    let stream = match listener {
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Stream::Tcp(stream)
        }
        #[cfg(unix)]
        Listener::Unix(socket) => Stream::Unix(socket.listener.accept().await?.0),
    };
    Ok((stream, permit))
}

async fn connection<S>(stream: S, _permit: OwnedSemaphorePermit, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    shared.open.fetch_add(1, Ordering::Relaxed);
    let proxy = shared.proxy.clone();
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(proxy.handle(request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.head_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .title_case_headers(true)
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(stream), service)
    );
    let stopped = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = shared.stop.cancelled() => None,
    };
    let ended = match stopped {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = shared.kill.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        // Clients that hang up are no reason for more than this.
        tracing::debug!(%error, "a connection ended with an error");
    }
    shared.open.fetch_sub(1, Ordering::Relaxed);
}
