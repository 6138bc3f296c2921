//! Talking to upstream: what is sent, what of the answer goes on, and every bound on time and
//! number.

mod connect;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::budget::Spent;
use crate::cache_control::list_items;
use crate::cache_status::Forward;
use crate::error::{BuildError, Problem};
use crate::ledger::Call;
use crate::loops::Loops;
use crate::outage::Outage;
use crate::rate::{MinimumRate, RateGuard};
use crate::shares::{ClientAddress, Shares};
use crate::stats::Stats;
use crate::upstream::connect::Connector;

/// The most headers of a response.
const MAX_RESPONSE_HEADERS: usize = 1000;
/// The most bytes of a response's head, and of one piece of its body.
const MAX_BUFFER_BYTES: usize = 128 * 1024;
/// For how long a connection that is not used stays open.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// How long the proxy waits for upstream and for bodies, and how much it asks at a time.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// For a connection. Default: 10 s.
    pub connect: Duration,
    /// For the head of a response, since the last byte of the request went out. Default: 30 s.
    pub response: Duration,
    /// Between two pieces of a body, in either direction. Default: 60 s.
    pub idle: Duration,
    /// A body, in either direction, has to bring [`Self::rate_bytes`] in each window of waiting for
    /// it that is this long. Default: 30 s.
    pub rate_window: Duration,
    /// See [`Self::rate_window`]. Default: 8 KiB.
    pub rate_bytes: u64,
    /// For a whole body, in either direction. Default: 1 h.
    pub transfer: Duration,
    /// For a place among the requests that run. Default: 30 s.
    pub queue: Duration,
    /// For another client's identical request. Default: 30 s.
    pub coalesce: Duration,
    /// Requests to the API at a time, at least one; GitHub allows 100. The same number again for
    /// other hosts. One client address has at most two thirds of each, and requests with a body at
    /// most two thirds, too. Default: 90.
    pub concurrency: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            response: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            rate_window: Duration::from_secs(30),
            rate_bytes: 8 * 1024,
            transfer: Duration::from_secs(3600),
            queue: Duration::from_secs(30),
            coalesce: Duration::from_secs(30),
            concurrency: 90,
        }
    }
}

impl Limits {
    const fn rate(&self) -> MinimumRate {
        MinimumRate { window: self.rate_window, bytes: self.rate_bytes }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// No place became free in time. Nothing was sent.
    Busy,
    /// The answer did not begin in time.
    Timeout,
    /// No connection. Nothing was sent.
    NoConnection,
    /// The connection broke before an answer came.
    Unreachable,
    /// Nothing of the rate limit is left for it. Nothing was sent.
    Spent(Spent),
}

impl UpstreamError {
    /// What `Cache-Status` says about it.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::Busy => "upstream-queue-full",
            Self::Timeout => "upstream-timeout",
            Self::NoConnection | Self::Unreachable => "upstream-unreachable",
            Self::Spent(spent) => spent.reason.detail(),
        }
    }

    /// As an answer to the client.
    pub(crate) const fn into_problem(self, why: Forward) -> Problem {
        match self {
            Self::Busy => Problem::busy(why),
            Self::Timeout => Problem::timeout(why),
            Self::NoConnection | Self::Unreachable => Problem::unreachable(why),
            Self::Spent(spent) => Problem::spent(why, spent),
        }
    }
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
    /// Whose share of the places it takes.
    pub(crate) client: ClientAddress,
    /// To whom it is booked; set for the API.
    pub(crate) call: Option<Call>,
    pub(crate) method: Method,
    pub(crate) url: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Upload>,
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

/// The places of one lane.
#[derive(Debug)]
struct Places {
    all: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    shares: Shares,
}

impl Places {
    fn new(most: usize) -> Self {
        let most = most.max(1);
        let part = (2 * most).div_ceil(3);
        Self {
            all: Arc::new(Semaphore::new(most)),
            uploads: Arc::new(Semaphore::new(part)),
            shares: Shares::new(part),
        }
    }
}

/// A place among the running requests, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct UpstreamPlace {
    _share: OwnedSemaphorePermit,
    _upload: Option<OwnedSemaphorePermit>,
    _place: OwnedSemaphorePermit,
}

