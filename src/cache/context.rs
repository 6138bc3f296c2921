//! What a loader is given: the stale value, and a say in how its own value is kept.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peercache_api::Metadata;

use crate::large::Found;
use crate::ttl::Ttl;

/// Why a loader runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoadReason {
    /// The cache has nothing to serve.
    Miss,
    /// What the cache has is stale, or past
    /// [`Policy::refresh_early_at`](crate::Policy::refresh_early_at).
    Stale,
    /// The caller asked for it with [`Refresh::Force`](crate::Refresh::Force).
    Forced,
}

/// What a loader is given. What it says here holds for the value that it then gives.
///
/// What is out of bounds does not lose the value: it is given to the callers, not kept, and counted
/// in [`CacheReport::loads_not_kept`](crate::report::CacheReport::loads_not_kept).
pub struct LoadContext<T> {
    reason: LoadReason,
    stale: Option<Found>,
    decode: Decode<T>,
    said: Arc<Mutex<Said>>,
}

type Decode<T> = Arc<dyn Fn(&Found) -> Option<T> + Send + Sync>;

/// What a loader says about its value.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) ttl: Option<Ttl>,
    pub(crate) tags: Vec<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    pub(crate) not_kept: bool,
}

impl<T> LoadContext<T> {
    pub(crate) fn new(
        reason: LoadReason,
        stale: Option<Found>,
        decode: impl Fn(&Found) -> Option<T> + Send + Sync + 'static,
    ) -> (Self, Arc<Mutex<Said>>) {
        let said = Arc::default();
        (Self { reason, stale, decode: Arc::new(decode), said: Arc::clone(&said) }, said)
    }

    /// Why the loader runs.
    #[must_use]
    pub fn reason(&self) -> LoadReason {
        self.reason
    }

    /// The value that is to be replaced, if the cache has one of this type that is not expired.
    /// Reads it from its bytes each time.
    #[must_use]
    pub fn stale(&self) -> Option<T> {
        self.stale.as_ref().and_then(|found| (self.decode)(found))
    }

    /// What is known of that value: its entity tag and modification date, to ask the origin whether
    /// it changed; its version, age and tags.
    #[must_use]
    pub fn stale_metadata(&self) -> Option<&Metadata> {
        self.stale.as_ref().map(|found| found.entry.metadata())
    }

    /// Keeps the value for `ttl` instead of what the policy says.
    pub fn ttl(&self, ttl: impl Into<Ttl>) {
        self.said().ttl = Some(ttl.into());
    }

    /// Adds a tag to those of the policy.
    pub fn tag(&self, tag: impl Into<String>) {
        self.said().tags.push(tag.into());
    }

    /// The origin's entity tag, as received.
    pub fn etag(&self, etag: impl Into<String>) {
        self.said().etag = Some(etag.into());
    }

    /// The origin's modification date, as received.
    pub fn last_modified(&self, date: impl Into<String>) {
        self.said().last_modified = Some(date.into());
    }

    /// The media type of a value of bytes. Values of other types have their codec's.
    pub fn content_type(&self, content_type: impl Into<String>) {
        self.said().content_type = Some(content_type.into());
    }

    /// Gives the value to the callers and does not keep it. What the cache had before stays.
    pub fn do_not_store(&self) {
        self.said().not_kept = true;
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for LoadContext<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadContext")
            .field("reason", &self.reason)
            .field("has_stale", &self.stale.is_some())
            .finish_non_exhaustive()
    }
}
