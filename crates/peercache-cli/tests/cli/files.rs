//! Outputs of every kind, readers that go away, and file systems that are full or another user's.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use peercache_testkit::servers::RedisServer;

use crate::part::missing;
use crate::support::{Server, get, peercache, run, run_in, stderr};

/// Some user who is not root and owns nothing.
const USER: &str = "12345";

fn get_to(cache: &Path, output: &Path) -> Output {
    run_in(cache, &["get", "k", "-o", output.to_str().unwrap()], b"")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn get_writes_to_what_is_named_and_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, at) = (dir.path().join("cache"), |name: &str| dir.path().join(name));
    assert!(run_in(&cache, &["put", "k"], b"hello").status.success());

    fs::write(at("target"), "old").unwrap();
    symlink("target", at("link")).unwrap();
    assert!(get_to(&cache, &at("link")).status.success());
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert_eq!(fs::read(at("target")).unwrap(), b"hello");

    // Through a link, so that a mistake replaces the link and not the machine's device.
    symlink("/dev/null", at("device")).unwrap();
    assert!(get_to(&cache, &at("device")).status.success());
    assert!(fs::metadata(at("device")).unwrap().file_type().is_char_device());

    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    let mut reader = Command::new("cat").arg(at("fifo")).stdout(Stdio::piped()).spawn().unwrap();
    assert!(get_to(&cache, &at("fifo")).status.success());
    let mut text = String::new();
    reader.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(reader.wait().unwrap().success());
    assert_eq!(text, "hello");
    assert!(fs::metadata(at("fifo")).unwrap().file_type().is_fifo());

    fs::write(at("existing"), "old").unwrap();
    fs::set_permissions(at("existing"), Permissions::from_mode(0o664)).unwrap();
    fs::write(at("made"), "").unwrap();
    for name in ["existing", "new"] {
        assert!(get_to(&cache, &at(name)).status.success());
    }
    assert_eq!(mode(&at("existing")), 0o664);
    assert_eq!(mode(&at("new")), mode(&at("made")), "as the umask says");
}

#[test]
fn reader_that_has_seen_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let big = dir.path().join("big");
    fs::write(&big, vec![7; 8 << 20]).unwrap();
    let cache = dir.path().join("cache");
    assert!(run_in(&cache, &["put", "big", big.to_str().unwrap()], b"").status.success());

    let mut get = peercache(&["get", "big"]);
    get.env("CACHE_DIR", &cache).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = get.spawn().unwrap();
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), stderr(&ended).as_str()), (Some(0), ""));

    for shell in ["bash", "zsh", "fish"] {
        let mut command = peercache(&["completions", shell]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), stderr(&ended).as_str()), (Some(0), ""), "{shell}");
    }
}

#[test]
fn output_that_cannot_be_written_keeps_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    assert!(run_in(dir.path(), &["put", "k"], b"v").status.success());
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let code = |args: &[&str], set: fn(&mut Command, Stdio) -> &mut Command| {
        let mut command = peercache(args);
        command.env("CACHE_DIR", dir.path()).stdin(Stdio::null());
        set(&mut command, full().into()).status().unwrap().code()
    };
    assert_eq!(code(&["get", ""], Command::stderr), Some(2), "a wrong key");
    assert_eq!(code(&["nothing"], Command::stderr), Some(2), "a wrong command");
    assert_eq!(code(&["get", "k"], Command::stdout), Some(3));
    assert_eq!(code(&["completions", "bash"], Command::stdout), Some(3));
}

#[test]
fn empty_rust_log_counts_as_unset() {
    let dir = tempfile::tempdir().unwrap();
    let warnings = |level: Option<&str>| {
        let mut command = peercache(&["get", "k"]);
        command.env("CACHE_DIR", dir.path()).env("CACHE_DISK_BYTE", "1GiB");
        if let Some(level) = level {
            command.env("RUST_LOG", level);
        }
        stderr(&run(command, b""))
    };
    assert!(warnings(None).contains("CACHE_DISK_BYTE"), "{}", warnings(None));
    assert!(warnings(Some("")).contains("CACHE_DISK_BYTE"), "{}", warnings(Some("")));
    assert!(!warnings(Some("off")).contains("CACHE_DISK_BYTE"));
}

