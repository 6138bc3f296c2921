//! One entry on its way between two anchors that compare what they hold.

use std::time::Duration;

use crate::wire::{KeyId, PeerKey};

/// How long until anchors look again, while something is known to be missing.
pub(in crate::core) const SOON: Duration = Duration::from_secs(1);
/// How long a transfer may take.
pub(in crate::core) const TRANSFER_DEADLINE: Duration = Duration::from_secs(10);

/// A transfer with `peer`: pulled from it, or pushed to it.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Transfer {
    pub(in crate::core) peer: PeerKey,
    pub(in crate::core) key: KeyId,
    pub(in crate::core) pull: bool,
}
