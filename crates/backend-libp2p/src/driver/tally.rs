//! What the driver counts.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::hello::Refused;
use super::incoming::Broken;
use super::lane::LaneEnd;

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Connections and what became of them, since the node started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct Connections {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The same, while it is counted.
        #[derive(Debug, Default)]
        pub(crate) struct Tally {
            $(pub(crate) $name: Count,)*
        }

        impl Tally {
            pub(crate) fn read(&self) -> Connections {
                Connections { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

tally! {
    /// Dials begun, probes among them.
    dials,
    /// Of these, failed: nobody there, or too slow.
    dials_failed,
    /// Connections made by others, from their first byte on.
    accepted,
    /// Peers that finished the handshake.
    greeted,
    /// Refused: no network key in common, or something else than a node of this network.
    refused_strangers,
    /// Refused: the key's id is known, but the handshake that needs the key was not finished.
    refused_keys,
    /// Refused: a proof that does not fit.
    refused_proofs,
    /// Refused: another version of the protocol.
    refused_versions,
    /// Refused: a HELLO that is none.
    refused_malformed,
    /// Refused: not on the list of allowed peers.
    refused_not_allowed,
    /// Refused: the handshake was not finished in time.
    refused_slow,
    /// Refused: too many connections.
    refused_limits,
    /// Closed: the peer has another connection that is kept.
    duplicates,
    /// Closed: a frame or message declared to be longer than there may be.
    dropped_too_long,
    /// Closed: bytes that are no message.
    dropped_malformed,
    /// Closed: too slow to be of use.
    dropped_slow,
    /// Closed by the core: no sign of life, or against the rules.
    dropped,
    /// Messages passed over because too much was arriving at once.
    passed_over,
    /// Connections to this node itself.
    own,
}

/// One number.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn up(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

impl Tally {
    pub(crate) fn refused(&self, why: Refused) {
        match why {
            Refused::Version(_) => self.refused_versions.up(),
            Refused::Malformed => self.refused_malformed.up(),
            Refused::Key => self.refused_keys.up(),
            Refused::Proof => self.refused_proofs.up(),
            Refused::TooSlow => self.refused_slow.up(),
            Refused::NotAllowed => self.refused_not_allowed.up(),
            // Nobody was refused: a probe ends like this, and so does a peer that was cut off.
            Refused::Unheard | Refused::Gone => {}
        }
    }

    pub(crate) fn lane_ended(&self, end: &LaneEnd) {
        match end {
            LaneEnd::Closed => {}
            LaneEnd::Stalled => self.dropped_slow.up(),
            LaneEnd::Broken(Broken::TooLong) => self.dropped_too_long.up(),
            LaneEnd::Broken(_) => self.dropped_malformed.up(),
        }
    }
}
