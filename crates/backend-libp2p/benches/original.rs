//! `cargo xtask bench original --original PATH`: two nodes of the original peer cache, from the
//! checkout at PATH, beside two of ours, in one run on loopback. Every node is a process that obeys
//! the same lines, so both systems are driven and timed by the same code. `-- --quick` puts fewer
//! entries; what does not arrive is waited for as long. `docs/design/performance.md` says how both
//! were set up and why.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on has nothing to say")]

#[path = "original/lab.rs"]
mod lab;
#[path = "original/node.rs"]
mod node;
#[path = "original/process.rs"]
mod process;
#[path = "original/rows.rs"]
mod rows;
#[path = "original/table.rs"]
mod table;

use std::process::ExitCode;

use lab::Lab;
use process::Trouble;
use rows::{Both, Effort};
use table::Row;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--node") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(node::serve(&args[at + 1..]));
        return ExitCode::SUCCESS;
    }
    match bench(args.iter().any(|arg| arg == "--quick")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("BESIDE THE ORIGINAL: NOT MEASURED, or not to the end: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn bench(quick: bool) -> Result<(), Trouble> {
    let effort = if quick { Effort { paced: 20, rounds: 1 } } else { Effort { paced: 60, rounds: 3 } };
    let mut lab = Lab::open()?;
    println!("the original: commit {}; ratio: ours / the original's", lab.commit());
    println!(
        "{} cores; load before: {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        load()
    );
    Row::print_head();
    let print = |rows: Vec<Row>| rows.iter().for_each(Row::print);
    let mut both = Both::start(&mut lab)?;
    both.warm_up()?;
    print(both.paced(effort)?);
    print(both.burst(effort)?);
    print(both.sizes(effort)?);
    print(both.late_joiner(&mut lab)?);
    drop(both);
    // New ones: the original's nodes do other things in their first minute than later.
    print(Both::start(&mut lab)?.other_way()?);
    println!("load after: {}", load());
    Ok(())
}

/// The average number of runnable processes over the last minute, where the system tells.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}
