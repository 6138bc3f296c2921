//! Settings from the environment, and the cache that they describe.

use std::cell::Cell;
use std::env::VarError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Error, MAX_LIFETIME};
#[cfg(feature = "disk")]
use peercache_api::{ErrorKind, Operation};

use crate::cache::Cache;
use crate::size;

const MEMORY_BYTES: u64 = 64 << 20;
const MIN_MEMORY_BYTES: u64 = 1 << 20;
const DISK_BYTES: u64 = 1 << 30;
const MIN_DISK_BYTES: u64 = 16 << 20;
const DEFAULT_TTL: Duration = Duration::from_secs(300);

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
    /// `ipfs`, also `kubo`
    Ipfs,
    /// `s3`
    S3,
    /// `storacha`, also `web3storage`
    Storacha,
}

impl BackendName {
    /// The canonical name, which is also the cargo feature's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Libp2p => "libp2p",
            Self::Ipfs => "ipfs",
            Self::S3 => "s3",
            Self::Storacha => "storacha",
        }
    }

    /// Whether this build can open it.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::Memory => cfg!(feature = "memory"),
            Self::Disk => cfg!(feature = "disk"),
            Self::Libp2p | Self::Ipfs | Self::S3 | Self::Storacha => false,
        }
    }

    /// Whether this release has it at all, behind its cargo feature.
    const fn is_released(self) -> bool {
        matches!(self, Self::Memory | Self::Disk)
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
        Ok(match name {
            "memory" => Self::Memory,
            "disk" => Self::Disk,
            "libp2p" | "p2p" => Self::Libp2p,
            "ipfs" | "kubo" => Self::Ipfs,
            "s3" => Self::S3,
            "storacha" | "web3storage" => Self::Storacha,
            _ => return Err(()),
        })
    }
}

/// A setting that cannot be used, or a store that cannot be opened with it.
///
/// `Display` is one line: the variable, its value, what is wrong, what to do.
#[derive(Clone, thiserror::Error)]
#[error("{variable}{}: {problem}; {remedy}", .value.as_ref().map(|value| format!("={value:?}")).unwrap_or_default())]
pub struct ConfigError {
    variable: &'static str,
    value: Option<String>,
    problem: String,
    remedy: String,
    #[source]
    source: Option<Error>,
}

// As `Display`: a `main` that returns an error prints it with `Debug`, and the reader wants the line.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigError({self})")
    }
}

impl ConfigError {
    fn new(
        variable: &'static str,
        value: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            variable,
            value: Some(shortened(value)),
            problem: problem.into(),
            remedy: remedy.into(),
            source: None,
        }
    }

    /// Of a variable whose value is missing or cannot be shown.
    fn without_value(variable: &'static str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { variable, value: None, problem: problem.into(), remedy: remedy.into(), source: None }
    }

    /// The environment variable that is wrong.
    #[must_use]
    pub fn variable(&self) -> &str {
        self.variable
    }
}

/// What went wrong, where the setting at fault has its own advice.
#[cfg(feature = "disk")]
fn without_help(error: &Error) -> String {
    let text = error.to_string();
    let advice = error.help().map(|help| format!("; {help}")).unwrap_or_default();
    text.strip_suffix(&advice).unwrap_or(&text).to_owned()
}

