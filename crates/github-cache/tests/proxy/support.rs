//! An origin that does what a test says, and a proxy in front of it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use peercache::{Cache, Memory};
use peercache_github::{GitHubCache, GitHubCacheBuilder, Limits, ProxyStats};
use peercache_testkit::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A request as the origin got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

type Handler = dyn Fn(&Seen) -> Response<Bytes> + Send + Sync;

/// An HTTP server on loopback.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: watch::Sender<bool>,
}

impl Origin {
    pub(crate) async fn start(handler: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (open, gate) = watch::channel(true);
        let handler: Arc<Handler> = Arc::new(handler);
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, log, gate) = (Arc::clone(&handler), Arc::clone(&log), gate.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (handler, log, mut gate) = (Arc::clone(&handler), Arc::clone(&log), gate.clone());
                    async move {
                        let (parts, body) = request.into_parts();
                        let body =
                            body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                        let seen = Seen {
                            method: parts.method.to_string(),
                            target: parts.uri.to_string(),
                            headers: parts.headers,
                            body,
                        };
                        log.lock().unwrap().push(seen.clone());
                        gate.wait_for(|open| *open).await.unwrap();
                        Ok::<_, Infallible>(handler(&seen).map(Full::new))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, seen, open }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().cloned().unwrap()
    }

    /// Answers wait until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.open.send_replace(true);
    }

    /// Until `count` requests have arrived.
    pub(crate) async fn arrived(&self, count: usize) {
        for _ in 0..2000 {
            if self.count() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} requests arrived, {count} were expected", self.count());
    }
}

/// Sends exactly these bytes to whoever has sent a request head, then closes.
pub(crate) async fn raw_origin(answer: impl Into<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = answer.into();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    let mut buffer = [0; 1024];
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(n) => head.extend_from_slice(&buffer[..n]),
                    }
                }
                stream.write_all(&answer).await.ok();
                stream.shutdown().await.ok();
            });
        }
    });
    format!("http://{address}")
}

/// Whether one of the entity tags of `If-None-Match` is this one.
pub(crate) fn has_tag(seen: &Seen, tag: &str) -> bool {
    seen.header("if-none-match").is_some_and(|tags| tags.split(", ").any(|one| one == tag))
}

/// The first entity tag of `If-None-Match`.
pub(crate) fn first_tag(seen: &Seen) -> Option<&str> {
    seen.header("if-none-match")?.split(", ").next()
}

/// A resource whose entity tag depends on the token and on how often its path was written, as
/// GitHub's do; but by no rule that anybody could know.
#[derive(Default)]
pub(crate) struct Hub {
    versions: Mutex<HashMap<String, u64>>,
    used: Mutex<u64>,
}

impl Hub {
    pub(crate) fn bump(&self, path: &str) {
        *self.versions.lock().unwrap().entry(path.to_owned()).or_default() += 1;
    }

    pub(crate) fn answer(&self, seen: &Seen) -> Response<Bytes> {
        let path = seen.target.split('?').next().unwrap();
        let version = *self.versions.lock().unwrap().entry(path.to_owned()).or_default();
        let token = seen.header("authorization").unwrap_or("nobody");
        let tag = format!("W/\"{version}-{}\"", token.replace(' ', "-"));
        let mut used = self.used.lock().unwrap();
        let matched = has_tag(seen, &tag);
        *used += u64::from(!matched);
        let mut response = Response::builder()
            .header("etag", &tag)
            .header("cache-control", "private, max-age=60, s-maxage=60")
            .header("vary", "Accept, Authorization, Cookie, X-GitHub-OTP")
            .header("date", "Tue, 15 Nov 1994 08:12:31 GMT")
            .header("x-oauth-scopes", token)
            .header("x-ratelimit-limit", "5000")
            .header("x-ratelimit-used", used.to_string())
            .header("x-ratelimit-remaining", (5000 - *used).to_string())
            .header("x-ratelimit-reset", "1800003600")
            .header("x-ratelimit-resource", "core");
        if matched {
            return response.status(304).body(Bytes::new()).unwrap();
        }
        response = response
            .header("content-type", "application/json; charset=utf-8")
            .header("link", "<https://api.github.com/repositories/1/x?page=2>; rel=\"next\"");
        response.body(Bytes::from(format!("{{\"path\":\"{path}\",\"version\":{version}}}"))).unwrap()
    }
}

/// A proxy with memory and a clock that stands still.
pub(crate) struct Rig {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) cache: Cache,
    pub(crate) proxy: GitHubCache,
}

