//! Every setting as it counts, and where it came from.

use std::fmt;

use serde::Serialize;

use super::configuration::Config;
use super::error::ConfigError;
use super::name::Name;
use super::value::Origin;

/// A setting as it may be shown, and where its value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// Its key in the file; `config` for the file itself.
    pub name: &'static str,
    /// The variable that sets it.
    pub variable: &'static str,
    /// Its value. Of a secret only whether it is set, its key id and what it allows.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.name, self.value, self.origin)
    }
}

impl Config {
    /// Every setting, the configuration file first, then in the order of the reference.
    ///
    /// Blocks: to show the key id of a passphrase takes a fraction of a second, once.
    ///
    /// # Errors
    /// A secret that cannot be used.
    pub fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let file = Setting {
            name: "config",
            variable: "CACHE_CONFIG",
            value: self.file.value.clone().unwrap_or_else(|| "none".to_owned()),
            origin: self.file.origin.clone(),
        };
        let [current, old] = self.secrets.show()?;
        let shown = self.values.shown().into_iter().map(|(name, value, origin)| Setting {
            name: name.key(),
            variable: name.variables()[0],
            value: match name {
                Name::Secret => current.clone(),
                Name::SecretOld => old.clone(),
                _ => value,
            }
            .unwrap_or_else(|| "not set".to_owned()),
            origin: origin.clone(),
        });
        Ok(std::iter::once(file).chain(shown).collect())
    }
}
