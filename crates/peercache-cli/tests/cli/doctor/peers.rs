//! Peers that are not reached, and this node's own port.

use std::net::TcpListener;

use tempfile::TempDir;

use super::fault::Fault;
use super::fault::Mend::Hand;
use super::fault::Status::Fails;
use super::fault::plant_each;
use super::machine::{Machine, SECRET, free_port, member, stub};
use crate::support::{Server, peercache, run};

const OTHER: &str = "another secret of another fleet, long enough";

/// A fleet of one member, and what lies about around it.
pub(super) struct Fleet {
    port: u16,
    dir: TempDir,
    _member: Server,
    free: u16,
}

impl Fleet {
    fn new() -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let member = member(SECRET, port, dir.path());
        Self { port, dir, _member: member, free: free_port() }
    }

    fn machine(&mut self) -> Machine {
        self.free = free_port();
        let peer = tcp(self.port);
        Machine::with(&[("CACHE_SECRET", SECRET), ("CACHE_BOOTSTRAP_PEERS", &peer)])
    }
}

fn tcp(port: u16) -> String {
    format!("/ip4/127.0.0.1/tcp/{port}")
}

fn right_peer(machine: &mut Machine, fleet: &mut Fleet) {
    machine.set("CACHE_BOOTSTRAP_PEERS", tcp(fleet.port));
}

pub(super) const FAULTS: &[Fault<Fleet>] = &[
    Fault {
        name: "a bootstrap peer that does not run",
        check: "peers",
        status: Fails,
        found: "nothing listens",
        remedy: "",
        plant: |machine, fleet| machine.set("CACHE_BOOTSTRAP_PEERS", tcp(fleet.free)),
        // `start peercache serve there`.
        mend: Hand(|machine, fleet| {
            let dir = fleet.dir.path().join("started");
            machine.hold(member(SECRET, fleet.free, &dir));
        }),
    },
    Fault {
        name: "the port of another service of the peer's machine",
        check: "peers",
        status: Fails,
        found: "something answers, and it is no member of this network",
        remedy: "",
        plant: |machine, _| {
            let stranger = stub(|| "220 mail.example.org ESMTP\r\n".to_owned());
            machine.set("CACHE_BOOTSTRAP_PEERS", tcp(stranger.port()));
        },
        mend: Hand(right_peer),
    },
    Fault {
        name: "the name of a peer does not resolve",
        check: "peers",
        status: Fails,
        found: "the name no-such-host.invalid does not resolve",
        remedy: "use a name that this network knows",
        plant: |machine, fleet| {
            machine.set("CACHE_BOOTSTRAP_PEERS", format!("/dns4/no-such-host.invalid/tcp/{}", fleet.port));
        },
        mend: Hand(right_peer),
    },
    Fault {
        name: "another secret here",
        check: "peers",
        status: Fails,
        found: "it is no member of this network",
        remedy: "give both sides the same CACHE_SECRET",
        plant: |machine, _| machine.set("CACHE_SECRET", OTHER),
        mend: Hand(|machine, _| machine.set("CACHE_SECRET", SECRET)),
    },
    Fault {
        name: "another secret on the peer",
        check: "peers",
        status: Fails,
        found: "it is no member of this network",
        remedy: "give both sides the same CACHE_SECRET",
        plant: |machine, fleet| {
            machine.hold(member(OTHER, fleet.free, &fleet.dir.path().join("other")));
            machine.set("CACHE_BOOTSTRAP_PEERS", tcp(fleet.free));
        },
        mend: Hand(|machine, fleet| {
            machine.let_go();
            machine.hold(member(SECRET, fleet.free, &fleet.dir.path().join("same")));
        }),
    },
    Fault {
        name: "the identity of a peer that has changed",
        check: "peers",
        status: Fails,
        found: "another peer answered there",
        remedy: "",
        plant: |machine, fleet| {
            let mut of_another = peercache(&["--json", "id"]);
            of_another.env("CACHE_SECRET", OTHER).env("CACHE_NODE_NAME", "another");
            of_another.env("CACHE_DIR", fleet.dir.path().join("id"));
            let id: serde_json::Value = serde_json::from_slice(&run(of_another, b"").stdout).unwrap();
            let id = id["peer_id"].as_str().unwrap();
            machine.set("CACHE_BOOTSTRAP_PEERS", format!("{}/p2p/{id}", tcp(fleet.port)));
        },
        mend: Hand(right_peer),
    },
    Fault {
        name: "this node's port is taken",
        check: "port",
        status: Fails,
        found: "is taken by a process that is no member of this network",
        remedy: "set CACHE_LISTEN_PORT to another port",
        plant: |machine, _| {
            let taken = TcpListener::bind("0.0.0.0:0").unwrap();
            machine.set("CACHE_LISTEN_PORT", taken.local_addr().unwrap().port().to_string());
            machine.hold(taken);
        },
        mend: Hand(|machine, fleet| machine.set("CACHE_LISTEN_PORT", fleet.free.to_string())),
    },
];

#[test]
fn peers_that_are_not_reached_are_named_and_mended() {
    plant_each(&mut Fleet::new(), Fleet::machine, FAULTS);
}

#[test]
fn loopback_peer_in_a_container_is_named_with_the_gateway() {
    let peer = tcp(free_port());
    let vars =
        [("CACHE_SECRET", SECRET), ("CACHE_BOOTSTRAP_PEERS", &peer), ("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    let found = Machine::with(&vars).doctor();
    assert_eq!(found.named("failed"), ["peers"], "{}", found.report);
    let told = found.told("failed", &["found", "cause"]);
    if std::path::Path::new("/sys/class/net/docker0").exists() {
        assert!(told.contains("nothing listens"), "on the host's network loopback is the host's: {told}");
    } else {
        assert!(told.contains("a loopback address is the container itself"), "{told}");
    }
}
