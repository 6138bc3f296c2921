//! A value that was found: what is known of it, and how to read it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use peercache_api::Metadata;

use super::chunk::Chunk;
use super::manifest::Manifest;
use super::stream::LargeStream;
use super::values::LargeValues;

/// A value that can be read piece by piece, whole or in part, as often as wanted.
///
/// Holds the manifest (at most 33 KiB per GiB) and the first chunk, or a plain entry's value.
#[derive(Clone, Debug)]
pub struct LargeValue {
    meta: Metadata,
    parts: Parts,
}

#[derive(Clone, Debug)]
enum Parts {
    Plain(Bytes),
    Chunked { values: LargeValues, manifest: Arc<Manifest>, first: Chunk },
}

impl LargeValue {
    pub(super) fn plain(meta: Metadata, value: Bytes) -> Self {
        Self { meta, parts: Parts::Plain(value) }
    }

    /// `meta` is the manifest entry's; the value's content type is in the manifest.
    pub(super) fn chunked(mut meta: Metadata, values: LargeValues, manifest: Manifest, first: Chunk) -> Self {
        meta.content_type.clone_from(&manifest.content_type);
        Self { meta, parts: Parts::Chunked { values, manifest: Arc::new(manifest), first } }
    }

    /// The value's length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.parts {
            Parts::Plain(value) => value.len() as u64,
            Parts::Chunked { manifest, .. } => manifest.len,
        }
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The media type of the value, if known.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.meta.content_type.as_deref()
    }

    /// Version, lifetime, validators, tags and content type.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.meta
    }

    /// All bytes, in order.
    #[must_use]
    pub fn into_stream(self) -> LargeStream {
        let all = 0..self.len();
        self.range(all)
    }

    /// The bytes of `range`, counted from 0, the end exclusive. What lies beyond the value's end is
    /// left out; [`LargeStream::remaining`] says how many bytes there are. Reads and verifies only
    /// the chunks that the range touches.
    #[must_use]
    pub fn range(&self, range: Range<u64>) -> LargeStream {
        let end = range.end.min(self.len());
        let range = range.start.min(end)..end;
        match &self.parts {
            Parts::Plain(value) => {
                // Both lie within the value, whose length is a usize.
                let at = |position| usize::try_from(position).unwrap_or(value.len());
                LargeStream::whole(value.slice(at(range.start)..at(range.end)))
            }
            Parts::Chunked { values, manifest, first } => {
                LargeStream::chunked(values.clone(), Arc::clone(manifest), range, first.clone())
            }
        }
    }
}
