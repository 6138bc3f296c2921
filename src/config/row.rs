//! What the table says about each setting: its kind, its text for users, what happens without it.

use peercache_api::MAX_LIFETIME;

use super::kinds::{
    Addresses, AnyKind, Backends, Bytes, FileOf, Ip, NodeSync, Path, PeerIds, Port, Role, Seconds, Secret,
    Secrets, Sockets, Switch, Text, Url, Wait, Waits, Whole,
};
use super::name::{Group, Name};
use super::settings::{MAX_OLD_SECRETS, MIB, settings};

/// What there is to say about a setting, besides its name.
pub(super) struct Row {
    pub(super) kind: &'static dyn AnyKind,
    /// What happens where it is not set, if it has no default.
    unset: &'static str,
    help: &'static str,
}

macro_rules! rows {
    ($(
        $(#[doc = $help:literal])+
        $variant:ident $field:ident: $kind:ident $(= $default:literal)? {
            kind: $make:expr,
            variables: [$($variable:literal),+ $(,)?],
            group: $group:ident,
            unset: $unset:literal $(,)?
        }
    )+) => {
        /// Each setting's kind, with its type.
        pub(super) struct Kinds { $(pub(super) $field: $kind),+ }

        pub(super) static KINDS: Kinds = Kinds { $($field: $make),+ };

        static ROWS: &[Row] = &[$(Row {
            kind: &KINDS.$field,
            unset: $unset,
            help: concat!($($help, "\n"),+),
        }),+];
    };
}

settings!(rows);

/// What the table says about `name`.
pub(super) fn row(name: Name) -> &'static Row {
    &ROWS[name as usize]
}

/// The setting that names a file with the value of `name`.
pub(super) fn file_of(name: Name) -> Option<Name> {
    Name::ALL.iter().copied().find(|file| row(*file).kind.file_of() == Some(name))
}

/// What `name` takes, as the remedy of a value that is of no use.
pub(super) fn accepted(name: Name) -> String {
    row(name).kind.accepted(name.default())
}

/// What the table says about a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingInfo {
    /// Its key in the file.
    pub key: &'static str,
    /// Its variable, then the variable's aliases.
    pub variables: &'static [&'static str],
    /// What it is about.
    pub group: Group,
    /// What it does.
    pub help: String,
    /// The kind of its value, with unit and bounds.
    pub kind: String,
    /// The default, or what happens where it is not set.
    pub default: String,
    /// Whether its value is never shown.
    pub secret: bool,
}

/// Every setting that there is, in the order of the reference.
#[must_use]
pub fn known_settings() -> Vec<SettingInfo> {
    let info = |name: &Name| {
        let row = row(*name);
        let default = match (name.default(), row.unset) {
            (Some(default), "") => format!("`{default}`"),
            (Some(default), unset) => format!("`{default}`; {unset}"),
            (None, unset) => unset.to_owned(),
        };
        SettingInfo {
            key: name.key(),
            variables: name.variables(),
            group: name.group(),
            help: row.help.split_whitespace().collect::<Vec<_>>().join(" "),
            kind: row.kind.described(),
            default,
            secret: name.is_secret(),
        }
    };
    Name::ALL.iter().map(info).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_each_setting_has_a_default_or_says_what_happens_without() {
        let mut variables: Vec<_> = Name::ALL.iter().flat_map(|name| name.variables()).collect();
        let count = variables.len();
        variables.sort_unstable();
        variables.dedup();
        assert_eq!(variables.len(), count);
        for name in Name::ALL {
            assert_eq!(Name::from_key(name.key()), Some(*name));
            assert!(name.default().is_some() || !row(*name).unset.is_empty(), "{}", name.key());
            let hidden = row(*name).kind.described().contains("never shown");
            assert_eq!(name.is_secret(), hidden, "{}", name.key());
        }
    }
}
