//! What the swarm asks before it lets a connection be: limits, and who may connect.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialError, FromSwarm, ListenError, NetworkBehaviour, THandlerInEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId, connection_limits};

use super::engine::Engine;
use super::half_open::{HalfOpen, Place};
use super::handler::{Handler, Lanes};
use super::hello::Refused;
use super::tally::Tally;

/// All that the swarm does by itself.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    /// Before `links`, so that a connection which is one too many gets no handler.
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) links: Links,
    #[cfg(feature = "mdns")]
    pub(crate) mdns: libp2p::swarm::behaviour::toggle::Toggle<libp2p::mdns::tokio::Behaviour>,
}

/// There are too many connections already.
#[derive(Debug, thiserror::Error)]
#[error("there are too many connections")]
pub(crate) struct TooMany;

/// The node's own behaviour. It does not speak: it watches, and gives each connection its handler.
pub(crate) struct Links {
    /// Empty: everyone with the key.
    allowed: HashSet<PeerId>,
    half_open: Arc<HalfOpen>,
    /// The lanes of connections that are not announced yet.
    lanes: HashMap<ConnectionId, Lanes>,
    engine: Arc<Engine>,
}

impl Links {
    pub(crate) fn new(half_open: Arc<HalfOpen>, allowed: HashSet<PeerId>, engine: Arc<Engine>) -> Self {
        Self { allowed, half_open, lanes: HashMap::new(), engine }
    }

    /// The lanes of a connection that was just announced.
    pub(crate) fn take_lanes(&mut self, connection: ConnectionId) -> Option<Lanes> {
        self.lanes.remove(&connection)
    }

    fn tally(&self) -> &Tally {
        &self.engine.tally
    }

    /// What libp2p's own limits have denied.
    fn count_denied(&self, cause: &ConnectionDenied) {
        if cause.downcast_ref::<connection_limits::Exceeded>().is_some() {
            self.tally().refused_limits.up();
        }
    }

    fn admit(&mut self, id: ConnectionId, peer: PeerId, dialled: bool) -> Result<Handler, ConnectionDenied> {
        if !self.allowed.is_empty() && !self.allowed.contains(&peer) {
            self.tally().refused(Refused::NotAllowed);
            return Err(ConnectionDenied::new(Refused::NotAllowed));
        }
        let (handler, lanes) = Handler::new(dialled);
        self.lanes.insert(id, lanes);
        Ok(handler)
    }
}

impl NetworkBehaviour for Links {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.tally().accepted.up();
        let place = self.half_open.enter(id, local, remote, self.engine.now().mono);
        if place != Place::Free {
            self.tally().refused_limits.up();
        }
        if place == Place::None { Err(ConnectionDenied::new(TooMany)) } else { Ok(()) }
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        if !self.half_open.secured(id) {
            return Err(ConnectionDenied::new(TooMany));
        }
        self.admit(id, peer, false)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(id, peer, true)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => {
                self.lanes.remove(&closed.connection_id);
            }
            // Another behaviour may have denied what this one had admitted.
            FromSwarm::ListenFailure(failure) => {
                if let ListenError::Denied { cause } = failure.error {
                    self.count_denied(cause);
                }
                self.half_open.ended(failure.connection_id);
                self.lanes.remove(&failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                if let DialError::Denied { cause } = failure.error {
                    self.count_denied(cause);
                }
                self.lanes.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// Where the other end of a connection is, without its peer id.
pub(crate) fn remote(endpoint: &ConnectedPoint) -> &Multiaddr {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => address,
        ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
    }
}
