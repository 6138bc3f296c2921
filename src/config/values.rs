//! Every setting's value, read from where it is given.

use super::error::ConfigError;
use super::kinds::{
    Addresses, Backends, Bytes, FileOf, Ip, Kind, NodeSync, Path, PeerIds, Port, Role, Seconds, Secret,
    Secrets, Sockets, Switch, Text, Url, Wait, Waits, Whole,
};
use super::name::Name;
use super::row::KINDS;
use super::settings::settings;
use super::source::Sources;
use super::value::{Given, Origin, Raw, Set};

macro_rules! values {
    ($(
        $(#[doc = $help:literal])+
        $variant:ident $field:ident: $kind:ident $(= $default:literal)? {
            kind: $make:expr,
            variables: [$($variable:literal),+ $(,)?],
            group: $group:ident,
            unset: $unset:literal $(,)?
        }
    )+) => {
        /// Every setting's value.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) struct Values {
            $(pub(super) $field: values!(@value $kind $($default)?)),+
        }

        impl Values {
            /// Reads each setting from where it is given.
            pub(super) fn read(sources: &Sources<'_>) -> Result<Self, ConfigError> {
                Ok(Self { $($field: values!(@read sources, $variant, $field, $($default)?)),+ })
            }

            /// Each setting with its value as it may be shown.
            pub(super) fn shown(&self) -> Vec<(Name, Option<String>, &Origin)> {
                vec![$((
                    Name::$variant,
                    values!(@show $field, &self.$field.value, $($default)?),
                    &self.$field.origin,
                )),+]
            }
        }
    };

    (@value $kind:ident) => { Set<Option<<$kind as Kind>::Value>> };
    (@value $kind:ident $default:literal) => { Set<<$kind as Kind>::Value> };
    (@read $sources:ident, $variant:ident, $field:ident,) => {
        optional($sources, Name::$variant, &KINDS.$field)?
    };
    (@read $sources:ident, $variant:ident, $field:ident, $default:literal) => {
        with_default($sources, Name::$variant, &KINDS.$field, $default)?
    };
    (@show $field:ident, $value:expr,) => { $value.as_ref().and_then(|value| KINDS.$field.show(value)) };
    (@show $field:ident, $value:expr, $default:literal) => { KINDS.$field.show($value) };
}

settings!(values);

/// A value that need not be given.
fn optional<K: Kind>(
    sources: &Sources<'_>,
    name: Name,
    kind: &K,
) -> Result<Set<Option<K::Value>>, ConfigError> {
    let Some(raw) = sources.get(name)? else { return Ok(Set::default(None)) };
    if kind.blank_is_unset() && raw.given.is_blank() {
        return Ok(Set { value: None, origin: raw.origin });
    }
    let value = Some(kind.parse(&raw, sources.env)?);
    Ok(Set { value, origin: raw.origin })
}

/// A value that has a default.
fn with_default<K: Kind>(
    sources: &Sources<'_>,
    name: Name,
    kind: &K,
    default: &str,
) -> Result<Set<K::Value>, ConfigError> {
    let default = || Raw { name, given: Given::Text(default.to_owned()), origin: Origin::Default };
    let raw = sources.get(name)?.unwrap_or_else(default);
    let value = kind.parse(&raw, sources.env)?;
    Ok(Set { value, origin: raw.origin })
}
