//! A large value on its way out: a stream of verified chunks, and a reader over it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::JoinSet;

use super::chunk::{self, Chunk};
use super::error::LargeError;
use super::manifest::Manifest;
use super::values::LargeValues;
use super::{READ_WINDOW, SHARED_READ_WINDOW};

type Parts = Pin<Box<dyn Stream<Item = Result<Bytes, LargeError>> + Send>>;

/// The bytes of a large value or of a range of it, in order and verified, in pieces of at most one
/// chunk (a plain entry's value comes in one piece).
///
/// Either all bytes come, or an error does and then nothing: an end without an error is the end of
/// the value. Two chunks are on their way, four where the first came from a shared tier: 2 or 12
/// MiB (more where another cache cut the value into longer chunks, of 4 MiB at most). They are
/// fetched in tasks of the runtime, which end when it is dropped; dropping it at any point is safe.
/// It must be polled within a tokio runtime.
pub struct LargeStream {
    parts: Parts,
    remaining: u64,
}

impl LargeStream {
    pub(super) fn whole(value: Bytes) -> Self {
        let remaining = value.len() as u64;
        let part = (!value.is_empty()).then_some(Ok(value));
        Self { parts: Box::pin(stream::iter(part)), remaining }
    }

    /// The bytes of `range`, which lies within the value; `first` is chunk 0.
    pub(super) fn chunked(
        values: LargeValues,
        manifest: Arc<Manifest>,
        range: Range<u64>,
        first: Chunk,
    ) -> Self {
        let remaining = range.end.saturating_sub(range.start);
        if remaining == 0 {
            return Self::whole(Bytes::new());
        }
        let chunk_bytes = manifest.chunk_bytes as u64;
        let window = if first.shared { SHARED_READ_WINDOW } else { READ_WINDOW };
        let indices = range.start / chunk_bytes..range.end.div_ceil(chunk_bytes);
        let parts = stream::iter(indices)
            .map(move |index| {
                let (values, manifest, range) = (values.clone(), Arc::clone(&manifest), range.clone());
                let at_hand = (index == 0).then(|| first.bytes.clone());
                async move {
                    let chunk = match at_hand {
                        Some(chunk) => chunk,
                        None => aside(values, manifest, index).await?,
                    };
                    Ok(within(&chunk, index * chunk_bytes, &range))
                }
            })
            .buffered(window);
        Self { parts: Box::pin(parts), remaining }
    }

    /// How many bytes are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The same bytes as an [`AsyncRead`].
    #[must_use]
    pub fn into_reader(self) -> LargeReader {
        LargeReader { stream: self, piece: Bytes::new() }
    }
}

/// As [`chunk::fetch`], in a task of its own: what one chunk costs the processor (copied out of its
/// body, unsealed, hashed) does not hold up the others. The task ends with this future.
async fn aside(values: LargeValues, manifest: Arc<Manifest>, index: u64) -> Result<Bytes, LargeError> {
    let chunks = manifest.chunks();
    let mut task = JoinSet::new();
    task.spawn(async move { Ok(chunk::fetch(&values, &manifest, index).await?.bytes) });
    match task.join_next().await {
        Some(Ok(fetched)) => fetched,
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Some(Err(_)) | None => Err(LargeError::ChunkMissing { index, chunks }),
    }
}

/// The part of `chunk`, which begins at `start` of the value, that `range` covers.
fn within(chunk: &Bytes, start: u64, range: &Range<u64>) -> Bytes {
    let inside = |position: u64| {
        usize::try_from(position.saturating_sub(start)).unwrap_or(usize::MAX).min(chunk.len())
    };
    chunk.slice(inside(range.start)..inside(range.end))
}

impl Stream for LargeStream {
    type Item = Result<Bytes, LargeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let part = ready!(self.parts.poll_next_unpin(context));
        match &part {
            Some(Ok(bytes)) => self.remaining = self.remaining.saturating_sub(bytes.len() as u64),
            // Later chunks may be on their way; what follows a gap is of no use.
            Some(Err(_)) => self.parts = Box::pin(stream::empty()),
            None => {}
        }
        Poll::Ready(part)
    }
}

impl fmt::Debug for LargeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeStream").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

/// A [`LargeStream`] as an [`AsyncRead`]. A [`LargeError`] is the source of the [`io::Error`].
#[derive(Debug)]
pub struct LargeReader {
    stream: LargeStream,
    piece: Bytes,
}

impl AsyncRead for LargeReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(self.stream.poll_next_unpin(context)) {
                Some(piece) => self.piece = piece?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let take = self.piece.len().min(buffer.remaining());
        buffer.put_slice(&self.piece[..take]);
        self.piece.advance(take);
        Poll::Ready(Ok(()))
    }
}
