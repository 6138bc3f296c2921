//! What users expect of a fleet, in each layout that they run.

use std::time::Instant;

use crate::command::{LIMIT, eventually};
use crate::fleet::{Fleet, Layout};
use crate::means::Means;
use crate::member::{Member, REJOIN};

const PEERS: &str = "sealed(peers)";

#[test]
fn on_the_hosts_own_network() {
    let Some(means) = Means::for_containers() else { return };
    life(&Fleet::new(Layout::HostNetwork, means));
}

#[test]
fn on_a_bridge_by_the_hosts_address() {
    let Some(means) = Means::for_containers() else { return };
    let fleet = Fleet::new(Layout::Bridge, means);
    life(&fleet);
    published(&fleet);
}

#[test]
fn on_a_network_with_names() {
    let Some(means) = Means::for_containers() else { return };
    life(&Fleet::new(Layout::Names, means));
}

/// The node finds `value` at a peer, in a process that never saw it.
#[track_caller]
fn finds_at_a_peer(node: &Member, key: &str, value: &str) {
    let got = node.get(key);
    assert_eq!(got.hit(), Some((value, PEERS)), "{} gets {key}: {}", node.name(), got.answer);
}

#[track_caller]
fn misses(node: &Member, key: &str) {
    let got = node.get(key);
    assert_eq!((got.hit(), got.code), (None, Some(1)), "{} gets {key}: {}", node.name(), got.answer);
}

/// The key is gone for the node, as soon as it has been told.
#[track_caller]
fn forgets(node: &Member, key: &str) {
    eventually(&format!("{} forgets {key}", node.name()), REJOIN, || {
        let got = node.get(key);
        if got.hit().is_none() { Ok(()) } else { Err(got.answer.to_string()) }
    });
}

fn life(fleet: &Fleet) {
    let host = fleet.on_host("on-host");
    let (mut first, second) = (fleet.runner("first"), fleet.runner("second"));

    // From runner to runner, from host to runner, from runner to host.
    first.put("of-first", "made by first");
    finds_at_a_peer(&second, "of-first", "made by first");
    host.put("of-host", "made on the host");
    finds_at_a_peer(&first, "of-host", "made on the host");
    second.put("of-second", "made by second");
    finds_at_a_peer(&host, "of-second", "made by second");
    // A miss is an answer of the peers, and no error.
    misses(&first, "of-nobody");
    // Whoever starts later finds what was put before.
    let late = fleet.runner("late");
    finds_at_a_peer(&late, "of-first", "made by first");

    // Removed anywhere, gone everywhere, also where a copy was kept.
    let all = [&fleet.anchor, &host, &first, &second, &late];
    second.invalidate("of-first");
    for node in all {
        forgets(node, "of-first");
    }

    // Without a network a step still ends well, with what is there locally.
    second.unplug();
    misses(&second, "of-nobody");
    assert_eq!(second.get("of-second").hit().map(|(value, _)| value), Some("made by second"));
    if !matches!(fleet.layout(), Layout::HostNetwork) {
        // Who is still connected goes on, and what second misses meanwhile it learns later.
        first.put("meanwhile", "made without second");
        host.invalidate("of-second");
    }
    second.plug();
    let plugged = Instant::now();
    if matches!(fleet.layout(), Layout::HostNetwork) {
        // There the cut was for all.
        first.put("meanwhile", "made after the cut");
    }
    eventually("second finds its peers again", REJOIN, || match second.get("meanwhile") {
        got if got.hit().is_some() => Ok(()),
        got => Err(got.answer.to_string()),
    });
    eprintln!("{:?}: a hit from a peer {:?} after the network came back", fleet.layout(), plugged.elapsed());
    if !matches!(fleet.layout(), Layout::HostNetwork) {
        forgets(&second, "of-second");
    }
    eventually("everybody is a member again", LIMIT, || {
        let report = fleet.anchor.ask("peers");
        let connected = report["connected"].as_u64();
        if connected >= Some(4) { Ok(()) } else { Err(report.to_string()) }
    });

    // What a runner made outlives it.
    first.put("last", "made before the end");
    first.kill();
    finds_at_a_peer(&late, "last", "made before the end");
    finds_at_a_peer(&host, "last", "made before the end");
}

/// A runner whose port is published is a member like the others.
fn published(fleet: &Fleet) {
    let runner = fleet.published("published");
    runner.put("of-published", "made by published");
    finds_at_a_peer(&fleet.on_host("another"), "of-published", "made by published");
    fleet.anchor.put("for-published", "made beside the anchor");
    finds_at_a_peer(&runner, "for-published", "made beside the anchor");
}
