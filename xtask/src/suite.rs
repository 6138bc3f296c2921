//! `cargo xtask test`: the whole test suite, with every part that can be had.

use std::process::ExitCode;

use crate::failure::Failure;
use crate::parts::{FOR_TESTS, Part};
use crate::run::Run;
use crate::tools::Tools;

/// Set to `all`, it makes a test that lacks a part fail where it would skip.
const REQUIRE: &str = "PEERCACHE_TEST_REQUIRE";

/// Tells tests of the packages where we are: they pack the command with us.
const XTASK: &str = "PEERCACHE_TEST_XTASK";

/// Runs the tests; `args` go to `cargo test` as they are. The exit code is cargo's.
pub(crate) fn test(tools: &Tools, offline: bool, args: &[String]) -> Result<ExitCode, Failure> {
    let required = is_ci(std::env::var("CI").ok().as_deref());
    let mut run = Run::cargo("repair the toolchain").args(["test", "--locked", "--all-features"]);
    if !selects_packages(args) {
        run = run.args(["--workspace"]);
    }
    // Where the system cannot say it, those tests are skipped, or fail in CI.
    if let Ok(ours) = std::env::current_exe() {
        run = run.env(XTASK, ours);
    }
    let mut missing = Vec::new();
    for part in FOR_TESTS {
        if !serves(part, args) {
            continue;
        }
        // A variable that names no file ends it here: that is a mistake, not a missing part.
        let found = match part.find(tools)? {
            Some(file) => Ok(file),
            None => {
                let prepared = if offline { part.prepare_offline(tools) } else { part.prepare(tools) };
                prepared.or_else(|failure| part.substitute(failure))
            }
        };
        match (found, part.variable()) {
            (Ok(file), Some(variable)) => run = run.env(variable, file),
            (Ok(_), None) => {}
            (Err(failure), _) => missing.push((part, failure)),
        }
    }
    // What a user has set stays: `none` lets a machine with CI=true skip.
    if required && std::env::var_os(REQUIRE).is_none() {
        run = run.env(REQUIRE, "all");
    }
    // A checkout that is built once has no use for it, and it takes gigabytes.
    if required && std::env::var_os("CARGO_INCREMENTAL").is_none() {
        run = run.env("CARGO_INCREMENTAL", "0");
    }
    let report = report(&missing, required);
    eprint!("{report}");
    let status = run.args(args).status()?;
    // Once more below the test output, where it is seen.
    eprint!("{report}");
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    // Without a code, a signal ended it.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Whether `CI` says that nobody is looking.
pub(crate) fn is_ci(value: Option<&str>) -> bool {
    matches!(value, Some("true" | "1"))
}

/// Whether tests that these arguments of `cargo test` select may want `part`. Only for those that
/// take long to prepare: a second build of the binary is no price for the tests of one small crate.
fn serves(part: Part, args: &[String]) -> bool {
    if part == Part::Kubo {
        // Minutes of Go, for whoever tests the tier or everything.
        return wants_kubo(args);
    }
    if !matches!(part, Part::Docker | Part::StaticBinary) {
        return true;
    }
    let args: Vec<_> = args.iter().take_while(|arg| *arg != "--").map(String::as_str).collect();
    let mentions = |name: &str| args.iter().any(|arg| arg.ends_with(name));
    let names_targets = args.iter().any(|arg| {
        ["--test", "--lib", "--bin", "--doc", "--example", "--bench"]
            .iter()
            .any(|start| arg.starts_with(start))
    });
    let package = !selects_packages(&args) || mentions("peercache-cli");
    package && (!names_targets || mentions("containers") || mentions("packages") || mentions("--tests"))
}

/// Whether these arguments of `cargo test` select tests of the IPFS tier: all of them, its package,
/// or the tests of the facade and the command that start a node.
fn wants_kubo(args: &[String]) -> bool {
    let args: Vec<_> = args.iter().take_while(|arg| *arg != "--").map(String::as_str).collect();
    let names = ["peercache", "peercache-ipfs", "peercache-cli"];
    // `-p NAME`, `-pNAME` and `--package=NAME` alike.
    let named = |arg: &str| names.contains(&arg.trim_start_matches("--package=").trim_start_matches("-p"));
    !selects_packages(&args) || args.iter().any(|arg| named(arg))
}

/// Whether these arguments of `cargo test` name packages, which `--workspace` would overrule.
fn selects_packages(args: &[impl AsRef<str>]) -> bool {
    args.iter().map(AsRef::as_ref).take_while(|arg| *arg != "--").any(|arg| {
        arg.starts_with("--package")
            || arg == "--manifest-path"
            || (arg.starts_with("-p") && !arg.starts_with("--"))
    })
}

/// One line for each missing part: what it is, why it is missing, and how to have it.
fn report(missing: &[(Part, Failure)], required: bool) -> String {
    let verdict = if required { "missing, and tests that need it fail because CI is set" } else { "skipped" };
    missing
        .iter()
        .map(|(part, failure)| {
            format!(
                "xtask: {}: {verdict}: {failure}\nxtask: to have it: {}\n",
                part.name(),
                part.install_line()
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> [(Part, Failure); 1] {
        [(Part::Corpus, Failure::new("`npm` cannot be started", "install npm"))]
    }

    #[test]
    fn nothing_missing_says_nothing() {
        assert_eq!(report(&[], false), "");
        assert_eq!(report(&[], true), "");
    }

    #[test]
    fn a_missing_part_is_named_with_the_line_that_installs_it() {
        assert_eq!(
            report(&missing(), false),
            "xtask: corpus: skipped: `npm` cannot be started; install npm\n\
             xtask: to have it: `cargo xtask prepare corpus`, which needs npm and its registry\n"
        );
    }

    #[test]
    fn in_ci_a_missing_part_is_not_called_skipped() {
        let report = report(&missing(), true);
        assert!(report.contains("fail because CI is set") && !report.contains("skipped"), "{report}");
    }

    #[test]
    fn ci_is_what_services_set() {
        assert!(is_ci(Some("true")) && is_ci(Some("1")));
        assert!(!is_ci(Some("false")) && !is_ci(Some("")) && !is_ci(None));
    }

    #[test]
    fn what_takes_long_is_prepared_for_the_tests_that_want_it() {
        let serves =
            |part, args: &[&str]| serves(part, &args.iter().map(ToString::to_string).collect::<Vec<_>>());
        for part in [Part::Docker, Part::StaticBinary] {
            assert!(serves(part, &[]) && serves(part, &["--", "--lib"]) && serves(part, &["--tests"]));
            assert!(serves(part, &["-p", "peercache-cli"]) && serves(part, &["--test", "containers"]));
            assert!(!serves(part, &["-p", "peercache-api"]) && !serves(part, &["--lib"]));
            assert!(serves(part, &["-p", "peercache-cli", "--test", "packages"]));
            assert!(!serves(part, &["-p", "peercache-cli", "--test", "cli"]));
        }
        assert!(serves(Part::Gh, &["-p", "peercache-api"]));
        assert!(serves(Part::Kubo, &[]) && serves(Part::Kubo, &["-p", "peercache-ipfs", "--test", "faults"]));
        assert!(
            !serves(Part::Kubo, &["-p", "peercache-api"]) && !serves(Part::Kubo, &["--package", "xtask"])
        );
    }

    #[test]
    fn naming_packages_replaces_the_whole_workspace() {
        let selects =
            |args: &[&str]| selects_packages(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(selects(&["-p", "xtask"]) && selects(&["-pxtask"]) && selects(&["--package=xtask"]));
        assert!(!selects(&["--lib", "name"]) && !selects(&["--", "-p"]) && !selects(&[]));
    }
}
