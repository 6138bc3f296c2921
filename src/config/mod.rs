//! Settings: from code, environment and file, and the cache that they describe.

mod builder;
mod env;
mod error;
mod file;
mod journal;
mod names;
#[cfg(feature = "libp2p")]
mod node;
mod open;
mod peers;
mod peers_builder;
mod read_only;
mod s3;
mod s3_builder;
#[cfg(not(feature = "seal"))]
#[path = "no_secret.rs"]
mod secret;
#[cfg(feature = "seal")]
mod secret;
mod show;
mod source;
mod values;

use std::path::{Path, PathBuf};
use std::time::Duration;

use source::Set;

pub use builder::ConfigBuilder;
pub use error::ConfigError;
pub use file::MAX_CONFIG_FILE_BYTES;
pub use names::BackendName;
#[cfg(feature = "libp2p")]
pub use node::NodeSummary;
pub use peers::NodeRole;
pub use show::Setting;
pub use source::Origin;

/// The settings of a cache.
///
/// | variable | key in the file | meaning | default |
/// |---|---|---|---|
/// | `CACHE_CONFIG` | | the TOML file; `none` for none | `$XDG_CONFIG_HOME/peercache/config.toml`, else `~/.config/peercache/config.toml`, if there is one |
/// | `CACHE_BACKEND` (`CACHE_BACKENDS`) | `backend` | the tiers in reading order, separated by commas: `memory`, `disk`, `libp2p` (`p2p`), `s3`; or `auto`; or `none` | `auto` |
/// | `CACHE_DIR` (`IPFS_ACCELERATE_CACHE_DIR`) | `dir` | directory of the disk tier and of the journal | `$XDG_CACHE_HOME/peercache`, else `~/.cache/peercache` |
/// | `CACHE_MEMORY_BYTES` | `memory_bytes` | most bytes in memory, at least 1 MiB; `64MiB` is understood | 64 MiB |
/// | `CACHE_DISK_BYTES` | `disk_bytes` | most bytes on disk, at least 16 MiB | 1 GiB |
/// | `CACHE_DEFAULT_TTL` | `default_ttl` | seconds that a value is fresh, 1 to 2592000 | 300 |
/// | `CACHE_NAMESPACE` | `namespace` | keeps projects apart that share stores; at most 128 bytes | none |
/// | `CACHE_READ_ONLY` | `read_only` | `true`: never writes to tiers that are shared with other machines | `true` in a GitHub Actions job for a pull request from a fork, else `false` |
/// | `CACHE_SECRET` (`CACHE_P2P_SHARED_SECRET`) | `secret` | seals what is stored on disk and what goes to peers and to a bucket | none |
/// | `CACHE_SECRET_OLD` | `secret_old` | former secrets that are still read, separated by commas; at most 4 | none |
/// | `CACHE_INSECURE_PLAINTEXT` | `insecure_plaintext` | `true`: peers and a bucket without a secret, in clear | `false` |
/// | `CACHE_ENABLE_P2P` | `enable_p2p` | whether `auto` has the peers | whether the next two are given |
/// | `CACHE_LISTEN_PORT` | `listen_port` | TCP port for peers, 0 for any that is free | none; 9100 for an anchor |
/// | `CACHE_BOOTSTRAP_PEERS` (`CACHE_P2P_BOOTSTRAP`) | `bootstrap_peers` | where peers are dialled, separated by commas | none |
/// | `CACHE_ROLE` | `role` | `anchor`, `leaf` or `auto` | `auto`: an anchor where the port is fixed |
/// | `CACHE_NODE_NAME` | `node_name` | derives the identity from the secret and this name | none |
/// | `CACHE_IDENTITY_FILE` | `identity_file` | keeps the identity in this file | none |
/// | `CACHE_ANNOUNCE_ADDRS` | `announce_addrs` | where others should dial this node | the machine's addresses |
/// | `CACHE_ALLOWED_PEERS` | `allowed_peers` | peer ids; all others are refused | whoever has the secret |
/// | `CACHE_MDNS` | `mdns` | whether peers are looked for in the local network | `false` |
/// | `CACHE_PEER_BYTES` | `peer_bytes` | most bytes held for itself and other peers | 256 MiB |
/// | `AWS_S3_BUCKET` (`CACHE_S3_BUCKET`, `S3_BUCKET`) | `s3_bucket` | the bucket of the S3 tier | none |
/// | `S3_PREFIX` | `s3_prefix` | what the names of all its objects begin with | none |
/// | `AWS_ENDPOINT_URL_S3` (`S3_ENDPOINT`) | `s3_endpoint` | the store, if it is not AWS | as the AWS SDK finds it |
/// | `AWS_REGION` (`S3_REGION`) | `s3_region` | the bucket's region | as the AWS SDK finds it; `us-east-1` with an endpoint |
/// | `CACHE_S3_PATH_STYLE` | `s3_path_style` | whether the bucket is named in the path | `true` with an endpoint |
///
/// What code gives ([`Config::builder`]) wins over the environment, that over the file, that over the
/// default. A file in the working directory is never read: a checkout must not decide where the cache
/// is. The file has at most [`MAX_CONFIG_FILE_BYTES`]; what it says that is not understood is a mistake.
///
/// A list that names neither `memory` nor `disk` gets both in front. `auto` takes every tier of this
/// build whose settings are present; memory and disk always are, peers come behind them, and a bucket last. An empty
/// variable counts as unset.
///
/// Where a tier is shared with other machines and may be written, what waits to be written to it is kept
/// in `journal` in that directory too, if there is a disk tier or the directory was given; see
/// [`CacheBuilder::journal`](crate::CacheBuilder::journal).
///
/// With a secret the disk tier is sealed, and so is what goes to peers and to a bucket: encrypted, signed, under blinded keys. What lay there in
/// clear before, or under another secret, is a miss. With a read-only secret it is read and not
/// written. The journal is encrypted, for writers only: with a read-only secret there is none. Memory is
/// not sealed. Without a secret there are neither peers nor a bucket, unless `CACHE_INSECURE_PLAINTEXT` says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    file: Set<Option<String>>,
    backends: Set<Vec<BackendName>>,
    dir: Set<Option<PathBuf>>,
    memory_bytes: Set<u64>,
    disk_bytes: Set<u64>,
    default_ttl: Set<Duration>,
    namespace: Set<String>,
    read_only: Set<bool>,
    secrets: secret::Secrets,
    peers: peers::PeerSettings,
    s3: s3::S3Settings,
    /// Whether this process does one thing and ends.
    one_shot: bool,
    warnings: Vec<String>,
}

impl Config {
    /// Gives settings in code.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The settings in the environment of this process, and in the file that it names.
    ///
    /// # Errors
    /// The first mistake found. A secret is looked at by [`Config::open`] and [`Config::settings`].
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::builder().read_env()
    }

    /// The settings that `var` gives, by variable name, and those of the file that it names.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::builder().read_vars(var)
    }

    /// The tiers, in reading order.
    #[must_use]
    pub fn backends(&self) -> &[BackendName] {
        &self.backends.value
    }

    /// The directory of the disk tier, if there is a disk tier and its place is known.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.dir.value.as_deref().filter(|_| self.backends.value.contains(&BackendName::Disk))
    }

    /// The most bytes that the disk tier holds.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.value
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

    /// Settings that are present but have no effect, one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
