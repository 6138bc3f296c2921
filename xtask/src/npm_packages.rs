//! npm packages at the versions of a lock file that is kept in a folder of `xtask`.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::run::{self, Run, checkout};

/// Installs the packages of `xtask/FOLDER` into `dir`, with these of its files. Nothing of the
/// packages is run.
pub(crate) fn install(folder: &str, files: &[&str], dir: &Path) -> Result<(), Failure> {
    if run::on_path("node").is_none() {
        return Err(Failure::new(
            "Node.js is not installed",
            "install Node.js 20 or later (https://nodejs.org)",
        ));
    }
    for file in files {
        let from = checkout().join("xtask").join(folder).join(file);
        fs::copy(&from, dir.join(file)).map_err(|error| {
            Failure::new(
                format!("{} cannot be copied: {error}", from.display()),
                "run the same command again",
            )
        })?;
    }
    Run::new("npm", "install npm, or connect to its registry")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", "--fetch-retries=1"])
        .in_dir(dir)
        .succeed()
}

/// The version of `package` in the lock file of `xtask/FOLDER`.
#[cfg(test)]
pub(crate) fn pinned(folder: &str, package: &str) -> String {
    let lock = fs::read_to_string(checkout().join("xtask").join(folder).join("package-lock.json")).unwrap();
    let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
    lock["packages"][format!("node_modules/{package}")]["version"].as_str().unwrap().to_owned()
}
