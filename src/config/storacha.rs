//! The Storacha space that the settings name.

use std::sync::Arc;

use peercache_api::{CacheBackend, Error};
use peercache_chain::TierOptions;
use peercache_storacha::{Storacha, Token};

use crate::cache::CacheBuilder;

use super::configuration::Config;
use super::error::{ConfigError, without_help};
use super::name::{Group, Name};
use super::open::opened_tier;
use super::secret::Ring;
use super::value::{Given, Raw};

impl Config {
    /// The token of the Storacha space, if one is set.
    ///
    /// # Errors
    /// A token that cannot be used, in terms of the setting to change.
    pub fn storacha_token(&self) -> Result<Option<Token>, ConfigError> {
        let Some(text) = &self.values.web3_storage_token.value else { return Ok(None) };
        Token::parse(text.expose()).map(Some).map_err(|error| self.storacha_at_fault(error))
    }

    /// Adds the tier that stands on the space.
    pub(super) async fn open_storacha(
        &self,
        ring: Option<&Ring>,
        builder: CacheBuilder,
        options: TierOptions,
    ) -> Result<CacheBuilder, ConfigError> {
        let values = &self.values;
        // Removed bytes can stay readable there, so nothing goes there in clear.
        let Some(ring) = ring else {
            return Err(ConfigError::of_variable(
                Name::Secret.variables()[0],
                "what is stored at Storacha can be read by who learns its address, and there is no secret to \
                 seal it with",
                "make one with `peercache keygen` and give it to every machine as CACHE_SECRET, or take \
                 `storacha` out of CACHE_BACKEND",
            ));
        };
        let Some(token) = self.storacha_token()? else {
            return Err(ConfigError::of_variable(
                Name::Web3StorageToken.variables()[0],
                "there is no token",
                "build one with `peercache storacha token`, or take `storacha` out of CACHE_BACKEND",
            ));
        };
        let mut space = Storacha::builder(token)
            .allow_private(values.storacha_allow_private.value)
            .read_only(values.read_only.value)
            .clock(self.clock.shared());
        if let Some(url) = &values.storacha_service_url.value {
            space = space.url(url.as_str());
        }
        if let Some(did) = &values.storacha_service_did.value {
            space = space.did(did);
        }
        if let Some(url) = &values.storacha_receipts_url.value {
            space = space.receipts(url.as_str());
        }
        if let Some(preset) = &values.storacha_preset.value {
            space = space.preset(preset.parse().map_err(|error| self.storacha_at_fault(error))?);
        }
        let space = Arc::new(space.open().map_err(|error| self.storacha_at_fault(error))?);
        let tier: Arc<dyn CacheBackend> = ring.seal_shared(Arc::clone(&space), self.clock.shared());
        Ok(opened_tier(builder.storacha(space), tier, options))
    }

    /// The error of a space that cannot be used, in terms of the setting at fault.
    fn storacha_at_fault(&self, error: Error) -> ConfigError {
        let remedy =
            error.help().unwrap_or("take `storacha` out of CACHE_BACKEND to do without the space").to_owned();
        let variable = error.context("variable").unwrap_or_default();
        let mut shown = self.values.shown().into_iter();
        let setting =
            shown.find(|(name, ..)| name.group() == Group::Storacha && name.variables()[0] == variable);
        let told = match setting {
            // A secret is shown as no more than that it is set.
            Some((name, Some(value), origin)) => {
                let raw = Raw { name, given: Given::Text(value), origin: origin.clone() };
                ConfigError::of(&raw, error.message(), remedy)
            }
            Some((name, None, _)) => ConfigError::of_variable(name.variables()[0], error.message(), remedy),
            None => {
                ConfigError::of_variable(Name::Web3StorageToken.variables()[0], without_help(&error), remedy)
            }
        };
        told.with_source(error)
    }
}
