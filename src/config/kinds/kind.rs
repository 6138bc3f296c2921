//! What a kind of value is: how it is parsed, shown and described.

use std::fmt;

use crate::config::env::Env;
use crate::config::error::ConfigError;
use crate::config::name::Name;
use crate::config::value::{Given, Raw};

/// A kind of value, for those who do not need the value's type.
pub(in crate::config) trait AnyKind: Sync {
    /// What is accepted, as the remedy of a value that is of no use. `default` is the setting's.
    fn accepted(&self, default: Option<&str>) -> String;
    /// The kind in a few words, with its bounds, as the reference shows it.
    fn described(&self) -> String;

    /// Whether the file may give a number.
    fn takes_number(&self) -> bool {
        false
    }

    /// Whether the file may give `true` or `false`.
    fn takes_truth(&self) -> bool {
        false
    }

    /// Whether the file may give a list.
    fn takes_list(&self) -> bool {
        false
    }

    /// The setting whose value is in the file that this one names.
    fn file_of(&self) -> Option<Name> {
        None
    }
}

/// A kind of value.
pub(in crate::config) trait Kind: AnyKind {
    type Value: Clone + Eq + fmt::Debug;

    /// The value.
    fn parse(&self, raw: &Raw, env: &Env<'_>) -> Result<Self::Value, ConfigError>;

    /// The value as the setting takes it; `None` for one that stands for nothing.
    fn show(&self, value: &Self::Value) -> Option<String>;

    /// Whether a blank value in code stands for a setting that is not made.
    fn blank_is_unset(&self) -> bool {
        true
    }
}

/// The error of a value that `kind` does not take.
pub(super) fn refused<T>(
    kind: &dyn AnyKind,
    raw: &Raw,
    problem: impl Into<String>,
) -> Result<T, ConfigError> {
    Err(ConfigError::of(raw, problem, kind.accepted(raw.name.default())))
}

pub(super) fn texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Given {
    Given::List(texts.into_iter().map(Into::into).collect())
}

/// The values with commas between them; nothing where there are none.
pub(super) fn joined<T: ToString>(values: &[T]) -> Option<String> {
    let list: Vec<_> = values.iter().map(ToString::to_string).collect();
    Some(list.join(",")).filter(|list| !list.is_empty())
}
