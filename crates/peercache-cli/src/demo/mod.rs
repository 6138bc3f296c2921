//! `peercache demo`: the same CI jobs without a cache, with a cache per token, and with peercache,
//! counted and judged by the origin itself.
//!
//! The jobs have a token each, as in GitHub Actions, and work on public and private repositories
//! that change meanwhile. The host and each job's runner are processes of their own; the jobs talk
//! HTTP to them.

mod corpus;
mod fleet;
mod process;
mod runners;
mod table;

use std::time::Duration;

use peercache_fakehub::FakeHubArgs;
use peercache_fakehub::workload::{Options, Tally, Workload};
use serde::Serialize;

use self::fleet::Run;
use crate::cli::DemoArgs;
use crate::exit::{Exit, Failure};
use crate::output;

/// What the demo measured.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    traffic: String,
    seed: u64,
    jobs: u32,
    repositories: u32,
    private_repositories: u32,
    without: Side,
    per_token: Side,
    with: Side,
    /// Processes of runners, one for each job and one for the poller, besides the anchor.
    runners: usize,
    /// Of those, the ones that were connected with a peer when their job was done.
    connected_runners: usize,
    /// Answers that a runner made of what another machine had put.
    peer_hits: usize,
}

/// One run of all jobs, as the origin counted it.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    requests: u64,
    calls: u64,
    charged: u64,
    not_modified: u64,
    /// Share of the charged calls of the jobs without a cache that went away.
    charged_saved: f64,
    /// Share of the jobs' requests that never reached the origin.
    not_sent: f64,
    /// Bodies that the origin would not have given that token at that time.
    leaks: u64,
    too_old: u64,
    /// Errors that the origin would not have given, bodies that it never had, requests without an
    /// answer.
    wrong: u64,
    p50_us: f64,
    p99_us: f64,
}

/// Runs the origin of tests, until SIGTERM or SIGINT.
pub(crate) async fn fakehub(args: FakeHubArgs) -> Result<Exit, Failure> {
    peercache_fakehub::run_cli(args).await.map_err(Failure::config)?;
    Ok(Exit::Ok)
}

/// Runs the demo and prints the table.
pub(crate) async fn run(args: DemoArgs, json: bool) -> Result<Exit, Failure> {
    let scratch = tempfile::Builder::new()
        .prefix("peercache-demo-")
        .tempdir()
        .map_err(|error| Failure::failed(format!("cannot make a temporary directory: {error}")))?;
    let traffic = corpus::find(args.corpus.as_deref(), scratch.path()).await?;
    let mut options = Options::default();
    options.jobs = args.jobs;
    options.seed = args.seed;
    options.duration = Duration::from_secs(args.seconds);
    options.recorded = traffic.recorded;
    let workload = Workload::new(&options);
    if !json {
        output::line(format!("Traffic: {}", traffic.origin))?;
        output::line(format!("Running {} requests, {} s and a little", workload.requests(), args.seconds))?;
    }
    // At the same time: the world changes by the clock, and the demo shall end soon.
    let (without, per_token, with) = tokio::try_join!(
        fleet::without(&workload),
        fleet::per_token(&workload),
        fleet::with_peercache(&workload, scratch.path())
    )?;
    let results = Results {
        traffic: traffic.origin,
        seed: args.seed,
        jobs: args.jobs,
        repositories: options.repositories,
        private_repositories: options.private,
        runners: with.nodes.started,
        connected_runners: with.nodes.connected,
        peer_hits: with.nodes.from_peers,
        per_token: side(&per_token, &without.tally),
        with: side(&with, &without.tally),
        without: side(&without, &without.tally),
    };
    if json {
        output::json(&results)?;
    } else {
        output::line(table::render(&results))?;
    }
    let Side { leaks, wrong, .. } = results.with;
    if leaks + wrong > 0 {
        let examples = with.tally.examples.join("; ");
        return Err(Failure::failed(format!(
            "through peercache {leaks} answers were leaks and {wrong} were wrong or missing: {examples}"
        )));
    }
    Ok(Exit::Ok)
}

fn side(run: &Run, without: &Tally) -> Side {
    let tally = &run.tally;
    Side {
        requests: tally.requests,
        calls: tally.upstream,
        charged: tally.charged,
        not_modified: tally.not_modified,
        charged_saved: tally.charged_saved(without),
        not_sent: tally.not_sent(),
        leaks: tally.leaks,
        too_old: tally.stale_beyond_rule,
        wrong: tally.wrong_errors + tally.corrupt + tally.failed + tally.server_errors,
        p50_us: 1e6 * tally.percentile(50).as_secs_f64(),
        p99_us: 1e6 * tally.percentile(99).as_secs_f64(),
    }
}
