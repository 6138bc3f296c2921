//! From settings to the cache that they describe.

use std::sync::Arc;

use peercache_api::CacheBackend;
#[cfg(feature = "disk")]
use peercache_api::{Error, ErrorKind, Operation};

use crate::cache::Cache;

use super::Config;
use super::error::ConfigError;
#[cfg(feature = "disk")]
use super::error::without_help;
use super::names::BackendName;
use super::secret::Ring;

impl Config {
    /// Opens the cache that these settings describe.
    ///
    /// # Errors
    /// A store that cannot be opened or a secret that cannot be used, in terms of the setting to change.
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
        for name in &self.backends.value {
            builder = builder.shared_tier(self.open_backend(*name, seal.as_ref()).await?);
        }
        builder.build().map_err(|error| {
            ConfigError::of_variable("CACHE_NAMESPACE", error.to_string(), "change the setting")
                .with_source(error)
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
        let opened = tokio::task::spawn_blocking(|| disk.open()).await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Unavailable, Operation::Open, "opening was interrupted")
                .with_source(error))
        });
        opened.map_err(|error| {
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
