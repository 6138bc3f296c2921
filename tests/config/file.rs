//! The TOML file: where it is looked for, what it takes, and what its mistakes say.

use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use peercache::config::MAX_CONFIG_FILE_BYTES;
use peercache::config::{BackendName, ConfigBuilder};
use peercache::{Config, ConfigError};
use tempfile::TempDir;

use crate::read;

fn of_text(toml: &str) -> Result<Config, ConfigError> {
    ConfigBuilder::new("peercache").file_text("peer.toml", toml).read_vars(|_| None)
}

fn complaint(toml: &str) -> String {
    let text = of_text(toml).unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// A file in a directory of its own, readable to everyone.
fn file(name: &str, toml: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, toml).unwrap();
    set_mode(&path, 0o644);
    (dir, path)
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The message without the part of paths that differs in every run.
fn plain(error: &ConfigError, dir: &TempDir) -> String {
    error.to_string().replace(dir.path().to_str().unwrap(), "DIR")
}

#[test]
fn every_setting_can_stand_there() {
    let config = of_text(
        r#"
        backend = ["disk", "memory"]
        dir = "/var/cache/peer"
        memory_bytes = 0x200_0000   # 32 MiB
        disk_bytes = "2GiB"
        default_ttl = 60
        namespace = "docs"
        read_only = true
        "#,
    )
    .unwrap();
    let lines: Vec<_> = config.settings().unwrap().iter().map(ToString::to_string).collect();
    assert_snapshot!(lines.join("\n"), @r"
    config = peer.toml (code)
    backend = disk,memory (file peer.toml:2)
    dir = /var/cache/peer (file peer.toml:3)
    memory_bytes = 32MiB (file peer.toml:4)
    disk_bytes = 2GiB (file peer.toml:5)
    default_ttl = 60 (file peer.toml:6)
    namespace = docs (file peer.toml:7)
    read_timeout = not set (default)
    write_timeout = not set (default)
    read_budget = not set (default)
    read_only = true (file peer.toml:8)
    secret = not set (default)
    secret_file = not set (default)
    secret_old = not set (default)
    insecure_plaintext = false (default)
    enable_p2p = not set (default)
    listen_port = not set (default)
    listen_addr = not set (default)
    bootstrap_peers = not set (default)
    role = auto (default)
    node_name = not set (default)
    identity_file = not set (default)
    announce_addrs = not set (default)
    allowed_peers = not set (default)
    mdns = false (default)
    peer_dir = not set (default)
    peer_bytes = 256MiB (default)
    redis_url = not set (default)
    redis_prefix = not set (default)
    ipfs_api = not set (default)
    ipfs_api_auth = not set (default)
    ipfs_prefix = not set (default)
    ipfs_max_bytes = 1GiB (default)
    ipfs_allow_private = false (default)
    ipfs_sync = off (default)
    s3_bucket = not set (default)
    s3_prefix = not set (default)
    s3_endpoint = not set (default)
    s3_region = not set (default)
    s3_path_style = not set (default)
    web3_storage_token = not set (default)
    web3_storage_token_file = not set (default)
    storacha_service_url = not set (default)
    storacha_service_did = not set (default)
    storacha_receipts_url = not set (default)
    storacha_preset = not set (default)
    storacha_allow_private = false (default)
    http_listen = not set (default)
    socket = not set (default)
    upstream = https://api.github.com (default)
    server_url = not set (default)
    github_share_public = not set (default)
    github_public_for = 60 (default)
    github_max_stale = 3600 (default)
    github_policy = not set (default)
    github_reserve = 0 (default)
    github_pace = 0 (default)
    ");
    assert_eq!(of_text("backend = 'disk , memory'").unwrap().backends(), config.backends());
    assert_eq!(of_text("").unwrap().backends(), read(&[]).unwrap().backends());
    assert_eq!(of_text("backend = ' '").unwrap().backends().len(), 2, "blank counts as unset");
}

#[test]
fn mistakes_name_file_line_key_value_and_what_is_accepted() {
    assert_snapshot!(complaint("\nbackends = 'disk'"), @"peer.toml:2: there is no setting `backends`; did you mean `backend`? `peercache config` lists every key");
    assert_snapshot!(complaint("[disk]\nbytes = 1"), @"peer.toml:1: there is no setting `disk`; `peercache config` lists every key");
    assert_snapshot!(complaint("namespace = 'a'\nmemory_bytes = 'lots'"), @r#"peer.toml:2: memory_bytes = "lots": this is not a size; give a whole number of bytes, or one with a unit such as 64MiB"#);
    assert_snapshot!(complaint("memory_bytes = 5"), @"peer.toml:1: memory_bytes = 5: this is too small, the least is 1MiB; give a whole number of bytes, or one with a unit such as 64MiB");
    assert_snapshot!(complaint("memory_bytes = 1.5"), @"peer.toml:1: memory_bytes = 1.5: this is a number with a fraction; give a whole number of bytes, or one with a unit such as 64MiB");
    assert_snapshot!(complaint("disk_bytes = 99999999999999999999999999999999999999999"), @"peer.toml:1: disk_bytes = 99999999999999999999999999999999999999999: this is not a size; give a whole number of bytes, or one with a unit such as 1GiB");
    assert_snapshot!(complaint("disk_bytes = ['1GiB']"), @"peer.toml:1: disk_bytes = […]: this is a list; give a whole number of bytes, or one with a unit such as 1GiB");
    assert_snapshot!(complaint("default_ttl = true"), @"peer.toml:1: default_ttl = true: this is a truth value; give whole seconds from 1 to 2592000");
    assert_snapshot!(complaint("default_ttl = -5"), @"peer.toml:1: default_ttl = -5: this is not a time to live; give whole seconds from 1 to 2592000");
    assert_snapshot!(complaint("default_ttl = 1979-05-27"), @"peer.toml:1: default_ttl = 1979-05-27: this is a date or time; give whole seconds from 1 to 2592000");
    assert_snapshot!(complaint("namespace = 7"), @"peer.toml:1: namespace = 7: this is a number; give a name as text");
    assert_snapshot!(complaint("read_only = 1"), @"peer.toml:1: read_only = 1: this is a number; give true or false");
    assert_snapshot!(complaint("namespace = { a = 1 }"), @"peer.toml:1: namespace = {…}: this is a table; give a name as text");
    assert_snapshot!(complaint("backend = ['disk', 'memcached']"), @r#"peer.toml:1: backend = "disk,memcached": there is no backend `memcached`; accepted is a comma-separated list of memory, disk, libp2p, redis, ipfs, s3, storacha, or `auto`, or `none`"#);
    assert_snapshot!(complaint("backend = ['disk', 1]"), @"peer.toml:1: backend = […]: this is a list of something else than texts; accepted is a comma-separated list of memory, disk, libp2p, redis, ipfs, s3, storacha, or `auto`, or `none`");
    assert_snapshot!(complaint("backend = []"), @"peer.toml:1: backend = []: the list is empty; accepted is a comma-separated list of memory, disk, libp2p, redis, ipfs, s3, storacha, or `auto`, or `none`");
    assert_snapshot!(complaint("dir = 'cache'"), @r#"peer.toml:1: dir = "cache": a path in a file must not depend on where the process is started; give an absolute path, or one that begins with ~/"#);
    assert_snapshot!(complaint("dir = '~/cache'"), @r#"peer.toml:1: dir = "~/cache": the path begins with ~ and HOME is not set; set HOME, or give an absolute path"#);
    assert_snapshot!(complaint("dir = 1"), @"peer.toml:1: dir = 1: this is a number; give a path as text");
}

#[test]
fn what_is_not_toml() {
    assert_snapshot!(complaint("# fine\nnamespace = docs"), @"peer.toml:2: this is not TOML: string values must be quoted, expected literal string; write one `key = value` on each line");
    assert_snapshot!(complaint("namespace"), @"peer.toml:1: this is not TOML: key with no value, expected `=`; write one `key = value` on each line");
    assert_snapshot!(complaint("namespace = 'a'\nnamespace = 'b'"), @"peer.toml:2: this is not TOML: duplicate key; write one `key = value` on each line");
    assert_snapshot!(complaint("namespace = '"), @"peer.toml:1: this is not TOML: invalid literal string, expected `'`; write one `key = value` on each line");
    let deep = format!("backend = {}", "[".repeat(20_000));
    assert!(complaint(&deep).starts_with("peer.toml:1: "), "nesting is bounded");
}

#[test]
fn a_directory_may_begin_at_home() {
    let dir = |toml: &str| {
        let home = |name: &str| (name == "HOME").then(|| "/home/ada".to_owned());
        let config = ConfigBuilder::new("peercache").file_text("f", toml).read_vars(home).unwrap();
        config.dir().unwrap().to_owned()
    };
    assert_eq!(dir("dir = '~/cache'"), Path::new("/home/ada/cache"));
    assert_eq!(dir("dir = '/cache'"), Path::new("/cache"));
    assert_eq!(dir(""), Path::new("/home/ada/.cache/peercache"));
}

#[test]
fn it_is_looked_for_where_the_variable_or_the_user_says() {
    let (at_home, _) = file(".config/peercache/config.toml", "backend = 'disk'");
    let (at_xdg, _) = file("peercache/config.toml", "backend = 'memory'");
    let (named, path) = file("any.toml", "backend = 'memory,disk'");
    let home = ("HOME", at_home.path().to_str().unwrap());
    let xdg = ("XDG_CONFIG_HOME", at_xdg.path().to_str().unwrap());
    let given = ("CACHE_CONFIG", path.to_str().unwrap());
    let found = |vars: &[(&str, &str)]| read(vars).unwrap().backends().to_vec();
    assert_eq!(found(&[home]), [BackendName::Disk]);
    assert_eq!(found(&[home, ("XDG_CONFIG_HOME", "relative")]), [BackendName::Disk]);
    assert_eq!(found(&[home, xdg]), [BackendName::Memory]);
    assert_eq!(found(&[home, xdg, given]), [BackendName::Memory, BackendName::Disk]);
    let origin = |vars: &[(&str, &str)]| {
        let file = read(vars).unwrap().settings().unwrap().remove(0).to_string();
        file.replace(named.path().to_str().unwrap(), "DIR")
    };
    assert_eq!(origin(&[home, given]), "config = DIR/any.toml (environment CACHE_CONFIG)");
    assert_eq!(origin(&[home, ("CACHE_CONFIG", "none")]), "config = none (environment CACHE_CONFIG)");
    assert_eq!(origin(&[]), "config = none (default)");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(found(&[("HOME", empty.path().to_str().unwrap())]).len(), 2, "there need not be one");
}

/// As a job that runs under another user in somebody's HOME: no reason to fail.
#[test]
fn a_usual_place_that_cannot_be_looked_into_is_a_warning() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join(".config/peercache");
    fs::create_dir_all(&place).unwrap();
    std::os::unix::fs::symlink("config.toml", place.join("config.toml")).unwrap();
    let config = read(&[("HOME", home.path().to_str().unwrap())]).unwrap();
    let warnings = config.warnings().join("\n").replace(home.path().to_str().unwrap(), "HOME");
    assert_snapshot!(warnings, @"HOME/.config/peercache/config.toml is not used: Too many levels of symbolic links (os error 40)");
}

#[test]
fn files_that_cannot_be_used() {
    let (dir, path) = file("f.toml", "");
    let open = |path: &Path| read(&[("CACHE_CONFIG", path.to_str().unwrap())]);
    let complaint = |path: &Path| plain(&open(path).unwrap_err(), &dir);
    assert_snapshot!(complaint(&dir.path().join("absent.toml")), @r#"CACHE_CONFIG="DIR/absent.toml": the file cannot be read: No such file or directory (os error 2); name a TOML file that this user can read, or `none`"#);
    assert_snapshot!(complaint(dir.path()), @"DIR: this is not a regular file; name a TOML file");
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_snapshot!(complaint(&path), @"DIR/f.toml: the file is not UTF-8; write it as UTF-8 text");
    fs::write(&path, "#".repeat(MAX_CONFIG_FILE_BYTES)).unwrap();
    assert!(open(&path).is_ok());
    fs::write(&path, "#".repeat(MAX_CONFIG_FILE_BYTES + 1)).unwrap();
    assert_snapshot!(complaint(&path), @"DIR/f.toml: the file is larger than 65536 bytes, the most that is read; is this the right file? Settings take a few lines");
    let missing =
        ConfigBuilder::new("peercache").file("/nonexistent/f.toml").read_vars(|_| None).unwrap_err();
    assert_snapshot!(missing, @"/nonexistent/f.toml: the file cannot be read: No such file or directory (os error 2); name a TOML file that this user can read, or `none`");
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = read(&[("CACHE_CONFIG", pipe.to_str().unwrap())]).unwrap_err();
    assert_snapshot!(plain(&error, &dir), @"DIR/pipe: this is not a regular file; name a TOML file");
}

#[test]
fn secret_in_a_file_that_others_can_write_is_refused() {
    let (dir, path) = file("it's here.toml", "\nsecret = 'the-hidden-secret'");
    let open = || read(&[("CACHE_CONFIG", path.to_str().unwrap())]);
    for mode in [0o620, 0o602, 0o666] {
        set_mode(&path, mode);
        let text = plain(&open().unwrap_err(), &dir);
        let chmod = r"chmod 600 'DIR/it'\''s here.toml'";
        let expected = format!(
            "DIR/it's here.toml:2: secret: other users can write this file (mode {mode:04o}), so they can choose the \
             secret; {chmod}, and if they are not trusted make a new one with `peercache keygen`"
        );
        assert_eq!(text, expected);
    }
    for mode in [0o600, 0o400, 0o700] {
        set_mode(&path, mode);
        assert!(open().unwrap().warnings().is_empty(), "{mode:o}");
    }
}

#[test]
fn secret_in_a_file_that_others_can_read_is_warned_of() {
    let (dir, path) = file("f.toml", "\nsecret = 'the-hidden-secret'");
    let config = read(&[("CACHE_CONFIG", path.to_str().unwrap())]).unwrap();
    let warnings = config.warnings().join("\n").replace(dir.path().to_str().unwrap(), "DIR");
    assert_eq!(
        warnings,
        "DIR/f.toml:2: secret: other users of this machine can read this file; chmod 600 DIR/f.toml"
    );
}
