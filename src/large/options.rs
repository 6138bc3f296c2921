//! What a caller says about a value that is streamed in.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::ttl::Ttl;

/// What a value that is streamed in is kept with. A [`Ttl`] alone is enough for most.
///
/// ```
/// use peercache::Ttl;
/// use peercache::stream::StreamOptions;
///
/// let options = StreamOptions::new(Ttl::from_secs(3600));
/// let options = options.content_type("application/zip").tag("release:v1");
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct StreamOptions {
    pub(crate) ttl: Ttl,
    pub(crate) content_type: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) expected_len: u64,
    /// What the bytes of a plain entry are when decoded.
    pub(crate) decoded: Option<Arc<dyn Any + Send + Sync>>,
}

impl StreamOptions {
    /// Kept for `ttl`, and nothing else said.
    pub fn new(ttl: Ttl) -> Self {
        Self { ttl, ..Self::default() }
    }

    /// The media type of the value. What begins with `application/vnd.peercache.` is refused.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// The origin's entity tag, as received.
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.etag = Some(etag.into());
        self
    }

    /// The origin's modification date, as received.
    pub fn last_modified(mut self, date: impl Into<String>) -> Self {
        self.last_modified = Some(date.into());
        self
    }

    /// How many bytes are going to come, where that is known, as of a file: a tier without room for so
    /// many is left out from the first byte on, where it would find out only on the way. Not checked.
    pub fn expected_len(mut self, bytes: u64) -> Self {
        self.expected_len = bytes;
        self
    }

    /// Adds a group that the value belongs to.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

impl From<Ttl> for StreamOptions {
    fn from(ttl: Ttl) -> Self {
        Self::new(ttl)
    }
}

impl From<Duration> for StreamOptions {
    fn from(fresh: Duration) -> Self {
        Self::new(fresh.into())
    }
}
