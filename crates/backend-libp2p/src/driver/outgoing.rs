//! From messages to the bytes of a lane.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::io::AsyncWrite;

use super::queue::{Parcel, Queue};

/// The longest message of the small lane, in bytes. Longer ones are cut into chunks of this length
/// and go on the bulk lane.
pub(crate) const SMALL_BYTES: usize = 64 * 1024;
/// The most messages that a sender mixes on the bulk lane.
pub(crate) const MAX_MIXED: usize = 16;
/// The most bytes that mixed messages have together, unless it is a single one.
pub(crate) const MAX_MIXED_BYTES: usize = 32 * 1024 * 1024;
/// So many long messages are mixed: each ends the sooner, and less memory is in use at both ends.
const MIXED_LONG: usize = 4;
/// Longer than this is long.
const LONG_BYTES: usize = 256 * 1024;
/// What precedes a chunk: its length, the number of its message, and the length of the whole
/// message in its first chunk, zero in others. Each has four bytes.
pub(crate) const CHUNK_HEADER_BYTES: usize = 12;

/// Bodies from this length on are written from where they are; shorter ones are gathered.
const GATHER_BELOW: usize = 4096;

/// Bytes about to be written.
#[derive(Debug, Default)]
pub(crate) struct Out {
    whole: VecDeque<Bytes>,
    gathered: BytesMut,
    bytes: usize,
}

impl Out {
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.gathered.put_slice(bytes);
        self.bytes += bytes.len();
    }

    pub(crate) fn put_bytes(&mut self, bytes: Bytes) {
        if bytes.len() < GATHER_BELOW {
            return self.put(&bytes);
        }
        self.bytes += bytes.len();
        self.seal();
        self.whole.push_back(bytes);
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes
    }

    /// All of it, for tests of what reads it.
    #[cfg(test)]
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.seal();
        self.whole.iter().flat_map(|bytes| bytes.iter().copied()).collect()
    }

    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            self.whole.push_back(self.gathered.split().freeze());
        }
    }

    /// Writes some of it, at least one byte.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.whole.is_empty() {
            self.seal();
        }
        let Some(first) = self.whole.front_mut() else { return Poll::Ready(Ok(0)) };
        let written = ready!(Pin::new(stream).poll_write(cx, first))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        first.advance(written);
        if first.is_empty() {
            self.whole.pop_front();
        }
        self.bytes -= written;
        Poll::Ready(Ok(written))
    }
}

/// What turns queued messages into bytes: once with frames, once with chunks.
pub(crate) trait Outgoing: Unpin {
    /// Moves messages, or pieces of them, from `queue` to `out` while less than [`SMALL_BYTES`]
    /// wait there.
    fn fill(&mut self, queue: &Queue, out: &mut Out);
    /// Whether it holds a message of which not everything is in `out`.
    fn is_empty(&self) -> bool;
}

/// The small lane: each message behind its length in four bytes.
#[derive(Debug, Default)]
pub(crate) struct Frames;

impl Outgoing for Frames {
    fn fill(&mut self, queue: &Queue, out: &mut Out) {
        while out.len() < SMALL_BYTES
            && let Some(parcel) = queue.pop_if(|_| true)
        {
            let len = parcel.len();
            out.put(&length(len).to_be_bytes());
            out.put(&parcel.head);
            out.put_bytes(parcel.body);
            queue.release(len);
        }
    }

    fn is_empty(&self) -> bool {
        true
    }
}

/// The bulk lane: chunks of several messages, one of each in turn.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    mixed: VecDeque<Sending>,
    /// The lengths of the mixed messages, whole.
    bytes: usize,
    next: u32,
}

#[derive(Debug)]
struct Sending {
    number: u32,
    rest: Parcel,
    len: usize,
    begun: bool,
}

impl Chunks {
    fn fits(&self, len: usize) -> bool {
        let count = if len > LONG_BYTES { MIXED_LONG } else { MAX_MIXED };
        self.mixed.is_empty() || self.mixed.len() < count && self.bytes + len <= MAX_MIXED_BYTES
    }

    fn admit(&mut self, queue: &Queue) {
        while let Some(parcel) = queue.pop_if(|len| self.fits(len)) {
            let len = parcel.len();
            self.bytes += len;
            self.next = self.next.wrapping_add(1);
            self.mixed.push_back(Sending { number: self.next, rest: parcel, len, begun: false });
        }
    }
}

impl Outgoing for Chunks {
    fn fill(&mut self, queue: &Queue, out: &mut Out) {
        while out.len() < SMALL_BYTES {
            self.admit(queue);
            let Some(mut message) = self.mixed.pop_front() else { return };
            let size = message.rest.len().min(SMALL_BYTES);
            out.put(&length(size).to_be_bytes());
            out.put(&message.number.to_be_bytes());
            let whole = if message.begun { 0 } else { length(message.len) };
            out.put(&whole.to_be_bytes());
            message.begun = true;
            let from_head = size.min(message.rest.head.len());
            out.put_bytes(message.rest.head.split_to(from_head));
            out.put_bytes(message.rest.body.split_to(size - from_head));
            if message.rest.len() == 0 {
                self.bytes -= message.len;
                queue.release(message.len);
            } else {
                self.mixed.push_back(message);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.mixed.is_empty()
    }
}

/// Lengths here are far below 4 GiB.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
