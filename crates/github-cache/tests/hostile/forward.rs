//! The forward proxy and the TLS listener.

use std::sync::Arc;
use std::time::Duration;

use peercache::{Cache, Memory};
use peercache_github::{CertificateAuthority, GitHubCache, Server, TlsIdentity};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{OK, Origin, all, status};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

struct Forward {
    address: std::net::SocketAddr,
    tls: std::net::SocketAddr,
    ca: Arc<CertificateAuthority>,
}

async fn start(origin: &Origin, token: Option<&str>) -> Forward {
    let ca = Arc::new(CertificateAuthority::generate(&[], YEAR).unwrap());
    let cache = Cache::builder().tier(Memory::with_capacity(16 << 20)).build().unwrap();
    let proxy = GitHubCache::builder(cache)
        .upstream(&*origin.url)
        .install_key([7; 32])
        .system_proxy(false)
        .build()
        .unwrap();
    let mut server = Server::new(proxy).forward_proxy(Some(Arc::clone(&ca)), token.map(str::to_owned));
    let address = server.listen_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let identity = TlsIdentity::from_authority(Arc::clone(&ca));
    let tls = server.listen_tls(([127, 0, 0, 1], 0).into(), identity).await.unwrap();
    tokio::spawn(server.serve(std::future::pending()));
    Forward { address, tls, ca }
}

async fn secure<S>(ca: &CertificateAuthority, stream: S, name: &str) -> std::io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn connect(forward: &Forward, target: &str, headers: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(forward.address).await.unwrap();
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => break,
        }
    }
    (String::from_utf8(answer).unwrap(), stream)
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _unclean = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

const GET: &str = "GET /repos/o/r HTTP/1.1\r\nHost: api.github.com\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn tls_of_the_api_ends_here_and_is_answered_from_the_cache() {
    let origin = Origin::fixed(OK).await;
    let forward = start(&origin, None).await;
    for expected in ["fwd=uri-miss", "hit"] {
        let (answer, stream) = connect(&forward, "api.github.com:443", "").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let stream = secure(&forward.ca, stream, "api.github.com").await.unwrap();
        let answer = ask(stream, GET).await;
        assert!(answer.contains(&format!("Cache-Status: peercache; {expected}")), "{answer}");
    }
    assert_eq!(origin.heads().len(), 1);
    // The tunnel is for this host: another one inside it is none of ours.
    let (_, stream) = connect(&forward, "api.github.com:443", "").await;
    let stream = secure(&forward.ca, stream, "api.github.com").await.unwrap();
    let answer = ask(stream, &GET.replace("api.github.com", "uploads.github.com")).await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
}

#[tokio::test]
async fn everything_else_is_tunnelled_untouched() {
    let origin = Origin::fixed(OK).await;
    let forward = start(&origin, None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    let (answer, mut stream) = connect(&forward, &target, "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let sent: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let (mut read, mut write) = stream.split();
    let writing = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut echoed = Vec::new();
    let (_, got) = tokio::join!(writing, read.read_to_end(&mut echoed));
    got.unwrap();
    assert!(echoed == sent);
    assert_eq!(origin.heads().len(), 0);
    let (refused, _) = connect(&forward, "127.0.0.1:1", "").await;
    assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
    let (malformed, _) = connect(&forward, "github.com", "").await;
    assert!(malformed.starts_with("HTTP/1.1 400 "), "{malformed}");
}

#[tokio::test]
async fn ordinary_requests_are_served_on_the_same_listener() {
    let origin = Origin::fixed(OK).await;
    let forward = start(&origin, None).await;
    for request in [
        format!("GET /x HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", forward.address),
        "GET http://api.github.com/x HTTP/1.1\r\nHost: api.github.com\r\nConnection: close\r\n\r\n"
            .to_owned(),
    ] {
        let answer = ask(TcpStream::connect(forward.address).await.unwrap(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn tls_listener_answers_with_its_own_names() {
    let next =
        OK.replacen("\r\n", "\r\nLink: <https://api.github.com/repositories/1?page=2>; rel=\"next\"\r\n", 1);
    let origin = Origin::fixed(next).await;
    let forward = start(&origin, None).await;
    let stream = TcpStream::connect(forward.tls).await.unwrap();
    let stream = secure(&forward.ca, stream, "localhost").await.unwrap();
    let host = format!("localhost:{}", forward.tls.port());
    let answer = ask(stream, &GET.replace("api.github.com", &host)).await;
    assert!(answer.contains(&format!("Link: <https://{host}/repositories/1?page=2>")), "{answer}");
    // Neither a client that trusts somebody else nor one that speaks no TLS gets an answer.
    let other = CertificateAuthority::generate(&[], YEAR).unwrap();
    assert!(secure(&other, TcpStream::connect(forward.tls).await.unwrap(), "localhost").await.is_err());
    let mut plain = TcpStream::connect(forward.tls).await.unwrap();
    plain.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(status(&all(&mut plain, Duration::from_secs(2)).await), 0);
}

#[tokio::test]
async fn silent_client_of_the_forward_proxy_is_given_up() {
    let cache = Cache::builder().tier(Memory::with_capacity(1 << 20)).build().unwrap();
    let proxy = GitHubCache::builder(cache).install_key([7; 32]).system_proxy(false).build().unwrap();
    let mut server = Server::new(proxy).forward_proxy(None, None).head_timeout(Duration::from_millis(100));
    let address = server.listen_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    tokio::spawn(server.serve(std::future::pending()));
    for bytes in [&b""[..], b"CONN", b"CONNECT api.github.com:443 HTTP/1.1\r\nHost:"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{}", String::from_utf8_lossy(bytes));
    }
}
