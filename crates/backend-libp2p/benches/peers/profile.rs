//! `-- --load BYTES IN_FLIGHT SECONDS`: one kind of read alone, for a profiler, with the processor
//! time that it takes. That says more than the clock on a machine with other work.

use std::sync::Arc;
use std::time::Duration;

use crate::load::{Side, once};
use crate::{Server, node, raw};

/// What the kernel counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds of a process, user's and system's (proc_pid_stat(5), fields 14 and 15).
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / TICKS_PER_SECOND
}

pub(crate) async fn run(args: &[String]) {
    let [bytes, in_flight, seconds] = args else { panic!("--load wants BYTES IN_FLIGHT SECONDS") };
    let (bytes, in_flight): (usize, usize) = (bytes.parse().unwrap(), in_flight.parse().unwrap());
    let span = Duration::from_secs(seconds.parse().unwrap());

    let server = Server::start("raw");
    let client = Arc::new(raw::Client::connect(&server.says).await);
    let side = Side::new(move || {
        let client = Arc::clone(&client);
        async move { client.get(bytes).await }
    });
    report("raw TCP", &server, &side, in_flight, span).await;

    let server = Server::start("peer");
    let client = Arc::new(node::Client::connect(&server.says, &[bytes]).await);
    let side = Side::new(move || {
        let client = Arc::clone(&client);
        async move { client.hit(bytes).await }
    });
    report("peers", &server, &side, in_flight, span).await;
}

async fn report(name: &str, server: &Server, side: &Side, in_flight: usize, span: Duration) {
    let processes = [std::process::id(), server.child.id()];
    let before = processes.map(cpu_seconds);
    let load = once(side, in_flight, span).await;
    let calls = load.rate * span.as_secs_f64();
    let [reader, holder] = [0, 1].map(|at| (cpu_seconds(processes[at]) - before[at]) / calls * 1e6);
    println!(
        "{name:8} {:9.0} calls/s, p50 {:.1?}, p99 {:.1?}; processor time of a call: reader {reader:.0} us, holder {holder:.0} us",
        load.rate, load.p50, load.p99
    );
}
