//! `cargo xtask`: everything that is longer than one cargo command.

mod bench;
mod book;
mod check;
mod dist;
mod engine;
mod failure;
mod fetch;
mod fuzz;
mod ghproxy;
mod go;
mod go_github;
mod integrity;
mod kubo;
#[cfg(test)]
mod missing;
mod octokit;
mod parts;
mod python;
mod redis;
mod run;
mod static_binary;
mod storacha;
mod suite;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::parts::Part;
use crate::tools::Tools;

/// Everything that is longer than one cargo command
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run every test, with every part that can be had
    Test {
        /// Fetch nothing: use what is prepared, skip the rest
        #[arg(long)]
        offline: bool,
        /// Arguments of `cargo test`
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Fetch or build what tests need beyond the toolchain, once, outside the checkout
    Prepare {
        /// What to prepare [default: corpus gh docker static-binary]
        parts: Vec<Part>,
    },
    /// Formatting, lints, documentation, features, dependencies, then the tests
    Check {
        /// Only these steps [default: all, in this order]
        steps: Vec<check::Step>,
    },
    /// Pack the command for those who do not build it: archive, wheel, npm package, checksums
    Dist(dist::DistArgs),
    /// Make a book of the documents, to read in a browser
    Book,
    /// Run one bench, built as a release is
    Bench {
        /// Its name; an unknown one lists them all
        name: String,
        /// For the bench `original`: a checkout of the original peer cache
        #[arg(long, value_name = "PATH")]
        original: Option<PathBuf>,
        /// Arguments of the bench
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run the fuzzers. Needs a nightly compiler
    Fuzz {
        /// Only these [default: all]
        targets: Vec<String>,
        /// For how long each
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
    },
}

fn main() -> ExitCode {
    match obey(Arguments::parse().command) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("xtask: error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn obey(command: Command) -> Result<ExitCode, Failure> {
    let tools = Tools::locate()?;
    match command {
        Command::Test { offline, args } => return suite::test(&tools, offline, &args),
        Command::Prepare { parts } => parts::prepare(&parts, &tools)?,
        Command::Check { steps } => return check::check(&tools, &steps),
        Command::Book => book::book(&tools)?,
        Command::Dist(args) => dist::dist(&args)?,
        Command::Bench { name, original, args } => bench::bench(&tools, &name, original.as_deref(), &args)?,
        Command::Fuzz { targets, seconds } => fuzz::fuzz(&tools, &targets, seconds)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_goes_to_cargo_as_it_is() {
        let parsed = Arguments::parse_from(["xtask", "test", "--", "-p", "xtask", "--", "--nocapture"]);
        let Command::Test { offline: false, args } = parsed.command else { panic!("{parsed:?}") };
        assert_eq!(args, ["-p", "xtask", "--", "--nocapture"]);
    }
}
