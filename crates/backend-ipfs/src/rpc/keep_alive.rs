//! The client that keeps connections open: `ipfs-api-prelude` over `reqwest`.
//!
//! It is what https, `Authorization` and trailers need, none of which `ipfs-api-backend-hyper` can
//! do.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use common_multipart_rfc7578::client::multipart;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use http02::header::{HeaderName, HeaderValue};
use http02::{StatusCode, Uri};
use ipfs_api_prelude::{ApiRequest, Backend, BoxStream};
use peercache_api::{Error, ErrorKind, Operation};
use reqwest::header::AUTHORIZATION;

use super::trouble::{Trouble, innermost, shortened};
use crate::endpoint::{Authorization, Endpoint};

/// The longest that making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that stay open while nothing is asked.
const IDLE_CONNECTIONS: usize = 64;
/// The trailer in which Kubo puts an error that it met after it had answered 200.
const STREAM_ERROR: &str = "x-stream-error";
/// The longest answer that is read: a folder of MFS is split into pieces long before.
pub(super) const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The client.
pub(crate) struct KeepAlive {
    base: Uri,
    client: reqwest::Client,
    authorization: Option<Authorization>,
}

impl fmt::Debug for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepAlive").field("base", &self.base).finish_non_exhaustive()
    }
}

impl KeepAlive {
    pub(crate) fn new(endpoint: &Endpoint, authorization: Option<Authorization>) -> Result<Self, Error> {
        let failed = |error: reqwest::Error| {
            Error::new(ErrorKind::Config, Operation::Open, "the HTTP client of the IPFS tier cannot start")
                .with_backend("ipfs")
                .with_source(error)
        };
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // Losing a race against another thread that installs one is as good.
            let _either = rustls::crypto::ring::default_provider().install_default();
        }
        let builder = || {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .http1_only()
        };
        let client = if endpoint.is_tls() {
            builder().build().or_else(|error| {
                tracing::info!(%error, "no CA certificates on this system; using those of this build");
                let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS
                    .iter()
                    .map(|root| reqwest::Certificate::from_der(root))
                    .collect::<reqwest::Result<Vec<_>>>()?;
                builder().tls_certs_only(bundled).build()
            })
        } else {
            // An image without certificates can ask a node over plain http.
            builder().tls_certs_only([]).build()
        };
        Ok(Self { base: endpoint.base().clone(), client: client.map_err(failed)?, authorization })
    }
}

fn of_reqwest(error: reqwest::Error) -> Trouble {
    if error.is_timeout() && error.is_connect() {
        return Trouble::NoAnswer(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()));
    }
    if error.is_connect() || error.is_request() {
        return Trouble::NoAnswer(innermost(&error));
    }
    Trouble::BrokenOff(innermost(&error))
}

/// Reads a body to its end, and the trailer behind it.
async fn read(response: reqwest::Response) -> Result<Bytes, Trouble> {
    let mut body = reqwest::Body::from(response);
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Trouble::BrokenOff(innermost(&error)))?;
        match frame.into_data() {
            Ok(data) => {
                if first.len() + whole.len() + data.len() > MAX_ANSWER_BYTES {
                    return Err(Trouble::TooLong(MAX_ANSWER_BYTES));
                }
                // Most answers are one piece, which need not be copied.
                if first.is_empty() && whole.is_empty() {
                    first = data;
                } else {
                    if whole.is_empty() {
                        whole.extend_from_slice(&std::mem::take(&mut first));
                    }
                    whole.extend_from_slice(&data);
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                if let Some(message) = trailers.get(STREAM_ERROR) {
                    let text = String::from_utf8_lossy(message.as_bytes());
                    return Err(match Trouble::of_message(200, &text) {
                        Trouble::Other { message, .. } => Trouble::Trailer(message),
                        known => known,
                    });
                }
            }
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Sends a request and waits for the head of its answer, which is a success.
async fn answered(
    client: reqwest::Client,
    request: Result<reqwest::Request, Trouble>,
    authorized: bool,
) -> Result<reqwest::Response, Trouble> {
    let response = client.execute(request?).await.map_err(of_reqwest)?;
    match response.status().as_u16() {
        200 => Ok(response),
        status => Err(Trouble::of_answer(status, &read(response).await?, authorized)),
    }
}

/// The bytes of a form and its content type. Its parts are in memory, so it never waits.
fn encode(form: multipart::Form<'static>) -> Result<(String, Bytes), Trouble> {
    let content_type = form.content_type();
    let body = multipart::Body::from(form);
    let whole = body
        .map_ok(|piece| BytesMut::from(&piece[..]))
        .try_concat()
        .now_or_never()
        .ok_or_else(|| Trouble::Unreadable("the form is not in memory".to_owned()))?
        .map_err(|error| Trouble::Unreadable(shortened(&error.to_string())))?;
    Ok((content_type, whole.freeze()))
}

#[async_trait]
impl Backend for KeepAlive {
    type HttpRequest = Result<reqwest::Request, Trouble>;
    type HttpResponse = reqwest::Response;
    type Error = Trouble;

    fn build_base_request<Req>(
        &self,
        request: Req,
        form: Option<multipart::Form<'static>>,
    ) -> Result<Self::HttpRequest, Trouble>
    where
        Req: ApiRequest,
    {
        let url = request.absolute_url(&self.base)?.to_string();
        let mut builder = self.client.post(url);
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization.header().clone());
        }
        if let Some(form) = form {
            let (content_type, body) = encode(form)?;
            builder = builder.header(reqwest::header::CONTENT_TYPE, content_type).body(body);
        }
        Ok(builder.build().map_err(|error| Trouble::Unreadable(innermost(&error))))
    }

    fn get_header(_: &reqwest::Response, _: HeaderName) -> Option<&HeaderValue> {
        // The headers of `reqwest` are of another version of `http`; nothing that is used here
        // asks.
        None
    }

    async fn request_raw<Req>(
        &self,
        request: Req,
        form: Option<multipart::Form<'static>>,
    ) -> Result<(StatusCode, Bytes), Trouble>
    where
        Req: ApiRequest,
    {
        let request = self.build_base_request(request, form)??;
        let response = self.client.execute(request).await.map_err(of_reqwest)?;
        let status = StatusCode::from_u16(response.status().as_u16())
            .map_err(|error| Trouble::Unreadable(error.to_string()))?;
        let body = read(response).await?;
        if status != StatusCode::OK {
            return Err(Trouble::of_answer(status.as_u16(), &body, self.authorization.is_some()));
        }
        Ok((status, body))
    }

    fn response_to_byte_stream(response: reqwest::Response) -> BoxStream<Bytes, Trouble> {
        Box::new(response.bytes_stream().map_err(of_reqwest).boxed())
    }

    fn request_stream<Res, F>(&self, request: Self::HttpRequest, process: F) -> BoxStream<Res, Trouble>
    where
        F: 'static + Send + Fn(reqwest::Response) -> BoxStream<Res, Trouble>,
    {
        let answered = answered(self.client.clone(), request, self.authorization.is_some());
        Box::new(Box::pin(answered.map_ok(process).try_flatten_stream()))
    }
}
