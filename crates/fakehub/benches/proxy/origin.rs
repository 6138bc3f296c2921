//! An origin with one answer, which it confirms when asked with its entity tag.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const TAG: HeaderValue =
    HeaderValue::from_static("\"3f2504e04f8911d39a0c0305e82c3301a0eebc999c0b4ef8bb6d6bb9bd380a11\"");

/// An origin that listens.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    pub(crate) body: Bytes,
}

/// Starts one whose answer has this many bytes. It ends with the process.
pub(crate) async fn start(bytes: usize) -> std::io::Result<Origin> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let text = format!("{{\"content\":\"{}\"}}", "x".repeat(bytes.saturating_sub(14)));
    let body = Bytes::from(text);
    let answer = body.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move { Ok::<_, Infallible>(answer_to(&request, answer)) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(Origin { address, body })
}

fn answer_to(request: &Request<Incoming>, body: Bytes) -> Response<Full<Bytes>> {
    let has_it = request.headers().get(IF_NONE_MATCH) == Some(&TAG);
    let mut response = Response::new(Full::new(if has_it { Bytes::new() } else { body }));
    if has_it {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(ETAG, TAG);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}
