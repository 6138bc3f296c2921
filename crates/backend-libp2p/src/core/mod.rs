//! What a node decides: whom to ask, where to store, who is a member, who loads. No I/O, no clock,
//! no threads: [`Node::step`] is told what happened and when, and says what is to be done.
//!
//! The driver and the simulator call it alike.

mod asks;
mod clock;
mod counters;
mod event;
mod lease;
mod lookup;
mod node;
mod offer;
mod pace;
mod peers;
mod recall;
mod removal;
mod repair;
mod report;
mod ring;
mod state;
mod step;
mod store;
mod timers;
mod write;

pub use counters::Counters;

pub(crate) use event::{Action, Event, Failure, Hello, Now, OpId, Outcome, Role, Settings};
pub(crate) use node::Node;
pub(crate) use report::{MemberState, NodeReport};
#[cfg(test)]
pub(crate) use state::SMALL_RING;

#[cfg(test)]
mod tests;
