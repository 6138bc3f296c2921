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
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, View};
use crate::answer::{Answer, Frame, from_recording};
use crate::changes::{Changes, Touch};
use crate::conditional::is_conditional;
use crate::control::{self, Control, Failure, Outage};
use crate::etag::EtagMode;
use crate::exchange::API_HOST;
use crate::limits::{Bucket, Limits, Resource, Usage};
use crate::line::split_url;
use crate::log::{Log, LogRecord, redacted};
use crate::replay::{Query, Replay, is_api, is_graphql};
use crate::secondary::Secondary;
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
    pub(crate) access: Access,
    pub(crate) changes: Changes,
    pub(crate) secondary: Option<Secondary>,
    pub(crate) outage: watch::Sender<Option<Outage>>,
    pub(crate) control_enabled: bool,
}

/// Accepts connections until `stop`, then lets answers that are being sent finish for a few
/// seconds.
pub(crate) async fn serve(
    listener: TcpListener,
    addr: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut outage = state.outage.subscribe();
    let mut listener = Some(listener);
    loop {
        while connections.try_join_next().is_some() {}
        let refuses = *outage.borrow_and_update() == Some(Outage::Refuse);
        if refuses {
            listener = None;
        }
        let Some(open) = &listener else {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = outage.changed() => {}
            }
            if *outage.borrow() != Some(Outage::Refuse) {
                // The port may be taken for a moment by a connection that is being closed.
                listener = TcpListener::bind(addr).await.ok();
                if listener.is_none() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    outage.mark_changed();
                }
            }
            continue;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            _ = outage.changed() => continue,
            accepted = accept(open, &permits) => accepted,
        };
        let Ok((stream, permit)) = accepted else {
            // Out of file descriptors, or the peer has gone: others may still be served.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let state = state.clone();
        let service = service_fn(move |request| {
            let state = state.clone();
            async move { state.handle(request).await }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            // It ends with an error when the client leaves or an answer was to break off: both are
            // its end.
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

/// What a request is about.
pub(crate) struct Subject {
    /// `owner/repo` in lower case.
    pub(crate) repository: Option<String>,
    /// The target whose changes change the answer: the request's own, for GraphQL a name of our
    /// own.
    pub(crate) changes: String,
}

/// An answer and what it cost. `account` is `None` for download hosts.
struct Outcome {
    answer: Answer,
    account: Option<(Bucket, Usage)>,
    charged: bool,
}

impl State {
    /// An error cuts the connection.
    async fn handle(&self, request: Request<Incoming>) -> io::Result<Response<SendBody>> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, MAX_REQUEST_BODY_BYTES).collect().await.map(|body| body.to_bytes());
        let path = parts.uri.path();
        if self.control_enabled && path.starts_with(control::PREFIX) && named_host(path).is_none() {
            let body = body.unwrap_or_default();
            let touch = |url: &str| self.touch(url);
            let answer = control::answer(&self.control, &self.log, touch, &parts.method, path, &body);
            return Ok(answer.map(full));
        }
        let call = self.call(parts);
        if let Some(delay) = self.control.take_delay() {
            tokio::time::sleep(delay).await;
        }
        self.endure_outage().await?;
        let outcome = match body {
            Ok(body) => self.answer(&call, &body),
            Err(error) => self.refused(&call, error.is::<LengthLimitError>()),
        };
        Ok(self.send(&call, outcome))
    }

    /// Waits while requests are not answered; an error while connections are cut.
    async fn endure_outage(&self) -> io::Result<()> {
        let cut = || Err(io::Error::other("the origin is gone"));
        let mut outage = self.outage.subscribe();
        loop {
            let now = *outage.borrow_and_update();
            match now {
                Some(Outage::Refuse) => return cut(),
                Some(Outage::Tarpit) => {
                    if outage.changed().await.is_err() {
                        return cut();
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    /// Changes the resource at `url` (absolute, or an API path).
    pub(crate) fn touch(&self, url: &str) -> Result<u64, String> {
        let (host, target) = split_url(url)?;
        let target = if is_api(&host) { without_enterprise_prefix(&target) } else { &target };
        self.changes.touch(&host, target, self.clock.now().as_millis())
    }

    /// What a request is about: the repository, and what changes when its answer does.
    pub(crate) fn subject(&self, target: &str, body: &[u8]) -> Subject {
        if !is_graphql(target) {
            return Subject { repository: self.replay.repository(target), changes: target.to_owned() };
        }
        let repository = serde_json::from_slice::<serde_json::Value>(body).ok().and_then(|operation| {
            let text = |name: &str| operation["variables"][name].as_str().map(str::to_ascii_lowercase);
            let name = text("name").or_else(|| text("repo")).or_else(|| text("repository"))?;
            Some(format!("{}/{name}", text("owner")?))
        });
        let changes =
            repository.as_ref().map_or_else(|| target.to_owned(), |name| format!("/graphql/{name}"));
        Subject { repository, changes }
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
        let now = self.clock.now().as_millis();
        let denied = self.access.is_revoked(&call.caller, now);
        if let Some(Outage::Status(status)) = *self.outage.borrow() {
            return Outcome { answer: front_end(status), account: None, charged: false };
        }
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
        let place = match &self.secondary {
            Some(secondary) => match secondary.enter(&bucket.name, &call.method, now) {
                Some(place) => Some(place),
                None => {
                    let usage = self.limits.usage(&bucket, resource);
                    let answer = injected(secondary.failure());
                    return Outcome { answer, account: Some((bucket, usage)), charged: false };
                }
            },
            None => None,
        };
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
            None => self.visible(call, body, now),
        };
        drop(place);
        let free = answer.status == StatusCode::NOT_MODIFIED && call.caller.token().is_some();
        let usage = if free { self.limits.give_back(&bucket, usage) } else { usage };
        Outcome { answer, account: Some((bucket, usage)), charged: !free }
    }

    /// What the caller may see of what was asked for.
    fn visible(&self, call: &Call, body: &[u8], now: u64) -> Answer {
        let subject = self.subject(&call.target, body);
        if let Some(moved) = self.moved(call) {
            return moved;
        }
        let repository = subject.repository.as_deref().unwrap_or_default();
        let view = self.access.view(repository, call.caller.token(), now);
        let Some(view) = view else {
            return match is_graphql(&call.target) {
                true => unresolved(repository),
                false => Answer::not_found(&call.host),
            };
        };
        let touch = self.changes.touched(&call.host, &subject.changes, now);
        let answer = self.replayed(call, body, self.access.is_live().then_some(view), touch);
        let writes = !matches!(call.method, Method::GET | Method::HEAD) && !is_graphql(&call.target);
        if writes && answer.status.is_success() && self.access.is_live() {
            self.written(&call.target, now);
        }
        answer
    }

    /// A request below the old name of a renamed repository: where it is now.
    fn moved(&self, call: &Call) -> Option<Answer> {
        let rest = call.target.strip_prefix("/repos/")?;
        let end = rest.match_indices(['/', '?']).nth(1).map_or(rest.len(), |(at, _)| at);
        let end = rest[..end].rfind('?').unwrap_or(end);
        let id = self.access.renamed(&rest[..end].to_ascii_lowercase())?;
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        let status = if reads { StatusCode::MOVED_PERMANENTLY } else { StatusCode::TEMPORARY_REDIRECT };
        let location = format!("https://{API_HOST}/repositories/{id}{}", &rest[end..]);
        let mut answer = Answer::error(
            status,
            if reads { "Moved Permanently" } else { "Temporary Redirect" },
            "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects",
        );
        answer.headers.insert(http::header::LOCATION, HeaderValue::from_str(&location).ok()?);
        Some(answer)
    }

    /// A write changes its resource and what holds it: a new comment changes the list and the
    /// issue.
    fn written(&self, target: &str, now: u64) {
        let path = target.split('?').next().unwrap_or(target);
        let mut changed: Vec<String> = path
            .match_indices('/')
            .skip(4)
            .map(|(at, _)| path[..at].to_owned())
            .chain([path.to_owned()])
            .collect();
        if let Some((repository, sha)) = path.split_once("/statuses/") {
            let of_commit = ["status", "statuses", "check-runs"];
            changed.extend(of_commit.map(|what| format!("{repository}/commits/{sha}/{what}")));
        }
        if let Some(name) = self.replay.repository(path) {
            changed.push(format!("/graphql/{name}"));
        }
        for path in changed {
            // Only when more has changed than is remembered; the log of what was asked stays right.
            if let Err(error) = self.changes.touch(API_HOST, &path, now) {
                eprintln!("fakehub: a write does not change {path}: {error}");
            }
        }
    }

    fn recorded(&self, call: &Call, body: &[u8]) -> Answer {
        let touch = self.changes.touched(&call.host, &call.target, self.clock.now().as_millis());
        self.replayed(call, body, None, touch)
    }

    fn replayed(&self, call: &Call, body: &[u8], view: Option<View>, touch: Option<Touch>) -> Answer {
        let query = Query {
            method: call.method.as_str(),
            host: &call.host,
            target: &call.target,
            accept: call.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()),
            body,
            conditional: is_conditional(&call.headers),
        };
        let frame =
            Frame { mode: self.etag, key: &self.key, request: &call.headers, query: &query, view, touch };
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
        let truncates = *self.outage.borrow() == Some(Outage::Truncate);
        let breaks_off = sends_body && (truncates || self.control.take_truncation());
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
            at: self.clock.now().as_millis(),
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

/// What the front end of GitHub says while what lies behind it is gone.
fn front_end(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let body =
        "<html><body><h1>Unicorn!</h1><p>No server is available to handle your request.</p></body></html>";
    Answer::own(status, "text/html; charset=utf-8", body.to_owned())
}

/// GraphQL's word for a repository that is not there, or not for this token.
fn unresolved(repository: &str) -> Answer {
    let body = serde_json::json!({
        "data": { "repository": null },
        "errors": [{
            "type": "NOT_FOUND", "path": ["repository"], "locations": [{ "line": 1, "column": 1 }],
            "message": format!("Could not resolve to a Repository with the name '{repository}'."),
        }],
    });
    Answer::own(StatusCode::OK, "application/json; charset=utf-8", body.to_string())
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