/// Sends requests. No redirect is followed, nothing is decoded, the target is sent as it was given,
/// and no header is added but `Accept: */*` where the client sent none.
pub(crate) struct Upstream {
    client: Client<Connector, RequestBody>,
    /// Without connections that were kept open: for what must not be sent twice.
    fresh: Client<Connector, RequestBody>,
    connector: Connector,
    loops: Loops,
    api: Places,
    other: Places,
    limits: Limits,
    stats: Arc<Stats>,
    outage: Outage,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Upstream {
    pub(crate) fn new(limits: Limits, system_proxy: bool, stats: Arc<Stats>) -> Result<Self, BuildError> {
        let connector = Connector::new(limits.connect, system_proxy)?;
        let client = |idle: usize| {
            Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_CONNECTION)
                .pool_max_idle_per_host(idle)
                .http1_max_headers(MAX_RESPONSE_HEADERS)
                .http1_max_buf_size(MAX_BUFFER_BYTES)
                .build(connector.clone())
        };
        Ok(Self {
            client: client(limits.concurrency),
            fresh: client(0),
            connector,
            loops: Loops::new(),
            api: Places::new(limits.concurrency),
            other: Places::new(limits.concurrency),
            limits,
            stats,
            outage: Outage::default(),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What makes connections.
    pub(crate) const fn connector(&self) -> &Connector {
        &self.connector
    }

    /// What finds requests that come back.
    pub(crate) const fn loops(&self) -> &Loops {
        &self.loops
    }

    /// A place among the running requests, of the client's share.
    pub(crate) async fn place(
        &self,
        lane: Lane,
        client: ClientAddress,
        has_body: bool,
    ) -> Result<UpstreamPlace, UpstreamError> {
        let places = match lane {
            Lane::Api => &self.api,
            Lane::Other => &self.other,
        };
        let wait = async {
            let share = places.shares.enter(client).await?;
            let upload = match has_body {
                true => Some(Arc::clone(&places.uploads).acquire_owned().await.ok()?),
                false => None,
            };
            let place = Arc::clone(&places.all).acquire_owned().await.ok()?;
            Some(UpstreamPlace { _share: share, _upload: upload, _place: place })
        };
        timeout(self.limits.queue, wait).await.ok().flatten().ok_or(UpstreamError::Busy)
    }

    /// Sends a request and waits for the head of its answer. `place` is given back when the answer
    /// is dropped.
    ///
    /// A GET or HEAD whose connection broke before any answer is sent once more: a connection that
    /// was kept open may have been closed by the other side at that moment. Everything else goes
    /// over a new connection, because it must not be sent twice.
    pub(crate) async fn send(
        &self,
        outgoing: Outgoing,
        place: UpstreamPlace,
    ) -> Result<Answer, UpstreamError> {
        let Outgoing { lane, call, method, url, mut headers, body, .. } = outgoing;
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        self.loops.add(&mut headers);
        if let Some(value) = self.connector.proxy_authorization(&url) {
            headers.insert(PROXY_AUTHORIZATION, value);
        }
        let repeatable = body.is_none() && (method == Method::GET || method == Method::HEAD);
        let progress = body.as_ref().map(|body| body.progress.clone());
        let request = |body| {
            let mut request = Request::new(RequestBody(body));
            *request.method_mut() = method.clone();
            *request.uri_mut() = url.clone();
            *request.headers_mut() = headers.clone();
            request
        };
        let client = if repeatable { &self.client } else { &self.fresh };
        let mut result = self.execute(client, request(body), progress.as_ref(), call.as_ref()).await;
        if repeatable && result.as_ref().is_err_and(|error| *error == UpstreamError::Unreachable) {
            result = self.execute(&self.client, request(None), None, call.as_ref()).await;
        }
        if lane == Lane::Api {
            self.outage.note(&result);
        }
        let response = result?;
        if response.status() == StatusCode::NOT_MODIFIED {
            self.stats.upstream_not_modified.add(1);
        }
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            idle: self.limits.idle,
            until: Instant::now() + self.limits.transfer,
            rate: RateGuard::new(self.limits.rate()),
            _place: place,
        })
    }

    async fn execute(
        &self,
        client: &Client<Connector, RequestBody>,
        request: Request<RequestBody>,
        progress: Option<&Progress>,
        call: Option<&Call>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        self.stats.upstream_requests.add(1);
        let unanswered = Unanswered::of(call);
        let mut response = std::pin::pin!(client.request(request));
        loop {
            let before = progress.map(Progress::bytes);
            match timeout(self.limits.response, &mut response).await {
                Ok(Ok(response)) => {
                    unanswered.settle();
                    return Ok(response);
                }
                Ok(Err(error)) => return Err(failure(&error)),
                // As long as an upload moves, the answer is not late.
                Err(_) if progress.map(Progress::bytes) != before => {}
                Err(_) => return Err(UpstreamError::Timeout),
            }
        }
    }
}

/// A request that was sent, booked as unanswered when it is dropped: it failed, or nobody waits for
/// it any more.
struct Unanswered<'a>(Option<&'a Call>);

