//! Kubo, the IPFS node of the tests: built with Go from the wrapper module in `xtask/kubo`.
//!
//! `go install` refuses Kubo, whose `go.mod` has a `replace`. The wrapper pins Kubo 0.43.1 with
//! go-libp2p 0.50.0: the fork that Kubo names is on no module proxy, and what it builds is that
//! pair and not the official binary.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::run::{self, Run, checkout};

/// Names the folder: Kubo and the libp2p that it is built with.
pub(crate) const VERSION: &str = "0.43.1-libp2p-0.50.0";
/// The tags and flags of the build; none of them depends on the machine.
const FLAGS: [&str; 9] =
    ["-p", "2", "-mod=readonly", "-trimpath", "-tags", "nofuse", "-ldflags", "-s -w", "-o"];

/// Builds it into `dir`. Takes some minutes, 550 MB of downloads and, while it runs, 1.4 GB of
/// disk.
pub(crate) fn build(dir: &Path) -> Result<(), Failure> {
    let Some(go) = run::on_path("go") else {
        return Err(Failure::new("Go is not installed", "install Go 1.26 or later (https://go.dev/dl)"));
    };
    let caches = dir.join("caches");
    let built = compile(&go, dir, &caches);
    // The caches are worth nothing once it is built, whichever way that ended.
    let removed = fs::remove_dir_all(&caches);
    built?;
    removed.map_err(|error| {
        Failure::new(format!("{} cannot be removed: {error}", caches.display()), "run the same command again")
    })
}

fn compile(go: &PathBuf, dir: &Path, caches: &Path) -> Result<(), Failure> {
    let bin = dir.join("bin");
    for folder in [caches, &bin] {
        fs::create_dir_all(folder).map_err(|error| {
            Failure::new(
                format!("{} cannot be made: {error}", folder.display()),
                "run the same command again",
            )
        })?;
    }
    Run::new(go, "connect to a Go module proxy and run it again")
        .args(["build"])
        .args(FLAGS)
        .args([bin.join("ipfs")])
        .args(["github.com/ipfs/kubo/cmd/ipfs"])
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-modcacherw")
        .env("GOMODCACHE", caches.join("modules"))
        .env("GOCACHE", caches.join("build"))
        .in_dir(&checkout().join("xtask").join("kubo"))
        .succeed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_carries_the_versions_that_the_wrapper_pins() {
        let module = fs::read_to_string(checkout().join("xtask/kubo/go.mod")).unwrap();
        let pinned = |module_path: &str| {
            let line = module.lines().find(|line| line.trim().starts_with(&format!("{module_path} ")));
            line.and_then(|line| line.split_whitespace().nth(1)).unwrap().trim_start_matches('v').to_owned()
        };
        let (kubo, libp2p) = (pinned("github.com/ipfs/kubo"), pinned("github.com/libp2p/go-libp2p"));
        assert_eq!(VERSION, format!("{kubo}-libp2p-{libp2p}"));
    }
}
