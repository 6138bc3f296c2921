//! Nodes that nobody told of each other, on one local network.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::Value;

use crate::command::eventually;
use crate::fleet::PEER_PORT;
use crate::lan::Lan;
use crate::means::Means;
use crate::member::{Member, REJOIN, Wire};
use crate::node::{Place, Process, Settings};

const HTTP: &str = "0.0.0.0:9180";
const URL: &str = "http://127.0.0.1:9180";

struct Office {
    lan: Lan,
    binary: PathBuf,
    dir: tempfile::TempDir,
}

impl Office {
    fn place(&self, number: u8, settings: &[(&str, &str)]) -> Place {
        let cache = self.dir.path().join(format!("{number}.cache"));
        let common = [("CACHE_BACKEND", "libp2p"), ("CACHE_MDNS", "true"), ("CACHE_DIR", text(&cache))];
        let settings = common.iter().chain(settings);
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Place { namespace: Rc::clone(self.lan.host(number)), binary: self.binary.clone(), settings }
    }

    /// A node that serves on host `number` and knows no address of anybody.
    fn node(&self, number: u8, name: &str, secret: &str, only_serve: Settings) -> Member {
        let place = self.place(number, &[("CACHE_SECRET", secret)]);
        let process = Process::start(name, place, only_serve, &["serve", "--listen", HTTP], self.dir.path());
        let wire = Wire::Cable(Rc::clone(self.lan.switch()), number);
        Member::ready(Box::new(process), URL.to_owned(), wire)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn connected(node: &Member, count: usize) {
    eventually(&format!("{} has {count} peers", node.name()), REJOIN, || {
        let report = node.ask("peers");
        if report["connected"] == count { Ok(()) } else { Err(report.to_string()) }
    });
}

#[test]
fn nodes_on_one_network_find_each_other_by_multicast() {
    let Some((tools, binary)) = Means::for_namespaces() else { return };
    let dir = tempfile::tempdir().unwrap();
    let office = Office { lan: Lan::new(&tools, dir.path(), 4), binary, dir };
    let secret = |name: &str| office.place(0, &[]).step(&["keygen"], b"").ok(name).text();
    let (ours, theirs) = (secret("our secret"), secret("their secret"));
    let listens = || vec![("CACHE_LISTEN_PORT".to_owned(), PEER_PORT.to_string())];
    let leaf = office.node(0, "leaf", &ours, vec![]);
    let (anchor, other) =
        (office.node(1, "anchor", &ours, listens()), office.node(2, "other", &ours, listens()));

    // Whoever comes later is found by who was there, and the other way round.
    connected(&leaf, 2);
    connected(&anchor, 2);
    connected(&other, 2);
    let known = leaf.ask("peers")["bootstrap"].clone();
    assert!(known.as_array().unwrap().iter().all(|it| it["found"] == true), "{known}");

    // What one puts another gets; each step of a job is a node of its own, which has to find them
    // first.
    anchor.put("of-anchor", "made beside the anchor");
    let got = leaf.get("of-anchor");
    assert_eq!(got.hit(), Some(("made beside the anchor", "sealed(peers)")), "{}", got.answer);

    // A neighbour's network is heard as well, and is not ours.
    let neighbour = office.node(3, "neighbour", &theirs, vec![]);
    eventually("the neighbour is told why", REJOIN, || {
        let known = neighbour.ask("peers");
        let why = |target: &Value| target["trouble"].as_str().is_some_and(|why| why.contains("CACHE_SECRET"));
        let all = known["bootstrap"].as_array().unwrap();
        if all.len() == 2 && all.iter().all(why) { Ok(()) } else { Err(known.to_string()) }
    });
    connected(&neighbour, 0);

    // What was found stays known while its records last, so a cut cable is no farewell.
    leaf.unplug();
    connected(&leaf, 0);
    leaf.plug();
    connected(&leaf, 2);
}
