//! Many nodes in one thread and in virtual time: the same core as in production, over a network
//! that the seed decides. The same seed gives the same run.
//!
//! A connection delivers in order, as TCP does; a lost packet is a delay of 200 ms. What is sent
//! across a partition is gone, and so is its connection, which both ends notice by silence alone.

mod scenario;
#[cfg(test)]
mod tests;
mod traffic;
mod world;

pub use scenario::{Fleet, Outcomes, churn, clocks, partition, steady};
pub use traffic::Traffic;

use std::time::Duration;

/// What a lost packet costs: a usual retransmission timeout (RFC 6298 asks for 1 s at first, Linux
/// takes 200 ms at least).
pub(crate) const RETRANSMIT: Duration = Duration::from_millis(200);
