//! The driver: moves the bytes that the core speaks of, over libp2p.
//!
//! One task owns the swarm: it listens, dials and closes. Each connection has a task that greets
//! the peer ([`greet`]) and two that read and write its lanes ([`lane`]); they call the core
//! themselves, so that no message passes through the swarm's loop.

mod behaviour;
mod bootstrap;
mod budget;
mod connection;
mod dialler;
mod engine;
mod fault;
mod greet;
mod half_open;
mod handler;
mod hello;
mod incoming;
mod keeper;
mod keeper_tasks;
mod lane;
mod link;
mod muxer;
mod outgoing;
mod plan;
mod queue;
mod resolve;
mod security;
mod socket;
mod swarm;
mod tally;
mod transport;
pub use bootstrap::BootstrapReport;
pub(crate) use engine::{Engine, Setup};
pub(crate) use half_open::HalfOpenLimits;
pub(crate) use keeper::Keeper;
pub(crate) use keeper_tasks::tasks as keeper_tasks;
pub(crate) use link::{Link, QueueLimits};
pub(crate) use plan::{ConnectionLimits, Plan, StartError};
pub(crate) use swarm::SwarmTask;
pub use tally::Connections;

#[cfg(test)]
mod rogue;
