//! How the suite opens the store under test, and the clock of that store.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use peercache_api::{CacheBackend, Clock, Error, Timestamp};

use crate::clock::ManualClock;

/// The clock that the backend under test reads.
#[derive(Clone, Debug)]
pub enum Time {
    /// One that the suite may move, so that it can watch entries grow stale and expire.
    Manual(Arc<ManualClock>),
    /// One that moves by itself. Cases that need time to pass are skipped.
    Real(Arc<dyn Clock>),
}

impl Time {
    pub(crate) fn now(&self) -> Timestamp {
        match self {
            Self::Manual(clock) => clock.now(),
            Self::Real(clock) => clock.now(),
        }
    }
}

/// How the suite opens the store under test.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Opens the store. The suite closes it before it opens it again; a durable backend must then
    /// open the same store, any other may start empty.
    ///
    /// # Errors
    /// Whatever hinders it; the case that asked for it is then reported as failed.
    async fn open(&self) -> Result<Arc<dyn CacheBackend>, Error>;

    /// The clock that the store reads. Called once.
    fn time(&self) -> Time;

    /// Whether the store may be opened again before it is closed, as another member of one fleet.
    /// Cases about what members tell each other are skipped otherwise.
    fn opens_members(&self) -> bool {
        false
    }
}

/// A [`Harness`] made of a clock and a function that opens the store.
pub fn from_fn<F, O>(time: Time, open: F) -> FromFn<F>
where
    F: Fn() -> O + Send + Sync,
    O: Future<Output = Result<Arc<dyn CacheBackend>, Error>> + Send,
{
    FromFn { time, open, members: false }
}

/// See [`from_fn`].
#[derive(Clone)]
pub struct FromFn<F> {
    time: Time,
    open: F,
    members: bool,
}

impl<F> FromFn<F> {
    /// As this one, for a store that may be opened several times at once, each time as another
    /// member of one fleet.
    #[must_use]
    pub fn with_members(self) -> Self {
        Self { members: true, ..self }
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").field("time", &self.time).finish_non_exhaustive()
    }
}

#[async_trait]
impl<F, O> Harness for FromFn<F>
where
    F: Fn() -> O + Send + Sync,
    O: Future<Output = Result<Arc<dyn CacheBackend>, Error>> + Send,
{
    async fn open(&self) -> Result<Arc<dyn CacheBackend>, Error> {
        (self.open)().await
    }

    fn time(&self) -> Time {
        self.time.clone()
    }

    fn opens_members(&self) -> bool {
        self.members
    }
}
