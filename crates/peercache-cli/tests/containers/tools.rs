//! Where the programs are that the fixtures start, and whether this machine lets us use them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The search path, and what the unpacked programs need to find their own files.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    environment: Vec<(&'static str, OsString)>,
    path: OsString,
}

impl Tools {
    /// With the programs of the folder of `dockerd` in front, or only those of the system.
    pub(crate) fn new(dockerd: Option<&Path>) -> Self {
        let bin = dockerd.and_then(Path::parent);
        let system = std::env::var_os("PATH").unwrap_or_default();
        let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
        let dirs = bin.map(Path::to_owned).into_iter().chain(std::env::split_paths(&system)).chain(more);
        let path = std::env::join_paths(dirs).unwrap();
        let mut environment = Vec::new();
        // Unpacked and not installed: the libraries are in the same tree.
        if let Some(root) = bin.and_then(Path::parent) {
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|dir| root.join(dir));
            let plugins = libraries[0].join("xtables");
            if root != Path::new("/") && plugins.is_dir() {
                environment.push(("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap()));
                environment.push(("XTABLES_LIBDIR", plugins.into_os_string()));
            }
        }
        Self { environment, path }
    }

    /// `program`, in an environment that holds nothing but what is needed to find it and its files.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.find(program).unwrap_or_else(|| program.into()));
        command.env_clear().env("PATH", &self.path).envs(self.environment.iter().cloned());
        command
    }

    /// The first file of this name in the search path.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path).map(|dir| dir.join(program)).find(|file| file.is_file())
    }

    /// Why no namespaces can be made and joined here, if so.
    pub(crate) fn lacks(&self) -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("network namespaces need root".to_owned());
        }
        let missing = ["unshare", "nsenter", "setpriv", "ip", "iptables", "bash"]
            .into_iter()
            .find(|program| self.find(program).is_none())?;
        Some(format!("there is no `{missing}`"))
    }
}
