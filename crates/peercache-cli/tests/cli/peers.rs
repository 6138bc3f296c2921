//! Peers as processes over loopback: an anchor, leaves, and commands beside them.

use std::net::TcpListener;

use insta::assert_snapshot;

use crate::machine::{Machine, NOWHERE, json, peers_of, text, until};
use crate::serve::storable_target;
use crate::support::{Server, corpus, get, header, peercache, read_log, run, stderr};

const READ_ONLY: &str = "pc-readonly-1-7tBscmJ9uWR8O7Ftom88QiW5TsDCTuJ8fAJ9xzfGvNH_ZpbqxPJOR9UsZXxb1DO8IF5gWsWXGDCGb91FHWQruG5bSRM";

#[test]
fn what_one_machine_puts_another_gets() {
    let anchor = Machine::anchor();
    let server = anchor.serve(NOWHERE);
    let (one, other) = (Machine::leaf(&anchor), Machine::leaf(&anchor));
    let put = one.run(&["--json", "put", "k", "--ttl", "600"], b"from one");
    let tiers = &json(&put)["tiers"];
    let stored = serde_json::json!({ "tier": "sealed(peers)", "put": "stored" });
    assert!(tiers.as_array().unwrap().contains(&stored), "acknowledged before it ended: {tiers}");
    let got = json(&other.run(&["--json", "get", "k"], b""));
    assert_eq!((&got["value"], &got["tier"]), (&"from one".into(), &"sealed(peers)".into()));

    // Whoever comes later than the one that put it is gone finds it too; large values travel in
    // parts.
    let large: Vec<u8> = (0..9_000_000_u32).map(|n| (n / 251 + n % 251) as u8).collect();
    assert_eq!(stderr(&one.run(&["put", "large", "--ttl", "600"], &large)), "");
    assert!(Machine::leaf(&anchor).run(&["get", "large"], b"").stdout == large);

    // On the anchor's own machine, the same settings as the server's: neither its port nor its name
    // is taken.
    let beside = json(&anchor.run(&["--json", "get", "k"], b""));
    assert_eq!(beside["value"], "from one");
    assert_eq!(stderr(&anchor.run(&["put", "k2", "--ttl", "600"], b"from the host")), "");
    assert_eq!(one.run(&["get", "k2"], b"").stdout, b"from the host");

    assert!(other.run(&["invalidate", "k"], b"").status.success());
    let late = Machine::leaf(&anchor);
    assert_eq!(late.run(&["get", "k"], b"").status.code(), Some(1));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn without_a_disk_a_put_counts_when_a_peer_has_it() {
    let anchor = Machine::anchor();
    let memory_alone = Machine::new(&[
        ("CACHE_BACKEND", "memory,libp2p"),
        ("CACHE_BOOTSTRAP_PEERS", &format!("/ip4/127.0.0.1/tcp/{}", anchor.var("CACHE_LISTEN_PORT"))),
    ]);
    let alone = memory_alone.run(&["put", "k"], b"v");
    assert_eq!(alone.status.code(), Some(3), "{}", stderr(&alone));
    assert!(stderr(&alone).contains("not stored: "), "{}", stderr(&alone));
    let _server = anchor.serve(NOWHERE);
    let put = memory_alone.run(&["put", "k"], b"v");
    assert!(put.status.success(), "{}", stderr(&put));
    assert_eq!(memory_alone.run(&["get", "k"], b"").stdout, b"v");
}

#[test]
fn servers_know_each_other_and_say_so() {
    let anchor = Machine::anchor();
    let id = text(anchor.run(&["id"], b""));
    assert_snapshot!(anchor.plain(&id), @r"
    peer id  12D3KooWH91j1HVNF66M9kPvV2tvt4jrkLba6itSzTuQmJqQJz94
    role     anchor
    paste    CACHE_BOOTSTRAP_PEERS=/ip4/127.0.0.1/tcp/PORT
    or       CACHE_BOOTSTRAP_PEERS=/ip4/127.0.0.1/tcp/PORT/p2p/12D3KooWH91j1HVNF66M9kPvV2tvt4jrkLba6itSzTuQmJqQJz94
    The second form accepts this node alone at that address, and has to be pasted anew when its identity changes.
    ");
    let address = id.lines().filter_map(|line| line.split_once('=')).next_back().unwrap().1.to_owned();
    let ids = json(&anchor.run(&["--json", "id"], b""));
    assert_eq!(ids["addresses"], serde_json::json!([address]));

    let host = anchor.serve(NOWHERE);
    let said = host.printed[0].replace(&host.url, "URL");
    assert_snapshot!(anchor.plain(&said), @"peercache is the anchor 12D3KooWH91j1HVNF66M9kPvV2tvt4jrkLba6itSzTuQmJqQJz94, 0 peers connected; others find it with CACHE_BOOTSTRAP_PEERS=/ip4/127.0.0.1/tcp/PORT");
    // The address of `id` leads there, its peer id included.
    let runner = Machine::new(&[("CACHE_BOOTSTRAP_PEERS", &address)]);
    let server = runner.serve(NOWHERE);
    assert!(server.printed[0].starts_with("peercache is the leaf 12D3Koo"), "{:?}", server.printed);
    assert!(server.printed[0].ends_with(", 1 peer connected"), "{:?}", server.printed);

    let known = peers_of(&server);
    assert_eq!((&known["role"], &known["connected"]), (&"leaf".into(), &1.into()));
    assert_eq!(known["members"][0]["name"], ids["peer_id"]);
    until("the round trip is measured", || peers_of(&server)["members"][0]["round_trip_us"].is_u64());
    until("the anchor knows the leaf", || peers_of(&host)["members"][0]["state"] == "connected");
    let table = text(run(peercache(&["peers", "--url", &server.url]), b""));
    let shape: Vec<_> =
        table.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(shape[0..2], ["this", "connected"], "{table}");
    assert!(table.contains("PEER") && table.contains("anchor") && table.contains(" us "), "{table}");
    assert!(table.contains("BOOTSTRAP") && table.trim_end().ends_with("connected"), "{table}");

    let stats = json(&run(peercache(&["--json", "stats", "--url", &server.url]), b""));
    assert_eq!(stats["cache"]["backends"]["peers"]["name"], known["name"]);
    assert_eq!(stats["degraded"], serde_json::json!([]));

    // Without its anchor the leaf goes on, and says what is wrong.
    assert_eq!(host.terminate(), Some(0));
    until("it is noticed", || peers_of(&server)["connected"] == 0);
    until("it is said", || {
        let stats = text(run(peercache(&["stats", "--url", &server.url]), b""));
        stats.contains("\ndegraded: ") && stats.contains(&format!("no peer at {address}: "))
    });
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn what_one_runner_fetched_another_serves_until_it_is_invalidated() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, log) = Server::fakehub(&corpus);
    let anchor = Machine::anchor();
    let _host = anchor.serve(&origin.url);
    let (one, other) = (Machine::leaf(&anchor), Machine::leaf(&anchor));
    let (first, second) = (one.serve(&origin.url), other.serve(&origin.url));
    let ask = |server: &Server| {
        let (status, head, body) = get(&format!("{}{target}", server.url), &[("Authorization", "token one")]);
        assert_eq!(status, 200, "{head}");
        (header(&head, "cache-status").unwrap().to_owned(), body)
    };
    let (status, body) = ask(&first);
    assert!(status.starts_with("peercache; fwd=uri-miss"), "{status}");
    // A write reaches the anchor in the background.
    let mut status = String::new();
    until("the other finds it", || {
        let (found, same) = ask(&second);
        assert_eq!(same, body);
        status = found;
        status.starts_with("peercache; hit")
    });
    assert!(read_log(&log).iter().filter(|line| line.charged).count() <= 2, "{:?}", read_log(&log));
    assert!(ask(&second).0.contains("detail=memory"), "now the runner has it itself");

    let by_a_third = Machine::leaf(&anchor).run(&["invalidate", "--all"], b"");
    assert!(by_a_third.status.success(), "{}", stderr(&by_a_third));
    until("it has forgotten it", || !ask(&second).0.starts_with("peercache; hit"));
    // It looks by itself every 30 s. Here it was told.
    let stats = json(&run(peercache(&["--json", "stats", "--url", &second.url]), b""));
    assert!(stats["cache"]["removals"]["received"].as_u64().unwrap() > 0, "{}", stats["cache"]["removals"]);
}

#[test]
fn a_server_without_peers_says_what_to_set() {
    let plain = tempfile::tempdir().unwrap();
    let server = Server::serve(plain.path(), NOWHERE, &[]);
    let output = run(peercache(&["peers", "--url", &server.url]), b"");
    assert_eq!(output.status.code(), Some(2));
    assert_snapshot!(stderr(&output), @"peercache: that server has no peers in its chain; set CACHE_BOOTSTRAP_PEERS or CACHE_LISTEN_PORT (see docs/reference/settings.md) and start it again");
    assert_eq!(server.printed.len(), 1, "{:?}", server.printed);
}

#[test]
fn an_identity_that_does_not_last_is_no_answer() {
    let nobody = Machine::new(&[("CACHE_LISTEN_PORT", "9100")]).run(&["id"], b"");
    assert_eq!(nobody.status.code(), Some(2));
    assert_snapshot!(stderr(&nobody), @"peercache: this node has no lasting identity, each start makes another one; set CACHE_NODE_NAME to derive it from the secret (each node of a fleet needs a name of its own), or CACHE_IDENTITY_FILE to keep it in a file");
    let leaf = Machine::new(&[("CACHE_NODE_NAME", "runner-1"), ("CACHE_ENABLE_P2P", "true")]);
    assert_snapshot!(text(leaf.run(&["id"], b"")), @r"
    peer id  12D3KooWGrtD8ekG3bNPX6adTXbA8AqQyBxev5yLiTEa6Z95XwRc
    role     leaf
    paste    nothing: this node only dials out; CACHE_LISTEN_PORT=9100 lets others dial it
    ");
    let any_port = Machine::new(&[("CACHE_NODE_NAME", "runner-1"), ("CACHE_LISTEN_PORT", "0")]);
    assert_snapshot!(text(any_port.run(&["id"], b"")), @r"
    peer id  12D3KooWGrtD8ekG3bNPX6adTXbA8AqQyBxev5yLiTEa6Z95XwRc
    role     leaf
    paste    nothing yet: with CACHE_LISTEN_PORT=0 the port is another one at each start, `peercache peers` shows it
    ");
    let stored = Machine::new(&[("CACHE_ENABLE_P2P", "true")]);
    let file = stored.path().join("identity");
    let id = || {
        let mut command = stored.command(&["id"]);
        command.env("CACHE_IDENTITY_FILE", &file);
        text(run(command, b""))
    };
    assert_eq!(id(), id(), "the file is made once");
    assert!(file.exists());
}

/// Runs a command that must fail with code 2 and one line, and gives the line.
fn mistake(machine: &Machine, args: &[&str]) -> String {
    let output = machine.run(args, b"v");
    let text = stderr(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
    machine.plain(&text)
}

#[test]
fn mistakes_say_what_to_do() {
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    assert_snapshot!(mistake(&Machine::new(&[("CACHE_ROLE", "server")]), &serve), @r#"peercache: CACHE_ROLE="server": there is no such role; give anchor, leaf or auto"#);
    assert_snapshot!(mistake(&Machine::new(&[("CACHE_BOOTSTRAP_PEERS", "172.17.0.1:9100")]), &serve), @r#"peercache: CACHE_BOOTSTRAP_PEERS="172.17.0.1:9100": not usable: "172.17.0.1:9100" (this is no address of a peer); write /ip4/172.17.0.1/tcp/9100, /ip6/fd00::1/tcp/9100, /dns4/mcp-server/tcp/9100, /dns6/HOST/tcp/9100 or /dns/HOST/tcp/9100, each with or without /p2p/ID at its end"#);
    assert_snapshot!(mistake(&Machine::new(&[("CACHE_SECRET", ""), ("CACHE_ENABLE_P2P", "true")]), &serve), @"peercache: CACHE_SECRET: peers share entries with other machines, and there is no secret to seal them with; make one with `peercache keygen` and give it to every machine as CACHE_SECRET, or set CACHE_BACKEND=memory,disk to do without peers (CACHE_INSECURE_PLAINTEXT=true shares in clear, with whoever can reach the port)");
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert_snapshot!(mistake(&Machine::new(&[("CACHE_LISTEN_PORT", &port)]), &serve), @"peercache: CACHE_LISTEN_PORT=PORT: peers: open failed (configuration): the port is in use by another process [port=PORT, address=0.0.0.0]: Address already in use (os error 98); stop that process, set CACHE_LISTEN_PORT to another port, or 0 for any");
}

#[test]
fn a_read_only_secret_reads_and_cannot_write() {
    let anchor = Machine::anchor();
    let _server = anchor.serve(NOWHERE);
    assert!(Machine::leaf(&anchor).run(&["put", "k", "--ttl", "600"], b"v").status.success());
    let mut reader = Machine::leaf(&anchor);
    reader.env.push(("CACHE_SECRET".to_owned(), READ_ONLY.to_owned()));
    assert_eq!(reader.run(&["get", "k"], b"").stdout, b"v");
    assert_snapshot!(mistake(&reader, &["put", "k"]), @"peercache: not stored: what outlives this process is read-only here; a read-only CACHE_SECRET opens entries and cannot make them");
    assert_eq!(Machine::leaf(&anchor).run(&["get", "k"], b"").stdout, b"v");
}

#[test]
fn whoever_has_another_secret_is_told_why_nobody_talks_to_him() {
    let anchor = Machine::anchor();
    let server = anchor.serve(NOWHERE);
    let mut stranger = Machine::leaf(&anchor);
    stranger.env.push(("CACHE_SECRET".to_owned(), "somebody else's secret".to_owned()));
    let output = stranger.run(&["get", "k"], b"");
    assert_eq!(output.status.code(), Some(1), "a miss, and no error");
    assert!(stderr(&output).contains("no peer is connected"), "{}", stderr(&output));
    until("it is counted", || {
        let connections = &peers_of(&server)["connections"];
        connections["refused_strangers"].as_u64().unwrap() + connections["refused_keys"].as_u64().unwrap() > 0
    });
    // A server goes on without, and says so wherever one looks.
    let beside = stranger.serve(NOWHERE);
    let why = "it is no node of this network, or CACHE_SECRET is not the same on both";
    until("it is told", || peers_of(&beside)["bootstrap"][0]["trouble"] == why);
    let table = text(run(peercache(&["peers", "--url", &beside.url]), b""));
    assert!(table.contains(&format!("not connected: {why}")), "{table}");
    let stats = text(run(peercache(&["stats", "--url", &beside.url]), b""));
    assert!(stats.contains("\ndegraded: ") && stats.contains(&format!(": {why}\n")), "{stats}");
    assert!(!table.contains("somebody else's") && !stats.contains("somebody else's"), "no secret is shown");
}

#[test]
fn who_is_not_let_in_or_answers_nobody_is_said() {
    let mut anchor = Machine::anchor();
    let nobody = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
    anchor.env.push(("CACHE_ALLOWED_PEERS".to_owned(), nobody.to_owned()));
    let _host = anchor.serve(NOWHERE);
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = |port: &str| format!("/ip4/127.0.0.1/tcp/{port}");
    let addresses = [
        address(anchor.var("CACHE_LISTEN_PORT")),
        address(&silent.local_addr().unwrap().port().to_string()),
        address("9"),
    ];
    let machine = Machine::new(&[("CACHE_BOOTSTRAP_PEERS", &addresses.join(","))]);
    let runner = machine.serve(NOWHERE);
    let expected = [
        "it ended the connection and said nothing: this node may not be on its list of allowed peers, or it has \
         too many connections",
        "it did not answer in time",
        "Connection refused (os error 111)",
    ];
    for (at, why) in expected.iter().enumerate() {
        until(&format!("{why} is said of {}", addresses[at]), || {
            peers_of(&runner)["bootstrap"][at]["trouble"] == *why
        });
    }
    let stats = text(run(peercache(&["stats", "--url", &runner.url]), b""));
    for (address, why) in addresses.iter().zip(expected) {
        assert!(stats.contains(&format!("no peer at {address}: {why}\n")), "{stats}");
    }
}

#[test]
fn values_of_every_size_go_from_one_machine_to_another() {
    let anchor = Machine::anchor();
    let _server = anchor.serve(NOWHERE);
    let (one, other) = (Machine::leaf(&anchor), Machine::leaf(&anchor));
    const MIB: usize = 1 << 20;
    for size in [1, 1000, 65_536, MIB, 8 * MIB, 8 * MIB + 1, 64 * MIB] {
        let key = format!("of-{size}");
        // Bytes that no codec makes shorter.
        let mut state = size as u64;
        let value: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .take(size)
        .collect();
        let put = one.run(&["put", &key, "--ttl", "600"], &value);
        assert!(put.status.success(), "{size} bytes: {}", stderr(&put));
        let got = other.run(&["get", &key], b"");
        assert!(got.stdout == value, "{size} bytes came back as {}: {}", got.stdout.len(), stderr(&got));
    }
}

#[test]
fn sharing_in_clear_is_asked_for_and_warned_about() {
    let clear = |machine: &mut Machine| {
        machine.env.push(("CACHE_SECRET".to_owned(), String::new()));
        machine.env.push(("CACHE_INSECURE_PLAINTEXT".to_owned(), "true".to_owned()));
    };
    let mut anchor = Machine::anchor();
    clear(&mut anchor);
    let _server = anchor.serve(NOWHERE);
    let (mut one, mut other) = (Machine::leaf(&anchor), Machine::leaf(&anchor));
    clear(&mut one);
    clear(&mut other);
    let put = one.run(&["put", "k", "--ttl", "600"], b"v");
    assert!(
        put.status.success() && stderr(&put).contains("CACHE_INSECURE_PLAINTEXT is true"),
        "{}",
        stderr(&put)
    );
    assert_eq!(other.run(&["get", "k"], b"").stdout, b"v");
}
