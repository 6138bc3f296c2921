//! `peercache demo`: the same CI jobs without and with peercache, counted by the origin itself.
//!
//! Everything runs as a user would run it: the origin, the host and each job's runner are processes of
//! their own, the jobs talk HTTP to them, and the numbers come from the origin's log and the jobs' clock.

mod corpus;
mod fleet;
mod process;
mod runners;
mod table;

use std::path::Path;
use std::sync::Arc;

use peercache_fakehub::FakeHubArgs;
use serde::Serialize;
use tempfile::TempDir;

use self::corpus::Traffic;
use self::fleet::{Fleet, Place, Run};
use self::process::Process;
use self::runners::Runners;
use crate::cli::DemoArgs;
use crate::exit::{Exit, Failure};
use crate::output;

/// What the demo measured.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    traffic: String,
    jobs: u32,
    requests_per_job: usize,
    /// How many different reads the traffic holds.
    recorded_reads: usize,
    without: Side,
    with: Side,
    /// Share of the client's requests that never reached the origin.
    hit_rate: f64,
    /// Processes of runners, one for each job, besides the anchor.
    runners: usize,
    /// Of those, the ones that were connected with a peer when their job was done.
    connected_runners: usize,
    /// Answers that a runner made of what another machine had put.
    peer_hits: usize,
    /// Share of the charged calls that went away.
    charged_saved: f64,
    hit_p50_us: f64,
    hit_p99_us: f64,
    /// Answers whose status or body differed from the direct run.
    differing_answers: usize,
}

/// One run of all jobs, as the origin's log has it.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    requests: usize,
    calls: usize,
    charged: usize,
    not_modified: usize,
    p50_us: f64,
    p99_us: f64,
}

/// Runs the origin of the demo and of tests, until SIGTERM or SIGINT.
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
    if !json {
        output::line(format!("Traffic: {}", traffic.origin))?;
        if traffic.reads.len() < traffic.recorded {
            output::line(format!(
                "Each job makes {} of its {} different reads, evenly spaced",
                traffic.reads.len(),
                traffic.recorded
            ))?;
        }
    }
    let fleet = Fleet::new(&traffic, args.jobs, args.parallel)?;
    let without = run_without(&fleet, &traffic, scratch.path()).await?;
    let with = run_with(&fleet, &traffic, &scratch).await?;
    let results = compare(&traffic, &args, &fleet, &without, &with);
    if json {
        output::json(&results)?;
    } else {
        output::line(table::render(&results))?;
    }
    if results.differing_answers > 0 {
        return Err(Failure::failed(format!(
            "{} answers through peercache differed from the direct ones",
            results.differing_answers
        )));
    }
    Ok(Exit::Ok)
}

async fn run_without(fleet: &Fleet, traffic: &Traffic, scratch: &Path) -> Result<Run, Failure> {
    let log = scratch.join("without.jsonl");
    let origin = start_origin(&traffic.file, &log).await?;
    let answers = fleet.run(&Place::Origin(origin.url().to_owned())).await?;
    origin.stop().await?;
    Run::new(answers, &log)
}

async fn run_with(fleet: &Fleet, traffic: &Traffic, scratch: &TempDir) -> Result<Run, Failure> {
    let log = scratch.path().join("with.jsonl");
    let origin = start_origin(&traffic.file, &log).await?;
    let (runners, anchor) = Runners::with_anchor(origin.url(), scratch.path()).await?;
    let answers = fleet.run(&Place::Runners(Arc::new(runners))).await?;
    anchor.stop().await?;
    origin.stop().await?;
    Run::new(answers, &log)
}

async fn start_origin(corpus: &Path, log: &Path) -> Result<Process, Failure> {
    let (corpus, log) = (corpus.to_string_lossy(), log.to_string_lossy());
    // Unlimited, so that both runs get the same answers however many calls they make.
    let args = [
        "fakehub",
        "--corpus",
        &corpus,
        "--log",
        &log,
        "--etag",
        "observed",
        "--unlimited",
        "--listen",
        "127.0.0.1:0",
    ];
    Process::start(&args, &[]).await
}

fn compare(traffic: &Traffic, args: &DemoArgs, fleet: &Fleet, without: &Run, with: &Run) -> Results {
    let hits = with.latencies(|answer| answer.hit);
    Results {
        traffic: traffic.origin.clone(),
        jobs: args.jobs,
        requests_per_job: fleet.requests_per_job(),
        recorded_reads: traffic.recorded,
        hit_rate: share(with.answers.len().saturating_sub(with.origin.calls), with.answers.len()),
        charged_saved: share(
            without.origin.charged.saturating_sub(with.origin.charged),
            without.origin.charged,
        ),
        runners: with.nodes.started,
        connected_runners: with.nodes.connected,
        peer_hits: with.answers.iter().filter(|answer| answer.from_peers).count(),
        hit_p50_us: fleet::percentile(&hits, 50),
        hit_p99_us: fleet::percentile(&hits, 99),
        differing_answers: fleet::differing(&without.answers, &with.answers),
        without: side(without),
        with: side(with),
    }
}

fn side(run: &Run) -> Side {
    let all = run.latencies(|_| true);
    Side {
        requests: run.answers.len(),
        calls: run.origin.calls,
        charged: run.origin.charged,
        not_modified: run.origin.not_modified,
        p50_us: fleet::percentile(&all, 50),
        p99_us: fleet::percentile(&all, 99),
    }
}

fn share(part: usize, whole: usize) -> f64 {
    // Counts of requests of one demo: far below 2^53.
    #[allow(clippy::cast_precision_loss, reason = "counts of one demo are far below 2^53")]
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
