//! Questions to peers that are not answered yet.

use std::time::Duration;

use crate::wire::{KeyId, PeerKey};

/// What an operation or a question belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Purpose {
    Lookup(u64),
    /// A look at what is kept outside.
    Recall(KeyId),
    Write(u64),
    Lease(u64),
    Repair,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Ask {
    pub(in crate::core) peer: PeerKey,
    pub(in crate::core) purpose: Purpose,
    pub(in crate::core) sent: Duration,
}
