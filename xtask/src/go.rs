//! Programs that are built with Go from a wrapper module of ours, which pins them and all that they
//! need.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::run::{self, Run, checkout};

/// A wrapper module in a folder of `xtask`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrapperModule {
    /// The folder below `xtask`.
    pub(crate) folder: &'static str,
    /// The package that is the program.
    pub(crate) package: &'static str,
    /// The program's name.
    pub(crate) program: &'static str,
    /// Build tags, separated by commas.
    pub(crate) tags: &'static str,
}

impl WrapperModule {
    /// Builds the program into `bin` below `dir`. Nothing of what it is built from is kept.
    pub(crate) fn build(self, dir: &Path) -> Result<(), Failure> {
        let Some(go) = run::on_path("go") else {
            return Err(Failure::new("Go is not installed", "install Go 1.26 or later (https://go.dev/dl)"));
        };
        let caches = dir.join("caches");
        let built = self.compile(&go, dir, &caches);
        // The caches are worth nothing once it is built, whichever way that ended.
        let removed = fs::remove_dir_all(&caches);
        built?;
        removed.map_err(|error| {
            Failure::new(
                format!("{} cannot be removed: {error}", caches.display()),
                "run the same command again",
            )
        })
    }

    fn compile(self, go: &PathBuf, dir: &Path, caches: &Path) -> Result<(), Failure> {
        let bin = dir.join("bin");
        for folder in [caches, &bin] {
            fs::create_dir_all(folder).map_err(|error| {
                Failure::new(
                    format!("{} cannot be made: {error}", folder.display()),
                    "run the same command again",
                )
            })?;
        }
        // No tag or flag depends on the machine.
        Run::new(go, "connect to a Go module proxy and run it again")
            .args(["build", "-p", "2", "-mod=readonly", "-trimpath", "-tags", self.tags])
            .args(["-ldflags", "-s -w", "-o"])
            .args([bin.join(self.program)])
            .args([self.package])
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-modcacherw")
            .env("GOMODCACHE", caches.join("modules"))
            .env("GOCACHE", caches.join("build"))
            .in_dir(&checkout().join("xtask").join(self.folder))
            .succeed()
    }
}
