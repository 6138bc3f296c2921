//! How a request came to the proxy.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::shares::ClientAddress;

/// What the server knows about a request beyond the request itself; an extension of it.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// Whose share of bounded places it takes.
    pub(crate) client: ClientAddress,
    /// The address that the connection comes from.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) entrance: Entrance,
}

/// Through which door a request came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// Over TCP, to this address of ours, with or without TLS.
    Tcp { local: SocketAddr, secure: bool },
    /// Over a unix socket.
    Unix,
    /// Through a tunnel whose TLS ended here: for this host only.
    Intercepted(Arc<str>),
    /// Given by the caller's own code.
    InProcess,
}

impl Arrival {
    pub(crate) const IN_PROCESS: Self =
        Self { client: ClientAddress::InProcess, peer: None, entrance: Entrance::InProcess };
}
