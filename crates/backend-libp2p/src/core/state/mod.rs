//! What a node remembers; what it does with that is in the files beside this folder.

mod asks;
mod clocks;
mod leases;
mod lookups;
mod offers;
mod peers;
mod recalls;
mod removals;
mod repair;
mod transfer;
mod writes;

pub(super) use asks::{Ask, Purpose};
pub(super) use clocks::PeerClock;
pub(super) use leases::{Lease, Waiter};
pub(super) use lookups::{Lookup, Origin};
pub(crate) use peers::SMALL_RING;
pub(super) use peers::{Link, Peer, Peers};
pub(super) use recalls::Parked;
pub(super) use removals::{Hint, Told};
pub(super) use repair::{Partner, Repair, Summary};
pub(super) use transfer::{SOON, TRANSFER_DEADLINE, Transfer};
pub(super) use writes::Write;
