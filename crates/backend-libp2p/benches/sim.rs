//! `cargo xtask bench sim`: fleets of 10 to 10,000 nodes in virtual time, and what a lookup, a put
//! and a removal cost in messages. `-- --quick` leaves out the largest.

use std::time::Instant;

use peercache_libp2p::sim::{Fleet, Outcomes, churn, clocks, partition, steady};

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let sizes: &[usize] = if quick { &[10, 100, 1_000] } else { &[10, 100, 1_000, 10_000] };
    println!("fleets of the seed 1; times are virtual");
    let scenarios = [
        ("steady", steady as fn(Fleet) -> Outcomes),
        ("churn", churn),
        ("partition", partition),
        ("clocks", clocks),
    ];
    for (name, scenario) in scenarios {
        for &nodes in sizes {
            let fleet = Fleet::of(nodes, 1);
            let began = Instant::now();
            let outcomes = scenario(fleet);
            println!(
                "{name:9} {nodes:6} nodes, {:2} anchors: {outcomes} ({:.1?} real)",
                fleet.anchors,
                began.elapsed()
            );
        }
    }
}
