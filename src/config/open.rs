//! From settings to the cache that they describe.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Error, ErrorKind, Operation, Scope};
use peercache_chain::{WriteBehind, WritePolicy};

use crate::cache::{Cache, CacheBuilder};

use super::Config;
use super::error::{ConfigError, without_help};
use super::names::BackendName;
use super::secret::Ring;

/// How long a process that does one thing goes on writing at its end: what it waited for is there by then,
/// and the journal has the rest.
const LAST_FLUSH: Duration = Duration::from_secs(1);

impl Cache {
    /// The cache that the environment describes; [`Config`] lists the variables.
    ///
    /// # Errors
    /// A mistake in a setting, or a store that cannot be opened: one line that names the variable,
    /// its value, what is accepted and what to do.
    pub async fn from_env() -> Result<Self, ConfigError> {
        Config::from_env()?.open().await
    }
}

impl Config {
    /// Opens the cache that these settings describe. With peers in the chain this waits up to 1.5 s for the
    /// first of them, and goes on without.
    ///
    /// # Errors
    /// A store that cannot be opened, a port that is taken, a secret that cannot be used, or none where
    /// one is needed, in terms of the setting to change. Never because a peer does not answer.
    pub async fn open(&self) -> Result<Cache, ConfigError> {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        // Also where no tier is sealed: a secret that is of no use is a mistake in any case.
        let seal = self.secrets.ring_off_the_runtime().await?;
        let mut builder = Cache::builder()
            .namespace(self.namespace.value.clone())
            .default_ttl(self.default_ttl.value)
            .read_only(self.read_only.value);
        if self.one_shot {
            let limits = WriteBehind { flush_deadline: LAST_FLUSH, ..WriteBehind::default() };
            builder = builder.write_policy(WritePolicy::Quorum(1)).write_behind(limits);
        }
        let mut shared = false;
        for name in &self.backends.value {
            let backend;
            (backend, builder) = self.open_tier(*name, seal.as_ref(), builder).await?;
            shared |= backend.info().capabilities.scope == Scope::Shared;
            builder = builder.tier(backend);
        }
        self.build(self.journal_for(builder, shared, seal.as_ref())).await
    }

    /// The tier called `name`, and the builder with what the tier has to tell.
    async fn open_tier(
        &self,
        name: BackendName,
        seal: Option<&Ring>,
        builder: CacheBuilder,
    ) -> Result<(Arc<dyn CacheBackend>, CacheBuilder), ConfigError> {
        #[cfg(feature = "libp2p")]
        if name == BackendName::Libp2p {
            let (tier, peers) = self.open_peers(seal).await?;
            return Ok((tier, builder.peers(peers)));
        }
        #[cfg(feature = "s3")]
        if name == BackendName::S3 {
            let (tier, bucket) = self.open_s3(seal).await?;
            return Ok((tier, builder.s3(bucket)));
        }
        Ok((self.open_backend(name, seal).await?, builder))
    }

    /// Builds the cache, which reads what is left in its journal if there is one.
    pub(super) async fn build(&self, builder: CacheBuilder) -> Result<Cache, ConfigError> {
        let built = match builder.journal {
            None => builder.build(),
            Some(_) => opened(move || builder.build()).await,
        };
        built.map_err(|error| match (error.operation(), &self.dir.value) {
            (Operation::Open, Some(dir)) => ConfigError::at(
                "CACHE_DIR",
                format!("CACHE_DIR={:?}", dir.display().to_string()),
                without_help(&error),
                "set CACHE_DIR to a directory that this user alone can write",
            )
            .with_source(error),
            _ => ConfigError::of_variable("CACHE_NAMESPACE", error.to_string(), "change the setting")
                .with_source(error),
        })
    }

    #[cfg_attr(not(feature = "disk"), allow(unused_variables, reason = "memory is not sealed"))]
    async fn open_backend(
        &self,
        name: BackendName,
        seal: Option<&Ring>,
    ) -> Result<Arc<dyn CacheBackend>, ConfigError> {
        match name {
            #[cfg(feature = "memory")]
            BackendName::Memory => {
                // More than this machine can address is as good as everything.
                let bytes = usize::try_from(self.memory_bytes.value).unwrap_or(usize::MAX);
                Ok(Arc::new(peercache_local::Memory::with_capacity(bytes)))
            }
            #[cfg(feature = "disk")]
            BackendName::Disk => {
                let disk = self.open_disk().await?;
                match seal {
                    Some(ring) => Ok(ring.seal(disk, &self.namespace.value).await),
                    None => Ok(Arc::new(disk)),
                }
            }
            other => Err(ConfigError::of_variable(
                "CACHE_BACKEND",
                format!("this build has no `{other}`"),
                "leave it out",
            )),
        }
    }

    #[cfg(feature = "disk")]
    async fn open_disk(&self) -> Result<peercache_local::Disk, ConfigError> {
        let Some(dir) = &self.dir.value else {
            return Err(ConfigError::of_variable(
                "CACHE_DIR",
                "the disk tier needs a directory, and neither CACHE_DIR, XDG_CACHE_HOME nor HOME is set",
                "set CACHE_DIR, or CACHE_BACKEND=memory to do without a disk",
            ));
        };
        let disk = peercache_local::Disk::builder(dir).capacity(self.disk_bytes.value);
        // Opening blocks for as long as another process repairs the directory.
        opened(|| disk.open()).await.map_err(|error| {
            ConfigError::at(
                "CACHE_DIR",
                format!("CACHE_DIR={:?}", dir.display().to_string()),
                without_help(&error),
                "set CACHE_DIR to a directory that this user can write, or CACHE_BACKEND=memory to do without a disk",
            )
            .with_source(error)
        })
    }
}

/// What `open` gives, on a thread that may be blocked.
async fn opened<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(open).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Unavailable, Operation::Open, "opening was interrupted").with_source(error))
    })
}
