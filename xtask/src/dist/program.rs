//! The binary that is packed, and what it says about itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::elf::{Arch, linkage};
use super::sbom::sbom;
use crate::failure::Failure;

/// The version of the workspace, which is ours too.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A binary for one processor.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    file: PathBuf,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) arch: Arch,
    /// Runs on any Linux.
    pub(crate) is_static: bool,
    /// Its bill of materials.
    pub(crate) sbom: Arc<[u8]>,
}

impl Program {
    /// Reads `file`, and checks that it is the command in this checkout's version.
    pub(crate) fn load(file: &Path) -> Result<Self, Failure> {
        let name = file.display().to_string();
        let bytes = std::fs::read(file)
            .map_err(|error| Failure::new(format!("{name} cannot be read: {error}"), "correct --binary"))?;
        let linkage = linkage(&name, &bytes)?;
        let target = format!("{}-unknown-linux-gnu", linkage.arch.name());
        let sbom = sbom(&target, &sha256(&bytes))?.into();
        // A relative path without a slash would be looked up in the search path.
        let file = std::path::absolute(file)
            .map_err(|error| Failure::new(format!("{name} cannot be named: {error}"), "give a whole path"))?;
        let program =
            Self { file, bytes: bytes.into(), arch: linkage.arch, is_static: linkage.is_static, sbom };
        if program.arch.is_of_this_machine() {
            program.check_version()?;
        }
        Ok(program)
    }

    fn check_version(&self) -> Result<(), Failure> {
        let said = String::from_utf8_lossy(&self.run(&["--version"])?).trim().to_owned();
        let expected = format!("peercache {VERSION}");
        if said == expected {
            return Ok(());
        }
        Err(Failure::new(
            format!("{} says that it is {said:?}, and this checkout is {expected:?}", self.file.display()),
            "build it from this checkout",
        ))
    }

    /// What the platform is called in names of files.
    pub(crate) fn platform(&self) -> String {
        // One that needs shared libraries runs where glibc is as new as here.
        format!("{}-linux{}", self.arch.name(), if self.is_static { "" } else { "-gnu" })
    }

    /// Runs it with `args`; what it prints.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Vec<u8>, Failure> {
        let shown = format!("{} {}", self.file.display(), args.join(" "));
        let failed =
            |what: String| Failure::new(what, "build it from this checkout, with its default features");
        let output = Command::new(&self.file)
            .args(args)
            .output()
            .map_err(|error| failed(format!("`{shown}` cannot be started: {error}")))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(failed(format!("`{shown}` ended with {}: {said}", output.status)))
    }
}

/// In lower-case hexadecimal, as `sha256sum` prints it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first of `programs` that runs on this machine: the others can be packed, but not asked.
pub(crate) fn that_runs_here(programs: &[Program]) -> Result<&Program, Failure> {
    programs.iter().find(|program| program.arch.is_of_this_machine()).ok_or_else(|| {
        let named: Vec<_> = programs.iter().map(|program| program.arch.name()).collect();
        Failure::new(
            format!("manual pages come from a binary that runs here, and these are for {}", named.join(", ")),
            "name one for this machine too: --binary can be repeated",
        )
    })
}
