//! What the fuzzers assert: one function for each target, which takes any bytes and panics on a
//! finding.
//!
//! Most inputs that a fuzzer invents end at a checksum. So each function looks at its input several
//! ways: as it is, with its checksums made right, and as a recipe for something valid that is then
//! damaged.

#![forbid(unsafe_code)]

mod config;
mod damage;
mod entry;
mod envelope;
mod journal;
mod manifest;
mod peers;
mod sealed;

pub use config::config;
pub use envelope::envelope;
pub use journal::journal;
pub use manifest::manifest;
pub use peers::peers;
pub use sealed::sealed;
