//! Settings from the environment.

use std::cell::Cell;
use std::env::VarError;

use super::error::ConfigError;

type Lookup<'a> = dyn Fn(&'static str) -> Option<String> + 'a;

/// Variables by name. Not always those of this process: tests bring their own.
pub(super) struct Env<'a>(Box<Lookup<'a>>);

impl<'a> Env<'a> {
    pub(super) fn new(lookup: impl Fn(&'static str) -> Option<String> + 'a) -> Self {
        Self(Box::new(lookup))
    }

    /// The first of `names` that is set, an older name after a newer one, and its value without white
    /// space around it. What is blank counts as unset.
    pub(super) fn get(&self, names: &[&'static str]) -> Option<(&'static str, String)> {
        names.iter().find_map(|name| {
            let value = (self.0)(name)?.trim().to_owned();
            (!value.is_empty()).then_some((*name, value))
        })
    }

    pub(super) fn one(&self, name: &'static str) -> Option<String> {
        self.get(&[name]).map(|(_, value)| value)
    }
}

/// Calls `read` with the environment of this process. A variable that it asked for and that is not
/// UTF-8 is a mistake, whatever else `read` says.
pub(super) fn of_this_process<T>(
    read: impl FnOnce(&Env<'_>) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let unreadable = Cell::new(None);
    let result = read(&Env::new(|name| match std::env::var(name) {
        Ok(value) => Some(value),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => {
            unreadable.set(Some(name));
            None
        }
    }));
    match unreadable.get() {
        Some(name) => Err(ConfigError::of_variable(name, "its value is not UTF-8", "give it as UTF-8 text")),
        None => result,
    }
}

/// Settings of later releases. A user who set one believes that it works, so silence would be a lie.
pub(super) fn warnings(env: &Env<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |names: &[&'static str], text: &str| {
        if let Some((name, _)) = env.get(names) {
            warnings.push(format!("{name} is set, but {text}"));
        }
    };
    warn(&["IPFS_API", "CACHE_IPFS_API"], "this release has no ipfs backend yet");
    warn(&["WEB3_STORAGE_TOKEN", "STORACHA_TOKEN"], "this release has no storacha backend yet");
    warnings
}
