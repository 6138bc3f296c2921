//! The backends by name, and which of them this build has.

use std::fmt;
use std::str::FromStr;

use super::error::{ConfigError, cargo_line, on_one_line, redacted, shortened};
use super::name::Name;
use super::value::Raw;

/// A backend as `CACHE_BACKEND` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendName {
    /// `memory`
    Memory,
    /// `disk`
    Disk,
    /// `libp2p`, also `p2p`
    Libp2p,
    /// `redis`, also `valkey`
    Redis,
    /// `ipfs`, also `kubo`
    Ipfs,
    /// `s3`
    S3,
    /// `storacha`, also `web3storage`
    Storacha,
}

/// What there is to say about a backend.
pub(super) struct Backend {
    pub(super) name: BackendName,
    /// As `CACHE_BACKEND` takes it, the cargo feature's first.
    pub(super) names: &'static [&'static str],
    /// Whether this build has it.
    pub(super) built: bool,
    /// The setting without which there is no such tier, and what to do where it is missing.
    pub(super) needs: Option<(Name, &'static str)>,
}

/// In the order in which `auto` reads them. To add a backend, add a line here, its settings to the
/// table, a file that opens it, and its arm in `open.rs`.
pub(super) const BACKENDS: [Backend; 7] = [
    Backend { name: BackendName::Memory, names: &["memory"], built: cfg!(feature = "memory"), needs: None },
    Backend { name: BackendName::Disk, names: &["disk"], built: cfg!(feature = "disk"), needs: None },
    Backend {
        name: BackendName::Libp2p,
        names: &["libp2p", "p2p"],
        built: cfg!(feature = "libp2p"),
        needs: None,
    },
    Backend {
        name: BackendName::Redis,
        names: &["redis", "valkey"],
        built: cfg!(feature = "redis"),
        needs: Some((Name::RedisUrl, "no server is named; set REDIS_URL to its URL")),
    },
    Backend {
        name: BackendName::Ipfs,
        names: &["ipfs", "kubo"],
        built: cfg!(feature = "ipfs"),
        needs: Some((Name::IpfsApi, "no node is named; set IPFS_API to the address of its API")),
    },
    Backend {
        name: BackendName::S3,
        names: &["s3"],
        built: cfg!(feature = "s3"),
        needs: Some((Name::S3Bucket, "no bucket is named; set AWS_S3_BUCKET to the name of a bucket")),
    },
    Backend {
        name: BackendName::Storacha,
        names: &["storacha", "web3storage"],
        built: cfg!(feature = "storacha"),
        needs: Some((Name::Web3StorageToken, "there is no token; set WEB3_STORAGE_TOKEN to that of a space")),
    },
];

impl BackendName {
    pub(super) fn row(self) -> &'static Backend {
        const FIRST: &Backend = &BACKENDS[0];
        BACKENDS.iter().find(|backend| backend.name == self).unwrap_or(FIRST)
    }

    /// The canonical name, which is also the cargo feature's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().names[0]
    }

    /// Whether this build can open it.
    #[must_use]
    pub fn is_built(self) -> bool {
        self.row().built
    }

    /// Those of this build, in the order in which `auto` reads them.
    pub(super) fn built() -> Vec<Self> {
        BACKENDS.iter().map(|backend| backend.name).filter(|name| name.is_built()).collect()
    }

    /// The local ones of this build, in reading order.
    pub(super) fn local() -> Vec<Self> {
        [Self::Memory, Self::Disk].into_iter().filter(|name| name.is_built()).collect()
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BackendName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let named = |backend: &&Backend| backend.names.contains(&name);
        BACKENDS.iter().find(named).map(|backend| backend.name).ok_or(())
    }
}

/// What `CACHE_BACKEND` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BackendList {
    Auto,
    These(Vec<BackendName>),
}

impl BackendList {
    /// The tiers in reading order; `auto` is resolved when settings are read.
    pub(super) fn names(&self) -> &[BackendName] {
        match self {
            Self::Auto => &[],
            Self::These(names) => names,
        }
    }
}

impl fmt::Display for BackendList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::These(names) if names.is_empty() => f.write_str("none"),
            Self::These(names) => {
                let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

/// The list as it was given.
pub(super) fn read_backends(raw: &Raw) -> Result<BackendList, ConfigError> {
    let list: Vec<_> = raw.given.parts().iter().map(|name| name.to_ascii_lowercase()).collect();
    match list.as_slice() {
        [one] if one == "none" => return Ok(BackendList::These(Vec::new())),
        [one] if one == "auto" => return Ok(BackendList::Auto),
        _ => {}
    }
    let mut backends = Vec::new();
    for name in &list {
        if name == "auto" || name == "none" {
            return Err(ConfigError::of(
                raw,
                format!("`{name}` stands alone"),
                "name it without others, or list backends only",
            ));
        }
        let Ok(backend) = name.parse::<BackendName>() else {
            let problem = match name.is_empty() {
                true => "a name is missing before or after a comma".to_owned(),
                false => format!("there is no backend `{}`", on_one_line(&shortened(&redacted(name)))),
            };
            return Err(ConfigError::of(raw, problem, accepted_backends()));
        };
        if !backend.is_built() {
            return Err(not_built(raw, backend));
        }
        if backends.contains(&backend) {
            return Err(ConfigError::of(raw, format!("`{backend}` stands there twice"), "name it once"));
        }
        backends.push(backend);
    }
    if !backends.iter().any(|name| matches!(name, BackendName::Memory | BackendName::Disk)) {
        backends.splice(0..0, BackendName::local());
    }
    Ok(BackendList::These(backends))
}

fn not_built(raw: &Raw, backend: BackendName) -> ConfigError {
    ConfigError::of(
        raw,
        format!("this build has no `{backend}`, its cargo feature is off"),
        format!("in Cargo.toml: {}", cargo_line(env!("CARGO_PKG_VERSION"), backend.as_str())),
    )
}

/// What `CACHE_BACKEND` takes in this build.
pub(super) fn accepted_backends() -> String {
    let names: Vec<_> = BackendName::built().into_iter().map(BackendName::as_str).collect();
    format!("accepted is a comma-separated list of {}, or `auto`, or `none`", names.join(", "))
}
