//! The hit path: how many answers that are fresh in the cache a proxy gives in a second, beside
//! `nginx` with `proxy_cache` and ghproxy, on one core and in turns.
//!
//! `cargo xtask bench proxy` runs it. All servers are up all the time and idle while it is not
//! their turn. They share one core, and the load comes from another one. Each round asks every
//! server; ratios are those of one round, and the median of the rounds is printed, so that a busy
//! machine harms all alike.

#[path = "../github/contender.rs"]
mod contender;
mod load;
mod origin;

use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;

use self::contender::{Contender, Failure, OURS, Running};
use self::load::{Outcome, Target};

/// The core of the servers, and that of the load and of the origin.
const CORES: [u16; 2] = [0, 1];
/// At least this share of nginx's rate, and so many times ghproxy's.
const OF_NGINX: f64 = 0.9;
const OF_GHPROXY: f64 = 8.0;
/// At most so many times nginx's latency at the 99th percentile.
const OF_NGINX_P99: f64 = 1.5;

/// What is measured, and how long.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds, each with a turn of every server
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Milliseconds of a turn
    #[arg(long, default_value_t = 2000)]
    millis: u64,
    /// Connections, all kept alive
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Bytes of the answer
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
    /// Three short rounds
    #[arg(long)]
    quick: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// A server and what each of its turns came to.
struct Row {
    name: &'static str,
    server: Running,
    target: Target,
    turns: Vec<Outcome>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if pin() {
        contender::run_servers_on(CORES[0]);
    } else {
        println!("taskset cannot pin processes here: servers and load share all cores.");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let measured = match runtime {
        Ok(runtime) => runtime.block_on(measure(&args)),
        Err(error) => Err(Failure(error.to_string())),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("proxy: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Has this process run on the second core. Whether that could be done.
fn pin() -> bool {
    let (core, own) = (CORES[1].to_string(), std::process::id().to_string());
    let output = Command::new("taskset").args(["-cp", &core, &own]).output();
    output.is_ok_and(|output| output.status.success())
}

async fn measure(args: &Args) -> Result<(), Failure> {
    let origin = origin::start(args.bytes).await.map_err(|error| Failure(error.to_string()))?;
    let upstream = format!("http://{}", origin.address);
    let mut rows = Vec::new();
    for contender in contender::all() {
        if !is_compared(&contender) {
            continue;
        }
        let server = contender.start(&upstream).await?;
        let target = Target { address: server.address(), body: origin.body.clone() };
        rows.push(Row { name: contender.name(), server, target, turns: Vec::new() });
    }
    if !rows.iter().any(|row| row.name == OURS) {
        return Err(Failure("there is no peercache to measure".to_owned()));
    }
    let (rounds, turn) = match args.quick {
        true => (3, Duration::from_millis(500)),
        false => (args.rounds.max(1), Duration::from_millis(args.millis)),
    };
    for round in 0..=rounds {
        for row in &mut rows {
            let outcome = load::turn(&row.target, args.connections, turn)
                .await
                .map_err(|error| Failure(format!("{}: {error}", row.name)))?;
            // The first round fills the caches.
            if round > 0 {
                row.turns.push(outcome);
            }
        }
    }
    print(args, &rows);
    for row in rows {
        row.server.stop().await;
    }
    Ok(())
}

/// The load is for caches that are meant for this.
fn is_compared(contender: &Contender) -> bool {
    match contender {
        Contender::Nginx { token_in_key, .. } => *token_in_key,
        Contender::Ghproxy(_) | Contender::Peercache(_) => true,
        Contender::Direct | Contender::GithubApiProxy(_) => false,
    }
}

fn print(args: &Args, rows: &[Row]) {
    println!("\nfresh hit of {} bytes, {} connections, keep-alive, one core", args.bytes, args.connections);
    println!(
        "{:<20} {:>10} {:>9} {:>9}   ratio to ours: median (min to max)",
        "", "per s", "p50 us", "p99 us"
    );
    let Some(ours) = rows.iter().find(|row| row.name == OURS) else { return };
    for row in rows {
        let rates = ratios(ours, row, |turn| turn.per_second);
        println!(
            "{:<20} {:>10.0} {:>9.0} {:>9.0}   {}",
            row.name,
            median(row.turns.iter().map(|turn| turn.per_second)),
            median(row.turns.iter().map(|turn| turn.p50_micros)),
            median(row.turns.iter().map(|turn| turn.p99_micros)),
            spread(&rates)
        );
        if row.name.starts_with("nginx") {
            bar("rate, ours to nginx's", median(rates.iter().copied()), OF_NGINX, false);
            let slow = ratios(ours, row, |turn| turn.p99_micros);
            bar("p99, ours to nginx's", median(slow.into_iter()), OF_NGINX_P99, true);
        } else if row.name == "ghproxy" {
            bar("rate, ours to ghproxy's", median(rates.into_iter()), OF_GHPROXY, false);
        }
    }
}

fn ratios(ours: &Row, row: &Row, of: impl Fn(&Outcome) -> f64) -> Vec<f64> {
    ours.turns
        .iter()
        .zip(&row.turns)
        .map(|(ours, theirs)| of(ours) / of(theirs).max(f64::MIN_POSITIVE))
        .collect()
}

fn bar(what: &str, is: f64, bar: f64, at_most: bool) {
    let (word, met) = if at_most { ("at most", is <= bar) } else { ("at least", is >= bar) };
    println!("  {what}: {is:.2}, {word} {bar:.2}: {}", if met { "met" } else { "NOT met" });
}

fn spread(of: &[f64]) -> String {
    let least = of.iter().copied().fold(f64::INFINITY, f64::min);
    let most = of.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2} to {most:.2})", median(of.iter().copied()))
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
