//! The converter of `@octokit/fixtures`, on a directory written by hand in the same format.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use peercache_fakehub::Corpus;

fn scenario(dir: &std::path::Path, name: &str, json: &str) {
    let dir = dir.join("scenarios").join("api.github.com").join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("raw-fixture.json"), json).unwrap();
}

#[test]
fn scenarios_become_a_corpus() {
    let dir = tempfile::tempdir().unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"{\"packed\":true}").unwrap();
    let packed: String = encoder.finish().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let (head, tail) = packed.split_at(20);
    scenario(
        dir.path(),
        "b-second",
        &format!(
            r#"[{{"scope":"https://api.github.com:443","method":"get","path":"/packed","body":"","status":200,
            "response":["{head}","{tail}"],"rawHeaders":{{"Content-Encoding":"gzip"}},"reqheaders":{{}},"responseIsBinary":false}}]"#
        ),
    );
    scenario(
        dir.path(),
        "a-first",
        r#"[
        {"scope":"https://api.github.com:443","method":"post","path":"/repos/o/r/labels?x=1","body":{"name": "n"},"status":201,
         "response":{ "id": 1, "z": [1.0, "a b"] },"rawHeaders":["Vary","Accept","ETag","\"e\"","Vary","Cookie"],
         "reqheaders":{"accept":"application/json"},"responseIsBinary":false},
        {"scope":"https://codeload.github.com:443","method":"get","path":"/o/r","body":"","status":200,
         "response":"1f8b00ff","rawHeaders":[],"reqheaders":{},"responseIsBinary":true},
        {"scope":"https://api.github.com:443","method":"delete","path":"/repos/o/r","body":"","status":204,
         "response":"","rawHeaders":["connection","close"],"reqheaders":{},"responseIsBinary":false}]"#,
    );
    let corpus = Corpus::from_octokit_fixtures(dir.path()).unwrap();
    let [post, archive, delete, packed] = corpus.exchanges() else { panic!("{corpus:?}") };

    assert_eq!((post.scenario.as_deref(), post.method.as_str()), (Some("a-first"), "POST"));
    assert_eq!(post.url(), "https://api.github.com/repos/o/r/labels?x=1");
    assert_eq!(post.request_body.as_deref(), Some(&br#"{"name":"n"}"#[..]));
    assert_eq!(&post.body[..], br#"{"id":1,"z":[1.0,"a b"]}"#);
    let names: Vec<_> = post.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(names, [("Vary", "Accept"), ("ETag", "\"e\""), ("Vary", "Cookie")]);
    assert_eq!(
        (archive.host.as_str(), &archive.body[..]),
        ("codeload.github.com", &[0x1f, 0x8b, 0, 255][..])
    );
    assert_eq!((delete.status, delete.body.len(), &delete.request_body), (204, 0, &None));
    assert_eq!((packed.scenario.as_deref(), &packed.body[..]), (Some("b-second"), &b"{\"packed\":true}"[..]));
}

#[test]
fn a_directory_that_is_no_package_says_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let text = Corpus::from_octokit_fixtures(dir.path()).unwrap_err().to_string();
    assert!(
        text.contains("no scenarios/HOST/NAME/raw-fixture.json in it; unpack it with `npm pack"),
        "{text}"
    );

    scenario(
        dir.path(),
        "odd",
        r#"[{"scope":"https://api.github.com:443","method":"get","path":"/x","status":200,"responseIsBinary":true,"response":"abc"}]"#,
    );
    let text = Corpus::from_octokit_fixtures(dir.path()).unwrap_err().to_string();
    assert!(
        text.ends_with(
            "raw-fixture.json: exchange 1: \"response\" is binary and not hexadecimal digits in pairs"
        ),
        "{text}"
    );
}
