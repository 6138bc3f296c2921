//! Each crate compiles with the compiler that its `rust-version` names, and names none that is
//! older than what its dependencies need. Clippy's `incompatible_msrv` looks for calls of newer
//! functions of the standard library.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::failure::Failure;
use crate::run::Run;

/// A crate, and the compiler that it says it needs.
#[derive(Debug, PartialEq, Eq)]
struct Needs {
    package: String,
    compiler: String,
}

/// Compiles each crate with the compiler that it names, and says of which it could not.
pub(crate) fn check() -> Result<(), Failure> {
    let metadata = Run::cargo("mend the manifest that cargo names above")
        .args(["metadata", "--locked", "--no-deps", "--format-version", "1"])
        .read()?;
    let crates = needs(&metadata).ok_or_else(|| {
        Failure::new(
            "a package has no rust-version, or cargo metadata is not as expected",
            "add rust-version",
        )
    })?;
    check_dependencies(&crates)?;
    let mut left_out = Vec::new();
    for Needs { package, compiler } in crates {
        if !has(&compiler) {
            left_out.push(format!("{package} ({compiler})"));
            continue;
        }
        println!("{package} with {compiler}");
        // A directory of its own: the artefacts of one compiler are of no use to another.
        Run::new("rustup", format!("raise rust-version of {package}, or do without what is newer"))
            .args(["run", &compiler, "cargo", "check", "--locked", "--quiet", "--lib", "--bins"])
            .args(["--package", &package])
            .args(["--target-dir", &format!("target/rust-version/{compiler}")])
            .succeed()?;
    }
    if !left_out.is_empty() {
        println!("not checked, because rustup has no such compiler here: {}", left_out.join(", "));
        println!("`rustup toolchain install VERSION --profile minimal` gets one");
    }
    Ok(())
}

/// No crate, with its default features, names an older compiler than a dependency does.
fn check_dependencies(crates: &[Needs]) -> Result<(), Failure> {
    let metadata = Run::cargo("mend the manifest that cargo names above")
        .args(["metadata", "--locked", "--format-version", "1"])
        .read()?;
    let all = needed_by_all(&metadata)
        .ok_or_else(|| Failure::new("cargo metadata is not as expected", "correct xtask"))?;
    for Needs { package, compiler } in crates {
        let tree = Run::cargo("mend what cargo says above")
            .args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none"])
            .args(["--format", "{p}", "--package", package])
            .read()?;
        if let Some((name, newer)) = newest(&tree, &all).filter(|(_, newer)| *newer > version(compiler)) {
            return Err(Failure::new(
                format!(
                    "{package} says that Rust {compiler} is enough, and its dependency {name} needs {newer:?}"
                ),
                format!("raise rust-version of {package}"),
            ));
        }
    }
    Ok(())
}

/// A version's numbers; what is missing is 0.
type Version = [u32; 3];

fn version(text: &str) -> Version {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or_default());
    std::array::from_fn(|_| numbers.next().unwrap_or_default())
}

/// By name and version, as `cargo tree` writes them: the compiler that a package needs.
fn needed_by_all(metadata: &str) -> Option<BTreeMap<String, Version>> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let read = |package: &Value| {
        let text = |field: &str| Some(package.get(field)?.as_str()?.to_owned());
        let needed = text("rust_version").map_or([0; 3], |needed| version(&needed));
        Some((format!("{} v{}", text("name")?, text("version")?), needed))
    };
    metadata.get("packages")?.as_array()?.iter().map(read).collect()
}

/// The package of a tree that needs the newest compiler.
fn newest(tree: &str, all: &BTreeMap<String, Version>) -> Option<(String, Version)> {
    let named = tree.lines().filter_map(|line| {
        let name = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        all.get(&name).map(|needed| (name, *needed))
    });
    named.max_by_key(|(_, needed)| *needed)
}

/// Whether that compiler is installed.
fn has(compiler: &str) -> bool {
    let output = Command::new("rustup").args(["run", compiler, "rustc", "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn needs(metadata: &str) -> Option<Vec<Needs>> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let read = |package: &Value| {
        let text = |field: &str| Some(package.get(field)?.as_str()?.to_owned());
        Some(Needs { package: text("name")?, compiler: text("rust_version")? })
    };
    metadata.get("packages")?.as_array()?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_and_its_compiler_are_read_from_what_cargo_writes() {
        let metadata = r#"{"packages": [{"name": "a", "rust_version": "1.90"}]}"#;
        assert_eq!(
            needs(metadata).unwrap(),
            [Needs { package: "a".to_owned(), compiler: "1.90".to_owned() }]
        );
        assert_eq!(needs(r#"{"packages": [{"name": "a", "rust_version": null}]}"#), None);
    }

    #[test]
    fn newest_need_of_a_tree_is_found() {
        let metadata = r#"{"packages": [{"name": "a", "version": "1.0.0", "rust_version": "1.9"},
            {"name": "b", "version": "2.0.0", "rust_version": "1.88.1"},
            {"name": "c", "version": "3.0.0", "rust_version": null}]}"#;
        let all = needed_by_all(metadata).unwrap();
        let tree = "a v1.0.0 (/somewhere)\nb v2.0.0\nc v3.0.0 (*)\n";
        assert_eq!(newest(tree, &all), Some(("b v2.0.0".to_owned(), [1, 88, 1])));
        assert!(version("1.9") < version("1.88"));
    }
}
