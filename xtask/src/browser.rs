//! What drives Chromium in the test of the status page: playwright-core, which brings no browser of
//! its own, and axe-core, which looks for what keeps people out. The lock file is in
//! `xtask/browser`.

use std::path::Path;

use crate::failure::Failure;
use crate::npm_packages;

/// Names the folder: the version of playwright-core.
pub(crate) const VERSION: &str = "1.65.1";

/// Installs both into `dir`.
pub(crate) fn install(dir: &Path) -> Result<(), Failure> {
    npm_packages::install("browser", &["package.json", "package-lock.json"], dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_carries_the_version_that_the_lock_file_pins() {
        assert_eq!(VERSION, npm_packages::pinned("browser", "playwright-core"));
    }
}
