//! The driver: moves the bytes that the core speaks of, over libp2p.
//!
//! One task owns the swarm: it listens, dials and closes. Each connection has a task that greets the
//! peer ([`greet`]) and two that read and write its lanes ([`lane`]); they call the core themselves, so
//! that no message passes through the swarm's loop.

mod budget;
mod greet;
mod hello;
mod incoming;
mod lane;
mod outgoing;
mod queue;
mod security;
