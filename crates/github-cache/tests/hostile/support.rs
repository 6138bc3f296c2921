//! A proxy on a loopback port, and raw bytes both ways.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peercache::{Cache, Memory};
use peercache_github::{GitHubCache, GitHubCacheBuilder, Limits, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// A running proxy, ended when it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(upstream: &str) -> Self {
        Self::with(upstream, |builder| builder, |server| server).await
    }

    pub(crate) async fn with(
        upstream: &str,
        proxy: impl FnOnce(GitHubCacheBuilder) -> GitHubCacheBuilder,
        server: impl FnOnce(Server) -> Server,
    ) -> Self {
        let cache = Cache::builder().tier(Memory::with_capacity(64 << 20)).build().unwrap();
        let builder = GitHubCache::builder(cache).upstream(upstream).install_key([7; 32]).system_proxy(false);
        let cache = proxy(builder).build().unwrap();
        let mut server = server(Server::new(cache));
        let address = server.listen_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let serving = tokio::spawn(async move {
            server.serve(std::future::pending()).await.unwrap();
        });
        Self { address, serving }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes, and gives all that comes until the other side closes or is silent.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        // The other side may have closed already: what it said is read all the same.
        let _refused = stream.write_all(bytes).await;
        all(&mut stream, Duration::from_secs(5)).await
    }

    /// One request with these header lines; `Host` and `Connection: close` are added.
    pub(crate) async fn ask(&self, line: &str, headers: &str) -> String {
        let host = format!("Host: {}\r\n", self.address);
        let host = if headers.starts_with("Host:") { "" } else { &host };
        let head = format!("{line} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
        String::from_utf8_lossy(&self.raw(head.as_bytes()).await).into_owned()
    }
}

/// Everything until the end, an error, or silence.
pub(crate) async fn all(stream: &mut TcpStream, silence: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65536];
    while let Ok(Ok(read)) = tokio::time::timeout(silence, stream.read(&mut buffer)).await {
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&buffer[..read]);
    }
    bytes
}

/// The status of a raw answer; 0 if it is none.
pub(crate) fn status(answer: &[u8]) -> u16 {
    let line = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
    line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
}

/// An origin that gives each connection to a function, and remembers the heads that it got.
pub(crate) struct Origin {
    pub(crate) url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    pub(crate) async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(Connection) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let connection = Connection { stream, rest: Vec::new(), heads: Arc::clone(&log) };
                tokio::spawn(serve(connection));
            }
        });
        Self { url, heads }
    }

    /// Answers every request on every connection with these bytes.
    pub(crate) async fn fixed(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<Vec<u8>> = Arc::new(answer.into());
        Self::start(move |mut connection| {
            let answer = Arc::clone(&answer);
            async move {
                while let Some(head) = connection.head().await {
                    connection.body(&head).await;
                    if connection.stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) rest: Vec<u8>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Connection {
    /// The next request's head; none when the connection ends.
    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.rest.windows(4).position(|end| end == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.rest[..at]).into_owned();
                self.rest.drain(..at + 4);
                self.heads.lock().unwrap().push(head.clone());
                return Some(head);
            }
            let mut buffer = [0; 16384];
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.rest.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// Reads the body that a head announces.
    pub(crate) async fn body(&mut self, head: &str) {
        let mut left: usize = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        let have = self.rest.len().min(left);
        self.rest.drain(..have);
        left -= have;
        let mut buffer = [0; 65536];
        while left > 0 {
            let most = left.min(buffer.len());
            match self.stream.read(&mut buffer[..most]).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left -= read,
            }
        }
    }
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nCache-Control: private, max-age=600\r\n\
    Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// Limits that a test can wait for.
pub(crate) fn quick(window: Duration) -> Limits {
    let mut limits = Limits::default();
    limits.rate_window = window;
    limits
}

/// A large body that may be stored, or not.
pub(crate) fn large(bytes: usize, stored: bool) -> Vec<u8> {
    let keep = if stored { "ETag: \"a\"\r\nCache-Control: private, max-age=600\r\n" } else { "" };
    let head = format!("HTTP/1.1 200 OK\r\n{keep}Content-Length: {bytes}\r\n\r\n");
    [head.as_bytes(), &vec![b'z'; bytes]].concat()
}

/// A connection whose receive buffer is as small as the system lets it be.
pub(crate) async fn small(proxy: &Proxy) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(proxy.address).await.unwrap()
}

/// A GET on a connection that stays open.
pub(crate) fn get(path: &str, proxy: &Proxy) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.address)
}
