//! Settings given in code, above those of the environment and the file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::env::{self, Env};
use super::error::ConfigError;
use super::file::{Choice, File};
use super::names::{BackendName, Name};
use super::peers::{self, PeerSettings};
use super::s3::{self, S3Settings};
use super::source::{Given, Sources};
use super::{Config, read_only, secret, values};

/// Gives settings in code; what is not given comes from the environment, then the file, then defaults.
///
/// `Debug` shows which settings are given, not their values.
///
/// ```
/// use peercache::Config;
///
/// let config = Config::builder().memory_bytes(8 << 20).namespace("docs").read_vars(|_| None)?;
/// assert_eq!(config.settings()?[3].to_string(), "memory_bytes = 8MiB (code)");
/// # Ok::<(), peercache::ConfigError>(())
/// ```
#[derive(Clone, Default)]
#[must_use = "settings are made by `read_env` or `read_vars`"]
pub struct ConfigBuilder {
    file: Choice,
    dir: Option<PathBuf>,
    given: BTreeMap<Name, Given>,
}

impl ConfigBuilder {
    /// The tiers in reading order; none for a cache that keeps nothing.
    pub fn backends(self, backends: impl IntoIterator<Item = BackendName>) -> Self {
        let mut names: Vec<_> = backends.into_iter().map(|name| name.as_str().to_owned()).collect();
        if names.is_empty() {
            names.push("none".to_owned());
        }
        self.with(Name::Backend, Given::List(names))
    }

    /// The directory of the disk tier.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// The most bytes in memory, at least 1 MiB.
    pub fn memory_bytes(self, bytes: u64) -> Self {
        self.with(Name::MemoryBytes, Given::Number(bytes.to_string()))
    }

    /// The most bytes on disk, at least 16 MiB.
    pub fn disk_bytes(self, bytes: u64) -> Self {
        self.with(Name::DiskBytes, Given::Number(bytes.to_string()))
    }

    /// How long values are fresh where nothing else is said, in whole seconds from one on. A fraction
    /// of a second is left off.
    pub fn default_ttl(self, ttl: Duration) -> Self {
        self.with(Name::DefaultTtl, Given::Number(ttl.as_secs().to_string()))
    }

    /// Keeps projects apart that share stores; at most 128 bytes, empty for none.
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        self.with(Name::Namespace, Given::Text(namespace.into()))
    }

    /// Whether tiers that are shared with other machines are never written.
    pub fn read_only(self, read_only: bool) -> Self {
        self.with(Name::ReadOnly, Given::Text(read_only.to_string()))
    }

    /// The secret that seals what is stored on disk, as `CACHE_SECRET` takes it. A blank one is a
    /// mistake.
    pub fn secret(self, secret: impl Into<String>) -> Self {
        self.with(Name::Secret, Given::Text(secret.into()))
    }

    /// Former secrets that are still read, at most four.
    pub fn secret_old<S: Into<String>>(self, secrets: impl IntoIterator<Item = S>) -> Self {
        self.with(Name::SecretOld, Given::List(secrets.into_iter().map(Into::into).collect()))
    }

    /// Reads this file, whatever `CACHE_CONFIG` says.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Choice::Path(path.into());
        self
    }

    /// Takes this text for the file; errors call it `name`.
    pub fn file_text(mut self, name: impl Into<String>, toml: impl Into<String>) -> Self {
        self.file = Choice::Text(name.into(), toml.into());
        self
    }

    /// Reads no file.
    pub fn without_file(mut self) -> Self {
        self.file = Choice::None;
        self
    }

    /// The settings, with the environment of this process.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn read_env(self) -> Result<Config, ConfigError> {
        env::of_this_process(|env| self.read(env))
    }

    /// The settings, with `var` for the environment, by variable name. The variables also say which
    /// file is read.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn read_vars(self, var: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        self.read(&Env::new(var))
    }

    fn read(&self, env: &Env<'_>) -> Result<Config, ConfigError> {
        let file = File::find(&self.file, env)?;
        let sources = Sources { code: &self.given, env, file: &file };
        let peers = PeerSettings::read(&sources)?;
        let s3 = S3Settings::read(&sources)?;
        let backends = values::backends(&sources, &peers, &s3)?;
        let with_peers = backends.value.contains(&BackendName::Libp2p);
        let warnings = env::warnings(env).into_iter().chain(peers::warnings(&sources, with_peers));
        let warnings = warnings.chain(s3::warnings(&sources));
        Ok(Config {
            warnings: file.warning.iter().cloned().chain(warnings).collect(),
            backends,
            dir: values::dir(self.dir.as_deref(), &sources)?,
            memory_bytes: values::memory_bytes(&sources)?,
            disk_bytes: values::disk_bytes(&sources)?,
            default_ttl: values::default_ttl(&sources)?,
            namespace: values::namespace(&sources)?,
            read_only: read_only::read_only(&sources)?,
            secrets: secret::Secrets::read(&sources)?,
            peers,
            s3,
            one_shot: false,
            file: file.path,
        })
    }

    pub(super) fn with(mut self, name: Name, given: Given) -> Self {
        self.given.insert(name, given);
        self
    }
}

impl fmt::Debug for ConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.dir.as_ref().map(|_| Name::Dir.key());
        let names: Vec<_> = dir.into_iter().chain(self.given.keys().copied().map(Name::key)).collect();
        f.debug_struct("ConfigBuilder").field("given", &names).finish_non_exhaustive()
    }
}
