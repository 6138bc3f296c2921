//! An anchor that is cut off, and a runner that is killed: by dropped packets and SIGKILL, as in
//! the wild.

use std::time::{Duration, Instant};

use crate::command::eventually;
use crate::fleet::{Fleet, Layout};
use crate::means::Means;
use crate::member::REJOIN;

/// The most that a read may take while nobody answers: its budget, and what two busy cores add.
const MUCH: Duration = Duration::from_secs(5);
const ENTRIES: u64 = 1000;
/// Within how long of the network's return a job is a member again: it dials an anchor that it
/// knows at least every two seconds.
const MEMBER_AGAIN: Duration = Duration::from_secs(5);

#[test]
fn with_the_anchor_cut_off_the_chain_goes_on_without_it_and_finds_it_again() {
    let Some((tools, binary)) = Means::for_namespaces() else { return };
    let fleet = Fleet::new(Layout::Bridge, Means::Namespaces { tools, binary });
    let (mut job, wire) = fleet.job("job");
    fleet.anchor.put("theirs", "made by the anchor");
    let (answer, _) = job.lookup("theirs");
    assert_eq!((&answer["outcome"], &answer["tier"]), (&"hit".into(), &"sealed(peers)".into()), "{answer}");
    job.put("mine", 1);

    wire.cut();
    // In the middle of it, before anybody can know: the read ends, and says why.
    let (answer, took) = job.lookup("of-nobody-0");
    assert_eq!(answer["outcome"], "miss", "{answer}");
    let skipped = answer["skipped"].as_array().unwrap();
    assert!(
        skipped.iter().any(|skip| skip["tier"] == "sealed(peers)" && skip["reason"] != "absent"),
        "{answer}"
    );
    assert!(took < MUCH, "{took:?}: {answer}");
    eprintln!("the first read after the cut took {took:?}: {}", answer["skipped"]);
    // The local tiers answer as ever.
    let (answer, _) = job.lookup("mine-0");
    assert_eq!(answer["outcome"], "hit", "{answer}");
    // Soon nothing is waited for any more.
    eventually("the tier of the peers is passed over", REJOIN, || {
        let (answer, took) = job.lookup("of-nobody-1");
        let report = job.report().to_string();
        if took < Duration::from_millis(10) { Ok(()) } else { Err(format!("{took:?}: {answer} {report}")) }
    });

    wire.heal();
    let healed = Instant::now();
    fleet.anchor.put("news", "made after the cut");
    eventually("the job finds the anchor again", REJOIN, || {
        let (answer, _) = job.lookup("news");
        if answer["outcome"] == "hit" { Ok(()) } else { Err(format!("{answer} {}", job.report())) }
    });
    let took = healed.elapsed();
    eprintln!("a hit from the anchor {took:?} after the network came back");
    assert!(took < MEMBER_AGAIN, "{took:?}");
}

#[test]
fn what_a_killed_runner_had_put_is_at_the_anchor() {
    let Some((tools, binary)) = Means::for_namespaces() else { return };
    let fleet = Fleet::new(Layout::Bridge, Means::Namespaces { tools, binary });
    let (mut job, _) = fleet.job("job");
    assert_eq!(job.put("entry", ENTRIES), ENTRIES);
    std::thread::sleep(Duration::from_millis(500));
    job.kill();
    let (mut other, _) = fleet.job("other");
    let hits = other.hits("entry", ENTRIES);
    eprintln!("{hits} of {ENTRIES} entries outlived the runner that made them");
    assert!(hits * 100 >= ENTRIES * 99, "{hits} of {ENTRIES}");
}
