//! What the swarm needs to know, and why it could not be started.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use libp2p::identity::Keypair;
use libp2p::{PeerId, noise};

use super::half_open::HalfOpenLimits;
use crate::address::PeerAddress;

/// What the swarm needs to know.
pub(crate) struct Plan {
    pub(crate) keypair: Keypair,
    /// Where to listen, the port included; empty for a node that only dials.
    pub(crate) listen: Vec<(IpAddr, u16)>,
    pub(crate) bootstrap: Vec<PeerAddress>,
    /// Told to others instead of the addresses of this machine.
    pub(crate) announce: Vec<PeerAddress>,
    pub(crate) allowed: HashSet<PeerId>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) mdns: bool,
}

/// Why a swarm could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("Noise could not be set up")]
    Noise(#[from] noise::Error),
    #[error("this address cannot be listened on")]
    Listen(IpAddr, u16, #[source] io::Error),
    #[cfg(feature = "mdns")]
    #[error("multicast DNS could not be set up")]
    Mdns(#[source] io::Error),
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionLimits {
    /// That others have opened and that are not secured yet.
    pub(crate) half_open: HalfOpenLimits,
    pub(crate) established: usize,
    /// With one peer: one that is kept, one dialled crosswise, and a probe.
    pub(crate) per_peer: usize,
}
