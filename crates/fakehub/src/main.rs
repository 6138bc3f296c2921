//! A GitHub-like origin on a loopback port.

use std::process::ExitCode;

use clap::Parser;
use peercache_fakehub::{FakeHubArgs, run_cli};

/// Serves recorded GitHub exchanges, with live validators, rate limits and a log of what was
/// charged.
#[derive(Debug, Parser)]
#[command(name = "fakehub", version)]
struct Cli {
    #[command(flatten)]
    args: FakeHubArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run_cli(Cli::parse().args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fakehub: {error}");
            ExitCode::FAILURE
        }
    }
}
