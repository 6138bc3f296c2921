//! `peercache doctor`: faults are planted one at a time; it names that one and no other, and with
//! none planted it is green.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Server, peercache, run, stderr};

const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";

/// A server that answers every request with one answer, for as long as the test runs.
fn stub(answer: impl Fn() -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 8192];
            // A client that went away is no concern of the stub's.
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer().as_bytes());
        }
    });
    address
}

fn http(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// An origin with some quota left, whose clock differs by `ahead`.
#[allow(clippy::disallowed_methods, reason = "the origin's clock is compared with this machine's")]
fn origin(remaining: u64, ahead: Duration) -> String {
    let address = stub(move || {
        let date = httpdate::fmt_http_date(SystemTime::now() + ahead);
        let core =
            format!(r#"{{"resources":{{"core":{{"limit":5000,"remaining":{remaining},"reset":1}}}}}}"#);
        http("200 OK", &format!("date: {date}\r\ncontent-type: application/json\r\n"), &core)
    });
    format!("http://{address}")
}

/// A port that nobody listens on just now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A machine on which everything works.
struct Machine {
    home: TempDir,
    vars: Vec<(String, String)>,
}

impl Machine {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut machine = Self { home, vars: Vec::new() };
        machine.set("HOME", machine.home.path().to_str().unwrap().to_owned());
        machine.set("CACHE_UPSTREAM", origin(4999, Duration::ZERO));
        // Nobody listens at the usual address of a machine that other tests share.
        machine.set("CACHE_HTTP_LISTEN", format!("127.0.0.1:{}", free_port()));
        machine
    }

    fn with(vars: &[(&str, &str)]) -> Self {
        let mut machine = Self::new();
        for (name, value) in vars {
            machine.set(name, (*value).to_owned());
        }
        machine
    }

    fn set(&mut self, name: &str, value: String) {
        self.vars.retain(|(known, _)| known != name);
        self.vars.push((name.to_owned(), value));
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = peercache(args);
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        run(command, b"")
    }

    fn doctor(&self) -> Report {
        let output = self.run(&["--json", "doctor"]);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        Report { report, code: output.status.code().unwrap() }
    }

    /// Expects this check to fail, no other, and no warning; gives what was found with cause and
    /// remedy.
    fn fails(&self, check: &str) -> String {
        let found = self.doctor();
        assert_eq!(found.named("failed"), [check], "{}", found.report);
        assert_eq!(found.named("warning"), [""; 0], "{}", found.report);
        assert_eq!(found.code, 1);
        found.told("failed")
    }

    /// Expects this check to warn, and none to fail.
    fn warns(&self, check: &str) -> String {
        let found = self.doctor();
        assert_eq!(found.named("warning"), [check], "{}", found.report);
        assert_eq!(found.named("failed"), [""; 0], "{}", found.report);
        assert_eq!(found.code, 0);
        found.told("warning")
    }

    fn is_green(&self) {
        let found = self.doctor();
        assert_eq!(found.named("failed"), [""; 0], "{}", found.report);
        assert_eq!(found.named("warning"), [""; 0], "{}", found.report);
        assert_eq!((found.code, &found.report["healthy"]), (0, &Value::Bool(true)));
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

struct Report {
    report: Value,
    code: i32,
}

impl Report {
    fn of(&self, status: &str) -> impl Iterator<Item = &Value> {
        let checks = self.report["checks"].as_array().into_iter().flatten();
        checks.filter(move |check| check["status"] == status)
    }

    fn named(&self, status: &str) -> Vec<&str> {
        self.of(status).filter_map(|check| check["check"].as_str()).collect()
    }

    fn told(&self, status: &str) -> String {
        let parts = ["found", "cause", "remedy", "command"];
        self.of(status)
            .flat_map(|check| parts.iter().filter_map(|part| check[*part].as_str()))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// A member of the fleet of `secret` that other nodes reach on `port`.
fn member(secret: &str, port: u16, dir: &Path) -> Server {
    let upstream = "http://127.0.0.1:9";
    let mut command = peercache(&["serve", "--listen", "127.0.0.1:0", "--upstream", upstream]);
    command.env("CACHE_SECRET", secret).env("CACHE_LISTEN_PORT", port.to_string()).env("CACHE_DIR", dir);
    Server::start(command)
}

#[test]
fn healthy_machine_is_green() {
    let machine = Machine::new();
    machine.is_green();
    let text = String::from_utf8(machine.run(&["doctor"]).stdout).unwrap();
    assert!(text.ends_with("all well\n"), "{text}");
    assert!(text.contains("a value was stored, found by another opening, and removed"), "{text}");
    assert!(text.contains("4999 of 5000 requests are left"), "{text}");
    Machine::with(&[("CACHE_SECRET", SECRET)]).is_green();
    Machine::with(&[("CACHE_BACKEND", "memory")]).is_green();
}

#[test]
fn mistakes_in_settings_are_named() {
    let found = Machine::with(&[("CACHE_BACKEND", "memory,nonsense")]).fails("settings");
    assert!(found.contains("there is no backend `nonsense`"), "{found}");
    let mut machine = Machine::new();
    let file = machine.file("f.toml", "memory_byte = 5", 0o600);
    machine.set("CACHE_CONFIG", file);
    let found = machine.fails("settings");
    assert!(found.contains("did you mean `memory_bytes`?"), "{found}");
    let found = Machine::with(&[("CACHE_MEMORY_BYTE", "64MiB")]).warns("settings");
    assert!(found.contains("did you mean CACHE_MEMORY_BYTES?"), "{found}");
}

#[test]
fn secrets_of_no_use_are_named_and_not_shown() {
    let quoted = format!("\"{SECRET}\"");
    let damaged = &SECRET[..40];
    let token = "ghs_0123456789012345678901234567890123456789";
    for (value, expected) in [
        (quoted.as_str(), "quotation mark"),
        (damaged, "damaged"),
        (token, "GitHub token of a job"),
        ("$CACHE_SECRET", "placeholder"),
    ] {
        let machine = Machine::with(&[("CACHE_SECRET", value)]);
        let found = machine.fails("secret");
        assert!(found.contains(expected), "{found}");
        let everything = machine.doctor().report.to_string();
        assert!(!everything.contains("KioqKioq") && !everything.contains("0123456789"), "{everything}");
    }
    let mut machine = Machine::new();
    let file = machine.file("secret", SECRET, 0o666);
    machine.set("CACHE_SECRET_FILE", file);
    let found = machine.fails("secret");
    assert!(found.contains("other users can write the file"), "{found}");
}

#[test]
fn directory_that_cannot_be_used_is_named() {
    let mut machine = Machine::new();
    let file = machine.file("file", "", 0o600);
    machine.set("CACHE_DIR", file);
    let found = machine.fails("disk");
    assert!(found.contains("the cache directory is a file"), "{found}");
    let found = Machine::with(&[("CACHE_DIR", "/proc/nothing")]).fails("disk");
    assert!(found.contains("set CACHE_DIR to a directory that this user can write"), "{found}");
}

#[test]
fn peers_without_a_secret_are_named() {
    let peer = format!("/ip4/127.0.0.1/tcp/{}", free_port());
    let found = Machine::with(&[("CACHE_BOOTSTRAP_PEERS", &peer)]).fails("secret");
    assert!(found.contains("peercache keygen"), "{found}");
}

#[test]
fn dead_bootstrap_peer_is_named_and_green_when_it_runs() {
    let port = free_port();
    let peer = format!("/ip4/127.0.0.1/tcp/{port}");
    let machine = Machine::with(&[("CACHE_SECRET", SECRET), ("CACHE_BOOTSTRAP_PEERS", &peer)]);
    let found = machine.fails("peers");
    // Within a container, the remedy is about its loopback address.
    assert!(found.contains("nothing listens"), "{found}");
    assert!(found.contains("CACHE_LISTEN_PORT") || found.contains("gateway"), "{found}");

    let dir = tempfile::tempdir().unwrap();
    let _member = member(SECRET, port, dir.path());
    machine.is_green();
}

#[test]
fn loopback_peer_in_a_container_is_named_with_the_gateway() {
    let peer = format!("/ip4/127.0.0.1/tcp/{}", free_port());
    let vars =
        [("CACHE_SECRET", SECRET), ("CACHE_BOOTSTRAP_PEERS", &peer), ("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    let found = Machine::with(&vars).fails("peers");
    if Path::new("/sys/class/net/docker0").exists() {
        assert!(found.contains("nothing listens"), "on the host's network loopback is the host's: {found}");
    } else {
        assert!(found.contains("a loopback address is the container itself"), "{found}");
    }
}

#[test]
fn name_of_a_peer_that_does_not_resolve_is_named() {
    let vars = [("CACHE_SECRET", SECRET), ("CACHE_BOOTSTRAP_PEERS", "/dns4/no-such-host.invalid/tcp/9100")];
    let found = Machine::with(&vars).fails("peers");
    assert!(found.contains("the name no-such-host.invalid does not resolve"), "{found}");
}

#[test]
fn stranger_at_a_peers_address_is_named() {
    let peer = format!("/ip4/127.0.0.1/tcp/{}", stub(|| "hello".to_owned()).port());
    let found = Machine::with(&[("CACHE_SECRET", SECRET), ("CACHE_BOOTSTRAP_PEERS", &peer)]).fails("peers");
    assert!(found.contains("something answers, and it is no member of this network"), "{found}");
}

#[test]
fn peer_with_another_secret_is_named() {
    let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
    let _member = member("another secret of another fleet, long enough", port, dir.path());
    let peer = format!("/ip4/127.0.0.1/tcp/{port}");
    let found = Machine::with(&[("CACHE_SECRET", SECRET), ("CACHE_BOOTSTRAP_PEERS", &peer)]).fails("peers");
    assert!(found.contains("give both sides the same CACHE_SECRET"), "{found}");
}

#[test]
fn port_of_this_node_that_is_taken_is_named() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let found = Machine::with(&[("CACHE_SECRET", SECRET), ("CACHE_LISTEN_PORT", &port)]).fails("port");
    assert!(found.contains(&format!("{port} is taken")), "{found}");
}

#[test]
fn port_of_the_server_that_another_program_has_is_named() {
    let other = stub(|| http("404 Not Found", "", "")).to_string();
    let machine = Machine::with(&[("CACHE_HTTP_LISTEN", &other)]);
    let found = machine.fails("server");
    assert!(
        found.contains("something else than a peercache listens") && found.contains("answered 404"),
        "{found}"
    );
    let script = String::from_utf8(machine.run(&["doctor", "--fix"]).stdout).unwrap();
    assert!(script.starts_with("#!/bin/sh\n") && script.contains("\nexport CACHE_HTTP_LISTEN="), "{script}");
}

#[test]
fn server_that_should_run_and_does_not_is_named() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let found = Machine::with(&[("CACHE_SERVER_URL", &url)]).fails("server");
    assert!(found.contains("no peercache answers") && found.contains("start `peercache serve`"), "{found}");
}

#[test]
fn socket_of_gh_that_nobody_listens_on_is_named() {
    let machine = Machine::new();
    machine.file(".config/gh/config.yml", "version: 1\nhttp_unix_socket: /nowhere/peercache.sock\n", 0o600);
    let found = machine.fails("gh");
    assert!(
        found.contains("/nowhere/peercache.sock") && found.contains("gh config set http_unix_socket ''"),
        "{found}"
    );
}

#[test]
fn gh_that_does_not_use_the_socket_is_named_and_green_when_it_does() {
    let mut machine = Machine::new();
    let gh = machine.file("bin/gh", "#!/bin/sh\n", 0o755);
    let socket = machine.home.path().join("s.sock");
    let socket = socket.to_str().unwrap().to_owned();
    let mut command = peercache(&["serve", "--listen", "127.0.0.1:0", "--socket", &socket]);
    command.env("CACHE_BACKEND", "memory").env("CACHE_UPSTREAM", "http://127.0.0.1:9");
    let _server = Server::start(command);
    machine.set("CACHE_SOCKET", socket.clone());
    machine.set("PATH", format!("{}:/usr/bin:/bin", Path::new(&gh).parent().unwrap().display()));
    let found = machine.warns("gh");
    assert!(found.contains(&format!("gh config set http_unix_socket {socket}")), "{found}");
    machine.file(".config/gh/config.yml", &format!("http_unix_socket: {socket}\n"), 0o600);
    machine.is_green();
}

#[test]
fn api_url_that_leads_nowhere_is_named() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let found = Machine::with(&[("GITHUB_API_URL", &url)]).fails("GITHUB_API_URL");
    assert!(found.contains("nothing listens at"), "{found}");
    Machine::with(&[("GITHUB_API_URL", "https://api.github.com")]).is_green();
}

#[test]
fn proxy_that_is_asked_for_this_server_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::serve(dir.path(), "http://127.0.0.1:9", &[]);
    // It passes everything on, as far as the origin goes.
    let proxy = origin(4999, Duration::ZERO);
    let mut machine = Machine::with(&[("CACHE_SERVER_URL", server.url.as_str()), ("ALL_PROXY", &proxy)]);
    let found = machine.warns("proxy");
    assert!(found.contains("ALL_PROXY is set, and NO_PROXY does not spare 127.0.0.1"), "{found}");
    machine.set("NO_PROXY", "localhost,127.0.0.1".to_owned());
    machine.is_green();
}

#[test]
fn certificates_that_cannot_be_read_are_named() {
    let found = Machine::with(&[("NODE_EXTRA_CA_CERTS", "/nowhere/ca.pem")]).fails("certificates");
    assert!(found.contains("NODE_EXTRA_CA_CERTS names /nowhere/ca.pem"), "{found}");
    let mut machine = Machine::new();
    let file = machine.file("ca.pem", "no certificate", 0o600);
    machine.set("REQUESTS_CA_BUNDLE", file);
    assert!(machine.fails("certificates").contains("holds no certificate in PEM form"));
}

#[test]
fn origin_that_cannot_be_reached_is_named() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let found = Machine::with(&[("CACHE_UPSTREAM", &url)]).fails("origin");
    assert!(found.contains(&format!("{url} cannot be reached")), "{found}");
}

#[test]
fn token_that_the_origin_refuses_is_named_and_not_shown() {
    let origin =
        format!("http://{}", stub(|| http("401 Unauthorized", "", r#"{"message":"Bad credentials"}"#)));
    let token = "ghp_0123456789012345678901234567890123456789";
    let machine = Machine::with(&[("CACHE_UPSTREAM", &origin), ("GH_ENTERPRISE_TOKEN", token)]);
    let found = machine.fails("origin");
    assert!(found.contains("refuses the token in GH_ENTERPRISE_TOKEN"), "{found}");
    assert!(!machine.doctor().report.to_string().contains("0123456789"));
}

#[test]
fn quota_that_is_spent_is_named() {
    let found = Machine::with(&[("CACHE_UPSTREAM", &origin(0, Duration::ZERO))]).fails("origin");
    assert!(found.contains("the quota of core") && found.contains("is spent"), "{found}");
}

#[test]
fn clock_that_differs_from_the_origins_is_named() {
    let machine = Machine::with(&[("CACHE_UPSTREAM", &origin(10, Duration::from_secs(600)))]);
    let found = machine.fails("clock");
    assert!(found.contains("differs by 6") || found.contains("differs by 59"), "{found}");
}

fn bucket(endpoint: &str) -> Machine {
    Machine::with(&[
        ("CACHE_SECRET", SECRET),
        ("AWS_S3_BUCKET", "team-cache"),
        ("AWS_ENDPOINT_URL_S3", endpoint),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "example"),
    ])
}

fn s3_error(status: &'static str, code: &'static str) -> String {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
    format!("http://{}", stub(move || http(status, "content-type: application/xml\r\n", &body)))
}

#[test]
fn bucket_that_does_not_work_is_named() {
    let found = bucket(&format!("http://127.0.0.1:{}", free_port())).fails("s3");
    assert!(!found.is_empty());
    let found = bucket(&s3_error("404 Not Found", "NoSuchBucket")).fails("s3");
    assert!(found.contains("NoSuchBucket") || found.contains("bucket"), "{found}");
    let found = bucket(&s3_error("400 Bad Request", "ExpiredToken")).fails("s3");
    assert!(found.contains("ExpiredToken") || found.contains("expired"), "{found}");
}

#[test]
fn listening_socket_that_is_no_server_is_named() {
    let mut machine = Machine::new();
    let socket = machine.home.path().join("dead.sock");
    drop(UnixListener::bind(&socket).unwrap());
    machine.set("CACHE_SOCKET", socket.to_str().unwrap().to_owned());
    let found = machine.fails("server");
    assert!(found.contains("no peercache answers"), "{found}");
}
