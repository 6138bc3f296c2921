//! Connections, and the way of one request through faults, limits, access and recordings.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame as BodyFrame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use peercache_api::Clock;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Frame, from_recording};
use crate::conditional::is_conditional;
use crate::control::{self, Control, Failure};
use crate::etag::EtagMode;
use crate::exchange::API_HOST;
use crate::limits::{Bucket, Limits, Resource, Usage};
use crate::log::{Log, LogRecord, redacted};
use crate::replay::{Query, Replay, is_api};
use crate::target::{named_host, without_enterprise_prefix};
use crate::token::{Caller, RunKey};

/// How many connections are served at a time.
pub const MAX_CONNECTIONS: usize = 4096;

/// The largest request body that is read: 64 MiB.
pub const MAX_REQUEST_BODY_BYTES: usize = 64 * 1024 * 1024;

/// How long a shutdown waits for answers that are being sent.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a connection may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);

type SendBody = BoxBody<Bytes, io::Error>;

/// Everything that requests share.
pub(crate) struct State {
    pub(crate) replay: Replay,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    pub(crate) control: Control,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) key: RunKey,
    pub(crate) etag: EtagMode,
    /// `owner/repo` in lower case, and the tokens that may see it.
    pub(crate) private: Vec<(String, Vec<String>)>,
    pub(crate) denied: Vec<String>,
    pub(crate) control_enabled: bool,
}