impl<'a> Unanswered<'a> {
    fn of(call: Option<&'a Call>) -> Self {
        if let Some(call) = call {
            call.sent();
        }
        Self(call)
    }

    fn settle(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.0 {
            call.unanswered();
        }
    }
}

fn failure(error: &legacy::Error) -> UpstreamError {
    // Every cause: the outermost says only that a request failed.
    let mut causes = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if !causes.is_empty() {
            causes.push_str(": ");
        }
        causes.push_str(&error.to_string());
        cause = error.source();
    }
    tracing::debug!(operation = "upstream", error = causes, "upstream request failed");
    if error.is_connect() { UpstreamError::NoConnection } else { UpstreamError::Unreachable }
}

/// The answer of upstream: head, and body piece by piece.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    idle: Duration,
    until: Instant,
    rate: RateGuard,
    _place: UpstreamPlace,
}

/// A body that did not arrive whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

impl Answer {
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    /// All headers, hop-by-hop ones included: [`end_to_end`] removes those.
    pub(crate) const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The next piece, or nothing at the end. An error if the body is shorter than announced, or
    /// comes too slowly.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        let until = self.until.min(Instant::now() + self.idle);
        loop {
            let frame = std::future::poll_fn(|context| match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                Poll::Pending => self.rate.poll_waiting(context).map(|_| Err(Broken)),
            });
            match timeout_at(until, frame).await.map_err(|_| Broken)?? {
                None => return Ok(None),
                Some(Err(_)) => return Err(Broken),
                Some(Ok(frame)) => {
                    // Trailers are not passed on.
                    if let Ok(bytes) = frame.into_data() {
                        self.rate.moved(bytes.len());
                        return Ok(Some(bytes));
                    }
                }
            }
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

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// The body of a request on its way to upstream.
struct RequestBody(Option<Upload>);

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.get_mut().poll(context)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Some(upload) => upload.poll(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|upload| upload.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |upload| upload.body.size_hint())
    }
}

/// A client's body: streamed, its length kept, its progress counted; a client that sends too slowly
/// is given up.
pub(crate) struct Upload {
    body: BoxBody,
    progress: Progress,
    rate: RateGuard,
    until: Pin<Box<tokio::time::Sleep>>,
}

impl Upload {
    pub(crate) fn new<B>(body: B, limits: &Limits) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            body: Box::pin(body.map_err(Into::into)),
            progress: Progress::default(),
            rate: RateGuard::new(limits.rate()),
            until: Box::pin(tokio::time::sleep(limits.transfer)),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = self.body.as_mut().poll_frame(context) {
            let bytes =
                frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
            self.progress.0.fetch_add(bytes as u64 + 1, Ordering::Relaxed);
            self.rate.moved(bytes);
            return Poll::Ready(frame);
        }
        if self.rate.poll_waiting(context).is_ready() {
            return Poll::Ready(Some(Err("the client sends more slowly than the minimum rate".into())));
        }
        match self.until.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the client takes too long to send the body".into()))),
            Poll::Pending => Poll::Pending,
        }
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

/// What proxies tell each other about a client.
static OF_PROXIES: [HeaderName; 8] = [
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
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
    // What a proxy in front says is for this one. Upstream could echo it to others.
    for name in &OF_PROXIES {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::ACCEPT_ENCODING;

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
    }
}
