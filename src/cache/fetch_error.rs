//! What can go wrong in `get_or_fetch`, where the cache itself cannot.

use std::error::Error as StdError;
use std::sync::Arc;

use thiserror::Error;

/// Why [`crate::Cache::get_or_fetch`] has no value. The cache's own failures are never among the
/// reasons: they only make it load.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The loader failed. Everyone who waited for it gets the same error, shared.
    #[error("the value could not be loaded: {0}")]
    Load(#[source] Arc<dyn StdError + Send + Sync>),
    /// The loaded value could not be turned into JSON, or the TTL is longer than an entry may live.
    #[error("the loaded value cannot be stored: {0}")]
    Encode(#[source] Arc<dyn StdError + Send + Sync>),
    /// Another caller loaded a value of another type under the same key at the same time.
    #[error("the value that another caller loaded under this key is of another type: {0}")]
    Decode(#[source] Arc<serde_json::Error>),
}

impl FetchError {
    /// The loader's own error, if it is of type `E`.
    #[must_use]
    pub fn loader<E: StdError + 'static>(&self) -> Option<&E> {
        match self {
            Self::Load(error) => error.downcast_ref(),
            Self::Encode(_) | Self::Decode(_) => None,
        }
    }
}
