//! `@octokit/rest` and `@actions/github` for the tests: npm packages at the versions of the lock
//! file in `xtask/octokit`.

use std::path::Path;

use crate::failure::Failure;
use crate::npm_packages;

/// Names the folder: the version of `@octokit/rest`.
pub(crate) const VERSION: &str = "22.0.1";
const FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// Installs them into `dir`. Nothing of the packages is run.
pub(crate) fn install(dir: &Path) -> Result<(), Failure> {
    npm_packages::install("octokit", &FILES, dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_carries_the_version_that_the_lock_file_pins() {
        assert_eq!(VERSION, npm_packages::pinned("octokit", "@octokit/rest"));
    }
}
