//! The running server, and what clients are told about it.

use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::fault::Fault;
use super::fault::Mend::{Hand, Script};
use super::fault::Status::{Fails, Warns};
use super::fault::plant_each;
use super::machine::{Machine, free_port, http, origin, stub};
use crate::support::{Server, part, peercache, run, stderr};

/// A running server with a socket and a forward proxy.
pub(super) struct Running {
    dir: TempDir,
    server: Server,
    socket: String,
}

impl Running {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let mut authority = peercache(&["ca"]);
        authority.env("CACHE_DIR", &cache);
        let made = run(authority, b"");
        assert!(made.status.success(), "{}", stderr(&made));
        let socket = dir.path().join("s.sock").to_str().unwrap().to_owned();
        // It stands for GitHub, so that TLS for its API ends here; nothing is sent there.
        let mut command = peercache(&["serve", "--listen", "127.0.0.1:0", "--forward-proxy"]);
        command.args(["--socket", &socket]).env("CACHE_DIR", &cache);
        let server = Server::start(command);
        Self { dir, server, socket }
    }

    /// A machine whose clients use the server over its socket and its proxy.
    fn machine(&mut self) -> Machine {
        let mut machine = Machine::with(&[("CACHE_SOCKET", &self.socket)]);
        machine.set("CACHE_DIR", self.dir.path().join("cache").to_str().unwrap());
        machine.set("PATH", self.path());
        gh(&machine, &["config", "set", "http_unix_socket", &self.socket]);
        machine
    }

    /// As [`Self::machine`], and its programs use the server as their proxy for HTTPS.
    fn machine_with_proxy(&mut self) -> Machine {
        let mut machine = self.machine();
        machine.set("HTTPS_PROXY", self.server.url.clone());
        let authority = self.dir.path().join("cache/ca/ca.pem").to_str().unwrap().to_owned();
        for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
            machine.set(name, authority.clone());
        }
        machine
    }

    /// The search path, with the `gh` that tests use in front.
    fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap();
        let install = "run `cargo xtask prepare gh`; that of the search path stands in";
        match part("PEERCACHE_TEST_GH", || None, install) {
            Some(gh) => format!("{}:{path}", gh.parent().unwrap().display()),
            None => path,
        }
    }
}

/// Runs `gh` as the user of the machine.
fn gh(machine: &Machine, args: &[&str]) {
    let mut command = std::process::Command::new("env");
    command
        .arg("gh")
        .args(args)
        .env_clear()
        .env("PATH", machine.var("PATH"))
        .env("HOME", machine.var("HOME"));
    let done = run(command, b"");
    assert!(done.status.success(), "{}", stderr(&done));
}

pub(super) const FAULTS: &[Fault<Running>] = &[
    Fault {
        name: "another program has the port of the server",
        check: "server",
        status: Fails,
        found: "something else than a peercache listens",
        remedy: "export CACHE_HTTP_LISTEN=127.0.0.1:9181",
        plant: |machine, _| {
            let other = stub(|| http("404 Not Found", "", ""));
            machine.unset("CACHE_SOCKET");
            machine.set("CACHE_HTTP_LISTEN", other.to_string());
        },
        // The port of the script may be taken on the machine that runs the test.
        mend: Hand(|machine, running| {
            let address = running.server.url.trim_start_matches("http://").to_owned();
            machine.set("CACHE_HTTP_LISTEN", address);
        }),
    },
    Fault {
        name: "the server does not run",
        check: "server",
        status: Fails,
        found: "no peercache answers at",
        remedy: "peercache serve",
        plant: |machine, _| machine.set("CACHE_SERVER_URL", format!("http://127.0.0.1:{}", free_port())),
        mend: Hand(|machine, _| {
            let address = machine.var("CACHE_SERVER_URL").trim_start_matches("http://").to_owned();
            machine.hold(Server::start({
                let mut command = peercache(&["serve", "--listen", &address]);
                command.env("CACHE_BACKEND", "memory");
                command
            }));
        }),
    },
    Fault {
        name: "a socket that a dead server left",
        check: "server",
        status: Fails,
        found: "no peercache answers at",
        remedy: "correct CACHE_SERVER_URL or CACHE_SOCKET",
        plant: |machine, _| {
            let dead = machine.path("dead.sock");
            drop(UnixListener::bind(&dead).unwrap());
            machine.set("CACHE_SOCKET", dead);
        },
        mend: Hand(|machine, running| machine.set("CACHE_SOCKET", running.socket.clone())),
    },
    Fault {
        name: "gh goes to GitHub directly",
        check: "gh",
        status: Warns,
        found: "gh does not ask by",
        remedy: "gh config set http_unix_socket ",
        plant: |machine, _| gh(machine, &["config", "set", "http_unix_socket", ""]),
        mend: Script,
    },
    Fault {
        name: "gh asks at a socket where nobody listens",
        check: "gh",
        status: Fails,
        found: "gh sends every request to /nowhere/peercache.sock, and nothing listens there",
        remedy: "gh config set http_unix_socket ''",
        plant: |machine, _| gh(machine, &["config", "set", "http_unix_socket", "/nowhere/peercache.sock"]),
        mend: Hand(|machine, running| {
            // Taken back, as the script does, and told again.
            machine.run_fix();
            gh(machine, &["config", "set", "http_unix_socket", &running.socket]);
        }),
    },
    Fault {
        name: "gh asks at the socket of another program",
        check: "gh",
        status: Fails,
        found: "and that is no peercache",
        remedy: "start `peercache serve --socket` with that path",
        plant: |machine, _| {
            let other = machine.path("other.sock");
            let listener = UnixListener::bind(&other).unwrap();
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
                    let _ = std::io::Write::write_all(&mut stream, http("200 OK", "", "{}").as_bytes());
                }
            });
            gh(machine, &["config", "set", "http_unix_socket", &other]);
        },
        mend: Hand(|machine, running| gh(machine, &["config", "set", "http_unix_socket", &running.socket])),
    },
    Fault {
        name: "GITHUB_API_URL leads nowhere",
        check: "GITHUB_API_URL",
        status: Fails,
        found: "nothing answers at",
        remedy: "unset GITHUB_API_URL",
        plant: |machine, _| machine.set("GITHUB_API_URL", format!("http://127.0.0.1:{}", free_port())),
        mend: Script,
    },
    Fault {
        name: "GITHUB_API_URL leads to another program",
        check: "GITHUB_API_URL",
        status: Fails,
        found: "is neither a peercache nor an API of GitHub's",
        remedy: "correct the variable, or take it back",
        plant: |machine, _| {
            let other = stub(|| http("200 OK", "content-type: text/html\r\n", "<html>"));
            machine.set("GITHUB_API_URL", format!("http://{other}"));
        },
        mend: Hand(|machine, running| machine.set("GITHUB_API_URL", running.server.url.clone())),
    },
    Fault {
        name: "GITHUB_API_URL is no URL",
        check: "GITHUB_API_URL",
        status: Fails,
        found: "localhost-9180 is not a URL",
        remedy: "set it to where the server listens",
        plant: |machine, _| machine.set("GITHUB_API_URL", "localhost-9180"),
        mend: Hand(|machine, running| machine.set("GITHUB_API_URL", running.server.url.clone())),
    },
    Fault {
        name: "clients ask a proxy for the server of this machine",
        check: "proxy",
        status: Warns,
        found: "ALL_PROXY is set, and NO_PROXY does not spare 127.0.0.1",
        remedy: "export NO_PROXY=127.0.0.1,localhost",
        // It passes everything on, as far as the origin goes.
        plant: |machine, _| machine.set("ALL_PROXY", origin(4999)),
        mend: Script,
    },
];

