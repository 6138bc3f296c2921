//! Where a value comes from, and which source wins: code, environment, file, default.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::env::Env;
use super::file::File;
use super::names::Name;

/// Where a setting's value comes from. Earlier variants win over later ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Origin {
    /// The program gave it.
    Code,
    /// An environment variable.
    Environment {
        /// Its name, which may be an older one of the setting's.
        variable: &'static str,
    },
    /// The configuration file.
    File {
        /// The file, as it was found.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code => f.write_str("code"),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::File { path, line } => write!(f, "file {path}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value as it was given. Has no `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) enum Given {
    Text(String),
    /// A number of the file or of code, in decimal.
    Number(String),
    List(Vec<String>),
}

impl Given {
    /// The value as an environment variable would hold it.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) | Self::Number(text) => Cow::Borrowed(text),
            Self::List(texts) => Cow::Owned(texts.join(",")),
        }
    }

    fn is_blank(&self) -> bool {
        matches!(self, Self::Text(text) if text.trim().is_empty())
    }
}

/// A value as it was given, of which setting, and where.
pub(super) struct Raw {
    pub(super) name: Name,
    pub(super) given: Given,
    pub(super) origin: Origin,
}

impl Raw {
    /// The setting without its value, as it was called where it was made.
    pub(super) fn called(&self) -> &'static str {
        match self.origin {
            Origin::Environment { variable } => variable,
            _ => self.name.key(),
        }
    }
}

/// A value that was understood, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

impl<T> Set<T> {
    pub(super) const fn default(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }
}

/// Every place that a setting may come from.
pub(super) struct Sources<'a> {
    pub(super) code: &'a BTreeMap<Name, Given>,
    pub(super) env: &'a Env<'a>,
    pub(super) file: &'a File,
}

impl Sources<'_> {
    /// The value of `name` that counts. What is blank in the environment or the file is not given; in
    /// code it is.
    pub(super) fn get(&self, name: Name) -> Option<Raw> {
        let code = || Some((self.code.get(&name)?.clone(), Origin::Code));
        let env = || {
            let (variable, value) = self.env.get(name.variables())?;
            Some((Given::Text(value), Origin::Environment { variable }))
        };
        let file = || self.file.get(name).filter(|(given, _)| !given.is_blank());
        let (given, origin) = code().or_else(env).or_else(file)?;
        Some(Raw { name, given, origin })
    }
}