/// Enough of a value to recognise it by: an error is one line.
fn shortened(value: &str) -> String {
    const MOST: usize = 80;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// The settings of a cache.
///
/// | variable | meaning | default |
/// |---|---|---|
/// | `CACHE_BACKEND` (`CACHE_BACKENDS`) | the tiers in reading order, separated by commas: `memory`, `disk`; or `auto`; or `none` | `auto` |
/// | `CACHE_DIR` (`IPFS_ACCELERATE_CACHE_DIR`) | directory of the disk tier | `$XDG_CACHE_HOME/peercache`, else `~/.cache/peercache` |
/// | `CACHE_MEMORY_BYTES` | most bytes in memory, at least 1 MiB; `64MiB` is understood | 64 MiB |
/// | `CACHE_DISK_BYTES` | most bytes on disk, at least 16 MiB | 1 GiB |
/// | `CACHE_DEFAULT_TTL` | seconds that a value is fresh, 1 to 2592000 | 300 |
/// | `CACHE_NAMESPACE` | keeps projects apart that share stores; at most 128 bytes | none |
///
/// A list that names neither `memory` nor `disk` gets both in front. `auto` takes every tier of this
/// build whose settings are present; memory and disk always are. An empty variable counts as unset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    backends: Vec<BackendName>,
    dir: Option<PathBuf>,
    memory_bytes: u64,
    disk_bytes: u64,
    default_ttl: Duration,
    namespace: String,
    warnings: Vec<String>,
}

/// Reads one variable, by its name or an older one. An empty value counts as unset.
struct Vars<F>(F);

