//! A small corpus, and requests to a fakehub that keep what came back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use peercache_fakehub::{Corpus, FakeHubHandle};

/// The body of `/repos/octo/one`.
pub(crate) const REPO: &str = r#"{"id":7,"full_name":"octo/one","size":1.50}"#;

/// The body that an unrecorded URL gets.
pub(crate) const NOT_FOUND: &str =
    r#"{"message":"Not Found","documentation_url":"https://docs.github.com/rest","status":"404"}"#;

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One repository with a second page, issues of 4 KB, a scenario, a search and a download.
pub(crate) fn corpus() -> Corpus {
    let issues = format!("[{{\"body\":\"{}\"}}]", "issue ".repeat(700));
    let lines = [
        format!(
            r#"{{"method":"get","url":"https://api.github.com/repos/octo/one","status":200,"request_headers":{{"Accept":"application/json"}},"headers":{{"Server":"GitHub.com","Date":"Tue, 19 Jul 2022 04:37:49 GMT","Content-Type":"application/json; charset=utf-8","Content-Length":"999","Transfer-Encoding":"chunked","Connection":"close","Vary":["Accept, Authorization, Cookie, X-GitHub-OTP","Accept-Encoding, Accept, X-Requested-With"],"ETag":"\"old\"","Last-Modified":"Tue, 19 Sep 2017 15:57:54 GMT","Link":"<https://api.github.com/repositories/7?page=2>; rel=\"next\"","X-RateLimit-Limit":"12","X-RateLimit-Used":"12","X-GitHub-Request-Id":"AB:CD","Set-Cookie":["a=1","b=2"]}},"body":{REPO}}}"#
        ),
        r#"{"method":"GET","url":"https://api.github.com/repositories/7?page=2","status":200,"body":[]}"#.to_owned(),
        format!(
            r#"{{"method":"GET","url":"https://api.github.com/repos/octo/one/issues","status":200,"headers":{{"content-type":"application/json","content-encoding":"gzip","etag":"W/\"x\""}},"body":{issues}}}"#
        ),
        r#"{"method":"GET","url":"https://api.github.com/search/issues?q=x","status":200,"headers":{"cache-control":"no-cache"},"body":{"total_count":0}}"#.to_owned(),
        r#"{"scenario":"labels","method":"GET","url":"https://api.github.com/repos/octo/one/labels","status":200,"body":[]}"#.to_owned(),
        r#"{"scenario":"labels","method":"POST","url":"https://api.github.com/repos/octo/one/labels","status":201,"request_body":{"name":"new"},"body":{"name":"new"}}"#.to_owned(),
        r#"{"scenario":"labels","method":"GET","url":"https://api.github.com/repos/octo/one/labels","status":200,"body":[{"name":"new"}]}"#.to_owned(),
        r#"{"method":"GET","url":"https://codeload.github.com/octo/one/tar.gz","status":200,"headers":{"content-type":"application/x-gzip","etag":"W/\"recorded\""},"body_base64":"H4sA/w=="}"#.to_owned(),
    ];
    Corpus::parse(lines.join("\n").as_bytes()).unwrap()
}

/// A client that follows nothing, decodes nothing and uses no proxy.
pub(crate) fn client() -> reqwest::Client {
    // reqwest is built without a TLS provider and asks for one even to speak plain HTTP; an earlier
    // test of this process may have installed it.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

pub(crate) async fn get(hub: &FakeHubHandle, path: &str, headers: &[(&str, &str)]) -> Reply {
    send(hub, reqwest::Method::GET, path, headers, None).await
}

pub(crate) async fn send(
    hub: &FakeHubHandle,
    method: reqwest::Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Reply {
    send_with(&client(), hub, method, path, headers, body).await
}

/// As [`send`], for many requests: making a client takes its time.
pub(crate) async fn send_with(
    client: &reqwest::Client,
    hub: &FakeHubHandle,
    method: reqwest::Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Reply {
    let mut request = client.request(method, format!("{}{path}", hub.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.body(body.to_owned());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
        .collect();
    Reply { status, headers, body: response.bytes().await.unwrap().to_vec() }
}

pub(crate) fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Limit, used and remaining.
pub(crate) fn rate(reply: &Reply) -> (u64, u64, u64) {
    let number = |name| header(reply, name).unwrap().parse().unwrap();
    (number("x-ratelimit-limit"), number("x-ratelimit-used"), number("x-ratelimit-remaining"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
