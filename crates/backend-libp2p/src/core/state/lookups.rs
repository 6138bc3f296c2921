//! Lookups under way.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::event::{Failure, OpId};
use crate::wire::{KeyId, PeerKey};

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Origin {
    User(OpId),
    Peer { peer: PeerKey, req: u64 },
}

#[derive(Debug)]
pub(in crate::core) struct Lookup {
    pub(in crate::core) origin: Origin,
    pub(in crate::core) key: KeyId,
    /// Whom to ask next.
    pub(in crate::core) candidates: VecDeque<PeerKey>,
    /// The questions that are not answered.
    pub(in crate::core) asked: Vec<u64>,
    pub(in crate::core) deadline: Duration,
    /// Whether those that are asked may ask others in turn.
    pub(in crate::core) may_forward: bool,
    /// How many said that there is none.
    pub(in crate::core) misses: u32,
    /// Why the latest one that could not answer did not.
    pub(in crate::core) failure: Failure,
}
