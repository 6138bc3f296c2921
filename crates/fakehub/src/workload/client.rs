//! A client of one job: one kept connection, as a runner's tools keep one for a while.

use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT,
};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::model::Step;

/// A request that takes longer has failed.
const WITHIN: Duration = Duration::from_secs(60);
/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server does not accept connections.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The request could not be made, or its answer broke off.
    #[error("{target}: {message}")]
    Broken {
        /// What was asked for.
        target: String,
        /// Why there is no answer.
        message: String,
    },
}

/// What came back.
pub(super) struct Response {
    pub(super) status: u16,
    /// Decoded.
    pub(super) body: Vec<u8>,
    pub(super) cache_status: Option<String>,
}

pub(super) struct Client {
    address: SocketAddr,
    token: String,
    gzip: bool,
    connection: Option<(SendRequest<Full<Bytes>>, AbortHandle)>,
}

impl Client {
    pub(super) const fn new(address: SocketAddr, token: String, gzip: bool) -> Self {
        Self { address, token, gzip, connection: None }
    }

    pub(super) async fn send(&mut self, step: &Step) -> Result<Response, ClientError> {
        let broken = |message: String| ClientError::Broken { target: step.target.clone(), message };
        match tokio::time::timeout(WITHIN, self.exchange(step)).await {
            Ok(answer) => answer,
            Err(_) => Err(broken(format!("no answer within {} s", WITHIN.as_secs()))),
        }
    }

    async fn exchange(&mut self, step: &Step) -> Result<Response, ClientError> {
        let broken = |message: String| ClientError::Broken { target: step.target.clone(), message };
        let mut sender = match self.connection.take() {
            // A server may have closed it meanwhile; that shows before anything is sent.
            Some((mut sender, task)) => match sender.ready().await {
                Ok(()) => (sender, task),
                Err(_) => self.connect().await?,
            },
            None => self.connect().await?,
        };
        let request = self.request(step).map_err(|error| broken(error.to_string()))?;
        let answer = sender.0.send_request(request).await.map_err(|error| broken(error.to_string()))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| broken(error.to_string()))?.to_bytes();
        let text = |name: &str| {
            parts.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let body = match text(CONTENT_ENCODING.as_str()).as_deref() {
            Some("gzip") => {
                let mut plain = Vec::new();
                let read =
                    GzDecoder::new(body.as_ref()).take(MAX_ANSWER_BYTES as u64).read_to_end(&mut plain);
                read.map_err(|error| broken(format!("the body is not gzip: {error}")))?;
                plain
            }
            _ => body.to_vec(),
        };
        self.connection = Some(sender);
        Ok(Response { status: parts.status.as_u16(), body, cache_status: text("cache-status") })
    }

    async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, AbortHandle), ClientError> {
        let failed = |source| ClientError::Connect { address: self.address, source };
        let stream = TcpStream::connect(self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| failed(std::io::Error::other(error)))?;
        // It ends with an error when the server cuts it; the next request finds out.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok((sender, task.abort_handle()))
    }

    fn request(&self, step: &Step) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::new(Full::new(Bytes::from(step.body.clone())));
        *request.method_mut() = Method::from_bytes(step.method.as_bytes())?;
        *request.uri_mut() = step.target.parse::<Uri>()?;
        let authorization = format!("{} {}", step.scheme, self.token);
        let mut authorization = HeaderValue::from_str(&authorization)?;
        authorization.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&self.address.to_string())?);
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(ACCEPT, HeaderValue::from_str(&step.accept)?);
        if self.gzip {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(USER_AGENT, HeaderValue::from_static("fakehub-workload"));
        if !step.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.connection {
            task.abort();
        }
    }
}