pub(super) const PROXY: &[Fault<Running>] = &[
    Fault {
        name: "no client trusts the authority of the forward proxy",
        check: "certificates",
        status: Fails,
        found: "not trust the certificate that the proxy shows for api.github.com",
        remedy: "export SSL_CERT_FILE=",
        plant: |machine, _| {
            for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
                machine.unset(name);
            }
        },
        mend: Script,
    },
    Fault {
        name: "one client does not trust the authority of the forward proxy",
        check: "certificates",
        status: Fails,
        found: "Node does not trust the certificate",
        remedy: "export NODE_EXTRA_CA_CERTS=",
        plant: |machine, _| machine.unset("NODE_EXTRA_CA_CERTS"),
        mend: Script,
    },
    Fault {
        name: "a file of certificates that is not there",
        check: "certificates",
        status: Fails,
        found: "CURL_CA_BUNDLE names /nowhere/ca.pem",
        remedy: "unset CURL_CA_BUNDLE",
        plant: |machine, _| machine.set("CURL_CA_BUNDLE", "/nowhere/ca.pem"),
        mend: Script,
    },
    Fault {
        name: "a file of certificates that holds none",
        check: "certificates",
        status: Fails,
        found: "holds no certificate in PEM form",
        remedy: "unset AWS_CA_BUNDLE",
        plant: |machine, _| {
            let file = machine.file("ca.pem", "no certificate", 0o600);
            machine.set("AWS_CA_BUNDLE", file);
        },
        mend: Script,
    },
    Fault {
        name: "the proxy of clients does not run",
        check: "proxy",
        status: Fails,
        found: "where nobody answers",
        remedy: "start `peercache serve --forward-proxy` there",
        plant: |machine, _| machine.set("HTTPS_PROXY", format!("http://127.0.0.1:{}", free_port())),
        mend: Hand(|machine, running| machine.set("HTTPS_PROXY", running.server.url.clone())),
    },
    Fault {
        name: "the server makes no connections for clients",
        check: "proxy",
        status: Fails,
        found: "it answers CONNECT with HTTP/1.1 501",
        remedy: "start that server with `--forward-proxy`",
        plant: |machine, _| {
            let mut command = peercache(&["serve", "--listen", "127.0.0.1:0"]);
            command.env("CACHE_BACKEND", "memory");
            let server = Server::start(command);
            machine.set("HTTPS_PROXY", server.url.clone());
            machine.hold(server);
        },
        mend: Hand(|machine, running| machine.set("HTTPS_PROXY", running.server.url.clone())),
    },
];

#[test]
fn clients_that_do_not_reach_the_server_are_named_and_mended() {
    plant_each(&mut Running::new(), Running::machine, FAULTS);
}

#[test]
fn forward_proxy_that_clients_cannot_use_is_named_and_mended() {
    let has = |program: &str| std::process::Command::new(program).arg("--version").output().is_ok();
    if !(has("openssl") && has("node") && has("python3")) {
        crate::part::missing("openssl, node or python3 is missing", "install all three");
        return;
    }
    plant_each(&mut Running::new(), Running::machine_with_proxy, PROXY);
}

#[test]
fn api_url_that_names_github_itself_is_green() {
    Machine::with(&[("GITHUB_API_URL", "https://api.github.com")]).is_green();
}

#[test]
fn script_says_what_it_is_and_runs_nothing_by_itself() {
    let other = stub(|| http("404 Not Found", "", ""));
    let machine = Machine::with(&[("CACHE_HTTP_LISTEN", &other.to_string())]);
    let script = String::from_utf8(machine.run(&["doctor", "--fix"]).stdout).unwrap();
    assert!(script.starts_with("#!/bin/sh\n") && script.contains("\nexport CACHE_HTTP_LISTEN="), "{script}");
}
