//! ghproxy, the GitHub cache of Prow: built with Go from the wrapper module in `xtask/ghproxy`.

use std::path::Path;

use crate::failure::Failure;
use crate::go::WrapperModule;

/// The newest version that the Go module proxy has.
pub(crate) const VERSION: &str = "0.0.0-20240619181241-cfb8754e0459";

/// Builds it into `dir`. Takes some minutes.
pub(crate) fn build(dir: &Path) -> Result<(), Failure> {
    WrapperModule {
        folder: "ghproxy",
        package: "sigs.k8s.io/prow/cmd/ghproxy",
        program: "ghproxy",
        tags: "netgo",
    }
    .build(dir)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::checkout;

    #[test]
    fn wrapper_module_pins_the_version_that_names_the_folder() {
        let module = fs::read_to_string(checkout().join("xtask/ghproxy/go.mod")).unwrap();
        assert!(module.contains(&format!("sigs.k8s.io/prow v{VERSION}\n")), "{module}");
    }
}
