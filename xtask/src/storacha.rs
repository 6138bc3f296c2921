//! The upload service of Storacha for the tests: npm packages at the versions of a lock file, and a
//! server of our own around them, both in `xtask/storacha`.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::run::{self, Run, checkout};

/// Names the folder: the version of `@storacha/upload-api`, and how often the server around it was
/// changed.
pub(crate) const VERSION: &str = "2.8.4-r3";
const FILES: [&str; 3] = ["package.json", "package-lock.json", "server.mjs"];

/// Installs it into `dir`. Nothing of the packages is run.
pub(crate) fn install(dir: &Path) -> Result<(), Failure> {
    install_locked("storacha", &FILES, dir)
}

/// Copies these `files` of a folder of `xtask` into `dir`, and installs what its lock file says.
/// Nothing of the packages is run.
pub(crate) fn install_locked(folder: &str, files: &[&str], dir: &Path) -> Result<(), Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_carries_the_version_that_the_lock_file_pins() {
        let lock = fs::read_to_string(checkout().join("xtask/storacha/package-lock.json")).unwrap();
        let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
        let pinned = lock["packages"]["node_modules/@storacha/upload-api"]["version"].as_str().unwrap();
        assert_eq!(VERSION.rsplit_once("-r").unwrap().0, pinned);
    }
}
