//! `put`, `get`, `invalidate`, `stats --disk`: the cache from a script.

use std::time::Duration;

use crate::support::{peercache, run, run_in, stderr};

#[test]
fn what_is_put_is_got_until_it_is_invalidated() {
    let dir = tempfile::tempdir().unwrap();
    let value: Vec<u8> = (0..=255).collect();
    let put = run_in(dir.path(), &["put", "k", "--ttl", "60"], &value);
    assert!(put.status.success(), "{}", stderr(&put));
    let got = run_in(dir.path(), &["get", "k"], b"");
    assert_eq!((got.status.code(), got.stdout), (Some(0), value));

    assert!(run_in(dir.path(), &["invalidate", "k", "other"], b"").status.success());
    let gone = run_in(dir.path(), &["get", "k"], b"");
    assert_eq!((gone.status.code(), gone.stdout.len()), (Some(1), 0));
}

#[test]
fn everything_is_invalidated_at_once_within_its_namespace() {
    let dir = tempfile::tempdir().unwrap();
    for key in ["a", "b"] {
        assert!(run_in(dir.path(), &["put", key], b"v").status.success());
    }
    let mut other = peercache(&["put", "a"]);
    other.env("CACHE_DIR", dir.path()).env("CACHE_NAMESPACE", "other");
    assert!(run(other, b"v").status.success());

    let all = run_in(dir.path(), &["--json", "invalidate", "--all"], b"");
    assert!(all.status.success(), "{}", stderr(&all));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&all.stdout).unwrap()["invalidated"], "all");
    for key in ["a", "b"] {
        assert_eq!(run_in(dir.path(), &["get", key], b"").status.code(), Some(1), "{key}");
    }
    let mut other = peercache(&["get", "a"]);
    other.env("CACHE_DIR", dir.path()).env("CACHE_NAMESPACE", "other");
    assert_eq!(run(other, b"").stdout, b"v");

    assert!(run_in(dir.path(), &["put", "a"], b"new").status.success());
    assert_eq!(run_in(dir.path(), &["get", "a"], b"").stdout, b"new");
    assert_eq!(run_in(dir.path(), &["invalidate", "--all", "a"], b"").status.code(), Some(2));
    assert_eq!(run_in(dir.path(), &["invalidate"], b"").status.code(), Some(2));
}

#[test]
fn files_go_in_and_out() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::write(&source, vec![7; 300_000]).unwrap();
    let cache = dir.path().join("cache");
    assert!(run_in(&cache, &["put", "k", source.to_str().unwrap()], b"").status.success());
    assert!(run_in(&cache, &["get", "k", "-o", target.to_str().unwrap()], b"").status.success());
    assert_eq!(std::fs::read(target).unwrap(), vec![7; 300_000]);
}

#[test]
fn the_json_answer_has_value_and_provenance() {
    let dir = tempfile::tempdir().unwrap();
    let put = run_in(dir.path(), &["--json", "put", "k", "--content-type", "text/plain"], b"hello");
    let put: serde_json::Value = serde_json::from_slice(&put.stdout).unwrap();
    assert_eq!(put["stored"], true);
    let got: serde_json::Value =
        serde_json::from_slice(&run_in(dir.path(), &["--json", "get", "k"], b"").stdout).unwrap();
    assert_eq!(got["outcome"], "hit");
    assert_eq!(got["tier"], "disk");
    assert_eq!(got["value"], "hello");
    assert_eq!(got["content_type"], "text/plain");
    assert_eq!(got["skipped"][0]["tier"], "memory");
    assert_eq!(got["skipped"][0]["reason"], "absent");
    let binary = run_in(dir.path(), &["put", "b"], &[0xff, 0x00]);
    assert!(binary.status.success());
    let got: serde_json::Value =
        serde_json::from_slice(&run_in(dir.path(), &["--json", "get", "b"], b"").stdout).unwrap();
    assert_eq!(got["value_base64"], "/wA=");
}

#[test]
fn a_value_expires() {
    let dir = tempfile::tempdir().unwrap();
    assert!(run_in(dir.path(), &["put", "k", "--ttl", "1"], b"v").status.success());
    // Real processes read the real clock, so this one test has to wait.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(run_in(dir.path(), &["get", "k"], b"").status.code(), Some(1));
}

#[test]
fn a_put_that_would_not_outlive_the_process_is_refused() {
    let mut command = peercache(&["put", "k"]);
    command.env("CACHE_BACKEND", "memory");
    let output = run(command, b"v");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("add `disk` to CACHE_BACKEND"), "{}", stderr(&output));
}

#[test]
fn a_large_value_goes_in_and_out_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let value: Vec<u8> = (0..9_000_000_u32).map(|n| (n / 251 + n % 251) as u8).collect();
    let put = run_in(dir.path(), &["--json", "put", "k"], &value);
    assert!(put.status.success(), "{}", stderr(&put));
    let answer: serde_json::Value = serde_json::from_slice(&put.stdout).unwrap();
    assert_eq!(answer["bytes"], 9_000_000);
    assert!(answer["chunks"].as_u64().unwrap() > 1, "{answer}");
    assert!(run_in(dir.path(), &["get", "k"], b"").stdout == value);
    let file = dir.path().join("out");
    assert!(run_in(dir.path(), &["get", "k", "-o", file.to_str().unwrap()], b"").status.success());
    assert!(std::fs::read(file).unwrap() == value);
    assert!(run_in(dir.path(), &["invalidate", "k"], b"").status.success());
    assert_eq!(run_in(dir.path(), &["get", "k"], b"").status.code(), Some(1));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = run_in(dir.path(), &["put", "k", "/no/such/file"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/no/such/file"), "{}", stderr(&output));
}

#[test]
fn namespaces_share_a_directory_without_meeting() {
    let dir = tempfile::tempdir().unwrap();
    let in_namespace = |namespace: &str, args: &[&str], input: &[u8]| {
        let mut command = peercache(args);
        command.env("CACHE_DIR", dir.path()).env("CACHE_NAMESPACE", namespace);
        run(command, input)
    };
    assert!(in_namespace("a", &["put", "k"], b"A").status.success());
    assert_eq!(in_namespace("b", &["get", "k"], b"").status.code(), Some(1));
    assert_eq!(in_namespace("a", &["get", "k"], b"").stdout, b"A");
}

#[test]
fn the_disk_tier_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    assert!(run_in(dir.path(), &["put", "k"], b"v").status.success());
    let stats: serde_json::Value =
        serde_json::from_slice(&run_in(dir.path(), &["--json", "stats", "--disk"], b"").stdout).unwrap();
    assert_eq!(stats["disk"]["entries"], 1);
}

#[test]
fn neither_keys_nor_values_reach_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let output = run_in(dir.path(), &["-vvv", "put", "acme/secret-plans"], b"the-hidden-value");
    assert!(output.status.success());
    let text = stderr(&output);
    assert!(!text.contains("secret-plans") && !text.contains("hidden-value"), "{text}");
}
