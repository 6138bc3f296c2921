//! Why a connection was not made, in words and as what is counted.

use std::io;

use libp2p::core::transport::TransportError;
use libp2p::core::upgrade::NegotiationError;
use libp2p::noise;
use libp2p::swarm::DialError;

use super::hello::Refused;

/// What an error of the transport comes down to.
pub(super) enum Reason {
    /// There is no protocol in common.
    Stranger,
    /// There is one, but the handshake failed.
    Key,
    Slow,
    Other,
}

pub(super) fn reason(error: &io::Error) -> Reason {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.is::<NegotiationError>() {
            return Reason::Stranger;
        }
        // With another prologue it is the dialler who notices, and hangs up: the listener sees the
        // end.
        if error.is::<noise::Error>() {
            return Reason::Key;
        }
        // The type of this error has a parameter that cannot be named here.
        if error.to_string() == "Timeout has been reached" {
            return Reason::Slow;
        }
        // An I/O error is its own cause: what it wraps comes first.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    Reason::Other
}

/// Why a dial failed, in words for a report.
pub(super) fn explain(error: &DialError) -> String {
    match error {
        DialError::LocalPeerId { .. } => "this node itself answered there".to_owned(),
        DialError::WrongPeerId { obtained, .. } => format!("another peer answered there: {obtained}"),
        DialError::DialPeerConditionFalse(_) => "it is connected or being dialled".to_owned(),
        DialError::Denied { cause } => match cause.downcast_ref::<Refused>() {
            Some(refused) => refused.to_string(),
            None => "there are too many connections".to_owned(),
        },
        DialError::Transport(errors) => match errors.last() {
            Some((_, TransportError::Other(error))) => match reason(error) {
                // A dialler cannot tell them apart: negotiation is lazy, so its end comes in the
                // handshake.
                Reason::Stranger | Reason::Key => {
                    "it is no node of this network, or CACHE_SECRET is not the same on both".to_owned()
                }
                Reason::Slow => "it did not answer in time".to_owned(),
                Reason::Other => innermost(error),
            },
            _ => "the address cannot be dialled".to_owned(),
        },
        DialError::NoAddresses | DialError::Aborted => "the dial was given up".to_owned(),
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    loop {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.map(|inner| inner as &(dyn std::error::Error + 'static));
        match inner.or_else(|| error.source()) {
            Some(next) => error = next,
            None => return error.to_string(),
        }
    }
}
