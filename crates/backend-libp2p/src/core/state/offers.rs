//! What is offered to the owners of keys.

use std::collections::BTreeMap;

use peercache_api::Version;

use crate::wire::{KeyId, PeerKey};

/// An entry, and the rank of the owner that it is offered to.
pub(in crate::core) type Offered = (KeyId, Version, usize);

#[derive(Debug, Default)]
pub(in crate::core) struct Offers {
    /// To be offered at the end of the walk.
    pub(in crate::core) planned: BTreeMap<PeerKey, Vec<Offered>>,
    /// Not answered yet, and in which ring they were made.
    pub(in crate::core) sent: BTreeMap<u64, (u64, Vec<Offered>)>,
}
