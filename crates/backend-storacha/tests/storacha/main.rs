//! The tier over the real upload service from npm.
#![allow(clippy::unwrap_used, reason = "in a test, a failed unwrap is a failed test")]

mod conformance;
mod official_client;
mod order;
mod refusals;
mod support;
