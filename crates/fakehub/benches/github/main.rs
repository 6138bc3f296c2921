//! What a fleet of CI jobs saves: the same jobs against the same origin, without a cache and with
//! several.
//!
//! `cargo xtask bench github` runs the sweep; `-- --help` lists what can be chosen. Calls are
//! counted by the origin, and every answer that a job got is judged by the origin. Each contender
//! has an origin of its own with the same seeds, and all of them run at the same time, so that none
//! has the machine to itself.

mod contender;
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use peercache_fakehub::workload::{Options, Tally, Workload, run};
use peercache_fakehub::{Corpus, EtagMode, TokenKind};

use self::contender::{Contender, Failure};

/// How long the first point takes, in seconds.
const SECONDS: u64 = 40;
/// How long each other point of the sweep takes.
const SWEPT: Duration = Duration::from_secs(30);

/// What is measured, and how long.
#[derive(Debug, Parser)]
struct Args {
    /// Seconds that each point takes; 40 for the first and 30 for the others by default
    #[arg(long)]
    seconds: Option<u64>,
    /// The first seed; every random thing depends on it
    #[arg(long, default_value_t = 2026)]
    seed: u64,
    /// How many seeds the first point is measured with
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Jobs with a token each
    #[arg(long, default_value_t = 40)]
    jobs: u32,
    /// The chance that a read of one step is made by another step of the same job, too
    #[arg(long)]
    repeats: Option<f64>,
    /// Only the points whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// Only the first point, and the manifest
    #[arg(long)]
    quick: bool,
    /// What reached the origin by route, too, and how our answers came about
    #[arg(long)]
    routes: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// One setting of the sweep.
struct Point {
    name: String,
    options: Options,
    etag: EtagMode,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("github: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Whether no answer was wrong.
async fn measure(args: &Args) -> Result<bool, Failure> {
    let recorded = match std::env::var_os("PEERCACHE_TEST_CORPUS") {
        Some(path) => Corpus::load(path).map_err(|error| Failure(error.to_string()))?,
        None => {
            println!("Without recorded reads: PEERCACHE_TEST_CORPUS names no corpus.");
            Corpus::default()
        }
    };
    let contenders = contender::all();
    let mut right = true;
    let mut all = Vec::new();
    for point in points(args, &recorded) {
        let workload = Workload::new(&point.options);
        println!(
            "\n## {}: {} jobs, {} requests, seed {}, {} s\n",
            point.name,
            point.options.jobs,
            workload.requests(),
            point.options.seed,
            point.options.duration.as_secs()
        );
        let rows = run_all(&contenders, &workload, point.etag).await?;
        right &= table::print(&rows);
        if args.routes {
            table::print_routes(&rows);
            table::print_outcomes(&rows);
        }
        all.push((point.name, rows));
    }
    if args.only.as_deref().is_none_or(|only| "manifest".contains(only)) {
        println!("\n## manifest: 300 jobs with a token each ask for one manifest of a public repository\n");
        let workload = Workload::one_manifest(args.seed, 300, 20);
        let rows = run_all(&contenders, &workload, EtagMode::Observed).await?;
        right &= table::print(&rows);
        if let Some((_, tally)) = rows.iter().find(|(name, _)| name == contender::OURS) {
            println!("peercache: {} charged calls (at most 3)", tally.charged);
            right &= tally.charged <= 3;
        }
    }
    if all.len() > 1 {
        table::print_sweep(&all);
    }
    Ok(right)
}

/// One factor at a time around the first point.
fn points(args: &Args, recorded: &Corpus) -> Vec<Point> {
    let base = || {
        let mut options = Options::default();
        options.seed = args.seed;
        options.jobs = args.jobs;
        options.duration = Duration::from_secs(args.seconds.unwrap_or(SECONDS));
        options.recorded = recorded.clone();
        options.repeats = args.repeats.unwrap_or(options.repeats);
        options
    };
    let point = |name: &str, change: &dyn Fn(&mut Options)| {
        let mut options = base();
        change(&mut options);
        Point { name: name.to_owned(), options, etag: EtagMode::Observed }
    };
    let mut points = vec![point("a token for each job", &|_| {})];
    points.extend((1..args.seeds).map(|more| {
        let seed = args.seed + more;
        point(&format!("a token for each job, seed {seed}"), &move |options| options.seed = seed)
    }));
    let first = points.len();
    if !args.quick {
        points.extend([
            point("one App token", &|options| options.tokens = TokenKind::App),
            point("one personal token", &|options| options.tokens = TokenKind::Personal),
            point("matrix of 1", &|options| options.matrix = 1),
            point("matrix of 16", &|options| options.matrix = 16),
            point("changes a tenth as often", &|options| options.change_rate = 0.1),
            point("changes ten times as often", &|options| options.change_rate = 10.0),
            point("no read is repeated", &|options| options.repeats = 0.0),
            point("clients accept gzip", &|options| options.gzip = true),
            point("all repositories public", &|options| options.private = 0),
            point("all own repositories private", &|options| options.private = options.repositories),
        ]);
        points.push(Point { name: "opaque entity tags".to_owned(), options: base(), etag: EtagMode::Opaque });
    }
    if args.seconds.is_none() {
        points.iter_mut().skip(first).for_each(|point| point.options.duration = SWEPT);
    }
    points.retain(|point| args.only.as_deref().is_none_or(|only| point.name.contains(only)));
    points
}

/// Runs the workload against every contender at the same time.
async fn run_all(
    contenders: &[Contender],
    workload: &Workload,
    etag: EtagMode,
) -> Result<Vec<(String, Tally)>, Failure> {
    let mut started = Vec::new();
    for contender in contenders {
        let hub = workload.origin().etag(etag).start().await.map_err(|error| Failure(error.to_string()))?;
        let server = contender.start(&hub.url()).await?;
        started.push((contender.name().to_owned(), Arc::new(hub), server));
    }
    let runs = started.iter().map(|(_, hub, server)| run(workload, hub, server.address()));
    let tallies = futures_util::future::join_all(runs).await;
    let mut rows = Vec::new();
    for ((name, hub, server), tally) in started.into_iter().zip(tallies) {
        server.stop().await;
        drop(hub);
        rows.push((name, tally));
    }
    Ok(rows)
}
