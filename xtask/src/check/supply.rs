//! What we depend on: licences, bans, sources, and known vulnerabilities.

use std::path::Path;

use crate::failure::Failure;
use crate::parts::Part;
use crate::run::Run;
use crate::tools::Tools;

/// Checks the lock file against `deny.toml`.
pub(crate) fn check(tools: &Tools) -> Result<(), Failure> {
    let deny = Part::CargoDeny.prepare(tools)?;
    // Cached sources are enough for these, so that the step means the same with and without a network.
    cargo_deny(&deny, "mend Cargo.toml, or deny.toml with a reason")
        .args(["--offline", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"])
        .succeed()?;
    advisories(&deny)
}

/// Advisories live in a database on the network. Where it cannot be reached the step is skipped, and
/// says so: it must not pass for done.
fn advisories(deny: &Path) -> Result<(), Failure> {
    let fetched = cargo_deny(deny, "").args(["fetch", "db"]).status()?;
    if !fetched.success() {
        eprintln!("xtask: SKIPPED: advisories: their database cannot be fetched from here, so known");
        eprintln!(
            "xtask: SKIPPED: vulnerabilities were NOT looked for; run `cargo xtask check deny` with a network"
        );
        return Ok(());
    }
    cargo_deny(deny, "update the crate that the advisory names")
        .args(["check", "--disable-fetch", "advisories"])
        .succeed()
}

fn cargo_deny(deny: &Path, next: &str) -> Run {
    Run::as_typed(deny, next).args(["--locked", "--all-features"])
}
