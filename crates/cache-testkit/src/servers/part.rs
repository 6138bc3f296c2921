//! Where the program of a server is, as `cargo xtask test` hands it over.

use std::path::{Path, PathBuf};

use super::ServerError;

/// A program that tests use beyond the toolchain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    /// Its name in the search path.
    pub(super) name: &'static str,
    /// The variable that names it.
    pub(super) variable: &'static str,
    /// How to have it.
    pub(super) install: &'static str,
}

impl Program {
    /// The one that its variable names, else the one of the search path. `None`: it is missing,
    /// which was said, and the test may skip.
    pub(super) fn find(self) -> Result<Option<PathBuf>, ServerError> {
        let named = std::env::var_os(self.variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let required = std::env::var_os("PEERCACHE_TEST_REQUIRE").is_some_and(|value| value == "all");
        self.find_in(named.as_deref(), std::env::split_paths(&path), required)
    }

    fn find_in(
        self,
        named: Option<&Path>,
        mut path: impl Iterator<Item = PathBuf>,
        required: bool,
    ) -> Result<Option<PathBuf>, ServerError> {
        if let Some(file) = named {
            if file.is_file() {
                return Ok(Some(file.to_owned()));
            }
            return Err(ServerError::Named { variable: self.variable, value: file.display().to_string() });
        }
        if let Some(file) = path.find_map(|dir| Some(dir.join(self.name)).filter(|file| file.is_file())) {
            return Ok(Some(file));
        }
        if required {
            return Err(ServerError::Missing { program: self.name, install: self.install });
        }
        eprintln!("skipped: {} is missing; {}", self.name, self.install);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEED: Program = Program { name: "weed", variable: "WEED", install: "install it" };

    #[test]
    fn a_named_file_wins_and_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("weed");
        let none = || std::iter::empty::<PathBuf>();
        let found = WEED.find_in(Some(&file), none(), false);
        assert!(matches!(found, Err(ServerError::Named { variable: "WEED", .. })), "{found:?}");
        std::fs::write(&file, "").unwrap();
        assert_eq!(WEED.find_in(Some(&file), none(), true).unwrap(), Some(file.clone()));
        assert_eq!(WEED.find_in(None, [dir.path().to_owned()].into_iter(), true).unwrap(), Some(file));
    }

    #[test]
    fn what_is_missing_is_skipped_unless_everything_is_required() {
        let none = || std::iter::empty::<PathBuf>();
        assert_eq!(WEED.find_in(None, none(), false).unwrap(), None);
        let message = WEED.find_in(None, none(), true).unwrap_err().to_string();
        assert_eq!(message, "weed is missing and nothing stands in for it; install it");
    }
}
