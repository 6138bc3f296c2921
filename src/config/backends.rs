//! The backends by name, which of them this build has, and which the settings ask for.

use std::fmt;
use std::str::FromStr;

use super::error::{ConfigError, on_one_line, place, redacted, shortened};
use super::settings::{Name, Values, accepted, cargo_line};
use super::source::Sources;
use super::value::{Origin, Raw, Set};

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
struct Backend {
    name: BackendName,
    /// As `CACHE_BACKEND` takes it, the cargo feature's first.
    names: &'static [&'static str],
    /// Whether this build has it.
    built: bool,
    /// The setting without which there is no such tier, and what to do where it is missing.
    needs: Option<(Name, &'static str)>,
}

/// In the order in which `auto` reads them. To add a backend, add a line here, its settings to the
/// table, a file that opens it, and its arm in `open.rs`.
const BACKENDS: [Backend; 7] = [
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
    fn row(self) -> &'static Backend {
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
            return Err(ConfigError::of(raw, problem, accepted(Name::Backend)));
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

/// The tiers of these settings. `auto` has those whose settings are given: local ones need none.
///
/// In a library, a variable that other software reads too, such as `AWS_S3_BUCKET`, is no reason to
/// use the store that it names: it is the application's. There `CACHE_BACKEND` or a variable of
/// this cache asks for it. The `command` takes every variable.
pub(super) fn backends(
    values: &Values,
    sources: &Sources<'_>,
    command: bool,
) -> Result<Set<Vec<BackendName>>, ConfigError> {
    let raw = sources.get(Name::Backend)?;
    let names = match &values.backend.value {
        BackendList::These(names) => names.clone(),
        BackendList::Auto => {
            let mut names = BackendName::local();
            if BackendName::Libp2p.is_built() && super::peers::are_given(values) {
                names.push(BackendName::Libp2p);
            }
            let asked_for = |backend: &&Backend| {
                let needs = backend.needs.map(|(name, _)| name);
                backend.name.is_built() && needs.is_some_and(|name| is_ours(sources, name, command))
            };
            names.extend(BACKENDS.iter().filter(asked_for).map(|backend| backend.name));
            names.sort_by_key(|name| BACKENDS.iter().position(|backend| backend.name == *name));
            if BackendName::built().is_empty() {
                return Err(ConfigError::of_variable(
                    "CACHE_BACKEND",
                    "this build has no backend, every cargo feature of one is off",
                    format!(
                        "in Cargo.toml: {}, or set CACHE_BACKEND=none for a cache that stores nothing",
                        cargo_line(env!("CARGO_PKG_VERSION"), "memory")
                    ),
                ));
            }
            return Ok(Set { value: names, origin: values.backend.origin.clone() });
        }
    };
    let Some(raw) = raw else { return Ok(Set::default(names)) };
    if names.contains(&BackendName::Libp2p)
        && values.enable_p2p.value == Some(false)
        && let Some(switch) = sources.given(Name::EnableP2p)
    {
        return Err(ConfigError::of(
            &raw,
            format!("the list asks for `libp2p`, and {} switches it off", place(&switch).1),
            "leave `libp2p` out of the list, or set CACHE_ENABLE_P2P=true",
        ));
    }
    for name in &names {
        if let Some((setting, missing)) = name.row().needs
            && sources.given(setting).is_none()
            && setting.file().and_then(|file| sources.given(file)).is_none()
        {
            let (problem, remedy) = missing.split_once("; ").unwrap_or((missing, "name one"));
            return Err(ConfigError::of(
                &raw,
                format!("the list asks for `{name}`, and {problem}"),
                format!("{remedy}, or leave `{name}` out of the list"),
            ));
        }
    }
    Ok(Set { value: names, origin: raw.origin })
}

/// Whether the setting is given in a way that can only mean this cache.
fn is_ours(sources: &Sources<'_>, name: Name, command: bool) -> bool {
    let given = [Some(name), name.file()].into_iter().flatten().filter_map(|name| sources.given(name));
    given.filter(|raw| !raw.given.is_blank()).any(|raw| match raw.origin {
        Origin::Environment { variable } => command || variable.starts_with("CACHE_"),
        _ => true,
    })
}

/// Settings of backends that this build does not have. Silence would say that they work.
pub(super) fn warnings(sources: &Sources<'_>, command: bool) {
    for backend in BACKENDS.iter().filter(|backend| !backend.built) {
        let Some((name, _)) = backend.needs.filter(|(name, _)| is_ours(sources, *name, command)) else {
            continue;
        };
        let Some(raw) = sources.given(name) else { continue };
        let (called, feature) = (raw.called(), backend.names[0]);
        sources.warn(format!(
            "{called} is set, but this build has no `{feature}`, its cargo feature is off; in Cargo.toml: {}",
            cargo_line(env!("CARGO_PKG_VERSION"), feature)
        ));
    }
}
