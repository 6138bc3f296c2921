//! The proxy with faults, before an origin of this test; and the real servers, where their programs
//! are.
#![cfg(feature = "servers")]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use peercache_testkit::servers::{Answer, FaultProxy, Mode, Moto, SeaweedFs};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Answers every request with its own body, over connections that stay.
async fn echo() -> SocketAddr {
    use http_body_util::{BodyExt as _, Full};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async {
                let body = request.into_body().collect().await?.to_bytes();
                Ok::<_, hyper::Error>(http::Response::new(Full::new(body)))
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
        }
    });
    address
}

struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, method: &str, target: &str, body: &str) {
        self.send_with("", method, target, body).await;
    }

    /// With a header more.
    async fn send_with(&mut self, header: &str, method: &str, target: &str, body: &str) {
        let length = body.len();
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{header}Content-Length: {length}\r\n\r\n");
        self.0.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    }

    /// Reads until `end` was seen; `Err` with what came when the connection ends first.
    async fn until(&mut self, end: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while !text.ends_with(end) {
            match self.0.read(&mut buffer).await {
                Ok(0) | Err(_) => return Err(text),
                Ok(n) => text.push_str(std::str::from_utf8(&buffer[..n]).unwrap()),
            }
        }
        Ok(text)
    }
}

#[tokio::test]
async fn what_passes_is_logged_and_comes_back_over_one_connection() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut client = Client::connect(proxy.address()).await;
    for body in ["one", "two"] {
        client.send("PUT", "/bucket/key%2Fx?versionId=3", body).await;
        let answer = client.until(body).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let log = proxy.take_log();
    assert_eq!((log.count("PUT"), log.forgotten), (2, 0));
    let seen = &log.requests[0];
    assert_eq!(
        (seen.path.as_str(), seen.query.as_str(), seen.status),
        ("/bucket/key%2Fx", "versionId=3", Some(200))
    );
    assert!(proxy.log().requests.is_empty());
}

#[tokio::test]
async fn an_answer_of_the_proxys_own_keeps_the_connection() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut client = Client::connect(proxy.address()).await;
    proxy.set(Mode::Answer(Answer::slow_down(Some(Duration::from_secs(7)))));
    client.send("GET", "/", "asked").await;
    let answer = client.until("</Error>").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("retry-after: 7\r\n") && answer.contains("<Code>SlowDown</Code>"), "{answer}");
    proxy.set(Mode::Pass);
    client.send("GET", "/", "again").await;
    client.until("again").await.unwrap();
    let statuses: Vec<_> = proxy.log().requests.iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [Some(503), Some(200)]);
}

#[tokio::test]
async fn an_answer_to_one_access_key_leaves_the_others_alone() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut client = Client::connect(proxy.address()).await;
    proxy.set(Mode::AnswerTo("old".to_owned(), Answer::expired_token()));
    for (header, end) in [
        ("Authorization: AWS4-HMAC-SHA256 Credential=old/20270115/us-east-1/s3/aws4_request\r\n", "</Error>"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=older/20270115/us-east-1/s3/aws4_request\r\n", "asked"),
        ("Authorization: Basic b2xkOm9sZA==\r\n", "asked"),
        ("", "asked"),
    ] {
        client.send_with(header, "GET", "/", "asked").await;
        client.until(end).await.unwrap();
    }
    let statuses: Vec<_> = proxy.log().requests.iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [Some(400), Some(200), Some(200), Some(200)]);
}

#[test]
fn errors_of_s3_are_as_s3_writes_them() {
    let expired = format!("{:?}", Answer::expired_token());
    assert!(expired.contains("400") && expired.contains("<Code>ExpiredToken</Code>"), "{expired}");
    let denied = Answer::access_denied();
    assert_eq!(denied, Answer::s3_error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"));
}

#[tokio::test]
async fn a_tarpit_answers_nothing_and_ends_with_its_mode() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    proxy.set(Mode::Tarpit);
    let mut client = Client::connect(proxy.address()).await;
    client.send("GET", "/", "x").await;
    // Seen, so it waits now.
    while proxy.log().requests.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(proxy.log().requests[0].status, None);
    proxy.set(Mode::Pass);
    assert_eq!(client.until("x").await, Err(String::new()));
    let mut client = Client::connect(proxy.address()).await;
    client.send("GET", "/", "after").await;
    client.until("after").await.unwrap();
}

