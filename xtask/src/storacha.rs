//! The upload service of Storacha for the tests: npm packages at the versions of a lock file, and a
//! server of our own around them, both in `xtask/storacha`.

use std::path::Path;

use crate::failure::Failure;
use crate::npm_packages;

/// Names the folder: the version of `@storacha/upload-api`, and how often the server around it was
/// changed.
pub(crate) const VERSION: &str = "2.8.4-r3";
const FILES: [&str; 3] = ["package.json", "package-lock.json", "server.mjs"];

/// Installs it into `dir`. Nothing of the packages is run.
pub(crate) fn install(dir: &Path) -> Result<(), Failure> {
    npm_packages::install("storacha", &FILES, dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_carries_the_version_that_the_lock_file_pins() {
        let pinned = npm_packages::pinned("storacha", "@storacha/upload-api");
        assert_eq!(VERSION.rsplit_once("-r").unwrap().0, pinned);
    }
}
