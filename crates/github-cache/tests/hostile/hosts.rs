//! Hosts that are not ours, methods that show too much, and proxies that lead to each other.

use crate::support::{OK, Origin, Proxy, status};

#[tokio::test]
async fn foreign_hosts_are_421_and_no_token_leaves() {
    let origin = Origin::fixed(OK).await;
    let proxy = Proxy::start(&origin.url).await;
    let token = "Authorization: Bearer T\r\nCookie: c\r\n";
    for host in ["evil.example:9180", "ghe.corp.example", "api.octocorp.ghe.com", "169.254.169.254"] {
        let answer = proxy.ask("GET /-/stats", &format!("Host: {host}\r\n{token}")).await;
        assert_eq!(status(answer.as_bytes()), 421, "{host}: {answer}");
        assert!(answer.contains("Cache-Status: peercache; detail=unknown-host\r\n"), "{answer}");
        let absolute = proxy.ask(&format!("GET http://{host}/x"), token).await;
        assert_eq!(status(absolute.as_bytes()), 421, "{host}: {absolute}");
    }
    assert_eq!(origin.heads().len(), 0);
}

#[tokio::test]
async fn own_endpoints_only_look_and_do_not_answer_pages() {
    let origin = Origin::fixed(OK).await;
    let proxy = Proxy::start(&origin.url).await;
    for path in ["/-/stats", "/-/health/live"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let answer = proxy.ask(&format!("{method} {path}"), "").await;
            assert_eq!(status(answer.as_bytes()), 405, "{method}: {answer}");
            assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
        }
        let page = proxy.ask(&format!("GET {path}"), "Origin: https://evil.example\r\n").await;
        assert_eq!(status(page.as_bytes()), 403, "{page}");
        let head = proxy.ask(&format!("HEAD {path}"), "").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    }
    for path in ["/metrics", "/-/anything"] {
        proxy.ask(&format!("GET {path}"), "").await;
    }
    assert_eq!(origin.heads().len(), 0, "nothing of ours is asked upstream");
}

#[tokio::test]
async fn cross_origin_grants_are_not_passed_to_clients_of_a_base_url() {
    let grants = "\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: ETag\r\n";
    let origin = Origin::fixed(OK.replacen("\r\n", grants, 1)).await;
    let proxy = Proxy::start(&origin.url).await;
    for _ in ["miss", "hit"] {
        let answer = proxy.ask("GET /x", "Origin: https://evil.example\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control-"), "{answer}");
        // Whoever names GitHub itself gets what GitHub says.
        let transparent = proxy.ask("GET http://api.github.com/x", "").await;
        assert!(transparent.contains("Access-Control-Allow-Origin: *"), "{transparent}");
    }
    let preflight = proxy.ask("OPTIONS /x", "Origin: https://evil.example\r\n").await;
    assert!(!preflight.to_ascii_lowercase().contains("access-control-"), "{preflight}");
}

#[tokio::test]
async fn trace_is_refused_and_options_of_the_server_answered() {
    let origin = Origin::fixed(OK).await;
    let proxy = Proxy::start(&origin.url).await;
    let trace = proxy.ask("TRACE /x", "Authorization: token SECRET\r\n").await;
    assert_eq!(status(trace.as_bytes()), 405, "{trace}");
    assert!(!trace.contains("SECRET") && trace.contains("\r\nAllow: GET, "), "{trace}");
    let options = proxy.ask("OPTIONS *", "").await;
    assert_eq!(status(options.as_bytes()), 204, "{options}");
    assert!(options.contains("\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"), "{options}");
    assert_eq!(origin.heads().len(), 0);
}

#[tokio::test]
async fn forwarded_headers_stay_here_and_via_is_added() {
    let origin = Origin::fixed(OK).await;
    let proxy = Proxy::start(&origin.url).await;
    let headers =
        "X-Forwarded-Host: evil.example\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: host=evil.example\r\n";
    proxy.ask("GET /x", headers).await;
    proxy.ask("POST /x", headers).await;
    assert_eq!(origin.heads().len(), 2);
    for head in origin.heads() {
        let head = head.to_ascii_lowercase();
        assert!(!head.contains("evil.example") && !head.contains("1.2.3.4"), "{head}");
        assert!(head.contains("\r\nvia: 1.1 peercache-"), "{head}");
    }
}

#[tokio::test]
async fn proxies_that_lead_to_each_other_answer_508() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let second = Proxy::start(&format!("http://{address}")).await;
    let upstream = format!("http://{}", second.address);
    // The first one listens where the second one's upstream is.
    let first = {
        let cache =
            peercache::Cache::builder().tier(peercache::Memory::with_capacity(1 << 20)).build().unwrap();
        let proxy = peercache_github::GitHubCache::builder(cache)
            .upstream(upstream)
            .install_key([7; 32])
            .system_proxy(false)
            .build()
            .unwrap();
        let mut server = peercache_github::Server::new(proxy.clone());
        server.listen_tcp(address).await.unwrap();
        tokio::spawn(server.serve(std::future::pending()));
        proxy
    };
    for method in ["GET", "POST"] {
        let answer = second.ask(&format!("{method} /x"), "").await;
        assert_eq!(status(answer.as_bytes()), 508, "{answer}");
    }
    assert_eq!(first.stats().proxy.requests, 2, "one round each");
}
