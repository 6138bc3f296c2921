//! `@octokit/rest` and `@actions/github` for the tests: npm packages at the versions of the lock file
//! in `xtask/octokit`.

use std::path::Path;

use crate::failure::Failure;
use crate::storacha::install_locked;

/// Names the folder: the version of `@octokit/rest`.
pub(crate) const VERSION: &str = "22.0.1";
const FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// Installs them into `dir`. Nothing of the packages is run.
pub(crate) fn install(dir: &Path) -> Result<(), Failure> {
    install_locked("octokit", &FILES, dir)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::checkout;

    #[test]
    fn folder_carries_the_version_that_the_lock_file_pins() {
        let lock = fs::read_to_string(checkout().join("xtask/octokit/package-lock.json")).unwrap();
        let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
        let pinned = lock["packages"]["node_modules/@octokit/rest"]["version"].as_str();
        assert_eq!(pinned, Some(VERSION));
    }
}
