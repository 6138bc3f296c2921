//! Reading values of any size.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use peercache_api::Entry;

use super::found::{Found, is_absent};
use super::manifest::Manifest;
use super::reserved::is_manifest;
use super::stream::LargeStream;
use super::value::LargeValue;
use super::values::LargeValues;
use super::{MAX_WHOLE_BYTES, chunk};

impl LargeValues {
    /// The value that `entry` stands for: its own, or that of the manifest which it is.
    pub(crate) async fn open(&self, entry: Entry) -> Option<LargeValue> {
        if is_absent(&entry) {
            return None;
        }
        let meta = entry.metadata().clone();
        if !is_manifest(&entry) {
            return Some(LargeValue::plain(meta, entry.into_value()));
        }
        let manifest = self.read_manifest(&entry)?;
        let first = chunk::fetch(self, &manifest, 0).await.ok()?;
        Some(LargeValue::chunked(meta, self.clone(), manifest, first))
    }

    /// The bytes that `entry` stands for; see [`LargeValues::found`]. `None` for an absence, too.
    pub(crate) async fn whole(&self, entry: Entry) -> Option<Bytes> {
        if !is_manifest(&entry) {
            return (!is_absent(&entry)).then(|| entry.into_value());
        }
        self.found(entry).await.map(|found| found.bytes)
    }

    /// The value that `entry` stands for, put together in memory: one of at most
    /// [`MAX_WHOLE_BYTES`], of which every chunk is there and as it was.
    pub(crate) async fn found(&self, entry: Entry) -> Option<Found> {
        if !is_manifest(&entry) {
            return Some(Found::plain(entry));
        }
        // Boxed, so that a hit in memory does not carry the room for it about.
        Box::pin(self.joined(entry)).await
    }

    async fn joined(&self, entry: Entry) -> Option<Found> {
        let manifest = self.read_manifest(&entry)?;
        let Some(len) = usize::try_from(manifest.len).ok().filter(|len| *len <= MAX_WHOLE_BYTES) else {
            self.stats().values_too_large.add_one();
            return None;
        };
        // Before there is room for all: a manifest alone shall not cost 64 MiB.
        let first = chunk::fetch(self, &manifest, 0).await.ok()?;
        let (all, content_type) = (0..manifest.len, manifest.content_type.clone());
        let mut stream = LargeStream::chunked(self.clone(), manifest.into(), all, first);
        let mut value = BytesMut::with_capacity(len);
        while let Some(part) = stream.next().await {
            value.extend_from_slice(&part.ok()?);
        }
        Some(Found { entry, bytes: value.freeze(), large_type: Some(content_type) })
    }

    fn read_manifest(&self, entry: &Entry) -> Option<Manifest> {
        Manifest::decode(entry.value())
            .inspect_err(|error| {
                self.stats().manifests_unreadable.add_one();
                tracing::debug!(%error, "a manifest cannot be read");
            })
            .ok()
    }
}
