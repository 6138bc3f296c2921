//! A machine whose clock is ten minutes off, by a real `faketime`: values are shared all the same,
//! and everybody says whose clock it is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::machine::{Machine, NOWHERE, peers_of, text, until};
use crate::support::{Server, part, peercache, run, stderr};

/// The library that moves the clock of a process.
pub(crate) fn faketime() -> Option<PathBuf> {
    let of_the_system = || {
        let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
        let files = folders.iter().map(|folder| Path::new(folder).join("faketime/libfaketime.so.1"));
        files.into_iter().find(|file| file.is_file())
    };
    part("PEERCACHE_TEST_FAKETIME", of_the_system, "install faketime, from Debian for example")
}

/// `command` with a clock that is so many seconds ahead. Waiting takes as long as ever.
fn off(mut command: Command, library: &Path, seconds: i64) -> Command {
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME", format!("{seconds:+}s"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1");
    command
}

fn logged_server(mut command: Command, log: &Path) -> Server {
    command.stderr(File::create(log).unwrap());
    Server::start(command)
}

fn is_off_by_ten_minutes(text: &str, side: &str) -> bool {
    (597..=603).any(|seconds| text.contains(&format!("{seconds} s {side}")))
}

fn shared_and_named(seconds: i64) {
    let Some(library) = faketime() else { return };
    let serve = ["serve", "--listen", "127.0.0.1:0", "--upstream", NOWHERE];
    let anchor = Machine::anchor();
    let anchor_log = anchor.path().join("log");
    let host = logged_server(anchor.command(&serve), &anchor_log);
    let (wrong, right) = (Machine::leaf(&anchor), Machine::leaf(&anchor));
    let wrong_log = wrong.path().join("log");
    let server = logged_server(off(wrong.command(&serve), &library, seconds), &wrong_log);
    let on_wrong =
        |args: &[&str], input: &[u8]| -> Output { run(off(wrong.command(args), &library, seconds), input) };

    // It takes part, both ways, by commands and by the running server.
    let put = on_wrong(&["put", "from-it", "--ttl", "300"], b"a");
    assert!(put.status.success(), "{}", stderr(&put));
    let got = right.run(&["get", "from-it"], b"");
    assert_eq!(got.stdout, b"a", "{}", stderr(&got));
    let put = right.run(&["put", "to-it", "--ttl", "300"], b"b");
    assert!(put.status.success(), "{}", stderr(&put));
    let got = on_wrong(&["get", "to-it"], b"");
    assert_eq!(got.stdout, b"b", "{}", stderr(&got));
    let removed = on_wrong(&["invalidate", "to-it"], b"");
    assert!(removed.status.success(), "{}", stderr(&removed));
    assert_eq!(Machine::leaf(&anchor).run(&["get", "to-it"], b"").status.code(), Some(1));

    // Named by itself ...
    let (side, other) = if seconds > 0 { ("ahead of", "ahead") } else { ("behind", "behind") };
    let own = peers_of(&server);
    let correction = own["clock_correction_ms"].as_i64().unwrap();
    assert!((correction + seconds * 1000).abs() < 3_000, "{correction}");
    for command in ["peers", "stats"] {
        let said = text(run(peercache(&[command, "--url", &server.url]), b""));
        assert!(is_off_by_ten_minutes(&said, side), "{command}: {said}");
    }
    let log = std::fs::read_to_string(&wrong_log).unwrap();
    assert!(log.contains("this machine's clock is not that of the anchors"), "{log}");
    // ... and by its anchor.
    for command in ["peers", "stats"] {
        let said = || text(run(peercache(&[command, "--url", &host.url]), b""));
        until("the anchor names it", || is_off_by_ten_minutes(&said(), other));
    }
    let log = std::fs::read_to_string(&anchor_log).unwrap();
    assert!(log.contains("the clock of a peer differs"), "{log}");
    assert_eq!(peers_of(&host)["clock_correction_ms"], 0);
}

#[test]
fn machine_whose_clock_is_ten_minutes_ahead_shares_values_and_is_named() {
    shared_and_named(600);
}

#[test]
fn machine_whose_clock_is_ten_minutes_behind_shares_values_and_is_named() {
    shared_and_named(-600);
}
