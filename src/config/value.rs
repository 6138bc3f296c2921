//! A value: as it was given, as it was understood, and where it came from.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::name::Name;

/// Where a setting's value comes from. Earlier variants win over later ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Origin {
    /// The program gave it.
    Code,
    /// An environment variable.
    Environment {
        /// Its name, which may be one of the setting's aliases.
        variable: &'static str,
    },
    /// The configuration file.
    File {
        /// The file, as it was found.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// A file that holds this value alone, such as the one that `CACHE_SECRET_FILE` names.
    Contents {
        /// The file.
        path: String,
        /// The variable of the setting that names the file.
        variable: &'static str,
    },
    /// Nothing gave it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code => f.write_str("code"),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::File { path, line } => write!(f, "file {path}:{line}"),
            Self::Contents { path, variable } => write!(f, "file {path}, {variable}"),
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
    Path(PathBuf),
}

impl Given {
    /// The value as an environment variable would hold it.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) | Self::Number(text) => Cow::Borrowed(text),
            Self::List(texts) => Cow::Owned(texts.join(",")),
            Self::Path(path) => path.to_string_lossy(),
        }
    }

    /// The parts of a list, without white space around them; of a text those between its commas.
    pub(super) fn parts(&self) -> Vec<String> {
        let trimmed = |text: &str| text.trim().to_owned();
        match self {
            Self::List(texts) => texts.iter().map(|text| trimmed(text)).collect(),
            other => other.text().split(',').map(trimmed).collect(),
        }
    }

    pub(super) fn is_blank(&self) -> bool {
        match self {
            Self::Text(text) => text.trim().is_empty(),
            Self::List(texts) => texts.iter().all(|text| text.trim().is_empty()),
            Self::Number(_) | Self::Path(_) => false,
        }
    }
}

impl From<String> for Given {
    fn from(text: String) -> Self {
        Self::Text(text)
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

impl<T> Set<Option<Vec<T>>> {
    /// The parts of a list; none where it is not set.
    pub(super) fn list(&self) -> &[T] {
        self.value.as_deref().unwrap_or_default()
    }
}
