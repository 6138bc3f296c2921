//! Machines of a fleet: processes over loopback, each with its own directory and settings.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Server, peercache, run, stderr};

const SECRET: &str = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";
/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine: its own cache directory, and how it finds the others.
pub(crate) struct Machine {
    dir: TempDir,
    pub(crate) env: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn new(env: &[(&str, &str)]) -> Self {
        let secret = [("CACHE_SECRET", SECRET)];
        let env = secret.iter().chain(env).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { dir: tempfile::tempdir().unwrap(), env: env.collect() }
    }

    /// A machine whose server is the anchor of the others, on a port of its own.
    pub(crate) fn anchor() -> Self {
        // Bound and dropped: free just now.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let announced = format!("/ip4/127.0.0.1/tcp/{port}");
        Self::new(&[
            ("CACHE_LISTEN_PORT", &port),
            ("CACHE_NODE_NAME", "mcp-server"),
            ("CACHE_ANNOUNCE_ADDRS", &announced),
        ])
    }

    /// A machine that dials `anchor`.
    pub(crate) fn leaf(anchor: &Self) -> Self {
        let port = anchor.var("CACHE_LISTEN_PORT");
        Self::new(&[("CACHE_BOOTSTRAP_PEERS", &format!("/ip4/127.0.0.1/tcp/{port}"))])
    }

    pub(crate) fn var(&self, name: &str) -> &str {
        &self.env.iter().find(|(known, _)| known == name).unwrap().1
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = peercache(args);
        command.env("CACHE_DIR", self.dir.path()).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, args: &[&str], input: &[u8]) -> Output {
        run(self.command(args), input)
    }

    pub(crate) fn serve(&self, upstream: &str) -> Server {
        Server::start(self.command(&["serve", "--listen", "127.0.0.1:0", "--upstream", upstream]))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The text without what differs from run to run.
    pub(crate) fn plain(&self, text: &str) -> String {
        let text = text.replace(self.path().to_str().unwrap(), "DIR");
        match self.env.iter().find(|(name, _)| name == "CACHE_LISTEN_PORT") {
            Some((_, port)) => text.replace(port, "PORT"),
            None => text,
        }
    }
}

/// Nobody listens there; no request of these tests is for it.
pub(crate) const NOWHERE: &str = "http://127.0.0.1:9";

pub(crate) fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < give_up, "it never came about that {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn peers_of(server: &Server) -> Value {
    json(&run(peercache(&["--json", "peers", "--url", &server.url]), b""))
}
