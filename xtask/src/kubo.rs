//! Kubo, the IPFS node of the tests: built with Go from the wrapper module in `xtask/kubo`.
//!
//! `go install` refuses Kubo, whose `go.mod` has a `replace`. The wrapper pins Kubo 0.43.1 with
//! go-libp2p
//! 0.50.0: the fork that Kubo names is on no module proxy, and what it builds is that pair and not
//! the official binary.

use std::path::Path;

use crate::failure::Failure;
use crate::go::WrapperModule;

/// Names the folder: Kubo and the libp2p that it is built with.
pub(crate) const VERSION: &str = "0.43.1-libp2p-0.50.0";

/// Builds it into `dir`. Takes some minutes, 550 MB of downloads and, while it runs, 1.4 GB of
/// disk.
pub(crate) fn build(dir: &Path) -> Result<(), Failure> {
    WrapperModule {
        folder: "kubo",
        package: "github.com/ipfs/kubo/cmd/ipfs",
        program: "ipfs",
        tags: "nofuse",
    }
    .build(dir)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::checkout;

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
