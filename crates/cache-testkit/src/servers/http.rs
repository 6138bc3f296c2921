//! One plain HTTP request to a server on this machine, for setting it up.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::ServerError;

/// Asks and returns the status; what the answer says else is not read.
pub(super) async fn ask(
    server: SocketAddr,
    method: Method,
    path: &str,
    body: impl AsRef<[u8]>,
) -> Result<StatusCode, ServerError> {
    let stream = TcpStream::connect(server).await.map_err(ServerError::io("the server does not listen"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let invalid = |error| ServerError::Io {
        what: "a path that is none",
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, error),
    };
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_ref())));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse::<Uri>().map_err(invalid)?;
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    // The connection is driven here and dropped with the answer: nothing outlives the call. A
    // server that ends it after its answer, as moto does, may do both in one step: so the answer is
    // looked at first, and once more.
    let mut answer = std::pin::pin!(sender.send_request(request));
    tokio::select! {
        biased;
        answer = &mut answer => return Ok(answer?.status()),
        ended = connection => ended?,
    }
    Ok(answer.await?.status())
}

/// As [`ask`]; any status but a success is an error.
pub(super) async fn demand(
    server: SocketAddr,
    method: Method,
    path: &str,
    body: impl AsRef<[u8]>,
) -> Result<(), ServerError> {
    let status = ask(server, method.clone(), path, body).await?;
    if status.is_success() {
        return Ok(());
    }
    Err(ServerError::Refused { method, path: path.to_owned(), status: status.as_u16() })
}
