//! The binary: its one line, its errors, and its end at SIGTERM.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

fn fakehub() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fakehub"))
}

#[test]
fn it_says_where_it_listens_and_ends_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus.jsonl");
    std::fs::write(
        &corpus,
        r#"{"method":"GET","url":"https://api.github.com/x","status":200,"body":"hello"}"#,
    )
    .unwrap();
    let log = dir.path().join("log.jsonl");
    let mut child = fakehub()
        .arg("--corpus")
        .arg(&corpus)
        .args(["--etag", "opaque", "--bucket", "secret=ci:10", "--private", "o/r=secret", "--log"])
        .arg(&log)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let addr = line.strip_prefix("fakehub listening on http://").unwrap().trim_end();

    let mut stream = TcpStream::connect(addr).unwrap();
    write!(
        stream,
        "GET /x HTTP/1.1\r\nHost: {addr}\r\nAuthorization: token secret\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(answer.contains("x-ratelimit-remaining: 9\r\n"), "{answer}");

    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.starts_with("{\"n\":1,\"method\":\"GET\",") && log.lines().count() == 1, "{log}");
    assert!(!log.contains("secret"));
}

#[test]
fn errors_are_one_line_without_tokens() {
    let error = |args: &[&str]| {
        let output = fakehub().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        error(&[]),
        "fakehub: nothing to serve: give --corpus FILE, --octokit-fixtures DIR or --generated SEED\n"
    );
    assert_eq!(
        error(&["--generated", "1", "--bucket", "ghs_secret"]),
        "fakehub: --bucket: TOKEN=NAME[:LIMIT] is expected; the value has no `=`\n"
    );
    assert_eq!(
        error(&["--generated", "1", "--private", "secret"]),
        "fakehub: --private: OWNER/REPO=TOKEN[,TOKEN] is expected; the value has no `=`\n"
    );
}