/// A small file system of the test's own, in a mount namespace that ends with it.
#[test]
fn full_file_system_still_answers_and_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        mount -t tmpfs -o size=6m none "$DIR" || exit 99
        export CACHE_DIR="$DIR/cache"
        printf first | "$PC" put first || exit 10
        # Somebody else fills what is left.
        head -c 6291456 /dev/urandom > "$DIR/filler" 2>/dev/null
        [ "$("$PC" get first)" = first ] || exit 11
        head -c 200000 /dev/urandom > /dev/shm/peercache-$$ || exit 12
        "$PC" put large /dev/shm/peercache-$$ 2> "$DIR.errors"; echo "put: $?"
        [ "$("$PC" get first)" = first ] || exit 13
        # And leaves.
        rm "$DIR/filler"
        "$PC" put large /dev/shm/peercache-$$ || exit 14
        "$PC" get large | cmp - /dev/shm/peercache-$$ || exit 15
        # The cache itself is larger than the file system: older entries go.
        for n in $(seq 40); do "$PC" put "many $n" /dev/shm/peercache-$$ || exit 16; done
        "$PC" get "many 40" | cmp - /dev/shm/peercache-$$ || exit 17
        rm /dev/shm/peercache-$$
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script]);
    command.env("DIR", dir.path()).env("PC", env!("CARGO_BIN_EXE_peercache"));
    let ended = run(command, b"");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    match ended.status.code() {
        Some(1 | 99) if said.is_empty() => {
            missing(
                &format!("a mount namespace: {}", stderr(&ended)),
                "run as root, or allow user namespaces",
            );
        }
        code => {
            let errors = fs::read_to_string(format!("{}.errors", dir.path().display())).unwrap_or_default();
            assert_eq!(code, Some(0), "{said}{}\n{errors}", stderr(&ended));
            assert!(!errors.contains("panicked"), "{errors}");
        }
    }
    // Beside the directory, since the test mounted over it.
    let _ = fs::remove_file(format!("{}.errors", dir.path().display()));
}

#[test]
fn command_of_root_in_a_users_directory_leaves_it_to_the_user() {
    if !rustix::process::getuid().is_root() {
        return missing("this test runs as another user than root", "run it as root");
    }
    let dir = tempfile::tempdir().unwrap();
    let (home, binary) = (dir.path().join("home"), dir.path().join("peercache"));
    fs::create_dir(&home).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_peercache"), &binary).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let id = USER.parse().unwrap();
    std::os::unix::fs::chown(&home, Some(id), Some(id)).unwrap();
    let cache: PathBuf = home.join("cache");
    let user = |args: &[&str], input: &[u8]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(&binary).args(args);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &home).env("CACHE_DIR", &cache);
        run(command, input)
    };
    let large = vec![7; 200_000];
    assert!(user(&["put", "mine"], b"small").status.success());
    for n in 0..3 {
        assert!(run_in(&cache, &["put", &format!("roots {n}")], &large).status.success());
    }
    for n in 0..3 {
        let name = format!("roots {n}");
        let got = user(&["get", &name], b"");
        assert_eq!((got.status.code(), got.stdout == large), (Some(0), true), "{}", stderr(&got));
        let put = user(&["put", &name], &large);
        assert!(put.status.success(), "{}", stderr(&put));
    }

    // The first command ever was root's, in a directory that the user owns.
    fs::remove_dir_all(&cache).unwrap();
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&cache, Some(id), Some(id)).unwrap();
    assert!(run_in(&cache, &["put", "first"], b"x").status.success());
    let got = user(&["get", "first"], b"");
    assert_eq!(got.stdout, b"x", "{}", stderr(&got));
}

