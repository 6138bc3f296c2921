//! From settings to the cache that they describe.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Error, ErrorKind, Operation};
use peercache_chain::{TierOptions, WriteBehind, WritePolicy};

use crate::cache::{Cache, CacheBuilder};

use super::backend_name::BackendName;
use super::configuration::Config;
use super::error::{ConfigError, without_help};
use super::secret::Ring;

/// How long a process that does one thing goes on writing at its end: what it waited for is there
/// by then, and the journal has the rest.
const LAST_FLUSH: Duration = Duration::from_secs(1);
/// How long a process that does one thing waits for a shared tier's answer, where no setting says
/// otherwise: nothing else asks for the value a moment later.
const ONE_SHOT_READ: Duration = Duration::from_secs(5);

impl Cache {
    /// The cache that the environment describes, for the program called `application`; [`Config`]
    /// says what the name is for, and lists the settings.
    ///
    /// # Errors
    /// A mistake in a setting, or a store that cannot be opened: one line that names the variable,
    /// its value, what is accepted and what to do.
    pub async fn from_env(application: impl Into<String>) -> Result<Self, ConfigError> {
        Config::from_env(application)?.open().await
    }
}

impl Config {
    /// Opens the cache that these settings describe. With peers in the chain this waits up to 1.5 s
    /// for the first of them, and goes on without. A disk that cannot be used is left out where
    /// another tier can do its work, with a warning.
    ///
    /// # Errors
    /// A store that cannot be opened, a port that is taken, a secret that cannot be used, or none
    /// where one is needed, in terms of the setting to change. Never because a peer does not
    /// answer.
    pub async fn open(&self) -> Result<Cache, ConfigError> {
        self.build(self.builder().await?).await
    }

    /// Opens the tiers that these settings describe, and gives them as a builder: to add a tier, a
    /// clock or a deadline of one's own.
    ///
    /// # Errors
    /// As [`Config::open`].
    pub async fn builder(&self) -> Result<CacheBuilder, ConfigError> {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        // Also where no tier is sealed: a secret that is of no use is a mistake in any case.
        let seal = self.secrets.ring_off_the_runtime().await?;
        let mut builder = Cache::builder()
            .clock(self.clock.shared())
            .namespace(self.namespace())
            .default_ttl(self.values.default_ttl.value)
            .read_only(self.values.read_only.value || self.look_only);
        if self.one_shot {
            let limits = WriteBehind { flush_deadline: LAST_FLUSH, ..WriteBehind::default() };
            builder = builder.write_policy(WritePolicy::Quorum(1)).write_behind(limits);
        }
        if let Some(budget) = self.read_budget() {
            builder = builder.read_budget(budget);
        }
        let mut shared = false;
        for name in self.backends() {
            shared |= !matches!(name, BackendName::Memory | BackendName::Disk);
            builder = self.open_tier(*name, seal.as_ref(), builder).await?;
        }
        Ok(self.journal_for(builder, shared, seal.as_ref()))
    }

    /// Adds the tier called `name`, and what it has to report.
    async fn open_tier(
        &self,
        name: BackendName,
        seal: Option<&Ring>,
        builder: CacheBuilder,
    ) -> Result<CacheBuilder, ConfigError> {
        let options = self.tier_options(name);
        match name {
            #[cfg(feature = "memory")]
            BackendName::Memory => Ok(self.open_memory(builder, options)),
            #[cfg(feature = "disk")]
            BackendName::Disk => self.open_disk(seal, builder, options).await,
            #[cfg(feature = "libp2p")]
            BackendName::Libp2p => self.open_peers(seal, builder, options).await,
            #[cfg(feature = "redis")]
            BackendName::Redis => self.open_redis(seal, builder, options).await,
            #[cfg(feature = "ipfs")]
            BackendName::Ipfs => self.open_ipfs(seal, builder, options).await,
            #[cfg(feature = "storacha")]
            BackendName::Storacha => self.open_storacha(seal, builder, options).await,
            #[cfg(feature = "s3")]
            BackendName::S3 => self.open_s3(seal, builder, options).await,
            // Settings with a backend that this build does not have are refused when they are read.
            #[cfg(not(all(
                feature = "memory",
                feature = "disk",
                feature = "libp2p",
                feature = "redis",
                feature = "ipfs",
                feature = "s3",
                feature = "storacha"
            )))]
            other => {
                let _ = (seal, options);
                Err(ConfigError::of_variable(
                    "CACHE_BACKEND",
                    format!("this build has no `{other}`"),
                    "leave it out",
                ))
            }
        }
    }

    /// The deadlines of a tier.
    fn tier_options(&self, name: BackendName) -> TierOptions {
        let given =
            |deadlines: &Option<super::kinds::Deadlines>| deadlines.as_ref().and_then(|of| of.of(name));
        let is_local = matches!(name, BackendName::Memory | BackendName::Disk);
        TierOptions {
            read_deadline: given(&self.values.read_timeout.value)
                .or_else(|| (self.one_shot && !is_local).then_some(ONE_SHOT_READ)),
            write_deadline: given(&self.values.write_timeout.value),
            ..TierOptions::default()
        }
    }

    /// The longest that a read takes: as given, else long enough for the longest deadline that was
    /// given.
    fn read_budget(&self) -> Option<Duration> {
        let longest = || {
            let shared = self
                .backends()
                .iter()
                .filter(|name| !matches!(name, BackendName::Memory | BackendName::Disk));
            let deadlines = shared.filter_map(|name| self.tier_options(*name).read_deadline);
            deadlines.max().filter(|longest| *longest > Duration::from_secs(1))
        };
        self.values.read_budget.value.or_else(longest)
    }

    /// Builds the cache, which reads what is left in its journal if there is one.
    pub(super) async fn build(&self, builder: CacheBuilder) -> Result<Cache, ConfigError> {
        let built = match builder.journal {
            None => builder.build(),
            Some(_) => opened(move || builder.build()).await,
        };
        built.map_err(|error| match (error.operation(), &self.values.dir.value) {
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
}

/// Adds a tier that was opened.
pub(super) fn opened_tier(
    builder: CacheBuilder,
    tier: Arc<dyn CacheBackend>,
    options: TierOptions,
) -> CacheBuilder {
    builder.tier_with(tier, options)
}

/// What `open` gives, on a thread that may be blocked.
pub(super) async fn opened<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(open).await.unwrap_or_else(|error| {
        Err(Error::new(ErrorKind::Unavailable, Operation::Open, "opening was interrupted").with_source(error))
    })
}
