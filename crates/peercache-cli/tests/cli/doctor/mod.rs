//! `peercache doctor`: faults are planted one at a time. It names each and no other, proposes what
//! mends it, and is green when that is done; with none planted it is green.

mod clients;
mod disk;
mod fault;
mod machine;
mod network;
mod origin;
mod peers;
mod settings;
mod stores;

use std::collections::BTreeSet;

use self::fault::planted;
use self::machine::{Machine, SECRET};

/// What is told and cannot be broken: where the process runs, and what it may do there.
const FACTS: [&str; 2] = ["place", "job"];

#[test]
fn healthy_machine_is_green() {
    let machine = Machine::new();
    machine.is_green();
    let text = String::from_utf8(machine.run(&["doctor"]).stdout).unwrap();
    assert!(text.ends_with("all well\n"), "{text}");
    assert!(text.contains("a value was stored, found by another opening, and removed"), "{text}");
    assert!(text.contains("4999 of 5000 requests are left"), "{text}");
    Machine::with(&[("CACHE_SECRET", SECRET)]).is_green();
    Machine::with(&[("CACHE_BACKEND", "memory")]).is_green();
}

/// A check that cannot fail says nothing.
#[test]
fn each_check_has_a_fault_that_it_names() {
    let tables = [
        planted(settings::FAULTS),
        planted(disk::FAULTS),
        planted(disk::MOUNTED),
        planted(peers::FAULTS),
        planted(network::FAULTS),
        planted(stores::S3),
        planted(stores::MOTO),
        planted(stores::REDIS),
        planted(stores::REDIS_OPEN),
        planted(stores::IPFS),
        planted(stores::STORACHA),
        planted(clients::FAULTS),
        planted(clients::PROXY),
        planted(origin::FAULTS),
        planted(origin::CLOCK),
    ];
    let planted: Vec<_> = tables.into_iter().flatten().collect();
    assert!(planted.len() >= 30, "{} faults are planted", planted.len());
    eprintln!("{} faults are planted, one at a time", planted.len());
    let broken: BTreeSet<_> = planted.iter().map(|fault| fault.check).collect();
    for check in checks_of_the_source() {
        assert!(
            broken.contains(check.as_str()) || FACTS.contains(&check.as_str()),
            "no fault is planted for the check {check}"
        );
    }
}

/// The names of all checks that can end well, as the source has them.
fn checks_of_the_source() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctor");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let text: String = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ");
    let constants = text.split("const CHECK: &str = \"").skip(1);
    let named = ["Finding::ok(\"", "Finding::ok( \""]
        .iter()
        .flat_map(|call| text.split(*call).skip(1))
        .chain(constants)
        .filter_map(|rest| rest.split('"').next());
    let mut checks: BTreeSet<String> = named.map(str::to_owned).collect();
    // Those whose name is that of a tier, and of a peer's address.
    checks.extend(["s3", "redis", "ipfs", "storacha", "peers"].map(str::to_owned));
    assert!(checks.len() > 12, "{checks:?}");
    checks
}