#[tokio::test]
async fn refusing_ends_also_who_waits() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    proxy.set(Mode::Tarpit);
    let mut waiting = Client::connect(proxy.address()).await;
    waiting.send("GET", "/", "x").await;
    while proxy.log().requests.is_empty() {
        tokio::task::yield_now().await;
    }
    proxy.set(Mode::Refuse);
    assert_eq!(waiting.until("x").await, Err(String::new()));
    let mut new = Client::connect(proxy.address()).await;
    assert_eq!(new.until("x").await, Err(String::new()));
    assert_eq!(proxy.log().requests.len(), 1);
}

#[tokio::test]
async fn a_slow_body_arrives_whole_and_in_pieces() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    proxy.set(Mode::Slow(1_000));
    let mut client = Client::connect(proxy.address()).await;
    let body = "0123456789".repeat(25);
    client.send("PUT", "/", &body).await;
    let mut pieces = 0;
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(&body) {
        let n = client.0.read(&mut buffer).await.unwrap();
        assert_ne!(n, 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        pieces += 1;
    }
    // 250 bytes are three pieces of 100 at most; TCP may join some, never all while each waits for
    // the one before.
    assert!(pieces > 1, "{text}");
}

#[tokio::test]
async fn one_request_passes_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap()).await.unwrap();
    proxy.set(Mode::OneByOne);
    let mut clients = [Client::connect(proxy.address()).await, Client::connect(proxy.address()).await];
    for client in &mut clients {
        client.send("GET", "/", "").await;
    }
    while proxy.log().requests.len() < 2 {
        tokio::task::yield_now().await;
    }
    // Neither is answered yet, and only one of them has come.
    let (mut first, _) = listener.accept().await.unwrap();
    let second = listener.accept();
    tokio::pin!(second);
    assert!(futures_util::poll!(&mut second).is_pending());
    first.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend").await.unwrap();
    let (mut second, _) = second.await.unwrap();
    second.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend").await.unwrap();
    for client in &mut clients {
        client.until("end").await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_cut_and_one_that_returns_is_found() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    let proxy = FaultProxy::start(address).await.unwrap();
    // Bound, so nobody else takes the port; closed before anything is read.
    let closing = tokio::spawn(async move { drop(gone.accept().await.unwrap()) });
    let mut client = Client::connect(proxy.address()).await;
    client.send("GET", "/", "x").await;
    assert_eq!(client.until("x").await, Err(String::new()));
    closing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_seaweedfs_side_by_side_refuse_who_does_not_sign_and_end_with_their_values() {
    let Some(mut one) = SeaweedFs::start().await.unwrap() else { return };
    let Some(two) = SeaweedFs::start().await.unwrap() else { return };
    one.make_bucket("another").await.unwrap();
    for server in [&one, &two] {
        let mut client = Client::connect(server.address()).await;
        client.send("GET", &format!("/{}/none", server.bucket()), "").await;
        let answer = client.until("</Error>").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    one.kill();
    assert!(TcpStream::connect(one.address()).await.is_err());
    one.restart().await.unwrap();
    assert!(TcpStream::connect(one.address()).await.is_ok());
    let ids = [one.process_id(), two.process_id()];
    let address = two.address();
    drop((one, two));
    assert!(TcpStream::connect(address).await.is_err());
    for id in ids {
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_behind_the_proxy_keeps_what_it_is_given() {
    let Some(moto) = Moto::start().await.unwrap() else { return };
    let proxy = FaultProxy::start(moto.address()).await.unwrap();
    let key = format!("/{}/key", moto.bucket());
    let mut client = Client::connect(proxy.address()).await;
    client.send("PUT", &key, "value").await;
    let answer = client.until("\r\n\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(proxy.log().requests[0].status, Some(200));
}
