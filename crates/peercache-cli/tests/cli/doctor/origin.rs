//! An origin that is not reached, is none, or gives nothing more; and clocks.

use tempfile::TempDir;

use super::fault::Fault;
use super::fault::Mend::Hand;
use super::fault::Status::Fails;
use super::fault::plant_each;
use super::machine::{Machine, free_port, http, origin, stub};
use crate::clocks::faketime;
use crate::support::{Server, peercache, run, stderr};

/// An origin over TLS whose authority no system trusts.
pub(super) struct Enterprise {
    dir: TempDir,
    _origin: Server,
    url: String,
}

impl Enterprise {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let in_dir = |args: &[&str]| {
            let mut command = peercache(args);
            command.env("CACHE_DIR", dir.path());
            command
        };
        let made = run(in_dir(&["ca", "--name", "127.0.0.1"]), b"");
        assert!(made.status.success(), "{}", stderr(&made));
        let api = origin(4999);
        let server = Server::start(in_dir(&["serve", "--listen-tls", "127.0.0.1:0", "--upstream", &api]));
        let url = server.url.clone();
        Self { dir, _origin: server, url }
    }

    fn authority(&self) -> String {
        self.dir.path().join("ca/ca.pem").to_str().unwrap().to_owned()
    }
}

fn right(machine: &mut Machine, _: &mut Enterprise) {
    machine.set("CACHE_UPSTREAM", origin(4999));
}

pub(super) const FAULTS: &[Fault<Enterprise>] = &[
    Fault {
        name: "nothing listens where the origin should be",
        check: "origin",
        status: Fails,
        found: "cannot be reached",
        remedy: "correct CACHE_UPSTREAM",
        plant: |machine, _| machine.set("CACHE_UPSTREAM", format!("http://127.0.0.1:{}", free_port())),
        mend: Hand(right),
    },
    Fault {
        name: "a web site where the origin should be",
        check: "origin",
        status: Fails,
        found: "is no API of GitHub's",
        remedy: "let CACHE_UPSTREAM name the base URL of one",
        plant: |machine, _| {
            let site = stub(|| http("200 OK", "content-type: text/html\r\n", "<title>Welcome</title>"));
            machine.set("CACHE_UPSTREAM", format!("http://{site}"));
        },
        mend: Hand(right),
    },
    Fault {
        name: "the base URL of an enterprise server without its path",
        check: "origin",
        status: Fails,
        found: "it answers 404 where the API says what is left of its limits",
        remedy: "https://HOST/api/v3",
        plant: |machine, _| {
            let site =
                stub(|| http("404 Not Found", "content-type: text/html\r\n", "<title>Not found</title>"));
            machine.set("CACHE_UPSTREAM", format!("http://{site}"));
        },
        mend: Hand(right),
    },
    Fault {
        name: "an origin whose certificate is not trusted",
        check: "origin",
        status: Fails,
        found: "shows a certificate that this machine does not trust",
        remedy: "let SSL_CERT_FILE name a file with the authority that signed it",
        plant: |machine, enterprise| machine.set("CACHE_UPSTREAM", enterprise.url.clone()),
        mend: Hand(|machine, enterprise| machine.set("SSL_CERT_FILE", enterprise.authority())),
    },
    Fault {
        name: "a token that the origin refuses",
        check: "origin",
        status: Fails,
        found: "refuses the token in GH_ENTERPRISE_TOKEN",
        remedy: "give a token that is valid, or none",
        plant: |machine, _| {
            let strict = stub(|| http("401 Unauthorized", "", r#"{"message":"Bad credentials"}"#));
            machine.set("CACHE_UPSTREAM", format!("http://{strict}"));
            machine.set("GH_ENTERPRISE_TOKEN", TOKEN);
        },
        mend: Hand(|machine, enterprise| {
            machine.unset("GH_ENTERPRISE_TOKEN");
            right(machine, enterprise);
        }),
    },
    Fault {
        name: "the quota is spent",
        check: "origin",
        status: Fails,
        found: "the quota of core",
        remedy: "wait until it is filled again",
        plant: |machine, _| machine.set("CACHE_UPSTREAM", origin(0)),
        // An hour later.
        mend: Hand(right),
    },
    Fault {
        name: "the origin refuses requests for a while",
        check: "origin",
        status: Fails,
        found: "refuses requests: You have exceeded a secondary rate limit",
        remedy: "wait, and make fewer",
        plant: |machine, _| {
            let body = r#"{"message":"You have exceeded a secondary rate limit"}"#;
            let busy = stub(move || http("403 Forbidden", "content-type: application/json\r\n", body));
            machine.set("CACHE_UPSTREAM", format!("http://{busy}"));
        },
        mend: Hand(right),
    },
];

const TOKEN: &str = "ghp_0123456789012345678901234567890123456789";

/// The clock of this machine, which `faketime` moves.
pub(super) const CLOCK: &[Fault<String>] = &[
    Fault {
        name: "a clock that is ten minutes ahead",
        check: "clock",
        status: Fails,
        found: "this machine's clock differs by ",
        remedy: "set the clock, and keep it by NTP",
        plant: |machine, library| set_clock(machine, library, "+600s"),
        mend: Hand(|machine, _| machine.unset("LD_PRELOAD")),
    },
    Fault {
        name: "a clock that is a day behind",
        check: "clock",
        status: Fails,
        found: "this machine's clock differs by ",
        remedy: "set the clock, and keep it by NTP",
        plant: |machine, library| set_clock(machine, library, "-86400s"),
        mend: Hand(|machine, _| machine.unset("LD_PRELOAD")),
    },
];

fn set_clock(machine: &mut Machine, library: &str, offset: &str) {
    machine.set("LD_PRELOAD", library);
    machine.set("FAKETIME", offset);
    machine.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    machine.set("NO_FAKE_STAT", "1");
}

#[test]
fn origins_that_do_not_work_are_named_and_mended() {
    plant_each(&mut Enterprise::new(), |_| Machine::new(), FAULTS);
}

#[test]
fn clocks_that_differ_from_the_origins_are_named_and_mended() {
    let Some(library) = faketime() else { return };
    let mut library = library.to_str().unwrap().to_owned();
    plant_each(&mut library, |_| Machine::new(), CLOCK);
}

#[test]
fn enterprise_server_without_limits_is_green() {
    let body = r#"{"message":"Rate limiting is not enabled."}"#;
    let api = stub(move || http("404 Not Found", "content-type: application/json\r\n", body));
    Machine::with(&[("CACHE_UPSTREAM", &format!("http://{api}"))]).is_green();
}

#[test]
fn refused_token_is_not_shown() {
    let strict = stub(|| http("401 Unauthorized", "", r#"{"message":"Bad credentials"}"#));
    let upstream = format!("http://{strict}");
    let machine = Machine::with(&[("CACHE_UPSTREAM", &upstream), ("GH_ENTERPRISE_TOKEN", TOKEN)]);
    assert!(!machine.doctor().report.to_string().contains("0123456789"));
}
