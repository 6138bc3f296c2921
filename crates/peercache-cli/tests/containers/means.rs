//! What this machine lets the tests use.

use std::path::{Path, PathBuf};

use crate::part::missing;
use crate::tools::Tools;

const INSTALL: &str = "as root, run `cargo xtask test -- -p peercache-cli --test containers`";

/// A Docker engine and the binary for its images, or namespaces alone.
#[derive(Debug)]
pub(crate) enum Means {
    /// Real containers.
    Engine { dockerd: PathBuf, binary: PathBuf },
    /// No engine: network namespaces stand in.
    Namespaces { tools: Tools, binary: PathBuf },
}

impl Means {
    /// What there is for containers; nothing where the test has to be skipped, which is then said.
    pub(crate) fn for_containers() -> Option<Self> {
        let dockerd = variable("PEERCACHE_TEST_DOCKERD");
        let tools = Tools::new(dockerd.as_deref());
        if let Some(reason) = tools.lacks() {
            missing(&reason, INSTALL);
            return None;
        }
        match (dockerd, variable("PEERCACHE_TEST_STATIC_BINARY")) {
            (Some(dockerd), Some(binary)) => Some(Self::Engine { dockerd, binary }),
            (dockerd, _) => {
                let absent =
                    if dockerd.is_none() { "PEERCACHE_TEST_DOCKERD" } else { "PEERCACHE_TEST_STATIC_BINARY" };
                // Fails where everything is required.
                missing(&format!("NO REAL CONTAINERS: {absent} is not set; namespaces stand in"), INSTALL);
                Some(Self::Namespaces { tools, binary: built() })
            }
        }
    }

    /// The programs for namespaces and the binary to run in them; nothing where the test has to be
    /// skipped.
    pub(crate) fn for_namespaces() -> Option<(Tools, PathBuf)> {
        let tools = Tools::new(variable("PEERCACHE_TEST_DOCKERD").as_deref());
        if let Some(reason) = tools.lacks() {
            missing(&reason, INSTALL);
            return None;
        }
        Some((tools, built()))
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The binary that cargo built beside this test.
fn built() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_peercache")).to_owned()
}
