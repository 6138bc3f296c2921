//! Reading and writing corpora: liberal in what is read, one clear error for what is not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Read as _;
use std::path::Path;

use peercache_fakehub::{Corpus, MAX_LINE_BYTES};

#[test]
fn a_malformed_line_is_one_clear_error() {
    let error = |line: &str| {
        let good = r#"{"method":"get","url":"https://api.github.com/","status":200}"#;
        Corpus::parse(format!("{good}\n\n{line}\n").as_bytes()).unwrap_err().to_string()
    };
    let with = |rest: &str| error(&format!(r#"{{"method":"GET","url":"https://api.github.com/x",{rest}}}"#));
    let shape = r#"one JSON object per line is expected, as {"method":"GET","url":"https://api.github.com/…","request_headers":{},"status":200,"headers":{},"body":…}"#;

    assert_eq!(error("{\"method\":"), format!("line 3: EOF while parsing a value at column 10; {shape}"));
    assert_eq!(error("{\"method\":\"GET\"}"), format!("line 3: \"url\" is missing; {shape}"));
    assert_eq!(
        error(r#"{"method":"GET","url":"api.github.com/x","status":200}"#),
        "line 3: \"url\" is \"api.github.com/x\"; an absolute URL is expected, as https://api.github.com/repos/OWNER/REPO"
    );
    assert_eq!(
        error(r#"{"method":"G T","url":"https://api.github.com/x","status":200}"#),
        "line 3: \"method\" is \"G T\"; an HTTP method such as GET or POST is expected"
    );
    assert_eq!(
        with(r#""status":"ok""#),
        "line 3: \"status\" is \"ok\"; a whole number from 200 to 599 is expected"
    );
    assert_eq!(
        with(r#""status":200,"headers":"x""#),
        "line 3: \"headers\": invalid type: string \"x\", expected an object of headers; an object of names with a string or a list of strings each is expected"
    );
    assert_eq!(
        with(r#""status":200,"headers":{"a":"1\n2"}"#),
        "line 3: the value of header \"a\" in \"headers\" has a control character, which HTTP does not allow; list several values as a JSON list"
    );
    assert_eq!(
        with(r#""status":200,"body_base64":"?""#),
        "line 3: \"body_base64\" is not standard base64 with padding: Invalid symbol 63, offset 0."
    );
}

#[test]
fn errors_name_the_file() {
    let missing = Corpus::load(Path::new("no-such-corpus.jsonl")).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read no-such-corpus.jsonl: "), "{missing}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("corpus.jsonl");
    std::fs::write(&file, b"\xff").unwrap();
    let text = Corpus::load(&file).unwrap_err().to_string();
    let expected = "corpus.jsonl, line 1: byte 1 is not UTF-8; binary bodies belong into \"body_base64\"";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn an_endless_line_is_refused_before_it_is_held() {
    let endless = std::io::repeat(b'x').take(MAX_LINE_BYTES as u64 * 4);
    assert_eq!(
        Corpus::parse(endless).unwrap_err().to_string(),
        "line 1: the line is longer than 67108864 bytes (64 MiB), the most that is read"
    );
}

#[test]
fn reading_is_liberal_and_bodies_are_exact() {
    let lines = concat!(
        "\u{feff}",
        r#"{"unknown":1,"method":"pAtch","url":"https://API.github.com:443/x?b#f","status":"404","#,
        r#""headers":{"A":["1","2"],"n":3,":status":"404","none":null,"a":"4"},"body":{ "b": 1.50, "a": "é \u00e9" }}"#,
        "\r\n\r\n",
        r#"{"method":"GET","url":"https://uploads.github.com","status":200,"body":"{ \"x\": 1 }"}"#,
        "\n",
        r#"{"method":"GET","url":"https://api.github.com/b","status":200,"body_base64":"AP8=","scenario":"s","request_body":[1, 2]}"#,
    );
    let corpus = Corpus::parse(lines.as_bytes()).unwrap();
    let [first, second, third] = corpus.exchanges() else { panic!("{corpus:?}") };
    assert_eq!((first.method.as_str(), first.url().as_str()), ("PATCH", "https://api.github.com/x?b"));
    assert_eq!(first.status, 404);
    let pairs: Vec<_> = first.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(pairs, [("A", "1"), ("A", "2"), ("n", "3"), ("a", "4")]);
    assert_eq!(first.body, r#"{"b":1.50,"a":"é \u00e9"}"#.as_bytes());
    assert_eq!((second.target.as_str(), &second.body[..]), ("/", &b"{ \"x\": 1 }"[..]));
    assert_eq!((&third.body[..], third.request_body.as_deref()), (&[0, 255][..], Some(&b"[1,2]"[..])));
    reads_back(&corpus);
    reads_back(&Corpus::generated(3));
}

fn reads_back(corpus: &Corpus) {
    let mut written = Vec::new();
    corpus.write(&mut written).unwrap();
    let read = Corpus::parse(written.as_slice()).unwrap();
    assert_eq!(read.exchanges().len(), corpus.exchanges().len());
    assert!(read.requests().eq(corpus.requests()));
    for (now, before) in read.exchanges().iter().zip(corpus.exchanges()) {
        assert_eq!((now.status, &now.body, &now.scenario), (before.status, &before.body, &before.scenario));
        for (name, _) in &before.headers {
            let values = |headers: &[(String, String)]| {
                let of_name = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
                of_name.map(|(_, value)| value.clone()).collect::<Vec<_>>()
            };
            assert_eq!(values(&now.headers), values(&before.headers), "{name}");
        }
    }
}
