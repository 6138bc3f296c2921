//! What stands between this anchor and the others that own the same keys.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::offers::Offers;
use super::transfer::Transfer;
use crate::wire::{KeyId, PeerKey};

pub(in crate::core) type Summary = Vec<u64>;

/// What stands between this anchor and one other.
#[derive(Debug, Default)]
pub(in crate::core) struct Partner {
    pub(in crate::core) synced: bool,
    /// The summary that was sent, and how many lists are still to come.
    pub(in crate::core) comparing: Option<(u64, Option<u16>)>,
    /// How many transfers with it are outstanding.
    pub(in crate::core) transfers: usize,
    /// Whether the lists did not name everything that differs.
    pub(in crate::core) incomplete: bool,
    /// A summary that came before this anchor's own walk was done.
    pub(in crate::core) waiting: Option<(u64, Summary)>,
}

#[derive(Debug, Default)]
pub(in crate::core) struct Repair {
    pub(in crate::core) offers: Offers,
    /// Where the walk is; none while there is none.
    pub(in crate::core) walking: Option<Option<KeyId>>,
    pub(in crate::core) building: BTreeMap<PeerKey, Summary>,
    /// Of the latest whole walk, unless the ring has changed since.
    pub(in crate::core) summaries: Option<BTreeMap<PeerKey, Summary>>,
    pub(in crate::core) partners: BTreeMap<PeerKey, Partner>,
    pub(in crate::core) queue: VecDeque<Transfer>,
    pub(in crate::core) running: BTreeMap<u64, Transfer>,
    pub(in crate::core) changed: Duration,
}
