//! The command `peercache`: share GitHub API responses between CI runners through a chain of
//! caches.

mod args;
mod ask;
mod ca;
mod cli;
mod config;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod entries;
mod exec;
mod exit;
mod explain;
mod github;
mod id;
mod install_key;
mod ipfs;
mod keygen;
mod ledger;
mod logging;
mod man;
mod output;
mod peers;
mod plain;
mod report;
mod s3;
mod serve;
mod stats;
mod storacha;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};

fn main() -> std::process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::from_clap(&error, std::env::args_os().skip(1)),
    };
    logging::start(cli.verbose, cli.json);
    // reqwest takes the process's provider. This is the first to install one, so it cannot fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let json = cli.json;
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the async runtime cannot start: {error}")))
        .and_then(|runtime| runtime.block_on(run(cli)));
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(json),
    }
}

async fn run(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Serve(args) => serve::run(args, cli.json).await,
        Command::Exec(args) => exec::run(args, cli.json).await,
        Command::Ca(args) => ca::run(args, cli.json).await,
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(args, cli.json).await,
        Command::Get(args) => entries::get(args, cli.json).await,
        Command::Put(args) => entries::put(args, cli.json).await,
        Command::Invalidate(args) => entries::invalidate(args, cli.json).await,
        Command::Stats(args) => stats::run(args, cli.json).await,
        Command::Report(args) => report::run(args, cli.json).await,
        Command::Peers(args) => peers::run(args, cli.json).await,
        Command::Id => id::run(cli.json).await,
        Command::Ipfs(args) => ipfs::run(&args, cli.json).await,
        Command::Storacha(args) => storacha::run(args, cli.json),
        Command::S3(args) => s3::run(args, cli.json).await,
        Command::Explain(args) => explain::run(args, cli.json).await,
        Command::Doctor(args) => doctor::run(args, cli.json).await,
        Command::Config(args) => config::run(args, cli.json).await,
        Command::Keygen(args) => keygen::run(args, cli.json).await,
        Command::Completions(args) => {
            output::write(&cli::completions(args.shell))?;
            Ok(Exit::Ok)
        }
        Command::Man(args) => man::run(&args, cli.json),
        #[cfg(feature = "demo")]
        Command::Fakehub(args) => demo::fakehub(args).await,
    }
}
