//! `cargo xtask bench`: one bench of the workspace, built as a release is.

use std::path::{Path, PathBuf};

use crate::check::{Package, packages};
use crate::failure::Failure;
use crate::parts::Part;
use crate::run::{Run, checkout};
use crate::tools::Tools;

/// The bench that compares with the original peer cache, and the variable that tells it where that
/// is.
const ORIGINAL: (&str, &str) = ("original", "PEERCACHE_BENCH_ORIGINAL");
/// What a checkout of the original has.
const ORIGINAL_CACHE: &str = "ipfs_accelerate_py/github_cli/cache.py";
/// The benches that run the command itself, and the variable that tells them where that is.
const OF_COMMAND: [&str; 2] = ["github", "proxy"];
const COMMAND: &str = "PEERCACHE_BENCH_PEERCACHE";
/// What benches need; those that are not here need nothing.
const PARTS: [(&str, &[Part]); 8] = [
    (ORIGINAL.0, &[Part::PyLibp2p]),
    ("github", &[Part::Nginx, Part::Ghproxy, Part::Corpus]),
    ("proxy", &[Part::Nginx, Part::Ghproxy]),
    ("ipfs", &[Part::Kubo]),
    ("peers", &[Part::Redis]),
    ("redis", &[Part::Redis, Part::Seaweedfs, Part::Kubo, Part::Storacha]),
    ("s3", &[Part::Seaweedfs]),
    ("storacha", &[Part::Storacha]),
];

/// Runs the bench called `name`, with its parts as far as they can be had; `args` go to it as they
/// are.
pub(crate) fn bench(
    tools: &Tools,
    name: &str,
    original: Option<&Path>,
    args: &[String],
) -> Result<(), Failure> {
    let packages = packages()?;
    let owners = owners(&packages, name)?;
    let original = checkout_of_original(name, original)?;
    let mut run = Run::cargo("look above for what the bench said")
        .args(["bench", "--locked", "--all-features", "--profile", "release", "--bench", name])
        .args(owners.iter().flat_map(|package| ["--package", *package]));
    if OF_COMMAND.contains(&name) && std::env::var_os(COMMAND).is_none() {
        run = run.env(COMMAND, command()?);
    }
    if let Some(checkout) = original {
        run = run.env(ORIGINAL.1, checkout);
    }
    for part in parts(name) {
        // A variable that names no file ends it here: that is a mistake, not a missing part.
        let found = match part.find(tools)? {
            Some(file) => Ok(file),
            None => part.prepare(tools).or_else(|failure| part.substitute(failure)),
        };
        match (found, part.variable()) {
            (Ok(file), Some(variable)) => run = run.env(variable, file),
            (Ok(_), None) => {}
            // The bench says what it cannot measure, and fails where that is everything.
            (Err(failure), _) => eprintln!(
                "xtask: {}: missing: {failure}\nxtask: to have it: {}",
                part.name(),
                part.install_line()
            ),
        }
    }
    if !args.is_empty() {
        run = run.args(["--"]).args(args);
    }
    run.succeed()
}

/// Builds the command as a release is, and says where it is.
fn command() -> Result<PathBuf, Failure> {
    Run::cargo("look above for what the compiler said")
        .args(["build", "--locked", "--package", "peercache-cli", "--bin", "peercache", "--release"])
        .succeed()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    let target = checkout().join(target.map_or_else(|| "target".into(), PathBuf::from));
    let file = target.join("release").join("peercache");
    if file.is_file() {
        return Ok(file);
    }
    Err(Failure::new(
        format!("the command was built, and {} does not exist", file.display()),
        format!("name the command with {COMMAND}"),
    ))
}

fn parts(name: &str) -> &'static [Part] {
    PARTS.iter().find(|(bench, _)| *bench == name).map_or(&[], |(_, parts)| parts)
}

/// Where the original is, for the bench that compares with it: looked at before minutes are spent
/// on building.
fn checkout_of_original(name: &str, named: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    let path = match (name == ORIGINAL.0, named) {
        (false, None) => return Ok(None),
        (false, Some(_)) => {
            let next = format!("leave --original out, or run `cargo xtask bench {}`", ORIGINAL.0);
            return Err(Failure::new(format!("the bench {name} compares with no original"), next));
        }
        (true, named) => {
            named.map(Path::to_owned).or_else(|| std::env::var_os(ORIGINAL.1).map(PathBuf::from))
        }
    };
    let next = "name a checkout with --original PATH; docs/design/performance.md says how to have one";
    let path = path.ok_or_else(|| Failure::new("the original is not known", next))?;
    // The bench runs in the folder of its package, so a relative path would lead elsewhere.
    match std::path::absolute(&path) {
        Ok(path) if path.join(ORIGINAL_CACHE).is_file() => Ok(Some(path)),
        _ => Err(Failure::new(format!("{} has no {ORIGINAL_CACHE}", path.display()), next)),
    }
}

/// The packages that have a bench of this name: that of a tier and the facade may each have one.
fn owners<'a>(packages: &'a [Package], name: &str) -> Result<Vec<&'a str>, Failure> {
    let owners = packages.iter().filter(|package| package.benches.iter().any(|bench| bench == name));
    let owners: Vec<_> = owners.map(|package| package.name.as_str()).collect();
    if !owners.is_empty() {
        return Ok(owners);
    }
    let mut known: Vec<_> =
        packages.iter().flat_map(|package| &package.benches).map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
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
        let packages =
            [package("peercache", &["proxy", "chain"]), package("peercache-seal", &["seal", "chain"])];
        assert_eq!(owners(&packages, "seal"), Ok(vec!["peercache-seal"]));
        assert_eq!(owners(&packages, "chain"), Ok(vec!["peercache", "peercache-seal"]));
        let unknown = owners(&packages, "x").unwrap_err().to_string();
        assert_eq!(unknown, "there is no bench called x; there are: chain, proxy, seal");
        assert!(owners(&[], "x").unwrap_err().to_string().contains("there is none yet"));
    }

    #[test]
    fn parts_are_those_of_benches_that_exist_and_can_be_told_where_they_are() {
        let packages = packages().unwrap();
        for (bench, parts) in PARTS {
            assert!(owners(&packages, bench).is_ok(), "{bench}");
            assert!(!parts.is_empty() && parts.iter().all(|part| part.variable().is_some()), "{bench}");
        }
        assert_eq!((parts("peers"), parts("chain")), (&[Part::Redis][..], &[][..]));
    }

    #[test]
    fn the_original_is_named_for_its_bench_alone_and_looked_at_first() {
        let dir = tempfile::tempdir().unwrap();
        let message = |name: &str| checkout_of_original(name, Some(dir.path())).unwrap_err().to_string();
        assert_eq!(
            message("peers"),
            "the bench peers compares with no original; leave --original out, or run `cargo xtask bench original`"
        );
        assert!(
            message("original").contains(" has no ipfs_accelerate_py/github_cli/cache.py; name a checkout ")
        );
        let file = dir.path().join(ORIGINAL_CACHE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
        assert_eq!(checkout_of_original("original", Some(dir.path())), Ok(Some(dir.path().to_owned())));
        assert_eq!(checkout_of_original("peers", None), Ok(None));
    }
}
