//! What peers say to each other: messages and their bytes. No I/O.
//!
//! `docs/reference/peer-protocol.md` describes every message to the byte. A message starts with its
//! kind (one byte), flags (one byte) and the number of the request that it belongs to (eight bytes,
//! zero for none); all numbers are big-endian. How messages are cut into frames is the driver's
//! business.

mod decode;
mod encode;
mod message;

pub(crate) use decode::WireError;
pub(crate) use message::{AnchorInfo, ClockReading, KeyId, Message, PeerKey, PutReply};
pub(crate) use message::{BUCKETS, MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_ANCHORS, MAX_LISTED};

/// The longest message, in bytes: an envelope and what is said about it.
pub(crate) const MAX_MESSAGE_BYTES: usize = peercache_api::envelope::MAX_ENVELOPE_BYTES + 64;

#[cfg(test)]
mod tests;
