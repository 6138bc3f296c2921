//! `peercache explain`: what a read would do, tier by tier.

use serde_json::Value;

use crate::support::{run_in, stderr};

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
