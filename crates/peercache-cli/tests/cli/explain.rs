//! `peercache explain`: what a read would do, tier by tier.

use serde_json::Value;

use crate::support::{Server, get, peercache, run, run_in, stderr};

fn explain(dir: &std::path::Path) -> (String, Value) {
    let text = run_in(dir, &["explain", "acme/secret-plans"], b"");
    assert!(text.status.success(), "{}", stderr(&text));
    let json = run_in(dir, &["--json", "explain", "acme/secret-plans"], b"");
    assert!(json.status.success(), "{}", stderr(&json));
    (String::from_utf8(text.stdout).unwrap(), serde_json::from_slice(&json.stdout).unwrap())
}

#[test]
fn a_miss_a_hit_and_a_removal() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (text, json) = explain(dir);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("1. memory (local, read-write, breaker closed"), "{text}");
    assert!(lines[1].starts_with("2. disk (local, read-only, breaker closed"), "{text}");
    assert!(lines[1].ends_with("): absent"), "{text}");
    assert_eq!(lines[2], "=> miss");
    assert_eq!((&json["outcome"], &json["tier"]), (&Value::from("miss"), &Value::Null));
    assert_eq!(json["tiers"][1]["decision"], "absent");

    assert!(run_in(dir, &["put", "acme/secret-plans"], b"the-hidden-value").status.success());
    let (text, json) = explain(dir);
    assert!(text.contains("): hit; holds a fresh value of 16 bytes, 0 tags"), "{text}");
    assert!(text.ends_with("=> hit in disk\n"), "{text}");
    assert_eq!((&json["outcome"], &json["tier"]), (&Value::from("hit"), &Value::from("disk")));
    assert_eq!(json["tiers"][1]["holds"]["bytes"], 16);
    assert!(!text.contains("secret-plans") && !text.contains("hidden"), "{text}");

    assert!(run_in(dir, &["invalidate", "acme/secret-plans"], b"").status.success());
    let (text, json) = explain(dir);
    assert!(text.contains("): removed: hides what is older below; holds a fresh tombstone"), "{text}");
    assert!(text.ends_with("=> miss\n"), "{text}");
    assert_eq!(json["tiers"][1]["holds"]["kind"], "tombstone");
    assert_eq!(json["outcome"], "miss");
}

#[test]
fn the_namespace_counts() {
    let dir = tempfile::tempdir().unwrap();
    assert!(run_in(dir.path(), &["put", "k"], b"v").status.success());
    let mut command = crate::support::peercache(&["explain", "k"]);
    command.env("CACHE_DIR", dir.path()).env("CACHE_NAMESPACE", "other");
    let text = String::from_utf8(crate::support::run(command, b"").stdout).unwrap();
    assert!(text.ends_with("=> miss\n"), "{text}");
}

/// A GitHub-like origin and a server in front of it, which a client has asked once for this path.
#[test]
fn url_is_explained_for_a_token_that_is_shown_nowhere() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = scratch.path().join("corpus.jsonl");
    let lines = r#"{"method":"GET","url":"https://api.github.com/repos/octo/hello/languages","status":200,"headers":{"Content-Type":"application/json; charset=utf-8","Cache-Control":"private, max-age=60"},"body":{"Rust":1}}"#;
    std::fs::write(&corpus, lines).unwrap();
    let (origin, _log) = Server::fakehub(&corpus);
    let server = Server::serve(scratch.path(), &origin.url, &[]);
    let path = "/repos/octo/hello/languages";
    let token = [("Authorization", "token ghs_canary"), ("X-Peercache-Client", "CI / lint")];
    assert_eq!(get(&format!("{}{path}", server.url), &token).0, 200);

    let explain = |more: &[&str], variable: Option<&str>| {
        let mut command = peercache(&["explain", "--server", &server.url, "--url"]);
        command.args(more);
        if let Some(value) = variable {
            command.env("GH_TOKEN", value);
        }
        let output = run(command, b"ghs_canary\n");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert!(!text.contains("ghs_canary"), "{text}");
        (output.status.code(), text)
    };
    let (code, text) = explain(&[path], Some("ghs_canary"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("hit: this token's grant is fresh for "), "{text}");
    assert!(text.contains("\nwould send: nothing\n") && text.contains("(ghs)"), "{text}");
    assert_eq!(explain(&[path, "--token-file", "-"], None).1.lines().next(), text.lines().next());
    let (_, anonymous) = explain(&[path], None);
    assert!(anonymous.contains("this token has no grant for it"), "{anonymous}");
    let (code, text) = explain(&["https://evil.example/x"], Some("ghs_canary"));
    assert_eq!(code, Some(2), "{text}");
    let (code, text) = explain(&[path], Some("two words"));
    assert_eq!((code, text.contains("GH_TOKEN: what is there is no token")), (Some(2), true), "{text}");
    let elsewhere = run(peercache(&["explain", "--server", "http://192.0.2.1:1", "--url", path]), b"");
    assert_eq!(elsewhere.status.code(), Some(2), "{}", stderr(&elsewhere));

    let by = |what: &str| {
        let output = run(peercache(&["stats", "--url", &server.url, "--by", what]), b"");
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let clients = by("client");
    assert!(clients.starts_with("saved 0 of 1 (0 %) since 20"), "{clients}");
    assert!(clients.contains("\n1      1     1        0      CI / lint\n"), "{clients}");
    assert!(by("route").contains("0      /repos/{owner}/{repo}/languages\n"));
    assert!(!by("token").contains("canary"));
}
