//! Talking to upstream: what is sent, what of the answer goes on, and every limit of patience.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use reqwest::Url;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::cache_control::list_items;
use crate::error::BuildError;
use crate::stats::Stats;

/// How patient the proxy is with upstream, and how much it asks at a time.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// For a connection. Default: 10 s.
    pub connect: Duration,
    /// For the head of a response, since the last byte of the request went out. Default: 30 s.
    pub response: Duration,
    /// Between two pieces of a body, in either direction. Default: 60 s.
    pub idle: Duration,
    /// For a place among the requests that run. Default: 30 s.
    pub queue: Duration,
    /// For another client's identical request. Default: 30 s.
    pub coalesce: Duration,
    /// Requests to the API at a time, at least one; GitHub allows 100. The same number again for other
    /// hosts. Default: 90.
    pub concurrency: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            queue: Duration::from_secs(30),
            coalesce: Duration::from_secs(30),
            concurrency: 90,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// No place became free in time. Nothing was sent.
    Busy,
    /// The answer did not begin in time.
    Timeout,
    /// No connection, or it broke.
    Unreachable,
}

/// Whether a request counts against the API's concurrency or against that of downloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Api,
    Other,
}

/// One request to be sent.
pub(crate) struct Outgoing {
    pub(crate) lane: Lane,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<(reqwest::Body, Progress)>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither URL nor headers: they name repositories and carry tokens.
        f.debug_struct("Outgoing")
            .field("lane", &self.lane)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// Sends requests. No redirect is followed, nothing is decoded, no header is added but `Accept: */*`
/// where the client sent none.
#[derive(Debug)]
pub(crate) struct Upstream {
    client: reqwest::Client,
    api: Arc<Semaphore>,
    other: Arc<Semaphore>,
    limits: Limits,
    stats: Arc<Stats>,
}

/// Mozilla's root certificates as of this build.
fn bundled_roots() -> reqwest::Result<Vec<reqwest::Certificate>> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|root| reqwest::Certificate::from_der(root)).collect()
}

impl Upstream {
    pub(crate) fn new(limits: Limits, system_proxy: bool, stats: Arc<Stats>) -> Result<Self, BuildError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race against another thread that installs one is as good.
            let _either = rustls::crypto::ring::default_provider().install_default();
        }
        let builder = || {
            let builder = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_deflate()
                .connect_timeout(limits.connect)
                .pool_idle_timeout(Duration::from_secs(30))
                .pool_max_idle_per_host(limits.concurrency)
                .http1_only();
            if system_proxy { builder } else { builder.no_proxy() }
        };
        let client = builder().build().or_else(|error| {
            // The system's certificates come first, as an administrator may have changed them. An image
            // made FROM scratch has none.
            tracing::info!(%error, "no CA certificates on this system; using those of this build");
            builder().tls_certs_only(bundled_roots()?).build()
        });
        Ok(Self {
            client: client.map_err(BuildError::Client)?,
            api: Arc::new(Semaphore::new(limits.concurrency.max(1))),
            other: Arc::new(Semaphore::new(limits.concurrency.max(1))),
            limits,
            stats,
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A place among the running requests.
    pub(crate) async fn place(&self, lane: Lane) -> Result<OwnedSemaphorePermit, UpstreamError> {
        let gate = match lane {
            Lane::Api => &self.api,
            Lane::Other => &self.other,
        };
        match timeout(self.limits.queue, Arc::clone(gate).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(UpstreamError::Busy),
        }
    }

    /// Sends a request and waits for the head of its answer. `permit` is given back when the answer is
    /// dropped.
    ///
    /// A GET or HEAD whose connection broke before any answer is sent once more: a connection that was
    /// kept open may have been closed by the other side at that moment.
    pub(crate) async fn send(
        &self,
        outgoing: Outgoing,
        permit: OwnedSemaphorePermit,
    ) -> Result<Answer, UpstreamError> {
        let Outgoing { method, url, mut headers, body, .. } = outgoing;
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        let repeatable = body.is_none() && (method == Method::GET || method == Method::HEAD);
        let mut request = reqwest::Request::new(method, url);
        *request.headers_mut() = headers;
        let progress = body.map(|(body, progress)| {
            *request.body_mut() = Some(body);
            progress
        });
        let again = if repeatable { request.try_clone() } else { None };
        let mut result = self.execute(request, progress.as_ref()).await;
        if let (Err(Failure::Broken), Some(again)) = (&result, again) {
            result = self.execute(again, None).await;
        }
        let response = result.map_err(|failure| match failure {
            Failure::Timeout => UpstreamError::Timeout,
            Failure::Broken | Failure::NoConnection => UpstreamError::Unreachable,
        })?;
        if response.status() == StatusCode::NOT_MODIFIED {
            self.stats.upstream_not_modified.add(1);
        }
        Ok(Answer { response, idle: self.limits.idle, _permit: permit })
    }

    async fn execute(
        &self,
        request: reqwest::Request,
        progress: Option<&Progress>,
    ) -> Result<reqwest::Response, Failure> {
        self.stats.upstream_requests.add(1);
        let mut response = std::pin::pin!(self.client.execute(request));
        loop {
            let before = progress.map(Progress::bytes);
            match timeout(self.limits.response, &mut response).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => {
                    let error = error.without_url();
                    tracing::debug!(operation = "upstream", %error, "upstream request failed");
                    return Err(if error.is_timeout() {
                        Failure::Timeout
                    } else if error.is_connect() {
                        Failure::NoConnection
                    } else {
                        Failure::Broken
                    });
                }
                // As long as an upload moves, the answer is not late.
                Err(_) if progress.map(Progress::bytes) != before => {}
                Err(_) => return Err(Failure::Timeout),
            }
        }
    }
}

