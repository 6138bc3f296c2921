//! A machine on which everything works, until a fault is planted there; and what its doctor says.

use std::any::Any;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Server, peercache, run, stderr};

pub(super) const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";

/// A server that answers every request with one answer, for as long as the test runs.
pub(super) fn stub(answer: impl Fn() -> String + Send + 'static) -> SocketAddr {
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

pub(super) fn http(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// An origin with some quota left, on this machine's time.
#[allow(clippy::disallowed_methods, reason = "the origin's clock is compared with this machine's")]
pub(super) fn origin(remaining: u64) -> String {
    let address = stub(move || {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let core =
            format!(r#"{{"resources":{{"core":{{"limit":5000,"remaining":{remaining},"reset":1}}}}}}"#);
        http("200 OK", &format!("date: {date}\r\ncontent-type: application/json\r\n"), &core)
    });
    format!("http://{address}")
}

/// A port that nobody listens on just now.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(super) struct Machine {
    home: TempDir,
    vars: Vec<(String, String)>,
    /// What starts each command, if it is not started directly.
    launcher: Vec<String>,
    /// What was started for a fault or its remedy; it ends with the machine.
    held: Vec<Box<dyn Any>>,
}

impl Machine {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut machine = Self { home, vars: Vec::new(), launcher: Vec::new(), held: Vec::new() };
        machine.set("HOME", machine.path(""));
        machine.set("PATH", std::env::var("PATH").unwrap());
        machine.set("CACHE_UPSTREAM", origin(4999));
        // Nobody listens at the usual address of a machine that other tests share.
        machine.set("CACHE_HTTP_LISTEN", format!("127.0.0.1:{}", free_port()));
        machine
    }

    pub(super) fn with(vars: &[(&str, &str)]) -> Self {
        let mut machine = Self::new();
        for (name, value) in vars {
            machine.set(name, *value);
        }
        machine
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.unset(name);
        self.vars.push((name.to_owned(), value.into()));
    }

    pub(super) fn unset(&mut self, name: &str) {
        self.vars.retain(|(known, _)| known != name);
    }

    pub(super) fn var(&self, name: &str) -> &str {
        &self.vars.iter().find(|(known, _)| known == name).unwrap().1
    }

    /// A path in its home directory.
    pub(super) fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().trim_end_matches('/').to_owned()
    }

    pub(super) fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Keeps a server running for as long as the machine.
    pub(super) fn hold(&mut self, server: impl Any) {
        self.held.push(Box::new(server));
    }

    /// Ends what is held.
    pub(super) fn let_go(&mut self) {
        self.held.clear();
    }

    /// What a shell does before each command, in a mount namespace of its own.
    pub(super) fn before_each_command(&mut self, script: &str) {
        let script = format!("set -e\n{script}\nexec \"$0\" \"$@\"");
        self.launch_by(&["unshare", "--mount", "--", "sh", "-c", &script]);
    }

    /// Starts each command by this one.
    pub(super) fn launch_by(&mut self, launcher: &[&str]) {
        self.launcher = launcher.iter().map(ToString::to_string).collect();
    }

    /// `peercache` on this machine.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.launcher.split_first() {
            None => peercache(args),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(env!("CARGO_BIN_EXE_peercache")).args(args).env_clear();
                command
            }
        };
        command.envs(self.vars.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Output {
        run(self.command(args), b"")
    }

    pub(super) fn doctor(&self) -> Report {
        let output = self.run(&["--json", "doctor"]);
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        Report { report, code: output.status.code().unwrap() }
    }

    #[track_caller]
    pub(super) fn is_green(&self) -> Report {
        let found = self.doctor();
        assert_eq!(found.named("failed"), [""; 0], "{}", found.report);
        assert_eq!(found.named("warning"), [""; 0], "{}", found.report);
        assert_eq!((found.code, &found.report["healthy"]), (0, &Value::Bool(true)));
        found
    }

    /// Runs the script of `peercache doctor --fix` in a shell, whose variables are the machine's
    /// from then on.
    pub(super) fn run_fix(&mut self) {
        let script = self.run(&["doctor", "--fix"]).stdout;
        let file = self.file("fix.sh", std::str::from_utf8(&script).unwrap(), 0o600);
        let mut shell = Command::new("sh");
        shell.args(["-ec", &format!(". '{file}'; env -0")]).current_dir(self.home.path()).env_clear();
        shell.envs(self.vars.iter().map(|(name, value)| (name, value)));
        let done = run(shell, b"");
        assert!(done.status.success(), "{}: {}", String::from_utf8_lossy(&script), stderr(&done));
        let text = String::from_utf8(done.stdout).unwrap();
        let vars = text.split_terminator('\0').filter_map(|line| line.split_once('='));
        // What the shell itself adds.
        let vars = vars.filter(|(name, _)| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_"));
        self.vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    }
}

pub(super) struct Report {
    pub(super) report: Value,
    pub(super) code: i32,
}

impl Report {
    fn of(&self, status: &str) -> impl Iterator<Item = &Value> {
        let checks = self.report["checks"].as_array().into_iter().flatten();
        checks.filter(move |check| check["status"] == status)
    }

    pub(super) fn named(&self, status: &str) -> Vec<&str> {
        self.of(status).filter_map(|check| check["check"].as_str()).collect()
    }

    /// These parts of each finding that ended so.
    pub(super) fn told(&self, status: &str, parts: &[&str]) -> String {
        self.of(status)
            .flat_map(|check| parts.iter().filter_map(|part| check[*part].as_str()))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// A member of the fleet of `secret` that other nodes reach on `port`.
pub(super) fn member(secret: &str, port: u16, dir: &Path) -> Server {
    let upstream = "http://127.0.0.1:9";
    let mut command = peercache(&["serve", "--listen", "127.0.0.1:0", "--upstream", upstream]);
    command.env("CACHE_SECRET", secret).env("CACHE_LISTEN_PORT", port.to_string()).env("CACHE_DIR", dir);
    Server::start(command)
}
