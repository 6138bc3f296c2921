//! A whole value as it was found, and the marks that the cache puts on entries of its own.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use peercache_api::Entry;

/// The media type of an entry that says "there is no value". No caller can store one.
pub(crate) const ABSENT_TYPE: &str = "application/vnd.peercache.absent";

/// A value with the entry that it came from. The entry of a large value is its manifest.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) entry: Entry,
    /// The whole value.
    pub(crate) bytes: Bytes,
    /// The media type of a large value, which its manifest has; that of others is the entry's.
    pub(crate) large_type: Option<Option<String>>,
}

impl Found {
    pub(crate) fn plain(entry: Entry) -> Self {
        let bytes = entry.value().clone();
        Self { entry, bytes, large_type: None }
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        match &self.large_type {
            Some(content_type) => content_type.as_deref(),
            None => self.entry.metadata().content_type.as_deref(),
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        is_absent(&self.entry)
    }
}

/// Whether `entry` says that there is no value.
pub(crate) fn is_absent(entry: &Entry) -> bool {
    entry.metadata().content_type.as_deref() == Some(ABSENT_TYPE)
}

/// A value as a loader gave it, for those who waited for it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: Option<String>,
    pub(crate) absent: bool,
    /// The value itself, where its form is shared and not copied.
    pub(crate) decoded: Option<Arc<dyn Any + Send + Sync>>,
}

impl Loaded {
    pub(crate) fn of(found: Found) -> Self {
        Self {
            content_type: found.content_type().map(str::to_owned),
            absent: found.is_absent(),
            decoded: found.entry.decoded().cloned(),
            bytes: found.bytes,
        }
    }
}