enum Failure {
    Timeout,
    NoConnection,
    Broken,
}

/// The answer of upstream: head, and body piece by piece.
#[derive(Debug)]
pub(crate) struct Answer {
    response: reqwest::Response,
    idle: Duration,
    _permit: OwnedSemaphorePermit,
}

/// A body that did not arrive whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// All headers, hop-by-hop ones included: [`end_to_end`] removes those.
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next piece, or nothing at the end. An error if the body is shorter than announced.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        match timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(_)) | Err(_) => Err(Broken),
        }
    }
}

/// How far the body of a request has been sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

impl Progress {
    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Wraps a client's body for sending: streamed, its length kept.
pub(crate) fn outgoing_body<B>(body: B, idle: Duration) -> (reqwest::Body, Progress)
where
    B: Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let progress = Progress::default();
    let sleep = Box::pin(tokio::time::sleep(idle));
    let upload = Upload { body: Box::pin(body), progress: progress.clone(), idle, sleep };
    (reqwest::Body::wrap(upload), progress)
}

/// Counts what passes, and gives up a client that stops sending.
struct Upload<B> {
    body: Pin<Box<B>>,
    progress: Progress,
    idle: Duration,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = this.body.as_mut().poll_frame(context) {
            let bytes =
                frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
            this.progress.0.fetch_add(bytes as u64 + 1, Ordering::Relaxed);
            let deadline = tokio::time::Instant::now() + this.idle;
            this.sleep.as_mut().reset(deadline);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match this.sleep.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the client stopped sending".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Headers that are for one connection (RFC 9110, section 7.6.1; RFC 9112, section 6).
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The headers that travel end to end: without hop-by-hop ones and those that `Connection` names.
pub(crate) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for value in headers.get_all(CONNECTION) {
        for name in list_items(value.as_bytes()) {
            if let Ok(name) = HeaderName::from_bytes(name)
                && !is_essential(&name)
            {
                kept.remove(name);
            }
        }
    }
    for name in &HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}

/// What `Connection` cannot take away: removing these would change who asks or where a body ends.
fn is_essential(name: &HeaderName) -> bool {
    [HOST, CONTENT_LENGTH, http::header::AUTHORIZATION, http::header::CACHE_CONTROL].contains(name)
}

/// The headers to send for a client's request that is passed on as it is.
pub(crate) fn forwarded(request: &HeaderMap) -> HeaderMap {
    let mut headers = end_to_end(request);
    headers.remove(HOST);
    // This proxy has answered it, by reading the body.
    headers.remove(EXPECT);
    headers
}

/// The headers to send for a request whose answer the cache wants.
pub(crate) fn cacheable(request: &HeaderMap) -> HeaderMap {
    let mut headers = forwarded(request);
    headers.remove(CONTENT_LENGTH);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_headers_and_those_that_connection_names_are_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop, authorization"),
            ("x-hop", "1"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "secret"),
            ("authorization", "token x"),
            ("accept-encoding", "br"),
            ("x-end", "1"),
            ("host", "h"),
            ("expect", "100-continue"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let sent = forwarded(&headers);
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept-encoding", "authorization", "x-end"]);
        assert_eq!(sent[ACCEPT_ENCODING], "br", "raw bytes are passed on as the client wants them");
        assert_eq!(cacheable(&headers)[ACCEPT_ENCODING], "gzip");
    }
}
