//! Each crate compiles with the compiler that its `rust-version` names.

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
}
