//! Requests that are none, too large, or mean two things at once.

use crate::support::{OK, Origin, Proxy, large, status};

#[tokio::test]
async fn bad_requests_get_a_status_each() {
    let origin = Origin::fixed(OK).await;
    let proxy = Proxy::start(&origin.url).await;
    let host = format!("Host: {}\r\n", proxy.address);
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (name, request, wanted) in [
        ("garbage", "GARBAGE\r\n\r\n".to_owned(), &[400][..]),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(), &[400]),
        ("a target of 70 KB", format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(70_000)), &[414, 431]),
        ("a target of 65,535", format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(65_534)), &[414, 431]),
        ("200 headers", format!("GET /x HTTP/1.1\r\n{host}{many}\r\n"), &[431]),
        (
            "a header of 200 KB",
            format!("GET /x HTTP/1.1\r\n{host}a: {}\r\n\r\n", "x".repeat(200_000)),
            &[431],
        ),
        ("a space in the target", format!("GET /a b HTTP/1.1\r\n{host}\r\n"), &[400]),
        ("a header without a colon", format!("GET /x HTTP/1.1\r\n{host}abc\r\n\r\n"), &[400]),
        ("no host", "GET /x HTTP/1.1\r\n\r\n".to_owned(), &[400]),
        ("two hosts", format!("GET /x HTTP/1.1\r\n{host}{host}\r\n"), &[400]),
        ("a version that there is not", format!("GET /x HTTP/3.0\r\n{host}\r\n"), &[400, 505]),
    ] {
        let answer = proxy.raw(request.as_bytes()).await;
        assert!(wanted.contains(&status(&answer)), "{name}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(origin.heads().len(), 0);
}

#[tokio::test]
async fn bytes_behind_a_request_do_not_hold_its_answer_back() {
    let origin = Origin::fixed(large(1_000_000, false)).await;
    let proxy = Proxy::start(&origin.url).await;
    let request = format!("GET /x HTTP/1.1\r\nHost: {}\r\n\r\nG", proxy.address);
    let answer = proxy.raw(request.as_bytes()).await;
    assert!(answer.len() > 1_000_000, "{}", answer.len());
}

#[tokio::test]
async fn messages_of_two_lengths_are_never_two_requests_upstream() {
    let inner = "GET /smuggled HTTP/1.1\r\nHost: api.github.com\r\n\r\n";
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nContent-Length: 50\r\n",
        "Content-Length: 0, 50\r\n",
        "Content-Length: +50\r\n",
        "Content-Length : 0\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding:\u{b}chunked\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 0\r\n",
    ] {
        let origin = Origin::fixed(OK).await;
        let proxy = Proxy::start(&origin.url).await;
        let request = format!("POST /x HTTP/1.1\r\nHost: {}\r\n{lengths}\r\n0\r\n\r\n{inner}", proxy.address);
        proxy.raw(request.as_bytes()).await;
        let heads = origin.heads();
        let smuggled = heads.iter().filter(|head| head.contains("/smuggled")).count();
        assert_eq!(smuggled, 0, "{lengths:?}: {heads:?}");
    }
}

#[tokio::test]
async fn target_reaches_upstream_byte_for_byte() {
    let origin = Origin::fixed(OK).await;
    let proxy = Proxy::start(&origin.url).await;
    for target in
        ["/search/x?q='a'&b[]=1&c%5B%5D=2", "/x/%7euser;a=1,2|^", "/repos/o/r/contents/a%2Fb", "/y?"]
    {
        proxy.ask(&format!("GET {target}"), "").await;
        let line = format!("GET {target} HTTP/1.1\r\n");
        assert!(origin.heads().last().unwrap().starts_with(&line), "{line}: {:?}", origin.heads());
    }
}

#[tokio::test]
async fn bytes_that_parsers_refuse_are_encoded_and_answered() {
    let origin = Origin::fixed(OK).await;
    let proxy = Proxy::start(&origin.url).await;
    for (target, sent) in [
        ("/search/repositories?q=stars:>1000", "/search/repositories?q=stars:%3E1000"),
        ("/search/issues?q=\"a b\"".replace(' ', "+").as_str(), "/search/issues?q=%22a+b%22"),
        ("/x?q=a<b`c", "/x?q=a%3Cb%60c"),
        ("/repos/o/r/contents/café", "/repos/o/r/contents/caf%C3%A9"),
    ] {
        let answer = proxy.ask(&format!("GET {target}"), "").await;
        assert_eq!(status(answer.as_bytes()), 200, "{target}: {answer}");
        let line = format!("GET {sent} HTTP/1.1\r\n");
        assert!(origin.heads().last().unwrap().starts_with(&line), "{line}: {:?}", origin.heads());
    }
    // On one connection, behind a body.
    let body = "x>";
    let request = format!(
        "POST /p HTTP/1.1\r\nHost: {0}\r\nContent-Length: 2\r\n\r\n{body}GET /q?> HTTP/1.1\r\nHost: {0}\r\n\
         Connection: close\r\n\r\n",
        proxy.address
    );
    let answers = String::from_utf8(proxy.raw(request.as_bytes()).await).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert!(origin.heads().last().unwrap().starts_with("GET /q?%3E "), "{:?}", origin.heads());
}

#[tokio::test]
async fn many_response_headers_are_passed_on() {
    let many: String = (0..300).map(|n| format!("X-{n}: 1\r\n")).collect();
    let origin = Origin::fixed(OK.replace("\r\n\r\n", &format!("\r\n{many}\r\n"))).await;
    let proxy = Proxy::start(&origin.url).await;
    let answer = proxy.ask("GET /x", "").await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200 ") && answer.contains("\r\nx-299: 1\r\n"), "{answer}");
}
