//! The peers of peercache: runners share a cache over libp2p, through containers and NAT, and lose
//! nothing when peers vanish.
//!
//! Two layers. `core` decides and does no I/O: it is told what happened and says what to do, so a
//! seeded simulator runs the same code with ten thousand nodes in virtual time. `driver` moves
//! bytes: libp2p with TCP, Noise and Yamux, two long-lived lanes per connection. `wire` is what
//! nodes say to each other. `docs/design/peers.md` and `docs/reference/peer-protocol.md` have the
//! protocol and the reasons.

mod address;
mod anchor_store;
mod builder;
#[allow(dead_code, reason = "the simulator looks at more than the driver")]
mod core;
mod driver;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod limits;
mod network_key;
mod peers;
mod report;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod wire;

pub use address::{PeerAddress, PeerName};
pub use anchor_store::{AnchorStore, StoredPage};
pub use builder::{PeersBuilder, RoleChoice};
pub use core::Counters;
pub use driver::{BootstrapReport, Connections};
pub use identity::Identity;
pub use limits::Limits;
pub use network_key::{MAX_NETWORK_KEYS, NetworkKey};
pub use peers::Peers;
pub use report::{KeptReport, MemberReport, PeersReport};

/// What this backend is called in errors and reports.
const BACKEND: &str = "peers";
