//! Paths.

use std::path::PathBuf;

use super::kind::{AnyKind, Kind};
use crate::config::env::Env;
use crate::config::error::ConfigError;
use crate::config::name::Name;
use crate::config::value::{Given, Origin, Raw};

/// A path. `~/` at its beginning is the home directory; in a file it must not be relative.
pub(in crate::config) struct Path;

impl Path {
    pub(in crate::config) fn given(path: impl Into<PathBuf>) -> Given {
        Given::Path(path.into())
    }
}

impl AnyKind for Path {
    fn accepted(&self, _: Option<&str>) -> String {
        "give a path as text".to_owned()
    }

    fn described(&self) -> String {
        "path; `~/` is the home directory".to_owned()
    }
}

impl Kind for Path {
    type Value = PathBuf;

    fn parse(&self, raw: &Raw, env: &Env<'_>) -> Result<PathBuf, ConfigError> {
        let given = match &raw.given {
            Given::Path(path) => return Ok(path.clone()),
            other => PathBuf::from(other.text().trim()),
        };
        let path = env.expand(&given);
        if path.starts_with("~") {
            return Err(ConfigError::of(
                raw,
                "the path begins with ~ and HOME is not set",
                "set HOME, or give an absolute path",
            ));
        }
        if given.as_os_str().as_encoded_bytes().starts_with(b"~") && path == given {
            return Err(ConfigError::of(
                raw,
                "the home directory of another user is not looked up",
                "give an absolute path, or one that begins with ~/",
            ));
        }
        // The variable is relative to where the process is started. In a file nobody could tell.
        if matches!(raw.origin, Origin::File { .. }) && !path.is_absolute() {
            return Err(ConfigError::of(
                raw,
                "a path in a file must not depend on where the process is started",
                "give an absolute path, or one that begins with ~/",
            ));
        }
        Ok(path)
    }

    fn show(&self, path: &PathBuf) -> Option<String> {
        Some(path.display().to_string())
    }
}

/// A path to a file that holds the value of another setting.
pub(in crate::config) struct FileOf(pub(in crate::config) Name);

impl FileOf {
    pub(in crate::config) fn given(path: impl Into<PathBuf>) -> Given {
        Given::Path(path.into())
    }
}

impl AnyKind for FileOf {
    fn accepted(&self, _: Option<&str>) -> String {
        format!("give the path of a file that holds nothing but {}", self.0.variables()[0])
    }

    fn described(&self) -> String {
        "path of a file; `~/` is the home directory".to_owned()
    }

    fn file_of(&self) -> Option<Name> {
        Some(self.0)
    }
}

impl Kind for FileOf {
    type Value = PathBuf;

    fn parse(&self, raw: &Raw, env: &Env<'_>) -> Result<PathBuf, ConfigError> {
        Path.parse(raw, env)
    }

    fn show(&self, path: &PathBuf) -> Option<String> {
        Path.show(path)
    }
}
