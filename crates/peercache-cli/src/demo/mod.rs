//! `peercache demo`: the same CI jobs without a cache, with a cache per token, and with peercache,
//! counted and judged by the origin itself.
//!
//! The jobs have a token each, as in GitHub Actions, and work on public and private repositories
//! that change meanwhile. The host and each job's runner are processes of their own; the jobs talk
//! HTTP to them.

mod corpus;
mod fleet;
mod process;
mod results;
mod runners;
mod table;

use std::time::Duration;

use peercache_fakehub::FakeHubArgs;
use peercache_fakehub::workload::{Options, Tally, Workload};

use self::fleet::Run;
use self::results::{Results, Side};
use crate::args::DemoArgs;
use crate::exit::{Exit, Failure};
use crate::output;

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
