//! The local tiers: memory and disk.

#[cfg(feature = "disk")]
use std::path::Path;
use std::sync::Arc;

use peercache_chain::{Mode, TierOptions};

use crate::cache::CacheBuilder;

#[cfg(feature = "disk")]
use super::backend_name::BackendName;
use super::configuration::Config;
use super::error::ConfigError;
#[cfg(feature = "disk")]
use super::error::without_help;
use super::open::opened_tier;
#[cfg(feature = "disk")]
use super::secret::Ring;

impl Config {
    #[cfg(feature = "memory")]
    pub(super) fn open_memory(&self, builder: CacheBuilder, options: TierOptions) -> CacheBuilder {
        // More than this machine can address is as good as everything.
        let bytes = usize::try_from(self.values.memory_bytes.value).unwrap_or(usize::MAX);
        let memory = peercache_local::Memory::builder().capacity(bytes).clock(self.clock.shared()).build();
        opened_tier(builder, Arc::new(memory), options)
    }

    /// Adds the disk tier. A disk that cannot be used is left out, with a warning, where another
    /// tier can do its work.
    #[cfg(feature = "disk")]
    pub(super) async fn open_disk(
        &self,
        seal: Option<&Ring>,
        builder: CacheBuilder,
        mut options: TierOptions,
    ) -> Result<CacheBuilder, ConfigError> {
        let disk = match self.disk().await {
            Ok(disk) => disk,
            Err(error) if self.is_dispensable() => {
                tracing::warn!("the disk tier is left out: {error}");
                let reason = error.to_string();
                return Ok(builder.backend_report("disk", move || serde_json::json!({ "left_out": reason })));
            }
            Err(error) => return Err(error),
        };
        if self.untrusted || self.look_only {
            // What a stranger's code leaves on the disk of a self-hosted runner, later jobs would
            // read.
            options.mode = Mode::ReadOnly;
        }
        let tier: Arc<dyn peercache_api::CacheBackend> = match seal {
            Some(ring) => {
                let clock = self.clock.shared();
                ring.seal(disk, self.namespace(), self.look_only || self.untrusted, clock).await
            }
            None => Arc::new(disk),
        };
        Ok(opened_tier(builder, tier, options))
    }

    /// Whether the chain is of use without its disk: to a process that goes on, memory is enough;
    /// one that ends needs a shared tier.
    #[cfg(feature = "disk")]
    fn is_dispensable(&self) -> bool {
        self.backends().iter().any(|name| match name {
            BackendName::Disk => false,
            BackendName::Memory => !self.one_shot,
            _ => true,
        })
    }

    #[cfg(feature = "disk")]
    async fn disk(&self) -> Result<peercache_local::Disk, ConfigError> {
        let Some(dir) = &self.values.dir.value else {
            return Err(ConfigError::of_variable(
                "CACHE_DIR",
                "the disk tier needs a directory, and neither CACHE_DIR, XDG_CACHE_HOME nor HOME is set",
                "set CACHE_DIR, or CACHE_BACKEND=memory to do without a disk",
            ));
        };
        // Who only looks makes no room, whatever the limit of this process is.
        let capacity = if self.look_only { u64::MAX } else { self.values.disk_bytes.value };
        let disk = peercache_local::Disk::builder(dir).capacity(capacity).clock(self.clock.shared());
        // Opening blocks for as long as another process repairs the directory.
        super::open::opened(|| disk.open()).await.map_err(|error| unusable(dir, &error))
    }
}

#[cfg(feature = "disk")]
fn unusable(dir: &Path, error: &peercache_api::Error) -> ConfigError {
    // Who is kept out by the mode of the directory is told how to change it.
    let help = error.help().filter(|_| error.kind() == peercache_api::ErrorKind::Denied);
    ConfigError::at(
        "CACHE_DIR",
        format!("CACHE_DIR={:?}", dir.display().to_string()),
        without_help(error),
        help.unwrap_or(
            "set CACHE_DIR to a directory that this user can write, or CACHE_BACKEND=memory to do without a disk",
        ),
    )
    .with_source(error.clone())
}
