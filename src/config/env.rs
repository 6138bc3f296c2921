//! Settings from the environment.

use std::cell::Cell;
use std::env::VarError;
use std::path::{Path, PathBuf};

use super::error::ConfigError;

type Lookup<'a> = dyn Fn(&'static str) -> Option<String> + 'a;

/// Variables by name. Not always those of this process: tests bring their own.
pub(super) struct Env<'a> {
    lookup: Box<Lookup<'a>>,
    /// The names of all variables, where they can be listed.
    pub(super) names: Vec<String>,
}

impl<'a> Env<'a> {
    pub(super) fn new(lookup: impl Fn(&'static str) -> Option<String> + 'a) -> Self {
        Self { lookup: Box::new(lookup), names: Vec::new() }
    }

    /// The first of `names` that is set, the newer name before its aliases, and its value without
    /// white space around it. What is blank counts as unset.
    pub(super) fn get(&self, names: &[&'static str]) -> Option<(&'static str, String)> {
        names.iter().find_map(|name| {
            let value = (self.lookup)(name)?.trim().to_owned();
            (!value.is_empty()).then_some((*name, value))
        })
    }

    pub(super) fn one(&self, name: &'static str) -> Option<String> {
        self.get(&[name]).map(|(_, value)| value)
    }

    /// `path` with a leading `~/` replaced by the home directory, where that is known.
    pub(super) fn expand(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), self.one("HOME")) {
            (Ok(rest), Some(home)) => Path::new(&home).join(rest),
            _ => path.to_owned(),
        }
    }
}

/// Calls `read` with the environment of this process. A variable that it asked for and that is not
/// UTF-8 is a mistake, whatever else `read` says.
pub(super) fn of_this_process<T>(
    read: impl FnOnce(&Env<'_>) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let unreadable = Cell::new(None);
    let mut env = Env::new(|name| match std::env::var(name) {
        Ok(value) => Some(value),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => {
            unreadable.set(Some(name));
            None
        }
    });
    env.names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    let result = read(&env);
    match unreadable.get() {
        Some(name) => Err(ConfigError::of_variable(name, "its value is not UTF-8", "give it as UTF-8 text")),
        None => result,
    }
}

/// A base directory (XDG Base Directory Specification): from its variable, which must be absolute
/// to count, else in the home directory.
pub(super) fn place_of(variable: &'static str, in_home: &str, env: &Env<'_>) -> Option<PathBuf> {
    let home = || env.one("HOME").map(|home| Path::new(&home).join(in_home));
    env.one(variable).map(PathBuf::from).filter(|dir| dir.is_absolute()).or_else(home)
}
