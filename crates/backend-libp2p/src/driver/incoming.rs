//! From the bytes of a lane to messages, whatever a peer sends: lengths are checked before anything
//! is allocated, and memory is taken as bytes arrive.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::budget::Budget;
use super::outgoing::{CHUNK_HEADER_BYTES, MAX_MIXED, MAX_MIXED_BYTES, SMALL_BYTES};
use crate::wire::{MAX_MESSAGE_BYTES, Message, WireError};

/// Why a peer's bytes make no sense. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// A frame, a chunk or a message declares a length beyond its bound.
    #[error("it declared a length beyond the bound")]
    TooLong,
    /// More messages at once than a sender may mix.
    #[error("it sent too many messages at once")]
    TooMany,
    /// A chunk of no message, beyond its message's end, or of a message that has begun already.
    #[error("it sent a chunk of no message")]
    Stray,
    /// The bytes are no message.
    #[error("{0}")]
    Message(#[from] WireError),
}

/// What turns bytes into messages: once from frames, once from chunks.
pub(crate) trait Incoming: Unpin {
    /// Takes all of `bytes` and adds the messages that are whole now.
    fn take(&mut self, bytes: &[u8], messages: &mut Vec<Message>) -> Result<(), Broken>;
    /// Whether more bytes must come before everything that came is of use.
    fn unfinished(&self) -> bool;
    /// How many frames or chunks have come to their end.
    fn finished(&self) -> u64;
}

fn decode(bytes: Bytes, messages: &mut Vec<Message>) -> Result<(), Broken> {
    messages.extend(Message::decode(bytes)?);
    Ok(())
}

/// Moves bytes from `rest` to `into` until that has `want`; whether it has.
fn gather(into: &mut Vec<u8>, want: usize, rest: &mut &[u8]) -> bool {
    let (now, later) = rest.split_at(rest.len().min(want - into.len()));
    into.extend_from_slice(now);
    *rest = later;
    into.len() == want
}

/// The small lane.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: Vec<u8>,
    /// The frame that has begun: its length, and what came of it.
    frame: Option<(usize, Vec<u8>)>,
    finished: u64,
}

impl Incoming for Frames {
    fn take(&mut self, mut bytes: &[u8], messages: &mut Vec<Message>) -> Result<(), Broken> {
        let rest = &mut bytes;
        while !rest.is_empty() {
            if let Some((length, frame)) = &mut self.frame {
                if !gather(frame, *length, rest) {
                    break;
                }
                let frame = std::mem::take(frame);
                self.frame = None;
                self.finished += 1;
                decode(frame.into(), messages)?;
                continue;
            }
            if !gather(&mut self.header, 4, rest) {
                break;
            }
            let length = number(&self.header, 0);
            self.header.clear();
            match length {
                // Says nothing: it makes the lane known to the other side.
                0 => self.finished += 1,
                _ if length > SMALL_BYTES => return Err(Broken::TooLong),
                // Each message has memory of its own, so that one that is kept keeps no other.
                _ if rest.len() >= length => {
                    let (frame, later) = rest.split_at(length);
                    *rest = later;
                    self.finished += 1;
                    decode(Bytes::copy_from_slice(frame), messages)?;
                }
                _ => self.frame = Some((length, Vec::with_capacity(rest.len()))),
            }
        }
        Ok(())
    }

    fn unfinished(&self) -> bool {
        self.frame.is_some() || !self.header.is_empty()
    }

    fn finished(&self) -> u64 {
        self.finished
    }
}

/// The bulk lane.
#[derive(Debug)]
pub(crate) struct Chunks {
    header: Vec<u8>,
    chunk: Option<Chunk>,
    messages: HashMap<u32, Partial>,
    /// The declared lengths of the messages that have begun.
    declared: usize,
    /// What all peers may hold together.
    budget: Arc<Budget>,
    finished: u64,
}

#[derive(Debug)]
struct Chunk {
    message: u32,
    left: usize,
}

