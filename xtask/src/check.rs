//! `cargo xtask check`: what a change must pass before it is merged, in order of cost.

mod api;
mod features;
mod layers;
mod lines;
mod links;
mod rust_version;
mod summary;
mod supply;

use std::process::ExitCode;

use clap::ValueEnum;

pub(crate) use features::{Package, packages};
pub(crate) use links::{link_in_page, within_checkout};

use crate::failure::Failure;
use crate::run::Run;
use crate::suite;
use crate::tools::Tools;

/// One step of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// `cargo fmt --check`
    Fmt,
    /// Which way imports point: no circles, no crate that knows one above it
    Layers,
    /// Lines of documents and comments end at 100 columns
    Lines,
    /// Links of documents lead to files and headings that exist, and the book has every page
    Links,
    /// What each feature pulls in, and that `full` means every backend
    Features,
    /// The public names of `peercache`, held to `docs/reference/api.txt`
    Api,
    /// Licences, bans and sources of dependencies; advisories where their database can be fetched
    Deny,
    /// Clippy without features, with each alone, and with all
    Clippy,
    /// Each crate with the compiler that it names, where that is installed
    RustVersion,
    /// The documentation, without a warning
    Docs,
    /// The tests
    Test,
}

/// Runs `steps`, or all of them; the first that fails ends it.
pub(crate) fn check(tools: &Tools, steps: &[Step]) -> Result<ExitCode, Failure> {
    let steps = if steps.is_empty() { Step::value_variants() } else { steps };
    for step in steps {
        match step {
            Step::Fmt => fmt()?,
            Step::Layers => layers::check()?,
            Step::Lines => lines::check()?,
            Step::Links => links::check().and_then(|()| summary::check())?,
            Step::Features => features::check()?,
            Step::Api => api::check()?,
            Step::Deny => supply::check(tools)?,
            Step::Clippy => clippy()?,
            Step::RustVersion => rust_version::check()?,
            Step::Docs => docs()?,
            Step::Test => {
                let code = suite::test(tools, false, &[])?;
                if code != ExitCode::SUCCESS {
                    return Ok(code);
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fmt() -> Result<(), Failure> {
    Run::cargo("run `cargo fmt --all`").args(["fmt", "--all", "--check"]).succeed()
}

fn clippy() -> Result<(), Failure> {
    let clippy = || Run::cargo("mend what clippy says above").args(["clippy", "--locked"]);
    let strict = ["--", "-D", "warnings"];
    clippy().args(["--workspace", "--all-targets", "--all-features"]).args(strict).succeed()?;
    for package in features::packages()? {
        for selection in package.selections() {
            // No tests here: their dependencies would switch on the features that are to be off.
            clippy().args(["--package", &package.name, "--lib"]).args(selection).args(strict).succeed()?;
        }
    }
    Ok(())
}

fn docs() -> Result<(), Failure> {
    Run::cargo("mend what rustdoc says above")
        .args(["doc", "--locked", "--workspace", "--all-features", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .succeed()
}
