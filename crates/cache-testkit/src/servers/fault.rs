//! A proxy before a server, whose faults are switched while a test runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self as client, SendRequest};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::ServerError;
use super::log::{Log, Recorder};
use super::slow::{Passed, slowed};

/// What a [`FaultProxy`] does with a request. The mode in force when its head has arrived decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Passes it to the server, and the answer back.
    #[default]
    Pass,
    /// Nobody is there: every connection is ended at once, also those that are open and wait for an
    /// answer.
    Refuse,
    /// Reads it and never answers; once the mode is another, the connection ends without an answer.
    Tarpit,
    /// Passes it, each body with so many bytes a second (1 to 4 GiB; at least a byte every tenth of
    /// a second).
    Slow(u32),
    /// Passes one request at a time: for a server that looks at the condition of a write and then
    /// writes, as moto does, and lets another write come between the two.
    OneByOne,
    /// Answers this; the server is not asked.
    Answer(Answer),
    /// Answers this to requests that are signed with the access key of this id, and passes the
    /// others: a key whose time is over, beside one that is good.
    AnswerTo(String, Answer),
}

/// Whether the signature is of this access key (AWS Signature Version 4, in the `Authorization`
/// header).
fn is_signed_by(request: &Request<Incoming>, id: &str) -> bool {
    let header = request.headers().get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credential = header.and_then(|text| text.split_once("Credential=")).map(|(_, credential)| credential);
    credential.and_then(|credential| credential.split('/').next()) == Some(id)
}

/// An answer that the server did not give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// An answer with this status and an error of S3 with this code.
    #[must_use]
    pub fn s3_error(status: StatusCode, code: &str, message: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <Error><Code>{code}</Code><Message>{message}</Message><RequestId>TEST</RequestId></Error>"
        );
        let answer = Self { status, headers: HeaderMap::new(), body: body.into() };
        answer.header(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"))
    }

    /// 503 `SlowDown`: what S3 says to who asks too much. `retry_after` is in whole seconds.
    #[must_use]
    pub fn slow_down(retry_after: Option<Duration>) -> Self {
        let answer =
            Self::s3_error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate.");
        match retry_after {
            Some(time) => answer.header(http::header::RETRY_AFTER, time.as_secs().into()),
            None => answer,
        }
    }

    /// 400 `ExpiredToken`: what S3 says to credentials whose time is over.
    #[must_use]
    pub fn expired_token() -> Self {
        Self::s3_error(StatusCode::BAD_REQUEST, "ExpiredToken", "The provided token has expired.")
    }

    /// 403 `AccessDenied`.
    #[must_use]
    pub fn access_denied() -> Self {
        Self::s3_error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied")
    }

    /// The same with this header, in the place of one that it had.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    fn response(&self) -> Response<Passed> {
        let body = Full::new(self.body.clone()).map_err(|never| match never {});
        let mut response = Response::new(body.boxed_unsync());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

