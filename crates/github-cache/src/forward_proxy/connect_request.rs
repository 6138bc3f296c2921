//! A `CONNECT` request's head (RFC 9110, section 9.3.6), read before the HTTP library sees the
//! connection.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::Authority;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::server::Rewound;

const METHOD: &[u8] = b"CONNECT ";
/// The most bytes of the head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// What a client wants to be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectRequest {
    /// Host and port.
    pub(crate) authority: Authority,
    /// The password of `Proxy-Authorization: Basic`, or the token of `Bearer`.
    pub(crate) credential: Option<String>,
}

/// Reads a `CONNECT` head if the connection goes on with one. Nothing is taken from a connection
/// that does not. A head that cannot be understood is `Some(Err)`.
pub(crate) async fn read_connect<S>(stream: &mut Rewound<S>) -> io::Result<Option<Result<ConnectRequest, ()>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while stream.held().len() < METHOD.len() {
        let held = stream.held();
        if !METHOD.starts_with(held) {
            return Ok(None);
        }
        if !stream.hold_more().await? {
            return Ok(None);
        }
    }
    if !stream.held().starts_with(METHOD) {
        return Ok(None);
    }
    loop {
        let held = stream.held();
        if let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = stream.take(end + 4);
            return Ok(Some(parse(&head).ok_or(())));
        }
        if held.len() > MAX_HEAD_BYTES {
            return Ok(Some(Err(())));
        }
        if !stream.hold_more().await? {
            return Ok(Some(Err(())));
        }
    }
}

fn parse(head: &[u8]) -> Option<ConnectRequest> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (_, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return None;
    }
    let authority: Authority = target.parse().ok()?;
    if authority.port_u16().is_none_or(|port| port == 0)
        || authority.host().is_empty()
        || authority.as_str().contains('@')
    {
        return None;
    }
    let mut credential = None;
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("proxy-authorization") {
            credential = password(value.trim());
        }
    }
    Some(ConnectRequest { authority, credential })
}

fn password(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok().filter(|_| is_basic)?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn read(bytes: &[u8]) -> (Option<Result<ConnectRequest, ()>>, Vec<u8>) {
        let (mut far, near) = tokio::io::duplex(64 * 1024);
        let mut stream = Rewound::new(near);
        let bytes = bytes.to_vec();
        let sending = tokio::spawn(async move {
            for piece in bytes.chunks(5) {
                far.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let request = read_connect(&mut stream).await.unwrap();
        sending.await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        (request, rest)
    }

    #[tokio::test]
    async fn head_is_taken_and_what_follows_stays() {
        let head = "CONNECT api.github.com:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic eDpzZWNyZXQ=\r\n\r\n";
        let (request, rest) = read(format!("{head}hello").as_bytes()).await;
        let request = request.unwrap().unwrap();
        assert_eq!(
            (request.authority.as_str(), request.credential.as_deref()),
            ("api.github.com:443", Some("secret"))
        );
        assert_eq!(rest, b"hello");
        let bearer = parse(b"CONNECT a:1 HTTP/1.1\r\nproxy-authorization: bearer  t \r\n\r\n").unwrap();
        assert_eq!(bearer.credential.as_deref(), Some("t"));
    }

    #[tokio::test]
    async fn other_requests_are_left_whole() {
        for text in ["GET / HTTP/1.1\r\n\r\n", "C", "CONNECX a:1 HTTP/1.1\r\n\r\n", ""] {
            let (request, rest) = read(text.as_bytes()).await;
            assert_eq!((request, rest.as_slice()), (None, text.as_bytes()));
        }
    }

    #[tokio::test]
    async fn targets_without_host_or_port_are_refused() {
        let long = format!("a:1 HTTP/1.1\r\nx: {}", "y".repeat(MAX_HEAD_BYTES));
        for target in [
            "github.com HTTP/1.1",
            "a:0 HTTP/1.1",
            ":443 HTTP/1.1",
            "u@a:1 HTTP/1.1",
            "a:1",
            "a:1 HTTP/2",
            "/ HTTP/1.1",
            &long,
        ] {
            let (request, _) = read(format!("CONNECT {target}\r\n\r\n").as_bytes()).await;
            assert_eq!(request, Some(Err(())), "{}", &target[..target.len().min(40)]);
        }
    }
}
