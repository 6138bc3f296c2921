//! `cargo xtask bench`: one bench of the workspace, built as a release is.

use crate::check::{Package, packages};
use crate::failure::Failure;
use crate::parts::FOR_BENCHES;
use crate::run::Run;
use crate::tools::Tools;

/// Runs the bench called `name`; `args` go to it as they are.
pub(crate) fn bench(tools: &Tools, name: &str, args: &[String]) -> Result<(), Failure> {
    let packages = packages()?;
    let package = owner(&packages, name)?;
    let mut run = Run::cargo("look above for what the bench said")
        .args(["bench", "--locked", "--package", package, "--all-features", "--profile", "release"])
        .args(["--bench", name]);
    for part in FOR_BENCHES {
        match (part.find(tools)?, part.variable()) {
            (Some(file), Some(variable)) => run = run.env(variable, file),
            _ => eprintln!(
                "xtask: {} is not prepared; if the bench needs it: cargo xtask prepare {}",
                part.name(),
                part.name()
            ),
        }
    }
    if !args.is_empty() {
        run = run.args(["--"]).args(args);
    }
    run.succeed()
}

/// The package that has a bench of this name.
fn owner<'a>(packages: &'a [Package], name: &str) -> Result<&'a str, Failure> {
    if let Some(package) = packages.iter().find(|package| package.benches.iter().any(|bench| bench == name)) {
        return Ok(&package.name);
    }
    let mut known: Vec<_> =
        packages.iter().flat_map(|package| &package.benches).map(String::as_str).collect();
    known.sort_unstable();
    let next = if known.is_empty() {
        "there is none yet: a bench is a file in benches/".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    Err(Failure::new(format!("there is no bench called {name}"), next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bench_is_found_in_its_package_and_an_unknown_name_lists_what_exists() {
        let package = |name: &str, benches: &[&str]| Package {
            name: name.to_owned(),
            benches: benches.iter().map(ToString::to_string).collect(),
            ..Package::default()
        };
        let packages = [package("peercache", &["proxy", "chain"]), package("peercache-seal", &["seal"])];
        assert_eq!(owner(&packages, "seal"), Ok("peercache-seal"));
        let unknown = owner(&packages, "x").unwrap_err().to_string();
        assert_eq!(unknown, "there is no bench called x; there are: chain, proxy, seal");
        assert!(owner(&[], "x").unwrap_err().to_string().contains("there is none yet"));
    }
}
