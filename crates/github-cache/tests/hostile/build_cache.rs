//! `/-/cache/KEY` as build tools use it.

use tokio::io::AsyncWriteExt;

use crate::support::{OK, Origin, Proxy, all, status};

async fn put(proxy: &Proxy, key: &str, value: &[u8], headers: &str) -> Vec<u8> {
    let head = format!(
        "PUT /-/cache/{key} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n",
        proxy.address,
        value.len()
    );
    proxy.raw(&[head.as_bytes(), value].concat()).await
}

fn body(answer: &[u8]) -> &[u8] {
    let at = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    &answer[at + 4..]
}

#[tokio::test]
async fn values_are_stored_read_and_removed() {
    let origin = Origin::fixed(OK).await;
    let proxy = Proxy::start(&origin.url).await;
    let large: Vec<u8> = (0..=255_u8).cycle().take(9 << 20).collect();
    for (key, value) in [("ac/0a1b", &b"result"[..]), ("cas/large", &large), ("empty", b"")] {
        let missing = proxy.ask(&format!("GET /-/cache/{key}"), "").await;
        assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
        let stored = put(&proxy, key, value, "").await;
        assert_eq!(status(&stored), 201, "{}", String::from_utf8_lossy(&stored));
        let request =
            format!("GET /-/cache/{key} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", proxy.address);
        let answer = proxy.raw(request.as_bytes()).await;
        assert_eq!(status(&answer), 200);
        assert!(body(&answer) == value, "{key}");
        let head = proxy.ask(&format!("HEAD /-/cache/{key}"), "").await;
        assert!(head.contains(&format!("Content-Length: {}\r\n", value.len())), "{head}");
        let removed = proxy.ask(&format!("DELETE /-/cache/{key}"), "").await;
        assert!(removed.starts_with("HTTP/1.1 204 "), "{removed}");
        assert!(proxy.ask(&format!("GET /-/cache/{key}"), "").await.starts_with("HTTP/1.1 404 "));
    }
    assert_eq!(origin.heads().len(), 0);
}

#[tokio::test]
async fn values_beyond_the_bound_and_broken_uploads_are_not_stored() {
    let origin = Origin::fixed(OK).await;
    let proxy =
        Proxy::with(&origin.url, |builder| builder.build_cache_value_bytes(1000), |server| server).await;
    assert_eq!(status(&put(&proxy, "a", &[0; 1000], "").await), 201);
    assert_eq!(status(&put(&proxy, "b", &[0; 1001], "").await), 413);
    let chunked = format!(
        "PUT /-/cache/c HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        proxy.address,
        "x".repeat(0x3e9)
    );
    assert_eq!(status(&proxy.raw(chunked.as_bytes()).await), 413);
    let mut cut = proxy.connect().await;
    let head =
        format!("PUT /-/cache/d HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\nabc", proxy.address);
    cut.write_all(head.as_bytes()).await.unwrap();
    cut.shutdown().await.unwrap();
    all(&mut cut, std::time::Duration::from_secs(2)).await;
    for key in ["b", "c", "d"] {
        let answer = proxy.ask(&format!("GET /-/cache/{key}"), "").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{key}: {answer}");
    }
}

#[tokio::test]
async fn pages_strange_keys_and_other_methods_are_refused() {
    let origin = Origin::fixed(OK).await;
    let proxy = Proxy::start(&origin.url).await;
    assert_eq!(status(&put(&proxy, "a", b"x", "Origin: https://evil.example\r\n").await), 403);
    for key in ["", "../x", "a/./b"] {
        assert_eq!(status(&put(&proxy, key, b"x", "").await), 400, "{key}");
    }
    for (method, expected) in
        [("POST", 405), ("PATCH", 405), ("OPTIONS", 204), ("MKCOL", 201), ("PROPFIND", 404)]
    {
        let answer = proxy.ask(&format!("{method} /-/cache/dir/file"), "").await;
        assert_eq!(status(answer.as_bytes()), expected, "{method}: {answer}");
    }
    put(&proxy, "dir/file", b"12345", "").await;
    let found = proxy.ask("PROPFIND /-/cache/dir/file", "Depth: 0\r\n").await;
    assert!(found.starts_with("HTTP/1.1 207 ") && found.contains("getcontentlength>5<"), "{found}");
    assert_eq!(origin.heads().len(), 0);
}
