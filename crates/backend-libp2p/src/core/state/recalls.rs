//! Who waits to learn whether an entry is kept outside of this node's memory.

use std::time::Duration;

use crate::core::event::OpId;
use crate::wire::PeerKey;

/// A question for a key that this node does not hold in memory.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) enum Parked {
    User { op: OpId, until: Duration },
    Peer { peer: PeerKey, req: u64, until: Duration, forwarded: bool },
}