impl<F: Fn(&'static str) -> Option<String>> Vars<F> {
    fn get(&self, names: &[&'static str]) -> Option<(&'static str, String)> {
        names.iter().find_map(|name| {
            let value = (self.0)(name)?.trim().to_owned();
            (!value.is_empty()).then_some((*name, value))
        })
    }

    fn bytes(&self, name: &'static str, default: u64, least: u64) -> Result<u64, ConfigError> {
        let Some((name, value)) = self.get(&[name]) else { return Ok(default) };
        let example = match default {
            gib if gib >= 1 << 30 => format!("{}GiB", gib >> 30),
            mib => format!("{}MiB", mib >> 20),
        };
        let accepted = format!("give a whole number of bytes, or one with a unit such as {example}");
        match size::parse(&value) {
            None => Err(ConfigError::new(name, &value, "this is not a size", accepted)),
            Some(bytes) if bytes < least => Err(ConfigError::new(
                name,
                &value,
                format!("this is too small, the least is {}MiB", least >> 20),
                accepted,
            )),
            Some(bytes) => Ok(bytes),
        }
    }
}

impl Config {
    /// The settings in the environment of this process.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn from_env() -> Result<Self, ConfigError> {
        let unreadable = Cell::new(None);
        let config = Self::read(|name| match std::env::var(name) {
            Ok(value) => Some(value),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => {
                unreadable.set(Some(name));
                None
            }
        });
        match unreadable.get() {
            Some(name) => {
                Err(ConfigError::without_value(name, "its value is not UTF-8", "give it as UTF-8 text"))
            }
            None => config,
        }
    }

    /// The settings that `var` gives, by variable name.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::read(var)
    }

    fn read(var: impl Fn(&'static str) -> Option<String>) -> Result<Self, ConfigError> {
        let vars = Vars(var);
        let explicit =
            vars.get(&["CACHE_DIR", "IPFS_ACCELERATE_CACHE_DIR"]).map(|(_, dir)| PathBuf::from(dir));
        let home = || {
            let xdg = vars.get(&["XDG_CACHE_HOME"]).map(|(_, dir)| PathBuf::from(dir));
            let home = || vars.get(&["HOME"]).map(|(_, dir)| Path::new(&dir).join(".cache"));
            xdg.filter(|dir| dir.is_absolute()).or_else(home).map(|dir| dir.join("peercache"))
        };
        let namespace = vars.get(&["CACHE_NAMESPACE"]).map(|(_, value)| value).unwrap_or_default();
        if namespace.len() > 128 {
            return Err(ConfigError::new(
                "CACHE_NAMESPACE",
                &namespace,
                format!("it has {} bytes, the most is 128", namespace.len()),
                "choose a shorter name",
            ));
        }
        Ok(Self {
            backends: backends(&vars)?,
            dir: explicit.or_else(home),
            memory_bytes: vars.bytes("CACHE_MEMORY_BYTES", MEMORY_BYTES, MIN_MEMORY_BYTES)?,
            disk_bytes: vars.bytes("CACHE_DISK_BYTES", DISK_BYTES, MIN_DISK_BYTES)?,
            default_ttl: default_ttl(&vars)?,
            namespace,
            warnings: warnings(&vars),
        })
    }

    /// The tiers, in reading order.
    #[must_use]
    pub fn backends(&self) -> &[BackendName] {
        &self.backends
    }

    /// The directory of the disk tier, if there is a disk tier and its place is known.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref().filter(|_| self.backends.contains(&BackendName::Disk))
    }

    /// The most bytes that the disk tier holds.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// Settings that are present but have no effect in this build, one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Opens the cache that these settings describe.
    ///
    /// # Errors
    /// A store that cannot be opened, in terms of the variable to change.
    pub async fn open(&self) -> Result<Cache, ConfigError> {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        let mut builder = Cache::builder().namespace(self.namespace.clone()).default_ttl(self.default_ttl);
        for name in &self.backends {
            builder = builder.shared_tier(self.open_backend(*name).await?);
        }
        builder.build().map_err(|error| ConfigError {
            variable: "CACHE_NAMESPACE",
            value: Some(self.namespace.clone()),
            problem: error.to_string(),
            remedy: "change the setting".to_owned(),
            source: Some(error),
        })
    }

    async fn open_backend(&self, name: BackendName) -> Result<Arc<dyn CacheBackend>, ConfigError> {
        match name {
            #[cfg(feature = "memory")]
            BackendName::Memory => {
                // More than this machine can address is as good as everything.
                let bytes = usize::try_from(self.memory_bytes).unwrap_or(usize::MAX);
                Ok(Arc::new(peercache_local::Memory::with_capacity(bytes)))
            }
            #[cfg(feature = "disk")]
            BackendName::Disk => Ok(Arc::new(self.open_disk().await?)),
            other => Err(not_built("CACHE_BACKEND", other.as_str(), other)),
        }
    }

    #[cfg(feature = "disk")]
    async fn open_disk(&self) -> Result<peercache_local::Disk, ConfigError> {
        let Some(dir) = &self.dir else {
            return Err(ConfigError::without_value(
                "CACHE_DIR",
                "the disk tier needs a directory, and neither CACHE_DIR, XDG_CACHE_HOME nor HOME is set",
                "set CACHE_DIR, or CACHE_BACKEND=memory to do without a disk",
            ));
        };
        let disk = peercache_local::Disk::builder(dir).capacity(self.disk_bytes);
        // Opening blocks for as long as another process repairs the directory.
        let opened = tokio::task::spawn_blocking(|| disk.open()).await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Unavailable, Operation::Open, "opening was interrupted")
                .with_source(error))
        });
        opened.map_err(|error| ConfigError {
            variable: "CACHE_DIR",
            value: Some(dir.display().to_string()),
            problem: without_help(&error),
            remedy: "set CACHE_DIR to a directory that this user can write, or CACHE_BACKEND=memory to do without a disk"
                .to_owned(),
            source: Some(error),
        })
    }
}

