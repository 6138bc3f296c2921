//! Test your cache backend, and test against a GitHub-like origin.
//!
//! - [`conformance`]: the suite that judges every backend and every wrapper, its cases picked by the
//!   capabilities that the backend declares.
//! - [`ManualClock`]: time that moves only when a test says so.
//! - [`fakehub`]: an origin that serves recorded GitHub exchanges and keeps the true count of calls.

mod clock;
pub mod conformance;
#[cfg(feature = "fakehub")]
pub mod fakehub;

pub use clock::ManualClock;
