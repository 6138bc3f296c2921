//! The facade: what a caller of `Cache` can rely on.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

#[path = "cache/clocks.rs"]
mod clocks;
#[cfg(feature = "disk")]
#[path = "cache/conformance.rs"]
mod conformance;
#[path = "cache/faults.rs"]
mod faults;
#[path = "cache/fetch.rs"]
mod fetch;
#[cfg(feature = "seal")]
#[path = "cache/journal.rs"]
mod journal;
#[path = "cache/loading.rs"]
mod loading;
#[cfg(feature = "seal")]
#[path = "cache/sealed.rs"]
mod sealed;
#[path = "cache/support.rs"]
mod support;
#[path = "cache/values.rs"]
mod values;