fn backends(vars: &Vars<impl Fn(&'static str) -> Option<String>>) -> Result<Vec<BackendName>, ConfigError> {
    let auto: Vec<_> =
        [BackendName::Memory, BackendName::Disk].into_iter().filter(|name| name.is_built()).collect();
    let Some((variable, value)) = vars.get(&["CACHE_BACKEND", "CACHE_BACKENDS"]) else { return Ok(auto) };
    let list: Vec<_> = value.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    if list.len() == 1 && list[0] == "none" {
        return Ok(Vec::new());
    }
    if list.len() == 1 && list[0] == "auto" {
        return Ok(auto);
    }
    let mut backends = Vec::new();
    for name in &list {
        if name == "auto" || name == "none" {
            return Err(ConfigError::new(
                variable,
                &value,
                format!("`{name}` stands alone"),
                "name it without others, or list backends only",
            ));
        }
        let Ok(backend) = name.parse::<BackendName>() else {
            let problem = match name.is_empty() {
                true => "a name is missing before or after a comma".to_owned(),
                false => format!("there is no backend `{}`", shortened(name)),
            };
            return Err(ConfigError::new(variable, &value, problem, format!("accepted is {}", accepted())));
        };
        if !backend.is_built() {
            return Err(not_built(variable, &value, backend));
        }
        if backends.contains(&backend) {
            return Err(ConfigError::new(
                variable,
                &value,
                format!("`{backend}` stands there twice"),
                "name it once",
            ));
        }
        backends.push(backend);
    }
    if !backends.iter().any(|name| matches!(name, BackendName::Memory | BackendName::Disk)) {
        backends.splice(0..0, auto);
    }
    Ok(backends)
}

/// What `CACHE_BACKEND` takes in this build.
fn accepted() -> String {
    let built = [BackendName::Memory, BackendName::Disk].into_iter().filter(|name| name.is_built());
    let names: Vec<_> = built.map(BackendName::as_str).collect();
    format!("a comma-separated list of {}, or `auto`, or `none`", names.join(", "))
}

fn not_built(variable: &'static str, value: &str, backend: BackendName) -> ConfigError {
    let version = env!("CARGO_PKG_VERSION");
    let line = |version| format!("peercache = {{ version = \"{version}\", features = [\"{backend}\"] }}");
    if backend.is_released() {
        return ConfigError::new(
            variable,
            value,
            format!("this build has no `{backend}`, its cargo feature is off"),
            format!("in Cargo.toml: {}", line(version)),
        );
    }
    ConfigError::new(
        variable,
        value,
        format!("this build has no `{backend}`: peercache {version} does not ship that backend yet"),
        format!(
            "accepted is {}; with a release that ships it, in Cargo.toml: {}",
            accepted(),
            line("THAT RELEASE")
        ),
    )
}

fn default_ttl(vars: &Vars<impl Fn(&'static str) -> Option<String>>) -> Result<Duration, ConfigError> {
    let Some((name, value)) = vars.get(&["CACHE_DEFAULT_TTL"]) else { return Ok(DEFAULT_TTL) };
    let most = MAX_LIFETIME.as_secs();
    match value.parse::<u64>() {
        Ok(seconds) if (1..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(ConfigError::new(
            name,
            &value,
            "this is not a time to live",
            format!("give whole seconds from 1 to {most}"),
        )),
    }
}

/// Settings of later releases. A user who set one believes that it works, so silence would be a lie.
fn warnings(vars: &Vars<impl Fn(&'static str) -> Option<String>>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |names: &[&'static str], text: &str| {
        if let Some((name, _)) = vars.get(names) {
            warnings.push(format!("{name} is set, but {text}"));
        }
    };
    warn(
        &["CACHE_SECRET", "CACHE_P2P_SHARED_SECRET"],
        "this release does not seal entries yet: the disk tier is readable to this user",
    );
    warn(&["CACHE_BOOTSTRAP_PEERS", "CACHE_P2P_BOOTSTRAP"], "this release has no peers yet");
    warn(&["AWS_S3_BUCKET", "CACHE_S3_BUCKET", "S3_BUCKET"], "this release has no s3 backend yet");
    warn(&["IPFS_API", "CACHE_IPFS_API"], "this release has no ipfs backend yet");
    warn(&["WEB3_STORAGE_TOKEN", "STORACHA_TOKEN"], "this release has no storacha backend yet");
    if vars.get(&["CACHE_ENABLE_P2P"]).is_some_and(|(_, value)| value.eq_ignore_ascii_case("true")) {
        warnings.push("CACHE_ENABLE_P2P is true, but this release has no peers yet".to_owned());
    }
    warnings
}