#[test]
fn peers_that_refuse_are_named_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    // Two ports on which nobody listens: taken, and let go of.
    let ports = [0, 1].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = ports.map(|listener| listener.local_addr().unwrap().port());
    let bootstrap = ports.map(|port| format!("/ip4/127.0.0.1/tcp/{port}")).join(",");
    let mut command = peercache(&["put", "k"]);
    command.env("CACHE_DIR", dir.path()).env("CACHE_BACKEND", "disk,libp2p");
    command.env("CACHE_SECRET", "fleeting-walnut-harbor-42-quiet").env("CACHE_BOOTSTRAP_PEERS", &bootstrap);
    let put = run(command, b"v");
    let said = stderr(&put);
    assert!(put.status.success(), "{said}");
    for port in ports {
        assert!(said.contains(&format!("/tcp/{port}: ")), "{said}");
    }
    assert!(said.contains("refused") && !said.contains("no answer yet"), "{said}");
}

#[test]
fn shared_tier_that_does_not_answer_in_time_is_no_silent_miss() {
    let dir = tempfile::tempdir().unwrap();
    // Accepts connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let mut command = peercache(&["get", "k"]);
    command.env("CACHE_DIR", dir.path()).env("CACHE_BACKEND", "disk,redis");
    command.env("REDIS_URL", format!("redis://{address}"));
    command.env("CACHE_SECRET", "fleeting-walnut-harbor-42-quiet");
    let got = run(command, b"");
    assert_eq!(got.status.code(), Some(1), "{}", stderr(&got));
    assert!(stderr(&got).contains("redis"), "{}", stderr(&got));
}

#[tokio::test]
async fn unusable_directory_stops_no_command_over_a_shared_tier() {
    let Some(redis) = RedisServer::start().await.unwrap() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let command = |args: &[&str], input: &[u8]| {
        let mut command = peercache(args);
        command.env("CACHE_DIR", &file).env("CACHE_BACKEND", "memory,disk,redis");
        command.env("REDIS_URL", redis.url()).env("CACHE_SECRET", "fleeting-walnut-harbor-42-quiet");
        run(command, input)
    };
    let put = command(&["put", "k"], b"v");
    assert!(put.status.success(), "{}", stderr(&put));
    let got = command(&["get", "k"], b"");
    assert_eq!((got.status.code(), got.stdout.as_slice()), (Some(0), &b"v"[..]), "{}", stderr(&got));
    assert!(stderr(&got).contains("left out"), "{}", stderr(&got));
}

/// In a directory of another user, whose authority this one may not read.
#[test]
fn server_without_tls_starts_although_the_authority_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    // A folder in its place cannot be read by root either.
    fs::create_dir_all(dir.path().join("ca/ca.pem")).unwrap();
    let server = Server::serve(dir.path(), "http://127.0.0.1:9", &[]);
    assert_eq!(get(&format!("{}/-/health/live", server.url), &[]).0, 200);
    let mut wanted = peercache(&["serve", "--listen", "127.0.0.1:0", "--forward-proxy"]);
    wanted.env("CACHE_DIR", dir.path());
    let ended = run(wanted, b"");
    assert_eq!(ended.status.code(), Some(2), "{}", stderr(&ended));
}

#[test]
fn lifetime_that_no_entry_can_have_is_named_with_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    for ttl in ["0", "2592001", "1m", "-1"] {
        let put = run_in(dir.path(), &["put", "k", &format!("--ttl={ttl}")], b"v");
        assert_eq!(put.status.code(), Some(2), "{ttl}");
        assert!(stderr(&put).contains("1 to 2592000"), "{ttl}: {}", stderr(&put));
    }
    assert!(run_in(dir.path(), &["put", "k", "--ttl=2592000"], b"v").status.success());
}
