//! Writes under way.

use bytes::Bytes;
use peercache_api::Version;

use crate::core::event::{Failure, OpId};
use crate::wire::{KeyId, PeerKey};

#[derive(Debug)]
pub(in crate::core) struct Write {
    /// None for what is passed on for others.
    pub(in crate::core) op: Option<OpId>,
    /// The peer for whom it is passed on, and its request: answered when the owners have it.
    pub(in crate::core) relayed_for: Option<(PeerKey, u64)>,
    pub(in crate::core) key: KeyId,
    pub(in crate::core) version: Version,
    pub(in crate::core) envelope: Bytes,
    /// The questions that are not answered.
    pub(in crate::core) asked: Vec<u64>,
    pub(in crate::core) copies: u8,
    pub(in crate::core) refused: bool,
    pub(in crate::core) failure: Failure,
    pub(in crate::core) tries: u32,
}