/// A message of which some chunks have come.
#[derive(Debug)]
struct Partial {
    length: usize,
    come: usize,
    /// `None` when there was no memory for it: what comes of it is passed over, and its sender will
    /// not hear of it in time.
    bytes: Option<Vec<u8>>,
}

impl Chunks {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            header: Vec::with_capacity(CHUNK_HEADER_BYTES),
            chunk: None,
            messages: HashMap::new(),
            declared: 0,
            budget,
            finished: 0,
        }
    }

    fn begin_chunk(&mut self) -> Result<(), Broken> {
        let field = |at| number(&self.header, at);
        let (size, message, length) = (field(0), u32::try_from(field(4)).unwrap_or(0), field(8));
        self.header.clear();
        if size == 0 && length == 0 {
            // Says nothing: it makes the lane known to the other side.
            self.finished += 1;
            return Ok(());
        }
        if size == 0 || size > SMALL_BYTES || length > MAX_MESSAGE_BYTES {
            return Err(Broken::TooLong);
        }
        if length > 0 {
            self.begin_message(message, length)?;
        }
        let partial = self.messages.get_mut(&message).ok_or(Broken::Stray)?;
        partial.come += size;
        if partial.come > partial.length {
            return Err(Broken::TooLong);
        }
        if let Some(bytes) = &mut partial.bytes {
            if self.budget.take(size) {
                // The first chunk has its own length; a message that goes on gets its whole length,
                // of which the system gives what is written to.
                bytes.reserve_exact(if length > 0 { size } else { partial.length - bytes.len() });
            } else {
                self.budget.give_back(partial.come - size);
                partial.bytes = None;
            }
        }
        self.chunk = Some(Chunk { message, left: size });
        Ok(())
    }

    fn begin_message(&mut self, message: u32, length: usize) -> Result<(), Broken> {
        let alone = self.messages.is_empty();
        if self.messages.len() >= MAX_MIXED || !alone && self.declared + length > MAX_MIXED_BYTES {
            return Err(Broken::TooMany);
        }
        let partial = Partial { length, come: 0, bytes: Some(Vec::new()) };
        if self.messages.insert(message, partial).is_some() {
            return Err(Broken::Stray);
        }
        self.declared += length;
        Ok(())
    }

    fn end_chunk(&mut self, message: u32, messages: &mut Vec<Message>) -> Result<(), Broken> {
        self.finished += 1;
        if self.messages.get(&message).is_none_or(|partial| partial.come < partial.length) {
            return Ok(());
        }
        let Some(partial) = self.messages.remove(&message) else { return Ok(()) };
        self.declared -= partial.length;
        let Some(bytes) = partial.bytes else { return Ok(()) };
        self.budget.give_back(partial.come);
        decode(bytes.into(), messages)
    }
}

impl Incoming for Chunks {
    fn take(&mut self, mut bytes: &[u8], messages: &mut Vec<Message>) -> Result<(), Broken> {
        let rest = &mut bytes;
        while !rest.is_empty() {
            if let Some(chunk) = &mut self.chunk {
                let (now, later) = rest.split_at(rest.len().min(chunk.left));
                *rest = later;
                chunk.left -= now.len();
                let (message, done) = (chunk.message, chunk.left == 0);
                if let Some(Partial { bytes: Some(bytes), .. }) = self.messages.get_mut(&message) {
                    bytes.extend_from_slice(now);
                }
                if done {
                    self.chunk = None;
                    self.end_chunk(message, messages)?;
                }
            } else if gather(&mut self.header, CHUNK_HEADER_BYTES, rest) {
                self.begin_chunk()?;
            }
        }
        Ok(())
    }

    fn unfinished(&self) -> bool {
        !self.messages.is_empty() || !self.header.is_empty()
    }

    fn finished(&self) -> u64 {
        self.finished
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        let held = self.messages.values().filter(|partial| partial.bytes.is_some());
        self.budget.give_back(held.map(|partial| partial.come).sum());
    }
}

/// Four bytes of `header` from `at` on, which are there.
fn number(header: &[u8], at: usize) -> usize {
    header[at..at + 4].iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests;
