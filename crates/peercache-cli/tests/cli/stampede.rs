//! A stampede: a whole fleet asks for what nobody has, at the same moment, each runner a process of
//! its own.

use std::sync::{Arc, Barrier};

use serde_json::Value;

use crate::machine::{Machine, json, peers_of, until};
use crate::serve::{post, storable_target};
use crate::support::{Server, corpus, get, peercache, read_log, run};

const RUNNERS: usize = 20;
/// All ask before the first one has its answer; a runner waits four times as long for another one's
/// load.
const ORIGIN_TAKES: &str = r#"{"millis":500,"count":1000}"#;

/// What became of the leases that this runner asked for.
fn leases(runner: &Server) -> Value {
    let stats = json(&run(peercache(&["--json", "stats", "--url", &runner.url]), b""));
    stats["cache"]["leases"].clone()
}

#[test]
fn twenty_runners_that_miss_one_key_at_once_cost_the_origin_one_request() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, log) = Server::fakehub_with(&corpus, &["--control"]);
    let anchor = Machine::anchor();
    let host = anchor.serve(&origin.url);
    let machines: Vec<_> = (0..RUNNERS).map(|_| Machine::leaf(&anchor)).collect();
    let runners: Vec<_> = machines.iter().map(|machine| machine.serve(&origin.url)).collect();
    until("all are connected", || peers_of(&host)["connected"] == RUNNERS);
    assert_eq!(post(&format!("{}/_fakehub/delay", origin.url), ORIGIN_TAKES), 200);

    let start = Arc::new(Barrier::new(RUNNERS));
    let asking = runners.iter().map(|runner| {
        let (start, url) = (Arc::clone(&start), format!("{}{target}", runner.url));
        std::thread::spawn(move || {
            start.wait();
            get(&url, &[("Authorization", "token of-the-fleet")])
        })
    });
    let answers: Vec<_> = asking.collect::<Vec<_>>().into_iter().map(|asked| asked.join().unwrap()).collect();

    let requests = read_log(&log);
    let leases: Vec<_> = runners.iter().map(leases).collect();
    assert_eq!(requests.len(), 1, "{requests:#?}\n{leases:#?}");
    let (_, _, body) = &answers[0];
    assert!(!body.is_empty());
    for (status, head, same) in &answers {
        assert_eq!((*status, same), (200, body), "{head}");
    }
    let all = |what: &str| leases.iter().map(|one| one[what].as_u64().unwrap()).sum::<u64>();
    assert_eq!(all("granted"), 1, "one runner was to load: {leases:#?}");
    assert!(all("found") > 0, "others were given what it loaded: {leases:#?}");
}
