//! The peers of peercache: runners share a cache over libp2p, through containers and NAT, and lose
//! nothing when peers vanish.
//!
//! Two layers. `core` decides and does no I/O: it is told what happened and says what to do, so a
//! seeded simulator runs the same code with ten thousand nodes in virtual time. `driver` moves bytes:
//! libp2p with TCP, Noise and Yamux, two long-lived lanes per connection. `wire` is what nodes say to
//! each other. `docs/peers.md` has the protocol and the reasons.

#[allow(dead_code, reason = "the driver is on its way")]
mod core;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
#[allow(dead_code, reason = "the driver is on its way")]
mod wire;

pub use core::Counters;
