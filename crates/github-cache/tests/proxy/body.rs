//! Bodies: whole, cut, large, compressed.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::Response;
use http_body_util::BodyExt;
use peercache::backend::{BackendInfo, async_trait};
use peercache::{Cache, CacheBackend, Entry, Error, Key, Memory};
use peercache_github::{GitHubCache, MAX_REPRESENTATION_BYTES};

use crate::support::{HIT, Origin, REVALIDATED, Rig, STORED, collect, raw_origin, request};

const HEAD: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"x\"\r\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn large(bytes: usize) -> Bytes {
    (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[tokio::test]
async fn a_body_that_was_cut_is_an_error_for_the_client_and_never_stored() {
    let cut_gzip = gzip(b"hello hello hello");
    let cut_gzip = &cut_gzip[..cut_gzip.len() - 3];
    let mut gzip_answer =
        format!("{HEAD}Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", cut_gzip.len()).into_bytes();
    gzip_answer.extend_from_slice(cut_gzip);
    for (answer, reason) in [
        (format!("{HEAD}Content-Length: 10\r\n\r\nhello").into_bytes(), "incomplete"),
        (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").into_bytes(), "incomplete"),
        (gzip_answer, "encoding"),
    ] {
        let rig = Rig::new(&raw_origin(answer).await);
        for _ in 0..2 {
            let got = rig.get("/x", &[]).await;
            assert!(!got.whole, "{got:?}");
            assert!(got.cache_status().starts_with("peercache; fwd=uri-miss"));
        }
        let stats = rig.stats();
        assert_eq!(stats.stored, 0);
        assert_eq!(serde_json::to_value(stats.not_stored).unwrap()[reason], 2);
    }
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_passed_on_and_not_stored() {
    let rig = Rig::new(&raw_origin(format!("{HEAD}\r\nhello")).await);
    let got = rig.get("/x", &[]).await;
    assert_eq!((got.whole, &got.body[..]), (true, &b"hello"[..]));
    got.expect(200, "peercache; fwd=uri-miss; fwd-status=200");
    assert_eq!((rig.stats().stored, rig.stats().not_stored.incomplete), (0, 1));
}

#[tokio::test]
async fn a_chunked_body_is_stored_when_it_is_whole() {
    let rig = Rig::new(
        &raw_origin(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")).await,
    );
    rig.get("/x", &[]).await.expect(200, STORED);
    let hit = rig.get("/x", &[]).await;
    hit.expect(200, HIT);
    assert_eq!(
        (&hit.body[..], hit.header("content-length"), hit.header("transfer-encoding")),
        (&b"hello"[..], Some("5"), None)
    );
}

#[tokio::test]
async fn gzip_is_undone_for_the_store_and_the_client() {
    let origin = Origin::start(|seen| {
        let response = Response::builder().header("cache-control", "max-age=60").header("etag", "W/\"g\"");
        match seen.header("if-none-match") {
            Some(_) => response.status(304).body(Bytes::new()),
            None => response.header("content-encoding", "gzip").body(gzip(&large(300_000)).into()),
        }
        .unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    for expected in [STORED, HIT] {
        let got = rig.get("/x", &[("accept-encoding", "gzip")]).await;
        got.expect(200, expected);
        assert_eq!(got.header("content-encoding"), None);
        assert_eq!(got.header("etag"), Some("W/\"g\""), "as upstream gave it");
        assert_eq!(got.body, large(300_000));
    }
    rig.pass(60);
    rig.get("/x", &[]).await.expect(200, REVALIDATED);
}

#[tokio::test]
async fn what_is_larger_than_the_bound_streams_through_and_is_not_stored() {
    let most = MAX_REPRESENTATION_BYTES;
    for (bytes, compressed, stored) in
        [(most, false, true), (most + 1, false, false), (most, true, true), (most + 1, true, false)]
    {
        let origin = Origin::start(move |_| {
            let response = Response::builder().header("cache-control", "max-age=60");
            if compressed {
                response.header("content-encoding", "gzip").body(gzip(&large(bytes)).into()).unwrap()
            } else {
                response.body(large(bytes)).unwrap()
            }
        })
        .await;
        let rig = Rig::new(&origin.url());
        let got = rig.get("/x", &[]).await;
        assert!(got.whole && got.body == large(bytes));
        rig.proxy.settle().await;
        let stats = rig.stats();
        assert_eq!((stats.stored, stats.not_stored.too_large), (u64::from(stored), u64::from(!stored)));
    }
}

#[tokio::test]
async fn a_slow_client_holds_upstream_back_instead_of_filling_memory() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // 64 MiB, written as fast as they are taken.
    let written = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&written);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        let answer = format!("{HEAD}Content-Length: {}\r\n\r\n", 64 << 20);
        stream.write_all(answer.as_bytes()).await.unwrap();
        for _ in 0..1024 {
            if stream.write_all(&[b'x'; 65536]).await.is_err() {
                return;
            }
            counter.fetch_add(65536, Ordering::SeqCst);
        }
    });
    let rig = Rig::new(&url);
    let response = rig.proxy.handle(request("GET", "/x", &[], "")).await;
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    // Nothing more is read: what was written settles at what fits into the sockets and the pipe.
    let mut before = u64::MAX;
    while written.load(Ordering::SeqCst) != before {
        before = written.load(Ordering::SeqCst);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert!(before < 32 << 20, "{before} bytes were taken from upstream");
    drop(body);
    rig.proxy.settle().await;
}

/// A tier that, when told so, loses marks and gives other representations than it was given.
#[derive(Debug)]
struct Lying {
    inner: Memory,
    info: BackendInfo,
    lies: Arc<AtomicBool>,
    forgets: Arc<AtomicBool>,
}

#[async_trait]
impl CacheBackend for Lying {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        if key.as_str().starts_with("mark/") && self.forgets.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let Some(entry) = self.inner.get(key).await? else { return Ok(None) };
        if entry.is_tombstone() || !key.as_str().starts_with("rep/") || !self.lies.load(Ordering::SeqCst) {
            return Ok(Some(entry));
        }
        let mut value = entry.value().to_vec();
        *value.last_mut().unwrap() ^= 1;
        let metadata = entry.metadata();
        Entry::builder(value, metadata.version, metadata.created)
            .fresh_for(metadata.fresh_for)
            .build()
            .map(Some)
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.inner.put(key, entry).await
    }

    async fn probe(&self) -> Result<(), Error> {
        self.inner.probe().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }

    fn fleet(&self) -> Option<&dyn peercache::backend::Fleet> {
        self.inner.fleet()
    }
}

fn over(cache: &Cache, upstream: String) -> GitHubCache {
    GitHubCache::builder(cache.clone())
        .upstream(upstream)
        .install_key([7; 32])
        .host("proxy.test")
        .system_proxy(false)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_tier_that_lies_is_a_miss_and_a_counter() {
    let (_, origin, _) = crate::support::hub().await;
    let (lies, forgets) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let inner = Memory::with_capacity(1 << 20);
    let info = BackendInfo::new("liar", inner.info().capabilities);
    let tier = Lying { inner, info, lies: Arc::clone(&lies), forgets: Arc::clone(&forgets) };
    let cache = Cache::builder().tier(tier).build().unwrap();
    let before = over(&cache, origin.url());
    let first = collect(before.handle(request("GET", "/x", &[], "")).await).await;
    first.expect(200, STORED);
    // One that keeps nothing decoded yet reads the tier.
    let proxy = over(&cache, origin.url());
    let send = async |method| collect(proxy.handle(request(method, "/x", &[], "")).await).await;
    assert!(send("GET").await.cache_status().starts_with("peercache; hit; "));
    lies.store(true, Ordering::SeqCst);
    let proxy = over(&cache, origin.url());
    let send = async |method| collect(proxy.handle(request(method, "/x", &[], "")).await).await;
    let again = send("GET").await;
    again.expect(200, STORED);
    assert_eq!((again.body, proxy.stats().proxy.corrupt > 0, origin.count()), (first.body, true, 2));
    lies.store(false, Ordering::SeqCst);
    send("GET").await;
    // A mark that was evicted may have been that of a write: what it was about is not believed.
    assert_eq!(send("DELETE").await.status, 200);
    forgets.store(true, Ordering::SeqCst);
    send("GET").await.expect(200, REVALIDATED);
}

#[tokio::test]
async fn upload_bodies_are_streamed_with_their_length() {
    let (_, origin, rig) = crate::support::hub().await;
    let body = "x".repeat(1 << 20);
    rig.send("PUT", "/repos/o/r/contents/a", &[], &body).await;
    assert_eq!(origin.last().body.len(), 1 << 20);
    assert_eq!(origin.last().header("content-length"), Some("1048576"));
    assert_eq!(origin.last().header("transfer-encoding"), None);
}

#[tokio::test]
async fn strong_tag_of_a_coded_body_is_weak_after_decoding() {
    let origin = Origin::start(|_| {
        http::Response::builder()
            .header("etag", "\"strong\"")
            .header("cache-control", "max-age=60")
            .header("content-encoding", "gzip")
            .body(Bytes::from(gzip(b"hello")))
            .unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    for _ in ["miss", "hit"] {
        let got = rig.get("/x", &[]).await;
        assert_eq!((&got.body[..], got.header("etag")), (&b"hello"[..], Some("W/\"strong\"")));
        assert_eq!(got.header("content-encoding"), None);
    }
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn body_that_must_not_be_transformed_is_sent_as_it_came() {
    let origin = Origin::start(|seen| {
        let response = http::Response::builder()
            .header("etag", "\"a\"")
            .header("cache-control", "no-transform, max-age=60");
        if seen.header("accept-encoding").is_some_and(|codings| codings.contains("gzip")) {
            return response.header("content-encoding", "gzip").body(Bytes::from(gzip(b"hello"))).unwrap();
        }
        response.body(Bytes::from_static(b"hello")).unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    let coded = rig.get("/x", &[("accept-encoding", "gzip")]).await;
    assert_eq!((coded.header("content-encoding"), coded.header("etag")), (Some("gzip"), Some("\"a\"")));
    assert_eq!(coded.body, gzip(b"hello"));
    let plain = rig.get("/x", &[]).await;
    assert_eq!((&plain.body[..], plain.header("content-encoding")), (&b"hello"[..], None));
    assert_eq!(plain.header("etag"), Some("\"a\""));
}
