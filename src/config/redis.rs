//! The Redis or Valkey server that the settings name.

use std::sync::Arc;

use peercache_api::CacheBackend;
use peercache_chain::TierOptions;
use peercache_redis::Redis;

use crate::cache::CacheBuilder;

use super::configuration::Config;
use super::error::{ConfigError, without_help};
use super::name::Name;
use super::open::opened_tier;
use super::secret::Ring;

impl Config {
    /// The server that these settings name, without a seal. Nothing is sent to it before the first
    /// call.
    ///
    /// # Errors
    /// No URL, or settings that cannot be used, in terms of the one to change.
    pub fn redis(&self) -> Result<Redis, ConfigError> {
        let values = &self.values;
        let Some(url) = &values.redis_url.value else {
            return Err(ConfigError::of_variable(
                Name::RedisUrl.variables()[0],
                "no server is named",
                "set it to the server's URL, such as redis://127.0.0.1:6379",
            ));
        };
        let mut builder = Redis::builder(url).read_only(values.read_only.value).clock(self.clock.shared());
        if let Some(prefix) = &values.redis_prefix.value {
            builder = builder.prefix(prefix);
        }
        builder.open().map_err(|error| {
            let remedy =
                error.help().unwrap_or("leave `redis` out of CACHE_BACKEND to do without it").to_owned();
            // The value is not repeated: it may hold a password.
            let variable = match error.context("variable") {
                Some("REDIS_PREFIX") => Name::RedisPrefix,
                _ => Name::RedisUrl,
            };
            ConfigError::of_variable(variable.variables()[0], without_help(&error), remedy).with_source(error)
        })
    }

    /// Adds the tier that stands on the server.
    pub(super) async fn open_redis(
        &self,
        ring: Option<&Ring>,
        builder: CacheBuilder,
        options: TierOptions,
    ) -> Result<CacheBuilder, ConfigError> {
        if ring.is_none() && !self.values.insecure_plaintext.value {
            return Err(ConfigError::of_variable(
                Name::Secret.variables()[0],
                "a Redis server shares entries with other machines, and there is no secret to seal them with",
                "make one with `peercache keygen` and give it to every machine as CACHE_SECRET, or set \
                 CACHE_BACKEND=memory,disk to do without the server (CACHE_INSECURE_PLAINTEXT=true shares in \
                 clear, with whoever may read the server)",
            ));
        }
        let server = Arc::new(self.redis()?);
        let tier: Arc<dyn CacheBackend> = match ring {
            Some(ring) => ring.seal_shared(Arc::clone(&server), self.clock.shared()),
            None => {
                tracing::warn!(
                    "CACHE_INSECURE_PLAINTEXT is true and there is no secret: whoever may read the Redis server \
                     reads everything that is shared there, and whoever may write it changes it"
                );
                Arc::clone(&server) as Arc<dyn CacheBackend>
            }
        };
        Ok(opened_tier(builder.redis(server), tier, options))
    }
}
