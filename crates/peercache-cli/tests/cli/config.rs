//! `peercache config`: what counts, and where it came from.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::support::{peercache, run, stderr};

const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_table_says_what_counts_and_where_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    write(&file, &format!("secret = '{SECRET}'\nmemory_bytes = '8m'\ndefault_ttl = 5\n"), 0o600);
    let mut command = peercache(&["config"]);
    command.env("CACHE_CONFIG", &file).env("CACHE_DIR", "/a\tb").env("CACHE_DEFAULT_TTL", "60");
    let output = run(command, b"");
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap().replace(file.to_str().unwrap(), "F");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let row = |name: &str| rows.iter().find(|row| row[0] == name).unwrap()[1..].to_vec();
    assert_eq!(rows[0], ["SETTING", "VALUE", "FROM"]);
    assert_eq!(row("config"), ["F", "environment CACHE_CONFIG"]);
    assert_eq!(row("backend"), ["memory,disk", "default"]);
    assert_eq!(row("dir"), ["/a\u{fffd}b", "environment CACHE_DIR"], "nothing moves the cursor");
    assert_eq!(row("memory_bytes"), ["8MiB", "file F:2"]);
    assert_eq!(row("default_ttl"), ["60", "environment CACHE_DEFAULT_TTL"]);
    assert_eq!(row("secret"), ["set, key id 4365b5b621b7611a, read and write", "file F:1"]);
    assert_eq!(row("secret_old"), ["not set", "default"]);
}

#[test]
fn the_same_as_data() {
    let mut command = peercache(&["--json", "config"]);
    command.env("CACHE_NAMESPACE", "docs").env("CACHE_SECRET", SECRET);
    let output = run(command, b"");
    let settings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let find = |name: &str| {
        settings["settings"].as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap()
    };
    assert_eq!(
        *find("namespace"),
        serde_json::json!({
            "name": "namespace",
            "variable": "CACHE_NAMESPACE",
            "value": "docs",
            "origin": { "from": "environment", "variable": "CACHE_NAMESPACE" },
        })
    );
    assert_eq!(find("secret")["value"], "set, key id 4365b5b621b7611a, read and write");
    assert!(!String::from_utf8(output.stdout).unwrap().contains("KioqKioq"));
}

#[test]
fn a_file_in_the_working_directory_is_not_read() {
    let checkout = tempfile::tempdir().unwrap();
    for name in ["peercache.toml", ".peercache.toml", "config.toml", "peercache/config.toml"] {
        let path = checkout.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, "dir = '/attacker'\nnonsense = 1", 0o644);
    }
    for home in [None, Some(("XDG_CONFIG_HOME", "."))] {
        let mut command = peercache(&["config"]);
        command.current_dir(checkout.path()).envs(home);
        let output = run(command, b"");
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!String::from_utf8(output.stdout).unwrap().contains("attacker"));
    }
}

#[test]
fn mistakes_in_the_file_are_one_line_and_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    let complaint = |text: &str, mode: u32| {
        write(&file, text, mode);
        let mut command = peercache(&["config"]);
        command.env("CACHE_CONFIG", &file);
        let output = run(command, b"");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        let text = stderr(&output);
        assert!(!text.contains("KioqKioq"), "{text}");
        text.replace(file.to_str().unwrap(), "F")
    };
    assert_eq!(
        complaint("\ndefault_ttl = '5m'", 0o644),
        "peercache: F:2: default_ttl = \"5m\": this is not a time to live; give whole seconds from 1 to 2592000"
    );
    let open = complaint(&format!("secret = '{SECRET}'"), 0o666);
    assert!(open.starts_with("peercache: F:1: secret: other users can write this file"), "{open}");
    assert!(open.contains("chmod 600 F"), "{open}");
}

#[test]
fn no_command_shows_the_secret_however_much_it_logs() {
    let dir = tempfile::tempdir().unwrap();
    let passphrase = "correct horse battery staple";
    for secret in [SECRET, passphrase, "hush-hush"] {
        let commands: [&[&str]; 5] = [
            &["-vvv", "config"],
            &["-vvv", "--json", "config"],
            &["-vvv", "put", "k"],
            &["-vvv", "get", "k"],
            &["-vvv", "explain", "k"],
        ];
        for args in commands {
            let mut command = peercache(args);
            command.env("CACHE_DIR", dir.path()).env("CACHE_SECRET", secret);
            let output = run(command, b"v");
            for stream in [&output.stdout, &output.stderr] {
                let text = String::from_utf8_lossy(stream);
                assert!(!text.contains(secret) && !text.contains("KioqKioq"), "{args:?}: {text}");
            }
        }
    }
}

#[test]
fn a_sealed_directory_is_for_those_who_have_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let other = "pc-secret-1-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let with = |secret: &str, args: &[&str], input: &[u8]| {
        let mut command = peercache(args);
        command.env("CACHE_DIR", dir.path()).env("CACHE_SECRET", secret);
        run(command, input)
    };
    let put = with(SECRET, &["put", "k"], b"v");
    assert!(put.status.success(), "{}", stderr(&put));
    assert_eq!(with(SECRET, &["get", "k"], b"").stdout, b"v");
    assert_eq!(with("", &["get", "k"], b"").status.code(), Some(1), "without a secret it is a miss");
    assert_eq!(with(other, &["get", "k"], b"").status.code(), Some(2), "damaged");

    let passphrase = with("another secret of somebody", &["get", "k"], b"");
    assert_eq!(passphrase.status.code(), Some(1));
    let warning = stderr(&passphrase);
    assert!(
        warning.contains("another secret is in use here") && warning.contains("CACHE_SECRET_OLD"),
        "{warning}"
    );

    let read_only = with(SECRET, &["keygen", "--read-only"], b"").stdout;
    let read_only = String::from_utf8(read_only).unwrap();
    assert_eq!(with(read_only.trim(), &["get", "k"], b"").stdout, b"v");
    let refused = with(read_only.trim(), &["put", "k"], b"w");
    assert_ne!(refused.status.code(), Some(0));
    assert!(stderr(&refused).contains("read-only"), "{}", stderr(&refused));
    assert_eq!(with(SECRET, &["get", "k"], b"").stdout, b"v");
}
