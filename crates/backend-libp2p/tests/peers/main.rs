//! Nodes on loopback, as their users see them.

mod conformance;
mod membership;
mod strangers;
mod support;
mod values;
