//! The settings of a cache, as every source together gives them.

use std::path::Path;

use super::backend_name::{BackendList, BackendName};
use super::clock::ProcessClock;
use super::error::ConfigError;
use super::secret;
use super::value::Set;
use super::values::Values;

/// The application name of the command `peercache`. It uses the usual directory and the namespace
/// as they are, and takes every variable that names a store.
pub const COMMAND: &str = "peercache";

/// The settings of a cache.
///
/// What code gives ([`ConfigBuilder`](super::ConfigBuilder)) wins over the environment, that over
/// the file, that over the default. [`known_settings`](super::known_settings) lists every setting
/// with its variable, its key in the file, its kind and its default; `docs/reference/settings.md`
/// shows the same list.
///
/// The file is a TOML file: the one that `CACHE_CONFIG` names (`none` for none), else
/// `$XDG_CONFIG_HOME/peercache/config.toml`, else `~/.config/peercache/config.toml`, if there is
/// one. A file in the working directory is never read: a checkout must not decide where the cache
/// is. The file has at most [`MAX_CONFIG_FILE_BYTES`](super::MAX_CONFIG_FILE_BYTES). A key that is
/// no setting is a mistake.
///
/// Each program names itself, as `Config::from_env("my-app")`. Its directory is then
/// `my-app/peercache` at the usual place for caches, and its namespace has the name in it: two
/// programs never read each other's entries. A name that belongs to the command, [`COMMAND`],
/// shares the command's.
///
/// `auto`, the default of `CACHE_BACKEND`, takes memory, disk, and every tier of this build whose
/// settings are given. In a program other than the command, a variable that other software reads
/// too, such as `AWS_S3_BUCKET` or `REDIS_URL`, does not ask for a tier: name the backend in
/// `CACHE_BACKEND`, or give a variable that only this cache has, such as `CACHE_S3_BUCKET`.
///
/// Where a tier is shared with other machines and may be written, what waits to be written to it is
/// kept in `journal` in the directory too, if there is a disk tier or the directory was given; see
/// [`CacheBuilder::journal`](crate::CacheBuilder::journal).
///
/// With a secret the disk tier is sealed, and so is what goes to shared tiers: encrypted, signed,
/// under blinded keys. What lay there in clear before, or under another secret, is a miss. With a
/// read-only secret it is read and not written. Memory is not sealed. Without a secret shared tiers
/// are a mistake, unless `CACHE_INSECURE_PLAINTEXT` says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(super) application: String,
    pub(super) file: Set<Option<String>>,
    pub(super) values: Values,
    pub(super) secrets: secret::Secrets,
    /// Whether an event that an outsider can cause started this job, and nothing says that it may
    /// write.
    pub(super) untrusted: bool,
    /// What every tier goes by.
    pub(super) clock: ProcessClock,
    /// Whether this process does one thing and ends.
    pub(super) one_shot: bool,
    /// Whether this process only looks: nothing makes room for anything.
    pub(super) look_only: bool,
    /// Whether the chain was cut down to one tier, so that nothing is left for later.
    pub(super) alone: bool,
    pub(super) warnings: Vec<String>,
}

impl Config {
    /// The tiers, in reading order.
    #[must_use]
    pub fn backends(&self) -> &[BackendName] {
        self.values.backend.value.names()
    }

    /// The directory of the disk tier, if there is a disk tier and its place is known.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.values.dir.value.as_deref().filter(|_| self.backends().contains(&BackendName::Disk))
    }

    /// The most bytes that the disk tier holds.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.values.disk_bytes.value
    }

    /// The same settings for a process that only looks: the disk tier evicts nothing, whatever this
    /// process's `CACHE_DISK_BYTES` is, and stores nothing.
    #[must_use]
    pub fn look_only(mut self) -> Self {
        self.look_only = true;
        self
    }

    /// The same settings with this backend alone, and without a journal: to try one tier without
    /// the others.
    #[must_use]
    pub fn only(&self, name: BackendName) -> Self {
        let mut only = self.clone();
        only.values.backend.value = BackendList::These(vec![name]);
        only.alone = true;
        only
    }

    /// The port on which other nodes reach this one, if it is listened on; 0 for any that is free.
    #[must_use]
    pub fn listen_port(&self) -> Option<u16> {
        self.values.listen_port.value
    }

    /// Whether this job was started by an event that an outsider can cause, and no setting says
    /// that it may write.
    #[must_use]
    pub fn is_untrusted(&self) -> bool {
        self.untrusted
    }

    /// The secrets that seal the disk tier, to seal something else with them too.
    ///
    /// Blocks: a passphrase takes a fraction of a second, once.
    ///
    /// # Errors
    /// A secret that cannot be used.
    #[cfg(feature = "seal")]
    pub fn keyring(&self) -> Result<Option<peercache_seal::Keyring>, ConfigError> {
        Ok(self.secrets.ring()?.map(|ring| ring.keyring.clone()))
    }

    /// What was noticed while the settings were read: those that have no effect, names that are
    /// nearly right, secrets that others can read. One line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(super) fn namespace(&self) -> &str {
        self.values.namespace.value.as_deref().unwrap_or_default()
    }
}
