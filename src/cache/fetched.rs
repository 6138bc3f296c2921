//! A value, and how it was come by.

use std::borrow::Cow;
use std::time::Duration;

use super::fetch_error::LoadFailure;

/// A value, where it came from, and how old it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fetched<T> {
    /// The value.
    pub value: T,
    /// How it was come by.
    pub from: FetchedFrom,
    /// Its age; zero for one that was loaded just now.
    pub age: Duration,
    /// The tier that it was found in.
    pub tier: Option<Cow<'static, str>>,
}

impl<T> Fetched<T> {
    pub(crate) fn loaded(value: T, from: FetchedFrom) -> Self {
        Self { value, from, age: Duration::ZERO, tier: None }
    }

    /// Whether the value is stale.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.from.is_stale()
    }

    /// The same provenance with what `change` makes of the value.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Fetched<U> {
        Fetched { value: change(self.value), from: self.from, age: self.age, tier: self.tier }
    }
}

/// How a value was come by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FetchedFrom {
    /// It was in the cache and fresh.
    Cache,
    /// This caller's loader gave it.
    Loaded,
    /// Another caller's loader gave it, here or on another machine, and this caller waited for
    /// that.
    Joined,
    /// It was in the cache and stale, and the cache alone was asked.
    Stale,
    /// It was in the cache and stale; it is being refreshed in the background.
    StaleWhileRefreshing,
    /// It was in the cache and stale, and the loader failed with this.
    StaleOnError(LoadFailure),
}

impl FetchedFrom {
    /// Whether the value is stale.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        matches!(self, Self::Stale | Self::StaleWhileRefreshing | Self::StaleOnError(_))
    }
}
