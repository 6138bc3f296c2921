//! The proxy against origins on loopback: every rule that a client can see.

#![allow(clippy::unwrap_used, reason = "in a test, what cannot be unwrapped is a failure")]

mod bodies;
mod body;
mod budget;
mod coalesced;
mod conditions;
mod explain;
mod fleet;
mod fresh;
mod github;
mod graphql;
mod invalidation;
mod isolated;
mod leaks;
mod ledger;
mod machines;
mod passing;
mod routing;
mod serving;
mod shared;
mod side_channels;
mod stale;
mod support;
mod write_pairs;
mod writes;