/// What a client gets.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the body arrived whole.
    pub(crate) whole: bool,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn cache_status(&self) -> &str {
        self.headers.get_all("cache-status").iter().next_back().unwrap().to_str().unwrap()
    }

    #[track_caller]
    pub(crate) fn expect(&self, status: u16, cache_status: &str) {
        assert_eq!((self.status.as_u16(), self.cache_status()), (status, cache_status), "{self:?}");
    }
}

pub(crate) const HIT: &str = "peercache; hit; ttl=60; detail=memory";
pub(crate) const STORED: &str = "peercache; fwd=uri-miss; fwd-status=200; stored";
pub(crate) const MISS: &str = "peercache; fwd=uri-miss; fwd-status=200";
pub(crate) const REVALIDATED: &str = "peercache; fwd=stale; fwd-status=304";
pub(crate) const COLLAPSED: &str = "peercache; fwd=uri-miss; collapsed";

impl Rig {
    pub(crate) fn new(upstream: &str) -> Self {
        Self::with(upstream, |builder| builder)
    }

    pub(crate) fn with(
        upstream: &str,
        change: impl FnOnce(GitHubCacheBuilder) -> GitHubCacheBuilder,
    ) -> Self {
        Self::at(Arc::new(ManualClock::default()), upstream, change)
    }

    /// One whose time is this clock's.
    pub(crate) fn at(
        clock: Arc<ManualClock>,
        upstream: &str,
        change: impl FnOnce(GitHubCacheBuilder) -> GitHubCacheBuilder,
    ) -> Self {
        let memory = Memory::builder().capacity(64 << 20).clock(clock.clone()).build();
        let cache = Cache::builder().tier(memory).clock(clock.clone()).build().unwrap();
        Self::over(cache, clock, upstream, change)
    }

    /// One over a cache that others may use, too.
    pub(crate) fn over(
        cache: Cache,
        clock: Arc<ManualClock>,
        upstream: &str,
        change: impl FnOnce(GitHubCacheBuilder) -> GitHubCacheBuilder,
    ) -> Self {
        let builder = GitHubCache::builder(cache.clone())
            .upstream(upstream)
            .install_key([7; 32])
            .host("proxy.test")
            .system_proxy(false)
            .limits(quick());
        Self { clock, cache, proxy: change(builder).build().unwrap() }
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn stats(&self) -> ProxyStats {
        self.proxy.stats().proxy
    }

    pub(crate) async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Got {
        self.send("GET", target, headers, "").await
    }

    pub(crate) async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Got {
        collect(self.proxy.handle(request(method, target, headers, body)).await).await
    }
}

/// Patience that a test can wait for, but that a slow machine does not run out of.
pub(crate) fn quick() -> Limits {
    let mut limits = Limits::default();
    limits.response = Duration::from_secs(20);
    limits
}

pub(crate) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", "proxy.test:8080");
    }
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_str(value).unwrap());
    }
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

pub(crate) async fn collect(response: Response<peercache_github::ResponseBody>) -> Got {
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut whole = true;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Err(_) => whole = false,
        }
        if !whole {
            break;
        }
    }
    let got = Got { status: parts.status, headers: parts.headers, body: bytes.into(), whole };
    assert!(is_cache_status(got.cache_status()), "every answer has one: {got:?}");
    got
}

/// Whether this is a member of a `Cache-Status` list as RFC 9211 and RFC 8941 write it.
pub(crate) fn is_cache_status(text: &str) -> bool {
    let mut parts = text.split("; ");
    let token = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    parts.next() == Some("peercache")
        && parts.all(|part| match part.split_once('=') {
            None => ["hit", "stored", "collapsed"].contains(&part),
            Some(("ttl" | "fwd-status", number)) => number.parse::<u64>().is_ok(),
            Some(("fwd", why)) => ["bypass", "method", "uri-miss", "request", "stale"].contains(&why),
            Some(("detail", detail)) => token(detail),
            Some(_) => false,
        })
}

/// A hub as origin and a proxy before it.
pub(crate) async fn hub() -> (Arc<Hub>, Origin, Rig) {
    let hub = Arc::new(Hub::default());
    let answering = Arc::clone(&hub);
    let origin = Origin::start(move |seen| answering.answer(seen)).await;
    let rig = Rig::new(&origin.url());
    (hub, origin, rig)
}

/// An origin that always gives this, and a proxy before it.
pub(crate) async fn fixed(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
) -> (Origin, Rig) {
    let origin = Origin::start(move |_| {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(Bytes::from_static(body.as_bytes())).unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    (origin, rig)
}