/// A proxy on a loopback port before one server. Requests arrive as they were sent, `Host` and
/// signature included.
///
/// It speaks HTTP/1.1, keeps connections open on both sides, and asks the server over one
/// connection for each that a client opens. Dropping it ends every connection.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Whose request passes, in [`Mode::OneByOne`].
    turn: Mutex<()>,
    log: Recorder,
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl FaultProxy {
    /// Listens on a free loopback port, for the server at `upstream`; the mode is [`Mode::Pass`].
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] when no port can be had.
    pub async fn start(upstream: SocketAddr) -> Result<Self, ServerError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(ServerError::io("no loopback port is free"))?;
        let address = listener.local_addr().map_err(ServerError::io("a port has no number"))?;
        let shared = Arc::new(Shared {
            upstream,
            mode: watch::Sender::new(Mode::Pass),
            turn: Mutex::default(),
            log: Recorder::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// [`FaultProxy::address`] as a URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What happens to requests from now on.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// The requests since the start, or since [`FaultProxy::take_log`].
    #[must_use]
    pub fn log(&self) -> Log {
        self.shared.log.read()
    }

    /// As [`FaultProxy::log`], which begins anew.
    #[must_use]
    pub fn take_log(&self) -> Log {
        self.shared.log.take()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Ended with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(connection(stream, Arc::clone(&shared)));
            } else {
                // Out of descriptors: others must end first.
                tokio::task::yield_now().await;
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One client's connection, until either side or [`Mode::Refuse`] ends it.
async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    if *mode.borrow_and_update() == Mode::Refuse || stream.set_nodelay(true).is_err() {
        return;
    }
    let upstream = Arc::new(Mutex::new(None));
    let service = service_fn(|request| handle(request, Arc::clone(&shared), Arc::clone(&upstream)));
    let serving = server::Builder::new().half_close(true).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Clients that hang up are a test's business: it sees them.
        _ = serving => {}
        _ = mode.wait_for(|mode| *mode == Mode::Refuse) => {}
    }
}

/// The connection to the server that belongs to one of a client.
type Upstream = Arc<Mutex<Option<SendRequest<Passed>>>>;

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("no answer is the answer")]
    Tarpit,
    #[error("the server: {0}")]
    Connect(#[from] std::io::Error),
    #[error("the server: {0}")]
    Http(#[from] hyper::Error),
}

async fn handle(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    upstream: Upstream,
) -> Result<Response<Passed>, Cut> {
    let uri = request.uri();
    let number = shared.log.request(request.method().as_str(), uri.path(), uri.query().unwrap_or_default());
    let mode = shared.mode.borrow().clone();
    // Until the answer begins: by then the server has done what it was asked.
    let _turn = if mode == Mode::OneByOne { Some(shared.turn.lock().await) } else { None };
    let response = match mode {
        Mode::AnswerTo(id, answer) if is_signed_by(&request, &id) => answered(request, &answer).await?,
        Mode::Answer(answer) => answered(request, &answer).await?,
        Mode::Pass | Mode::OneByOne | Mode::AnswerTo(..) => {
            pass(request.map(Incoming::boxed_unsync), &shared, &upstream).await?.map(Incoming::boxed_unsync)
        }
        Mode::Slow(rate) => {
            let request = request.map(|body| slowed(body, rate));
            pass(request, &shared, &upstream).await?.map(|body| slowed(body, rate))
        }
        Mode::Tarpit => {
            let mut mode = shared.mode.subscribe();
            // The sender lives as long as `shared`.
            mode.wait_for(|mode| *mode != Mode::Tarpit).await.ok();
            return Err(Cut::Tarpit);
        }
        // `connection` is about to end it.
        Mode::Refuse => return Err(Cut::Tarpit),
    };
    shared.log.answer(number, response.status().as_u16());
    Ok(response)
}

/// `answer`, once the request is read, as a server reads it: so that the connection can serve the
/// next one.
async fn answered(request: Request<Incoming>, answer: &Answer) -> Result<Response<Passed>, Cut> {
    request.into_body().collect().await?;
    Ok(answer.response())
}

async fn pass(
    request: Request<Passed>,
    shared: &Shared,
    upstream: &Upstream,
) -> Result<Response<Incoming>, Cut> {
    let mut sender = upstream.lock().await;
    if let Some(open) = sender.as_mut() {
        // The answer before may still be read by nobody; a closed connection is replaced.
        if open.ready().await.is_err() {
            *sender = None;
        }
    }
    let open = match &mut *sender {
        Some(open) => open,
        empty => empty.insert(connect(shared.upstream).await?),
    };
    Ok(open.send_request(request).await?)
}

async fn connect(upstream: SocketAddr) -> Result<SendRequest<Passed>, Cut> {
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = client::Builder::new().handshake(TokioIo::new(stream)).await?;
    // Ends when the sender is dropped, that is with the client's connection.
    tokio::spawn(connection);
    Ok(sender)
}
