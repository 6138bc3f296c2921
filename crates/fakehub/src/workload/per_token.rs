//! What an ordinary proxy does for a fleet: each answer is kept for a minute, for the token that
//! asked for it.
//!
//! It stands for nginx's `proxy_cache` with the token in the key, where no nginx is at hand.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

/// How long an answer is fresh: what GitHub's `max-age` says.
const FRESH: Duration = Duration::from_secs(60);
/// Answers that are kept; when there are more, all are dropped.
const MAX_ENTRIES: usize = 16_384;
/// The largest body, in each direction.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// One lock for each key: who comes while the answer is being fetched waits for it.
type Slot = Arc<Mutex<Option<(Instant, Response<Bytes>)>>>;

/// A running proxy. It ends when this is dropped.
#[derive(Debug)]
pub struct PerTokenCache {
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct Shared {
    origin: SocketAddr,
    token_in_key: bool,
    slots: Mutex<HashMap<String, Slot>>,
}

impl PerTokenCache {
    /// Listens on a free loopback port and answers from the origin at `origin`, or from memory.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start(origin: SocketAddr) -> io::Result<Self> {
        Self::listen(origin, true).await
    }

    /// As [`PerTokenCache::start`], but one answer is given to every token: it leaks, and shows
    /// that leaks are counted.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start_leaking(origin: SocketAddr) -> io::Result<Self> {
        Self::listen(origin, false).await
    }

    async fn listen(origin: SocketAddr, token_in_key: bool) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { origin, token_in_key, slots: Mutex::default() });
        let task = tokio::spawn(async move {
            // Dropped with the task, so that no connection outlives it.
            let mut connections = JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let shared = shared.clone();
                let service = service_fn(move |request| {
                    let shared = shared.clone();
                    async move { Ok::<_, Infallible>(shared.answer(request).await) }
                });
                connections.spawn(async move {
                    // It ends with an error when the client leaves.
                    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PerTokenCache {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let sent = match Limited::new(body, MAX_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return failed(&error.to_string()),
        };
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let ask = self.ask(&parts.method, &target, &parts.headers, sent);
        if parts.method != Method::GET {
            return ask.await.map_or_else(|error| failed(&error), |answer| answer.map(Full::new));
        }
        let header =
            |name: HeaderName| parts.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes).escape_ascii();
        let mut key = format!("{target}\n{}", header(ACCEPT));
        if self.token_in_key {
            key = format!("{key}\n{}", header(AUTHORIZATION));
        }
        let slot = {
            let mut slots = self.slots.lock().await;
            if slots.len() >= MAX_ENTRIES && !slots.contains_key(&key) {
                slots.clear();
            }
            slots.entry(key).or_default().clone()
        };
        let mut entry = slot.lock().await;
        if let Some((stored, answer)) = &*entry
            && stored.elapsed() < FRESH
        {
            return answer.clone().map(Full::new);
        }
        match ask.await {
            Ok(answer) => {
                *entry = (answer.status() == StatusCode::OK).then(|| (Instant::now(), answer.clone()));
                answer.map(Full::new)
            }
            Err(error) => failed(&error),
        }
    }

    async fn ask(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let stream = TcpStream::connect(self.origin).await.map_err(|error| text(&error))?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = target.parse().map_err(|error: http::uri::InvalidUri| text(&error))?;
        *request.headers_mut() = headers.clone();
        request.headers_mut().remove(CONNECTION);
        request.headers_mut().remove(TRANSFER_ENCODING);
        request.headers_mut().insert(HOST, HeaderValue::from_static("api.github.com"));
        let answer = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            Ok::<_, hyper::Error>((parts, Limited::new(body, MAX_BYTES).collect().await))
        };
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        let (mut parts, body) = tokio::select! {
            biased;
            answer = &mut answer => answer,
            // The server may end the connection together with its answer.
            _ = &mut connection => answer.await,
        }
        .map_err(|error| text(&error))?;
        parts.headers.remove(TRANSFER_ENCODING);
        parts.headers.remove(CONNECTION);
        Ok(Response::from_parts(parts, body.map_err(|error| text(&error))?.to_bytes()))
    }
}

fn failed(error: &str) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(error.to_owned())));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
