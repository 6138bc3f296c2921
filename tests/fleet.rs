//! Several machines, each with a cache of its own, over a backend that coordinates them: one load
//! for all, and what one removes is gone for the others at once.
#![cfg(all(feature = "memory", feature = "disk", feature = "seal"))]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

#[path = "fleet/everything.rs"]
mod everything;
#[path = "fleet/leases.rs"]
mod leases;
#[path = "fleet/removals.rs"]
mod removals;
#[path = "fleet/support.rs"]
mod support;
#[path = "fleet/unwell.rs"]
mod unwell;
