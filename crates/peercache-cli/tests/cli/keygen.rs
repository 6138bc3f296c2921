//! `peercache keygen`: secrets, full, read-only and public.

use std::path::Path;

use crate::support::{peercache, run, stderr};

const FULL: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";
const READ_ONLY: &str = "pc-readonly-1-7tBscmJ9uWR8O7Ftom88QiW5TsDCTuJ8fAJ9xzfGvNH_ZpbqxPJOR9UsZXxb1DO8IF5gWsWXGDCGb91FHWQruG5bSRM";

/// What `keygen` with these arguments prints, with this secret in the environment and this input.
fn keygen(args: &[&str], secret: Option<&str>, input: &[u8]) -> String {
    let mut command = peercache(&[&["keygen"], args].concat());
    command.envs(secret.map(|secret| ("CACHE_SECRET", secret)));
    let output = run(command, input);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "nothing but the secret");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_new_secret_each_time_that_is_taken_as_one() {
    let (one, two) = (keygen(&[], None, b""), keygen(&[], Some(FULL), b""));
    assert_ne!(one, two);
    for secret in [one.trim_end(), two.trim_end()] {
        assert!(secret.starts_with("pc-secret-1-") && secret.lines().count() == 1, "{secret}");
        let mut command = peercache(&["config"]);
        command.env("CACHE_SECRET", secret);
        let table = String::from_utf8(run(command, b"").stdout).unwrap();
        assert!(table.contains("read and write"), "{table}");
    }
}

#[test]
fn the_read_only_form_is_derived() {
    let expected = format!("{READ_ONLY}\n");
    assert_eq!(keygen(&["--read-only"], Some(FULL), b""), expected);
    assert_eq!(keygen(&["--read-only"], None, format!("{FULL}\n").as_bytes()), expected);
    let other = Some("the secret of another fleet");
    assert_eq!(keygen(&["--read-only", "--from", "-"], other, FULL.as_bytes()), expected);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, FULL).unwrap();
    assert_eq!(keygen(&["--read-only", "--from", path.to_str().unwrap()], other, b""), expected);
    assert_eq!(keygen(&["--read-only"], Some(READ_ONLY), b""), expected, "it is its own");
}

#[test]
fn the_public_form_is_derived_from_either_other_form() {
    let public = keygen(&["--public"], Some(FULL), b"");
    assert!(public.starts_with("pc-public-1-"));
    assert_eq!(keygen(&["--public"], Some(READ_ONLY), b""), public);
    assert_eq!(keygen(&["--public"], Some(public.trim_end()), b""), public, "it is its own");
}

#[test]
fn as_data() {
    let json: serde_json::Value =
        serde_json::from_str(&keygen(&["--json", "--read-only"], Some(FULL), b"")).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "secret": READ_ONLY, "key_id": "4365b5b621b7611a", "rights": "read-only" })
    );
}

#[test]
fn mistakes_do_not_repeat_what_they_are_about() {
    let complaint = |args: &[&str], secret: Option<&str>, input: &[u8]| {
        let mut command = peercache(&[&["keygen"], args].concat());
        command.envs(secret.map(|secret| ("CACHE_SECRET", secret)));
        let output = run(command, input);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        stderr(&output)
    };
    assert_eq!(
        complaint(&["--read-only"], None, b"hush-hush"),
        "peercache: standard input: a passphrase has at least 12 characters, this one is shorter; \
         make a secret with `peercache keygen`"
    );
    assert_eq!(
        complaint(&["--read-only"], None, b""),
        "peercache: standard input: the secret is empty; make a secret with `peercache keygen`"
    );
    assert!(complaint(&["--read-only"], Some("hush-hush"), b"").starts_with("peercache: CACHE_SECRET: "));
    assert!(!Path::new("no-such-file").exists());
    let missing = complaint(&["--read-only", "--from", "no-such-file"], None, b"");
    assert!(missing.starts_with("peercache: cannot read no-such-file: "), "{missing}");
    assert!(complaint(&["--from", "x"], None, b"").contains("--read-only"));
}
