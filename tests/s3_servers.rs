//! A cache with a bucket below its memory, over a real server that fails in every way that servers
//! do.
#![cfg(all(feature = "memory", feature = "s3"))]
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

#[path = "s3_servers/faults.rs"]
mod faults;
#[path = "s3_servers/support.rs"]
mod support;
