//! The settings by name: the key of each in the file, its variables, its default.

use super::settings::settings;

/// What a setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Group {
    /// The chain and the local tiers.
    Cache,
    /// Secrets.
    Secrets,
    /// The peers tier.
    Peers,
    /// The Redis tier.
    Redis,
    /// The IPFS tier.
    Ipfs,
    /// The S3 tier.
    S3,
    /// The Storacha tier.
    Storacha,
    /// `peercache serve`, and commands that ask it.
    Server,
}

impl Group {
    /// The heading of the reference.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Cache => "The cache",
            Self::Secrets => "Secrets",
            Self::Peers => "Peers",
            Self::Redis => "Redis and Valkey",
            Self::Ipfs => "IPFS",
            Self::S3 => "S3",
            Self::Storacha => "Storacha",
            Self::Server => "The server and GitHub",
        }
    }
}

/// How a setting is called.
struct Called {
    key: &'static str,
    variables: &'static [&'static str],
    default: Option<&'static str>,
    group: Group,
    secret: bool,
}

macro_rules! names {
    ($(
        $(#[doc = $help:literal])+
        $variant:ident $field:ident: $kind:ident $(= $default:literal)? {
            kind: $make:expr,
            variables: [$($variable:literal),+ $(,)?],
            group: $group:ident,
            unset: $unset:literal $(,)?
        }
    )+) => {
        /// A setting, by its place in the reference.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Name { $($variant),+ }

        impl Name {
            /// In the order of the reference.
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        static CALLED: &[Called] = &[$(Called {
            key: stringify!($field),
            variables: &[$($variable),+],
            default: names!(@default $($default)?),
            group: Group::$group,
            secret: names!(@secret $kind),
        }),+];
    };

    (@default) => { None };
    (@default $default:literal) => { Some($default) };
    (@secret Secret) => { true };
    (@secret Secrets) => { true };
    (@secret $kind:ident) => { false };
}

settings!(names);

impl Name {
    fn called(self) -> &'static Called {
        &CALLED[self as usize]
    }

    /// The key in the file.
    pub(super) fn key(self) -> &'static str {
        self.called().key
    }

    /// The variables, the one to use first.
    pub(super) fn variables(self) -> &'static [&'static str] {
        self.called().variables
    }

    /// The default, as the setting takes it.
    pub(super) fn default(self) -> Option<&'static str> {
        self.called().default
    }

    pub(super) fn group(self) -> Group {
        self.called().group
    }

    /// Whether its value must never be shown.
    pub(super) fn is_secret(self) -> bool {
        self.called().secret
    }

    pub(super) fn from_key(key: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|name| name.key() == key)
    }

    /// The settings that say something about the peers and nothing about other tiers.
    pub(super) fn of_peers() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|name| name.group() == Group::Peers)
    }
}
