//! `peercache serve` as a process: starting, stopping, statistics.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::time::Duration;

use crate::support::{Server, corpus, get, header, peercache, read_log, run, stderr};

/// A GET of the corpus that is answered 200 and may be stored.
pub(crate) fn storable_target(corpus: &std::path::Path) -> String {
    let corpus = peercache_fakehub::Corpus::load(corpus).unwrap();
    let exchange = corpus
        .exchanges()
        .iter()
        .find(|exchange| {
            exchange.method == "GET"
                && exchange.status == 200
                && exchange.host == "api.github.com"
                && exchange.target.starts_with("/repos/")
                && exchange.header("cache-control").is_some_and(|value| value.contains("max-age=60"))
        })
        .expect("the corpus has a storable answer");
    exchange.target.clone()
}

#[test]
fn it_serves_tcp_and_socket_counts_and_drains() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, log) = Server::fakehub(&corpus);
    let socket = scratch.path().join("peercache.sock");
    let node = Server::serve(&scratch.path().join("cache"), &origin.url, &[&"--socket", &socket]);

    let mode = std::fs::metadata(&socket).unwrap();
    assert!(mode.file_type().is_socket());
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);

    let (status, head, direct) = get(&format!("{}{target}", node.url), &[]);
    assert_eq!(status, 200, "{head}");
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: api.github.com\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.ends_with(&direct));
    assert_eq!(read_log(&log).len(), 1, "the second answer came from the cache");

    let stats = run(peercache(&["--json", "stats", "--url", &node.url]), b"");
    assert!(stats.status.success(), "{}", stderr(&stats));
    let text = String::from_utf8(stats.stdout).unwrap();
    assert!(text.contains("\"fresh\":1"), "{text}");
    let over_socket = run(peercache(&["stats", "--socket", socket.to_str().unwrap()]), b"");
    assert!(over_socket.status.success(), "{}", stderr(&over_socket));

    assert_eq!(node.terminate(), Some(0));
    assert!(!socket.exists(), "the socket is removed at the end");
}

#[test]
fn settings_of_the_github_cache_reach_the_server() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, log) = Server::fakehub_with(&corpus, &["--control"]);
    let policy = scratch.path().join("policy.toml");
    let serve = |variables: &[(&str, &str)]| {
        let mut command = peercache(&["serve", "--listen", "127.0.0.1:0", "--upstream", &origin.url]);
        command.env("CACHE_DIR", scratch.path().join("cache")).env("CACHE_BACKEND", "memory");
        for (name, value) in variables {
            command.env(name, value);
        }
        command
    };
    // A route that is never fresh is asked about each time.
    std::fs::write(&policy, "[[route]]\npaths = [\"/**\"]\nfreshness = \"revalidate\"\n").unwrap();
    let node = Server::start(serve(&[("CACHE_GITHUB_POLICY", policy.to_str().unwrap())]));
    let url = format!("{}{target}", node.url);
    for _ in 0..3 {
        assert_eq!(get(&url, &[("Authorization", "token a")]).0, 200);
    }
    assert_eq!(read_log(&log).len(), 3);
    // While the origin fails, the usual hour bridges it.
    let fail = "{\"status\": 502, \"count\": 1}";
    assert_eq!(post(&format!("{}/_fakehub/fail", origin.url), fail), 200);
    let (status, head, _) = get(&url, &[("Authorization", "token a")]);
    assert_eq!((status, head.contains("detail=upstream-error")), (200, true), "{head}");
    assert_eq!(node.terminate(), Some(0));

    let variables = [("CACHE_GITHUB_POLICY", policy.to_str().unwrap()), ("CACHE_GITHUB_MAX_STALE", "0")];
    let node = Server::start(serve(&variables));
    let url = format!("{}{target}", node.url);
    assert_eq!(get(&url, &[("Authorization", "token a")]).0, 200);
    assert_eq!(post(&format!("{}/_fakehub/fail", origin.url), fail), 200);
    assert_eq!(get(&url, &[("Authorization", "token a")]).0, 502);
    assert_eq!(node.terminate(), Some(0));

    std::fs::write(&policy, "[[route]]\npaths = [\"emojis\"]\n").unwrap();
    let refused = run(serve(&[("CACHE_GITHUB_POLICY", policy.to_str().unwrap())]), b"");
    let message = stderr(&refused);
    assert!(!refused.status.success() && message.contains("policy.toml"), "{message}");
    assert!(
        message.contains("does not begin with a slash") && message.contains("docs/reference/proxy.md"),
        "{message}"
    );
}

