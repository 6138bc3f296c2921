//! Clients and servers that do what they should not: every bound of the proxy, seen from outside.

#![allow(clippy::unwrap_used, reason = "in a test, what cannot be unwrapped is a failure")]

mod bounds;
mod build_cache;
mod forward;
mod hosts;
mod requests;
mod support;
mod uploads;
