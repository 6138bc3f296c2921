//! An npm package that carries the binary of each processor, for `npm install` and `npx`.
//!
//! The binaries are inside. With one package for each processor, as optional dependencies, a lock
//! file of another machine would leave the binary out; and a script that downloads at installation
//! is what many forbid.

use std::collections::BTreeSet;
use std::sync::Arc;

use flate2::Compression;
use serde_json::json;

use super::documents::Documents;
use super::files::Files;
use super::json::json_file;
use super::program::{Program, VERSION};
use super::tar::tar_gz;
use crate::failure::Failure;
use crate::run::checkout;

/// Starts the binary for the processor that runs it.
const LAUNCHER: &str = "deploy/packages/launcher.js";

/// The package's file name and its bytes.
pub(crate) fn npm(
    programs: &[Program],
    documents: &Documents,
    level: Compression,
) -> Result<(String, Vec<u8>), Failure> {
    let launcher = std::fs::read(checkout().join(LAUNCHER))
        .map_err(|error| Failure::new(format!("{LAUNCHER} cannot be read: {error}"), "restore it"))?;
    let mut files = Files::default();
    files.add("package/package.json", package_json(programs, documents)?);
    files.add_program("package/bin/peercache.js", launcher);
    files.add("package/README.md", Arc::clone(&documents.readme));
    for (name, text) in &documents.licences {
        files.add(format!("package/{name}"), Arc::clone(text));
    }
    for (name, page) in &documents.man_pages {
        files.add(format!("package/man/{name}"), Arc::clone(page));
    }
    for program in programs {
        let folder = format!("package/native/linux-{}", program.arch.node_name());
        files.add_program(format!("{folder}/peercache"), Arc::clone(&program.bytes));
        files.add(format!("{folder}/sbom.cdx.json"), Arc::clone(&program.sbom));
    }
    Ok((format!("peercache-{VERSION}.tgz"), tar_gz(&files, level)?))
}

fn package_json(programs: &[Program], documents: &Documents) -> Result<Vec<u8>, Failure> {
    let mut package = json!({
        "name": "peercache",
        "version": VERSION,
        "description": "Share GitHub API responses between CI runners through a chain of caches",
        "license": env!("CARGO_PKG_LICENSE"),
        "repository": { "type": "git", "url": format!("git+{}.git", env!("CARGO_PKG_REPOSITORY")) },
        "bin": { "peercache": "bin/peercache.js" },
        "man": documents.man_pages.iter().map(|(name, _)| format!("./man/{name}")).collect::<BTreeSet<_>>(),
        "engines": { "node": ">=18" },
        "os": ["linux"],
        "cpu": programs.iter().map(|program| program.arch.node_name()).collect::<Vec<_>>(),
    });
    if !programs.iter().all(|program| program.is_static) {
        package["libc"] = json!(["glibc"]);
    }
    json_file(package)
}

#[cfg(test)]
mod tests {
    #[test]
    fn packages_name_the_repository_and_the_licence_of_the_workspace() {
        assert!(env!("CARGO_PKG_REPOSITORY").starts_with("https://"));
        assert_eq!(env!("CARGO_PKG_LICENSE"), "MIT OR Apache-2.0");
    }
}
