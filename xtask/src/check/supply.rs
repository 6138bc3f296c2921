//! What we depend on: licences, bans, sources, and known vulnerabilities.

use std::collections::BTreeSet;
use std::path::Path;

use super::features;
use crate::failure::Failure;
use crate::parts::Part;
use crate::run::{self, Run};
use crate::tools::Tools;

/// Where each direct dependency has its line.
const REASONS: &str = "docs/dependencies.md";

/// Checks that each direct dependency has its reason, and the lock file against `deny.toml`.
pub(crate) fn check(tools: &Tools) -> Result<(), Failure> {
    reasons()?;
    let deny = Part::CargoDeny.prepare(tools)?;
    // Sources for every platform, since the lock file is judged for all of them.
    Run::cargo("connect to the crate registry").args(["fetch", "--locked"]).succeed()?;
    // From here on nothing is asked of the network, so the verdict depends on the checkout alone.
    cargo_deny(&deny, "mend Cargo.toml, or deny.toml with a reason")
        .args(["--offline", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"])
        .succeed()?;
    advisories(&deny)
}

/// Advisories live in a database on the network. Where it cannot be reached the step is skipped,
/// and says so: it must not pass for done.
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

/// A dependency is chosen, not collected: the page says why for each, and for nothing else.
fn reasons() -> Result<(), Failure> {
    let page = std::fs::read_to_string(run::checkout().join(REASONS))
        .map_err(|error| Failure::new(format!("{REASONS} cannot be read: {error}"), "restore it"))?;
    let direct = features::packages()?.into_iter().flat_map(|package| package.foreign).collect();
    compare(&page, &direct)
}

/// Rows of the page's tables begin with the name of a crate between backquotes.
fn compare(page: &str, direct: &BTreeSet<String>) -> Result<(), Failure> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let given: BTreeSet<String> = rows.map(|(name, _)| name.to_owned()).collect();
    let list = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let (missing, gone) =
        (list(direct.difference(&given).collect()), list(given.difference(direct).collect()));
    if !missing.is_empty() {
        let what = format!("{REASONS} does not say why we depend on {missing}");
        return Err(Failure::new(what, "add a row for each, or do without"));
    }
    if !gone.is_empty() {
        return Err(Failure::new(
            format!("{REASONS} still has {gone}, which nobody uses"),
            "remove the rows",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_each_direct_dependency_and_no_other() {
        let direct = ["bytes".to_owned(), "serde".to_owned()].into();
        let row = |name: &str| format!("| `{name}` | why | MIT | `rejected` |\n");
        let text = |page: &str| compare(page, &direct).unwrap_err().to_string();
        assert_eq!(compare(&[row("serde"), "prose\n".to_owned(), row("bytes")].concat(), &direct), Ok(()));
        assert!(text(&row("serde")).contains("why we depend on bytes;"));
        assert!(text(&[row("serde"), row("bytes"), row("old")].concat()).contains("still has old,"));
    }
}
