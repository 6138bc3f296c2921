//! `peercache doctor` in real containers: it knows where it is, names the loopback address that
//! everybody tries first, and is green when its remedy was applied.

use std::rc::Rc;

use serde_json::Value;

use crate::command::{LIMIT, eventually, run};
use crate::engine::{Engine, GATEWAY};
use crate::means::Means;
use crate::node::{Place, Process};

const BUILT: &str = env!("CARGO_BIN_EXE_peercache");

/// What the doctor of a container says, with these variables besides the container's.
fn doctor(engine: &Engine, name: &str, more: &[&str]) -> Value {
    let mut args = vec!["exec"];
    for variable in more {
        args.extend(["--env", variable]);
    }
    args.extend([name, "/peercache", "--json", "doctor"]);
    let output = run(engine.client(&args), b"");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", output.stderr))
}

fn with_status<'r>(report: &'r Value, status: &str) -> Vec<&'r Value> {
    report["checks"].as_array().unwrap().iter().filter(|check| check["status"] == status).collect()
}

#[track_caller]
fn is_green(report: &Value) {
    assert_eq!(report["healthy"], true, "{report}");
    assert!(with_status(report, "warning").is_empty(), "{report}");
}

/// Expects one failed check; what it says in all its parts.
#[track_caller]
fn only_failure(report: &Value, check: &str) -> String {
    let failed = with_status(report, "failed");
    assert_eq!(failed.len(), 1, "{report}");
    assert_eq!(failed[0]["check"], check, "{report}");
    failed[0].to_string()
}

#[test]
fn doctor_in_containers_names_loopback_peers_and_is_green_with_its_remedy() {
    let Some(Means::Engine { dockerd, binary }) = Means::for_containers() else { return };
    let engine = Engine::start(&dockerd, &binary);
    let corpus = engine.dir().join("corpus.jsonl");
    peercache_fakehub::Corpus::generated(1).write(std::fs::File::create(&corpus).unwrap()).unwrap();
    let place = |settings: &[(&str, &str)]| Place {
        namespace: Rc::clone(engine.host()),
        // Images have no origin for tests.
        binary: BUILT.into(),
        settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let origin = ["fakehub", "--listen", "0.0.0.0:8000", "--corpus", corpus.to_str().unwrap()];
    let _origin = Process::start("origin", place(&[]), vec![], &origin, engine.dir());
    let secret = place(&[]).step(&["keygen"], b"").ok("keygen").text();
    let dir = engine.dir().join("anchor.cache");
    let settings = [("CACHE_SECRET", &*secret), ("CACHE_DIR", dir.to_str().unwrap())];
    let listens = vec![("CACHE_LISTEN_PORT".to_owned(), "9100".to_owned())];
    let serve = ["serve", "--listen", "127.0.0.1:9180"];
    let _anchor = Process::start("anchor", place(&settings), listens, &serve, engine.dir());
    eventually("the anchor", LIMIT, || {
        let stats = place(&[]).step(&["stats"], b"");
        if stats.status.success() { Ok(()) } else { Err(stats.stderr) }
    });

    let secret = format!("CACHE_SECRET={secret}");
    let upstream = format!("CACHE_UPSTREAM=http://{GATEWAY}:8000");
    let start = |name: &str, network: &str, port: &str| {
        let loopback = "CACHE_BOOTSTRAP_PEERS=/ip4/127.0.0.1/tcp/9100";
        let listen = format!("CACHE_HTTP_LISTEN={port}");
        let mut options = vec!["--network", network];
        for variable in [&secret, &upstream, loopback, "CACHE_DIR=/cache", &listen] {
            options.extend(["--env", variable]);
        }
        engine.container(name, &options, &["serve"]);
        eventually("its server", LIMIT, || {
            let stats = run(engine.client(&["exec", name, "/peercache", "stats"]), b"");
            if stats.status.success() { Ok(()) } else { Err(stats.stderr) }
        });
    };
    // On the bridge, loopback is the container's own; the script has the host's address.
    start("bridged", "bridge", "127.0.0.1:9180");
    let report = doctor(&engine, "bridged", &[]);
    let said = only_failure(&report, "peers");
    assert!(said.contains("a loopback address is the container itself and not its host"), "{said}");
    let remedy = format!("CACHE_BOOTSTRAP_PEERS=/ip4/{GATEWAY}/tcp/9100");
    assert!(said.contains(&format!("export {remedy}")), "{said}");
    is_green(&doctor(&engine, "bridged", &[&remedy]));
    let place = &report["checks"][0]["found"];
    assert_eq!(place, &format!("in Docker, on a network of its own; its gateway is {GATEWAY}"));

    // On the host's network, it is the host's.
    start("on-host", "host", "127.0.0.1:9181");
    let report = doctor(&engine, "on-host", &[]);
    is_green(&report);
    assert_eq!(report["checks"][0]["found"], "in Docker, on the host's network");

    // On a network of the user's, a name that nobody has there.
    let network = engine.network();
    start("named", &network, "127.0.0.1:9180");
    let wrong = "CACHE_BOOTSTRAP_PEERS=/dns4/mcp-server/tcp/9100";
    let said = only_failure(&doctor(&engine, "named", &[wrong]), "peers");
    // The engine's name server asks that of its host, which may not answer.
    assert!(said.contains("the name mcp-server"), "{said}");

    // Without any network, that is the fault, and not each of what lies beyond it.
    start("alone", "none", "127.0.0.1:9180");
    let away = "CACHE_BOOTSTRAP_PEERS=/ip4/192.0.2.1/tcp/9100";
    let said = only_failure(&doctor(&engine, "alone", &[away]), "network");
    assert!(said.contains("connect this machine or container to a network"), "{said}");
}