/// Accepts connections until `stop`, then lets answers that are being sent finish for a few seconds.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let Ok((stream, permit)) = accepted else {
            // Out of file descriptors, or the peer has gone: others may still be served.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let state = state.clone();
        let service = service_fn(move |request| {
            let state = state.clone();
            async move { Ok::<_, Infallible>(state.handle(request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            // It ends with an error when the client leaves or an answer was to break off: both are its end.
            drop(connection.await);
            drop(permit);
        });
    }
    drop(listener);
    // What is not drained in time is cut when `connections` is dropped.
    let _in_time = tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_ok();
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _): (_, SocketAddr) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

/// What is known about a request before it is answered.
struct Call {
    method: Method,
    host: String,
    target: String,
    headers: HeaderMap,
    caller: Caller,
}

/// An answer and what it cost. `account` is `None` for download hosts.
struct Outcome {
    answer: Answer,
    account: Option<(Bucket, Usage)>,
    charged: bool,
}

impl State {
    async fn handle(&self, request: Request<Incoming>) -> Response<SendBody> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, MAX_REQUEST_BODY_BYTES).collect().await.map(|body| body.to_bytes());
        let path = parts.uri.path();
        if self.control_enabled && path.starts_with(control::PREFIX) && named_host(path).is_none() {
            let now = self.clock.now().as_millis();
            let body = body.unwrap_or_default();
            let answer = control::answer(&self.control, &self.log, now, &parts.method, path, &body);
            return answer.map(full);
        }
        let call = self.call(parts);
        if let Some(delay) = self.control.take_delay() {
            tokio::time::sleep(delay).await;
        }
        let outcome = match body {
            Ok(body) => self.answer(&call, &body),
            Err(error) => self.refused(&call, error.is::<LengthLimitError>()),
        };
        self.send(&call, outcome)
    }

    fn call(&self, parts: Parts) -> Call {
        let requested = parts
            .uri
            .authority()
            .map(http::uri::Authority::as_str)
            .or_else(|| parts.headers.get(HOST).and_then(|host| host.to_str().ok()))
            .unwrap_or(API_HOST);
        let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let (requested, target) = named_host(target).unwrap_or((requested, target));
        let host = self.replay.host(requested);
        let target = if is_api(&host) { without_enterprise_prefix(target) } else { target };
        Call {
            host,
            target: target.to_owned(),
            caller: Caller::of(&parts.headers, &self.key),
            method: parts.method,
            headers: parts.headers,
        }
    }

    fn answer(&self, call: &Call, body: &[u8]) -> Outcome {
        if !is_api(&call.host) {
            let answer = match self.control.take_failure() {
                Some(failure) => injected(failure),
                None => self.recorded(call, body),
            };
            return Outcome { answer, account: None, charged: false };
        }
        let denied = call.caller.token().is_some_and(|token| self.denied.iter().any(|known| known == token));
        // A token that is not valid has no bucket; GitHub counts such calls by address.
        let bucket = if denied { Bucket::anonymous() } else { self.limits.bucket(&call.caller) };
        let path = call.target.split('?').next().unwrap_or_default();
        let resource = Resource::of(path);
        let failure = self.control.take_failure();
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        if path == "/rate_limit" && reads && !denied && failure.is_none() {
            let mut answer = Answer::own(
                StatusCode::OK,
                "application/json; charset=utf-8",
                self.limits.report(&bucket).to_string(),
            );
            answer.headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            let usage = self.limits.usage(&bucket, resource);
            return Outcome { answer, account: Some((bucket, usage)), charged: false };
        }
        let usage = match self.limits.take(&bucket, resource) {
            Ok(usage) => usage,
            Err(usage) => {
                let answer = exhausted(&bucket.name);
                return Outcome { answer, account: Some((bucket, usage)), charged: false };
            }
        };
        let answer = match failure {
            Some(failure) => injected(failure),
            None if denied => {
                Answer::error(StatusCode::UNAUTHORIZED, "Bad credentials", "https://docs.github.com/rest")
            }
            None if self.hidden(call) => Answer::not_found(&call.host),
            None => self.recorded(call, body),
        };
        let free = answer.status == StatusCode::NOT_MODIFIED && call.caller.token().is_some();
        let usage = if free { self.limits.give_back(&bucket, usage) } else { usage };
        Outcome { answer, account: Some((bucket, usage)), charged: !free }
    }

    /// Whether the request is for a private repository that the caller may not see.
    fn hidden(&self, call: &Call) -> bool {
        if self.private.is_empty() {
            return false;
        }
        let Some(repository) = self.replay.repository(&call.target) else { return false };
        let mut rules = self.private.iter().filter(|(name, _)| *name == repository).peekable();
        rules.peek().is_some()
            && !call
                .caller
                .token()
                .is_some_and(|token| rules.any(|(_, tokens)| tokens.iter().any(|t| t == token)))
    }

    fn recorded(&self, call: &Call, body: &[u8]) -> Answer {
        let query = Query {
            method: call.method.as_str(),
            host: &call.host,
            target: &call.target,
            accept: call.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()),
            body,
            conditional: is_conditional(&call.headers),
        };
        let touch = self.control.touched(&call.host, &call.target);
        let frame = Frame { mode: self.etag, key: &self.key, request: &call.headers, query: &query, touch };
        self.replay
            .find(&query)
            .and_then(|recording| from_recording(recording, &frame))
            .unwrap_or_else(|| Answer::not_found(&call.host))
    }

    /// A request whose body could not be read.
    fn refused(&self, call: &Call, too_large: bool) -> Outcome {
        let answer = if too_large {
            let message = format!("fakehub reads request bodies of up to {MAX_REQUEST_BODY_BYTES} bytes");
            Answer::error(StatusCode::PAYLOAD_TOO_LARGE, &message, "https://docs.github.com/rest")
        } else {
            Answer::error(StatusCode::BAD_REQUEST, "Bad Request", "https://docs.github.com/rest")
        };
        let bucket = self.limits.bucket(&call.caller);
        let usage = self.limits.usage(&bucket, Resource::Core);
        Outcome { answer, account: is_api(&call.host).then_some((bucket, usage)), charged: false }
    }

    /// Sets the live headers, logs, and hands the answer to the connection.
    fn send(&self, call: &Call, outcome: Outcome) -> Response<SendBody> {
        let Outcome { mut answer, account, charged } = outcome;
        answer.stamp(account.as_ref().map(|(_, usage)| *usage), self.clock.now().as_millis());
        let length = answer.wire.len();
        let bodiless = matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let sends_body = call.method != Method::HEAD && !bodiless && length > 0;
        let breaks_off = sends_body && self.control.take_truncation();
        let sent = match (sends_body, breaks_off) {
            (false, _) => 0,
            (true, false) => length,
            (true, true) => length / 2,
        };
        let (bucket, resource) = account.map_or_else(Default::default, |(bucket, usage)| {
            (bucket.name, usage.resource.as_str().to_owned())
        });
        self.log.push(LogRecord {
            n: 0,
            method: call.method.as_str().to_owned(),
            host: call.host.clone(),
            url: redacted(&call.target),
            token: call.caller.id().to_owned(),
            bucket,
            resource,
            status: answer.status.as_u16(),
            charged,
            conditional: is_conditional(&call.headers),
            bytes: sent as u64,
            sha256: answer.digest,
        });
        if breaks_off || call.method == Method::HEAD && !bodiless {
            answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let body = if breaks_off {
            BreaksOff { head: Some(answer.wire.slice(..sent)), flushed: false }.boxed()
        } else if sends_body {
            full(answer.wire)
        } else {
            full(Bytes::new())
        };
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }
}

fn exhausted(bucket: &str) -> Answer {
    Answer::error(
        StatusCode::FORBIDDEN,
        &format!("API rate limit exceeded for {bucket}."),
        "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api",
    )
}

fn injected(failure: Failure) -> Answer {
    let message = match failure.status {
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        }
        status => status.canonical_reason().unwrap_or("Injected by fakehub"),
    };
    let mut answer = Answer::error(failure.status, message, "https://docs.github.com/rest");
    if let Some(after) = failure.retry_after {
        answer.headers.insert(RETRY_AFTER, after);
    }
    answer
}

fn full(bytes: Bytes) -> SendBody {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}

/// A body that ends with an error after its first part, so that the connection is cut.
struct BreaksOff {
    head: Option<Bytes>,
    flushed: bool,
}

impl Body for BreaksOff {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, io::Error>>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(BodyFrame::data(head))));
        }
        // One round of waiting lets the connection flush what it has before it is cut.
        if !self.flushed {
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::other("this answer was to break off"))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
