//! The files of a package, in the order of their names.

use std::collections::BTreeMap;
use std::sync::Arc;

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) bytes: Arc<[u8]>,
    /// Whether users run it.
    pub(crate) executable: bool,
}

impl File {
    /// The permissions that everybody gets: nothing of the machine that packs goes into a package.
    pub(crate) fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }
}

/// Files by their paths, which are relative and separated by `/`.
#[derive(Debug, Default)]
pub(crate) struct Files(BTreeMap<String, File>);

impl Files {
    /// Adds a file that is read.
    pub(crate) fn add(&mut self, path: impl Into<String>, bytes: impl Into<Arc<[u8]>>) {
        self.0.insert(path.into(), File { bytes: bytes.into(), executable: false });
    }

    /// Adds a file that is run.
    pub(crate) fn add_program(&mut self, path: impl Into<String>, bytes: impl Into<Arc<[u8]>>) {
        self.0.insert(path.into(), File { bytes: bytes.into(), executable: true });
    }

    /// In the order of their paths.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &File)> {
        self.0.iter().map(|(path, file)| (path.as_str(), file))
    }
}