#[test]
fn sigterm_lets_a_running_request_end() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, _log) = Server::fakehub_with(&corpus, &["--control"]);
    let node = Server::serve(&scratch.path().join("cache"), &origin.url, &[]);
    let delay = "{\"millis\": 1500, \"count\": 1}";
    assert_eq!(post(&format!("{}/_fakehub/delay", origin.url), delay), 200);

    let url = format!("{}{target}", node.url);
    let request = std::thread::spawn(move || get(&url, &[]));
    // The request has to be on its way before the signal; the origin holds it for 1.5 s.
    std::thread::sleep(Duration::from_millis(500));
    node.signal_term();
    let (status, head, _) = request.join().unwrap();
    assert_eq!(status, 200, "{head}");
    assert_eq!(node.terminate(), Some(0));
}

pub(crate) fn post(url: &str, body: &str) -> u16 {
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(authority).unwrap();
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status: u16 = answer[9..12].parse().unwrap();
    if (200..300).contains(&status) { 200 } else { status }
}

#[test]
fn what_one_process_stored_the_next_one_serves() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, log) = Server::fakehub(&corpus);
    let cache = scratch.path().join("cache");
    let first = Server::serve(&cache, &origin.url, &[]);
    let (_, _, body) = get(&format!("{}{target}", first.url), &[("Authorization", "token one")]);
    assert_eq!(first.terminate(), Some(0));
    let second = Server::serve(&cache, &origin.url, &[]);
    let (_, head, again) = get(&format!("{}{target}", second.url), &[("Authorization", "token one")]);
    assert_eq!(again, body);
    assert!(header(&head, "cache-status").unwrap().starts_with("peercache; hit"), "{head}");
    assert_eq!(read_log(&log).len(), 1);
}

#[test]
fn an_upstream_that_is_gone_is_a_clear_answer() {
    let scratch = tempfile::tempdir().unwrap();
    // Bound and dropped, so that nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let node = Server::serve(&scratch.path().join("cache"), &format!("http://127.0.0.1:{port}"), &[]);
    let (status, head, body) = get(&format!("{}/repos/o/r", node.url), &[]);
    assert_eq!(status, 502, "{head}");
    assert!(header(&head, "cache-status").unwrap().starts_with("peercache; fwd="), "{head}");
    let error: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert!(error["message"].as_str().unwrap().contains("upstream"), "{error}");
}

#[test]
fn an_image_without_ca_certificates_can_serve() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, _log) = Server::fakehub(&corpus);
    let mut command = peercache(&["serve", "--listen", "127.0.0.1:0", "--upstream", &origin.url]);
    command.env("CACHE_DIR", scratch.path().join("cache"));
    command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    let node = Server::start(command);
    let (status, head, _) = get(&format!("{}{target}", node.url), &[]);
    assert_eq!(status, 200, "{head}");
    let stats = run(peercache(&["stats", "--url", &node.url]), b"");
    assert!(stats.status.success(), "{}", stderr(&stats));
}

#[test]
fn stats_without_a_server_say_what_to_do() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = run(peercache(&["stats", "--url", &format!("http://127.0.0.1:{port}")]), b"");
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("start one with `peercache serve`"), "{}", stderr(&output));
    assert_eq!(run(peercache(&["stats", "--url", "ftp://x"]), b"").status.code(), Some(2));
}

#[test]
fn an_address_in_use_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = peercache(&["serve", "--listen", &address]);
    command.env("CACHE_DIR", scratch.path());
    let output = run(command, b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains(&address), "{}", stderr(&output));
}

#[test]
fn a_token_never_reaches_the_log_or_the_disk() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, _log) = Server::fakehub(&corpus);
    let cache = scratch.path().join("cache");
    let errors = scratch.path().join("stderr");
    let mut command = peercache(&["-vvv", "serve", "--listen", "127.0.0.1:0", "--upstream", &origin.url]);
    command.env("CACHE_DIR", &cache).stderr(std::fs::File::create(&errors).unwrap());
    let node = Server::start(command);
    let secret = "ghp_0123456789abcdefSECRET";
    get(&format!("{}{target}", node.url), &[("Authorization", &format!("token {secret}"))]);
    assert_eq!(node.terminate(), Some(0));
    let log = std::fs::read(&errors).unwrap();
    assert!(!contains(&log, secret.as_bytes()), "the token is in the log");
    let mut files = vec![cache];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!contains(&bytes, secret.as_bytes()), "the token is in {}", path.display());
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
