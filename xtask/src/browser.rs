//! What drives Chromium in the test of the status page: playwright-core, which brings no browser of
//! its own, and axe-core, which looks for what keeps people out. The lock file is in
//! `xtask/browser`.

use std::path::Path;

use crate::failure::Failure;
use crate::npm_packages;
use crate::run::{Run, on_path};
use crate::suite::is_ci;

/// Names the folder: the version of playwright-core.
pub(crate) const VERSION: &str = "1.65.1";

/// The names under which the test looks for a browser.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Installs both into `dir`, and in CI a browser into the system: it needs some forty libraries.
/// Elsewhere the test says that there is none.
pub(crate) fn install(dir: &Path) -> Result<(), Failure> {
    npm_packages::install("browser", &["package.json", "package-lock.json"], dir)?;
    let is_there = BROWSERS.iter().any(|name| on_path(name).is_some());
    if is_there || !is_ci(std::env::var("CI").ok().as_deref()) {
        return Ok(());
    }
    let apt = |args: &[&str]| {
        let next = "install Chromium in this system's own way";
        Run::new("apt-get", next).env("DEBIAN_FRONTEND", "noninteractive").args(args).succeed()
    };
    apt(&["--quiet=2", "update"])?;
    apt(&["--quiet=2", "install", "--yes", "--no-install-recommends", "chromium"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_carries_the_version_that_the_lock_file_pins() {
        assert_eq!(VERSION, npm_packages::pinned("browser", "playwright-core"));
    }
}
