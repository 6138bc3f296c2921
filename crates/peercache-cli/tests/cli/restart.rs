//! The only anchor of a fleet ends and starts again: what members placed with it is still there.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::machine::{Machine, NOWHERE, peers_of, until};
use crate::support::{Server, get, stderr};

const ENTRIES: usize = 1_000;

fn put(server: &Server, name: &str, body: &str) {
    request(server, "PUT", name, body);
}

fn request(server: &Server, method: &str, name: &str, body: &str) {
    let authority = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    let request = format!(
        "{method} /-/cache/{name} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
}

fn value_of(server: &Server, name: &str) -> Option<Vec<u8>> {
    let (status, _, body) = get(&format!("{}/-/cache/{name}", server.url), &[]);
    (status == 200).then_some(body)
}

/// What a new leaf finds of what another one, which is gone, placed with the anchor before it
/// ended.
fn found_after(end: impl FnOnce(Server)) -> usize {
    let anchor = Machine::anchor();
    let host = anchor.serve(NOWHERE);
    let writers = Machine::leaf(&anchor);
    let writer = writers.serve(NOWHERE);
    for number in 0..ENTRIES {
        put(&writer, &format!("k{number}"), &format!("value {number}"));
    }
    put(&writer, "changed", "old");
    put(&writer, "changed", "new");
    put(&writer, "removed", "old");
    // The anchor holds them, in whatever order they were sent.
    until("the anchor holds what was put", || {
        peers_of(&host)["entries"].as_u64().unwrap() >= ENTRIES as u64 + 2
    });
    request(&writer, "DELETE", "removed", "");
    until("the anchor knows of the removal", || value_of(&host, "removed").is_none());
    until("nothing waits to be stored", || peers_of(&host)["kept"]["waiting_bytes"] == 0);
    drop(writer);
    end(host);

    let host = anchor.serve(NOWHERE);
    let readers = Machine::leaf(&anchor);
    let reader = readers.serve(NOWHERE);
    let found = (0..ENTRIES).filter(|number| {
        value_of(&reader, &format!("k{number}"))
            .is_some_and(|body| body == format!("value {number}").as_bytes())
    });
    let found = found.count();
    println!("a new leaf finds {found} of {ENTRIES}");
    assert_eq!(value_of(&reader, "changed").as_deref(), Some(&b"new"[..]));
    assert_eq!(value_of(&reader, "removed"), None, "a removal holds across the restart");
    let report = peers_of(&host);
    assert_eq!((&report["kept"]["loaded"], &report["kept"]["not_kept"]), (&true.into(), &0.into()));
    found
}

#[test]
fn only_anchor_that_is_terminated_and_restarted_still_has_what_it_held() {
    let found = found_after(|host| assert_eq!(host.terminate(), Some(0)));
    assert!(found * 100 >= ENTRIES * 99, "{found} of {ENTRIES}");
}

#[test]
fn only_anchor_that_is_killed_and_restarted_still_has_what_it_held() {
    let found = found_after(|mut host| host.kill());
    assert!(found * 100 >= ENTRIES * 99, "{found} of {ENTRIES}");
}

#[test]
fn anchor_without_a_usable_directory_works_and_says_what_it_loses() {
    let anchor = Machine::anchor();
    let file = anchor.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let mut command = anchor.command(&["serve", "--listen", "127.0.0.1:0", "--upstream", NOWHERE]);
    let log = anchor.path().join("log");
    command.env("CACHE_PEER_DIR", file.join("below")).stderr(std::fs::File::create(&log).unwrap());
    let host = Server::start(command);
    assert!(peers_of(&host)["kept"].is_null());
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("keeps what it holds in memory only") && said.contains("CACHE_PEER_DIR"), "{said}");
    let leaf = Machine::leaf(&anchor);
    assert_eq!(stderr(&leaf.run(&["put", "k", "--ttl", "600"], b"v")), "");
    assert_eq!(Machine::leaf(&anchor).run(&["get", "k"], b"").stdout, b"v");
}
