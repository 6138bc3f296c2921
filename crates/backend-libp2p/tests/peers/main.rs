//! Nodes on loopback, as their users see them.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod conformance;
mod membership;
mod strangers;
mod support;
mod values;
