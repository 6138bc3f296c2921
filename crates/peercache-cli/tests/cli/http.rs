//! The base URL as curl sees it: RFC 9111 requests and RFC 9211 answers.

use crate::serve::storable_target;
use crate::support::{Server, corpus, get, header, read_log};

struct Setup {
    _scratch: tempfile::TempDir,
    _origin: Server,
    node: Server,
    log: std::path::PathBuf,
    target: String,
}

fn setup() -> Setup {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, log) = Server::fakehub(&corpus);
    let node = Server::serve(&scratch.path().join("cache"), &origin.url, &[]);
    Setup { _scratch: scratch, _origin: origin, node, log, target }
}

impl Setup {
    fn get(&self, headers: &[(&str, &str)]) -> (u16, String, Vec<u8>) {
        get(&format!("{}{}", self.node.url, self.target), headers)
    }

    fn origin_requests(&self) -> usize {
        read_log(&self.log).len()
    }
}

#[test]
fn the_second_answer_is_a_hit_and_the_origin_saw_one_request() {
    let setup = setup();
    let (first_status, first_head, first_body) = setup.get(&[]);
    let (second_status, second_head, second_body) = setup.get(&[]);
    assert_eq!((first_status, second_status), (200, 200));
    assert_eq!(first_body, second_body);
    assert!(first_head.contains("Cache-Status: peercache; fwd=uri-miss"), "{first_head}");
    assert!(second_head.contains("Cache-Status: peercache; hit"), "{second_head}");
    assert_eq!(setup.origin_requests(), 1);
    let lines = read_log(&setup.log);
    assert!(lines[0].charged && lines[0].method == "GET" && lines[0].status == 200);
    assert!(lines[0].url.ends_with(&setup.target), "{}", lines[0].url);
    for name in ["etag", "cache-control", "x-ratelimit-remaining", "content-type"] {
        assert_eq!(header(&first_head, name), header(&second_head, name), "{name}");
    }
    assert!(header(&second_head, "age").is_some(), "{second_head}");
}

#[test]
fn if_none_match_is_answered_from_the_cache() {
    let setup = setup();
    let (_, head, _) = setup.get(&[]);
    let etag = header(&head, "etag").unwrap().to_owned();
    let (status, head, body) = setup.get(&[("If-None-Match", &etag)]);
    assert_eq!((status, body.len()), (304, 0), "{head}");
    assert!(head.contains("Cache-Status: peercache; hit"), "{head}");
    let (status, ..) = setup.get(&[("If-None-Match", "\"something-else\"")]);
    assert_eq!(status, 200);
    assert_eq!(setup.origin_requests(), 1);
}

#[test]
fn no_cache_and_max_age_0_ask_the_origin_for_free() {
    let setup = setup();
    setup.get(&[("Authorization", "token t")]);
    for directive in ["no-cache", "max-age=0"] {
        let (status, head, _) = setup.get(&[("Authorization", "token t"), ("Cache-Control", directive)]);
        assert_eq!(status, 200);
        let status = header(&head, "cache-status").unwrap();
        assert!(status.starts_with("peercache; fwd="), "{status}");
        assert!(status.contains("fwd-status=304"), "{status}");
    }
    let lines = read_log(&setup.log);
    assert_eq!(
        lines.iter().map(|line| (line.status, line.charged)).collect::<Vec<_>>(),
        [(200, true), (304, false), (304, false)]
    );
}

#[test]
fn only_if_cached_never_asks_the_origin() {
    let setup = setup();
    let (status, head, _) = setup.get(&[("Cache-Control", "only-if-cached")]);
    assert_eq!(status, 504, "{head}");
    assert_eq!(setup.origin_requests(), 0);
    setup.get(&[]);
    let (status, ..) = setup.get(&[("Cache-Control", "only-if-cached")]);
    assert_eq!(status, 200);
    assert_eq!(setup.origin_requests(), 1);
}

#[test]
fn one_token_never_gets_what_another_was_given() {
    let setup = setup();
    setup.get(&[("Authorization", "token one")]);
    let (_, head, _) = setup.get(&[("Authorization", "token two")]);
    assert!(!head.contains("peercache; hit"), "{head}");
    let (_, head, _) = setup.get(&[]);
    assert!(!head.contains("peercache; hit"), "{head}");
    assert_eq!(setup.origin_requests(), 3);
}
