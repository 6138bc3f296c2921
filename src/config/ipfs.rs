//! The IPFS node that the settings name.

use std::sync::Arc;

use peercache_api::CacheBackend;
use peercache_chain::TierOptions;
use peercache_ipfs::{Ipfs, IpfsBuilder};
use peercache_seal::Sealed;

use crate::cache::CacheBuilder;

use super::configuration::Config;
use super::error::{ConfigError, without_help};
use super::name::{Group, Name};
use super::open::opened_tier;
use super::secret::Ring;
use super::value::{Given, Raw};

impl Config {
    /// The node that these settings name, without a seal: for what is not an entry, such as
    /// collecting its garbage. Nothing is sent to it.
    ///
    /// # Errors
    /// Settings that cannot be used, in terms of the one to change.
    pub fn ipfs(&self) -> Result<Ipfs, ConfigError> {
        self.ipfs_builder().maintenance(false).open().map_err(|error| self.ipfs_at_fault(error))
    }

    fn ipfs_builder(&self) -> IpfsBuilder {
        let values = &self.values;
        let mut builder = Ipfs::builder(values.ipfs_api.value.as_deref().unwrap_or(Ipfs::DEFAULT_API))
            .max_bytes(values.ipfs_max_bytes.value)
            .allow_private(values.ipfs_allow_private.value)
            .read_only(values.read_only.value)
            .clock(self.clock.shared());
        if let Some(auth) = &values.ipfs_api_auth.value {
            builder = builder.auth(auth.expose());
        }
        if let Some(prefix) = &values.ipfs_prefix.value {
            builder = builder.prefix(prefix);
        }
        builder
    }

    /// Adds the tier that stands on the node.
    pub(super) async fn open_ipfs(
        &self,
        ring: Option<&Ring>,
        builder: CacheBuilder,
        options: TierOptions,
    ) -> Result<CacheBuilder, ConfigError> {
        let values = &self.values;
        if ring.is_none() && !values.insecure_plaintext.value {
            return Err(ConfigError::of_variable(
                Name::Secret.variables()[0],
                "an IPFS node shares entries with whoever reaches it, and there is no secret to seal them with",
                "make one with `peercache keygen` and give it to every machine as CACHE_SECRET, or set \
                 CACHE_BACKEND=memory,disk to do without the node (CACHE_INSECURE_PLAINTEXT=true shares in clear, \
                 with whoever may reach the node)",
            ));
        }
        let mut node = self.ipfs_builder().maintenance(!self.one_shot && !self.look_only);
        if values.ipfs_sync.value {
            let Some(ring) = ring else {
                return Err(ConfigError::of_variable(
                    Name::IpfsSync.variables()[0],
                    "nodes announce to each other what is sealed and signed, and there is no secret",
                    "give one as CACHE_SECRET, or unset it",
                ));
            };
            let (keyring, clock) = (ring.keyring.clone(), self.clock.shared());
            node = node.sync(move |inner| {
                Arc::new(Sealed::builder(keyring.clone(), inner).clock(Arc::clone(&clock)).build())
            });
        }
        let node = Arc::new(node.open().map_err(|error| self.ipfs_at_fault(error))?);
        let tier: Arc<dyn CacheBackend> = match ring {
            Some(ring) => ring.seal_shared(Arc::clone(&node), self.clock.shared()),
            None => {
                tracing::warn!(
                    "CACHE_INSECURE_PLAINTEXT is true and there is no secret: whoever reaches the IPFS node reads \
                     everything that is shared there, and whoever reaches its RPC changes it"
                );
                Arc::clone(&node) as Arc<dyn CacheBackend>
            }
        };
        Ok(opened_tier(builder.ipfs(node), tier, options))
    }

    /// The error of a node that cannot be used, in terms of the setting at fault.
    fn ipfs_at_fault(&self, error: peercache_api::Error) -> ConfigError {
        let remedy =
            error.help().unwrap_or("leave `ipfs` out of CACHE_BACKEND to do without the node").to_owned();
        let variable = error.context("variable").unwrap_or_default();
        let mut shown = self.values.shown().into_iter();
        let setting = shown.find(|(name, ..)| name.group() == Group::Ipfs && name.variables()[0] == variable);
        let told = match setting {
            // A secret is shown as no more than that it is set.
            Some((name, Some(value), origin)) => {
                let raw = Raw { name, given: Given::Text(value), origin: origin.clone() };
                ConfigError::of(&raw, error.message(), remedy)
            }
            Some((name, None, _)) => ConfigError::of_variable(name.variables()[0], error.message(), remedy),
            None => ConfigError::of_variable(Name::IpfsApi.variables()[0], without_help(&error), remedy),
        };
        told.with_source(error)
    }
}
