//! go-github, the client of GitHub's API in Go, in a program of ours that does what programs do
//! with it: `xtask/go-github`.

use std::path::Path;

use crate::failure::Failure;
use crate::go::WrapperModule;

/// Names the folder: go-github, and how often the program around it was changed.
pub(crate) const VERSION: &str = "88.0.0-r1";

/// Builds it into `dir`.
pub(crate) fn build(dir: &Path) -> Result<(), Failure> {
    WrapperModule { folder: "go-github", package: ".", program: "go-github-client", tags: "netgo" }.build(dir)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::checkout;

    #[test]
    fn folder_carries_the_version_that_the_module_pins() {
        let module = fs::read_to_string(checkout().join("xtask/go-github/go.mod")).unwrap();
        let (version, _) = VERSION.rsplit_once("-r").unwrap();
        assert!(module.contains(&format!("github.com/google/go-github/v88 v{version}\n")), "{module}");
    }
}
