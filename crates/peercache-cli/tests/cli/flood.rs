//! An anchor as a process of its own, dialled by strangers.

use std::io::Write as _;
use std::net::TcpStream;

use peercache_testkit::memory::resident_kib;
use serde_json::Value;

use crate::machine::{Machine, NOWHERE, peers_of, until};
use crate::support::{Server, stderr};

fn connections(server: &Server, what: &str) -> u64 {
    peers_of(server)["connections"][what].as_u64().unwrap()
}

/// Dials `count` times. Half of them say nothing, half something else than a node of the network.
fn dial(anchor: &Machine, count: u64) {
    let port: u16 = anchor.var("CACHE_LISTEN_PORT").parse().unwrap();
    for at in 0..count {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        if at % 2 == 0 {
            stream.write_all(&[0xff; 2000]).unwrap();
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn five_thousand_dials_by_strangers_are_counted_and_leave_memory_flat() {
    const DIALS: u64 = 5000;
    let anchor = Machine::anchor();
    let server = anchor.serve(NOWHERE);
    // What is allocated once, is.
    dial(&anchor, 500);
    until("the first are seen", || connections(&server, "accepted") >= 500);
    let before = resident_kib(server.id()).unwrap();
    dial(&anchor, DIALS);
    until("all are seen", || connections(&server, "accepted") >= 500 + DIALS);
    until("those that said something are refused", || {
        let refused = connections(&server, "refused_strangers") + connections(&server, "refused_limits");
        refused >= (500 + DIALS) / 2
    });
    let (after, seen) = (resident_kib(server.id()).unwrap(), peers_of(&server)["connections"].clone());
    println!("{before} KiB before {DIALS} dials, {after} KiB after them: {seen}");
    assert!(after < before + 4096, "{before} KiB before, {after} KiB after: {seen}");
    assert_eq!(peers_of(&server)["members"], Value::Array(Vec::new()));
    // And members are let in as ever.
    let put = Machine::leaf(&anchor).run(&["put", "k", "--ttl", "600"], b"v");
    assert!(put.status.success(), "{}", stderr(&put));
    assert_eq!(Machine::leaf(&anchor).run(&["get", "k"], b"").stdout, b"v");
}
