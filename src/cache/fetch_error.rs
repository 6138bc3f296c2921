//! Why there is no value, and what a loader's failure leaves behind.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use peercache_api::Error;

/// Why a fetch has no value. `E` is the loader's own error.
///
/// No failure of a backend is among the reasons: it only makes the cache load. It is an
/// [`Error`](std::error::Error) where `E` is one.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError<E> {
    /// The loader failed. Everyone who waited for it gets the same error, and so does who asks
    /// while [`Policy::error_backoff`](crate::Policy::error_backoff) lasts.
    Load(Arc<E>),
    /// Another caller's loader for the same key failed, with an error of another type.
    OtherLoad(LoadFailure),
    /// The key, a tag, or a bound of the policy is not valid. Nothing was loaded.
    Invalid(Error),
    /// The value that the loader gave cannot be encoded.
    Encode(Error),
    /// Another caller loaded a value of another type under the same key at the same time.
    Decode(Error),
    /// [`Refresh::CacheOnly`](crate::Refresh::CacheOnly), and the cache has no value.
    NotCached,
    /// The loader of this key asked for the same key, directly or through other loaders, and would
    /// have waited for itself.
    Recursive,
}

impl<E> FetchError<E> {
    /// The loader's own error.
    #[must_use]
    pub fn loader(&self) -> Option<&E> {
        match self {
            Self::Load(error) => Some(error),
            _ => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for FetchError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(error) => write!(f, "the value could not be loaded: {error}"),
            Self::OtherLoad(failure) => write!(f, "the value could not be loaded: {failure}"),
            Self::Invalid(error) => write!(f, "nothing was loaded: {error}"),
            Self::Encode(error) => write!(f, "the loaded value cannot be stored: {error}"),
            Self::Decode(error) => {
                write!(f, "the value that another caller loaded under this key is of another type: {error}")
            }
            Self::NotCached => f.write_str("the value is not in the cache, and was not to be loaded"),
            Self::Recursive => f.write_str(
                "the loader of this key waits for the same key: load the inner value under another key",
            ),
        }
    }
}

impl<E: StdError + 'static> StdError for FetchError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Load(error) => Some(&**error),
            Self::Invalid(error) | Self::Encode(error) | Self::Decode(error) => Some(error),
            Self::OtherLoad(_) | Self::NotCached | Self::Recursive => None,
        }
    }
}

impl<E> Clone for FetchError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(error) => Self::Load(Arc::clone(error)),
            Self::OtherLoad(failure) => Self::OtherLoad(failure.clone()),
            Self::Invalid(error) => Self::Invalid(error.clone()),
            Self::Encode(error) => Self::Encode(error.clone()),
            Self::Decode(error) => Self::Decode(error.clone()),
            Self::NotCached => Self::NotCached,
            Self::Recursive => Self::Recursive,
        }
    }
}

/// A loader's error without its type: what is shared by callers whose loaders may differ.
#[derive(Clone)]
pub struct LoadFailure {
    text: Arc<str>,
    error: Arc<dyn Any + Send + Sync>,
}

impl LoadFailure {
    pub(crate) fn new<E: fmt::Display + Send + Sync + 'static>(error: E) -> Self {
        Self { text: error.to_string().into(), error: Arc::new(error) }
    }

    /// The loader's own error, if it is of type `E`.
    #[must_use]
    pub fn loader<E: Send + Sync + 'static>(&self) -> Option<Arc<E>> {
        Arc::clone(&self.error).downcast().ok()
    }

    pub(crate) fn into_error<E: Send + Sync + 'static>(self) -> FetchError<E> {
        match self.loader() {
            Some(error) => FetchError::Load(error),
            None => FetchError::OtherLoad(self),
        }
    }
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoadFailure").field(&self.text).finish()
    }
}
