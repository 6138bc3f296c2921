//! Test your cache backend.
//!
//! - [`conformance`]: the suite that judges every backend and every wrapper, its cases picked by
//!   the capabilities that the backend declares.
//! - [`chaos`]: a backend that fails, stalls, loses and lies, the same way for the same seed.
//! - [`fleet`]: many machines in one process, with leases and notices of removals.
//! - [`memory`]: what a process has in memory.
//! - [`model`]: what a read of a chain may answer, given all that happened to its tiers.
//! - [`ManualClock`]: time that moves only when a test says so.
//! - [`servers`]: real S3 servers, started and ended by a test, and a proxy that puts faults before
//!   them.

pub mod chaos;
mod clock;
pub mod conformance;
pub mod fleet;
pub mod memory;
pub mod model;
#[cfg(feature = "servers")]
pub mod servers;

pub use clock::ManualClock;
