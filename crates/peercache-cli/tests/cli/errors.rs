//! Mistakes: one clear line and exit code 2.

use std::process::{Command, Output};

use crate::support::{peercache, run, stderr};

fn with(variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command: Command = peercache(args);
    command.envs(variables.iter().copied());
    run(command, b"")
}

/// Runs `get k` with these variables and expects one line on standard error and exit code 2.
fn mistake(variables: &[(&str, &str)]) -> String {
    let output = with(variables, &["get", "k"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    let text = stderr(&output);
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn an_unknown_backend_is_named_with_what_is_accepted() {
    assert_eq!(
        mistake(&[("CACHE_BACKEND", "nonsense")]),
        "peercache: CACHE_BACKEND=\"nonsense\": there is no backend `nonsense`; \
         accepted is a comma-separated list of memory, disk, libp2p, redis, ipfs, s3, storacha, or `auto`, or `none`"
    );
}

#[test]
fn a_bad_size_is_named_with_what_is_accepted() {
    assert_eq!(
        mistake(&[("CACHE_MEMORY_BYTES", "lots")]),
        "peercache: CACHE_MEMORY_BYTES=\"lots\": this is not a size; \
         give a whole number of bytes, or one with a unit such as 64MiB"
    );
    let small = mistake(&[("CACHE_DISK_BYTES", "1k")]);
    assert!(small.contains("CACHE_DISK_BYTES=\"1k\": this is too small, the least is 16MiB"), "{small}");
}

#[test]
fn a_directory_that_cannot_be_written_is_named_with_what_to_do() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("cache");
    let text = mistake(&[("CACHE_DIR", below.to_str().unwrap())]);
    assert!(text.starts_with("peercache: CACHE_DIR="), "{text}");
    assert!(text.contains("set CACHE_DIR to a directory that this user can write"), "{text}");
}

#[test]
fn without_a_home_the_directory_must_be_given() {
    let text = mistake(&[]);
    assert!(text.contains("CACHE_DIR: the disk tier needs a directory"), "{text}");
}

#[test]
fn errors_are_json_on_request() {
    let output = with(&[("CACHE_BACKEND", "nonsense")], &["--json", "get", "k"]);
    assert_eq!(output.status.code(), Some(2));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["exit_code"], 2);
    assert!(error["error"].as_str().unwrap().contains("nonsense"));
}

#[test]
fn errors_of_the_command_line_are_json_on_request() {
    for args in [&["--json", "get"][..], &["get", "k", "--frob", "--json"], &["--json", "no-such-command"]] {
        let output = with(&[], args);
        assert_eq!(output.status.code(), Some(2));
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        let message = error["error"].as_str().unwrap();
        assert!(!message.contains("Usage:") && !message.starts_with("error:"), "{message}");
        assert_eq!(error["exit_code"], 2);
    }
    // What stands behind `--` is another command's.
    let output = with(&[], &["get", "--", "--json", "another"]);
    assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
}

#[test]
fn a_wrong_argument_is_code_2_and_help_is_code_0() {
    assert_eq!(with(&[], &["get"]).status.code(), Some(2));
    assert_eq!(with(&[], &["no-such-command"]).status.code(), Some(2));
    assert_eq!(with(&[], &["serve", "--upstream", "not a url"]).status.code(), Some(2));
    assert_eq!(with(&[], &["serve", "--socket-mode", "999", "--socket", "s"]).status.code(), Some(2));
    let help = with(&[], &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit codes:"));
}

#[test]
fn a_token_that_is_no_good_is_named_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let variables = [("CACHE_DIR", dir.path().to_str().unwrap()), ("WEB3_STORAGE_TOKEN", "hush-hush")];
    let output = with(&variables, &["get", "k"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("WEB3_STORAGE_TOKEN") || text.contains("CACHE_SECRET"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn a_secret_that_is_no_good_is_named_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let text = mistake(&[("CACHE_DIR", dir.path().to_str().unwrap()), ("CACHE_SECRET", "hush-hush")]);
    assert_eq!(
        text,
        "peercache: CACHE_SECRET: a passphrase has at least 12 characters, this one is shorter; \
         make a secret with `peercache keygen`"
    );
}
