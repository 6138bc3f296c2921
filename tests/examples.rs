//! The examples run, and print what they say they do.
//!
//! `cargo test` builds them beside the tests; so does `cargo build --examples` before a test is run
//! by its name.
#![cfg(all(feature = "memory", feature = "disk"))]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

/// Runs an example with this cache directory and no other setting of ours.
fn run(name: &str, dir: impl AsRef<OsStr>) -> Output {
    run_with(name, dir, &[])
}

/// As [`run`], with more variables.
fn run_with(name: &str, dir: impl AsRef<OsStr>, more: &[(&str, String)]) -> Output {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(example.exists(), "{name} is not built; run `cargo build --examples` first");
    let mut command = Command::new(example);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("CACHE_") {
            command.env_remove(variable);
        }
    }
    command.env("CACHE_DIR", dir).envs(more.iter().map(|(name, value)| (name, value))).output().unwrap()
}

fn printed(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn quickstart_fetches_once_and_then_reads_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let first = printed(&run("quickstart", dir.path()));
    let expected =
        "not cached yet\nfetching rust-lang/rust\nrust-lang/rust has 107000 stars\nnow in memory, ";
    assert!(first.starts_with(expected), "{first}");
    let second = printed(&run("quickstart", dir.path()));
    assert!(
        second.starts_with("found in disk\nrust-lang/rust has 107000 stars\nnow in memory, "),
        "{second}"
    );
}

#[cfg(unix)]
#[test]
fn a_setting_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;

    let output = run("quickstart", OsStr::from_bytes(b"/tmp/\xff"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("CACHE_DIR: its value is not UTF-8; give it as UTF-8 text"), "{text}");
}

#[test]
fn compose_chain_carries_the_value_up() {
    let dir = tempfile::tempdir().unwrap();
    let text = printed(&run("compose_chain", dir.path()));
    let expected = "found in archive\n  not in memory: Absent\n  not in disk: Absent\nfound in memory\n{";
    assert!(text.starts_with(expected), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text[text.find('{').unwrap()..]).unwrap();
    assert_eq!((&report["hits"], &report["promotions"]["stored"]), (&2.into(), &2.into()));
    assert_eq!(report["tiers"][2]["mode"], "read-only");
}

#[cfg(feature = "libp2p")]
#[test]
fn peers_share_and_forget_together() {
    let dir = tempfile::tempdir().unwrap();
    let text = printed(&run("peers", dir.path()));
    let (known, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains("12D3Koo"));
    let expected = [
        "the leaf is connected with 1 peer",
        "the host found it in sealed(peers)",
        "the runner has forgotten it",
    ];
    assert_eq!((lines, known.len()), (expected.to_vec(), 1), "{text}");
}

#[test]
fn custom_backend_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let text = printed(&run("custom_backend", dir.path()));
    assert!(text.starts_with("conformance of files\n"), "{text}");
    assert!(text.contains(" passed, 0 failed, "), "{text}");
}

#[test]
fn custom_backend_is_at_most_40_lines_of_code() {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom_backend.rs"));
    let source = source.unwrap();
    let backend = source.split("// ----").nth(1).unwrap();
    let code =
        backend.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    assert!(code.clone().count() <= 40, "{} lines", code.count());
}

#[test]
fn opendal_services_conform() {
    let dir = tempfile::tempdir().unwrap();
    let text = printed(&run("opendal_backend", dir.path()));
    for service in ["memory", "fs"] {
        assert!(text.contains(&format!("conformance of {service}\n")), "{text}");
    }
    assert_eq!(text.matches(" passed, 0 failed, ").count(), 2, "{text}");
}

#[test]
fn github_proxy_answers_the_second_request_from_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let text = printed(&run("github_proxy", dir.path()));
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("200 OK, Cache-Status: peercache; fwd=uri-miss"), "{text}");
    assert!(lines[1].starts_with("200 OK, Cache-Status: peercache; hit"), "{text}");
    assert_eq!(lines[2], "the origin counted 1 request", "{text}");
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn redis_fleet_shares_a_value_and_forgets_it_together() {
    let Some(server) = peercache_testkit::servers::RedisServer::start().await.unwrap() else { return };
    let settings = [("REDIS_URL", server.url())];
    let ran =
        tokio::task::spawn_blocking(move || run_with("redis_fleet", "unused", &settings)).await.unwrap();
    let expected = "the other machine found it in sealed(redis)\nthe other machine has forgotten it\n";
    // Once promoted, it is in the memory: which of the two lookups came first is left to the
    // machine.
    assert_eq!(printed(&ran).replace("in memory", "in sealed(redis)"), expected);
}

#[cfg(all(feature = "libp2p", feature = "s3"))]
#[tokio::test(flavor = "multi_thread")]
async fn s3_fallback_reads_from_the_bucket_when_the_peers_are_gone() {
    let Some(server) = peercache_testkit::servers::SeaweedFs::start().await.unwrap() else { return };
    let keys = server.credentials();
    let settings = [
        ("AWS_S3_BUCKET", server.bucket()),
        ("AWS_ENDPOINT_URL_S3", &server.endpoint()),
        ("AWS_ACCESS_KEY_ID", keys.id),
        ("AWS_SECRET_ACCESS_KEY", keys.secret),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let ran =
        tokio::task::spawn_blocking(move || run_with("s3_fallback", "unused", &settings)).await.unwrap();
    let text = printed(&ran);
    assert!(text.starts_with("with peers: sealed(peers)\nwithout: sealed(s3) sealed(peers) "), "{text}");
}

#[cfg(feature = "ipfs")]
#[tokio::test]
async fn ipfs_shared_is_found_on_the_node_and_removed_for_all() {
    use peercache_testkit::servers::{Kubo, KuboOptions};

    let Some(node) = Kubo::start(KuboOptions::default()).await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let text = printed(&run_with("ipfs_shared", dir.path(), &[("IPFS_API", node.api())]));
    assert_eq!(text, "Kubo 0.43.1\nfound in sealed(ipfs)\nremoved for all\n");
}
