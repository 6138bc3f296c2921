//! What the swarm asks before it lets a connection be: limits, and who may connect.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::engine::Engine;
use super::half_open::{HalfOpen, HalfOpenLimits, Place};
use super::handler::{Handler, Lanes};
use super::hello::Refused;
use super::tally::Tally;

/// All that the swarm does by itself.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) links: Links,
    #[cfg(feature = "mdns")]
    pub(crate) mdns: libp2p::swarm::behaviour::toggle::Toggle<libp2p::mdns::tokio::Behaviour>,
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

/// There are too many connections already.
#[derive(Debug, thiserror::Error)]
#[error("there are too many connections")]
pub(crate) struct TooMany;

/// The node's own behaviour. It does not speak: it watches, and gives each connection its handler.
pub(crate) struct Links {
    limits: ConnectionLimits,
    /// Empty: everyone with the key.
    allowed: HashSet<PeerId>,
    half_open: Arc<HalfOpen>,
    established: HashMap<PeerId, usize>,
    total: usize,
    /// The lanes of connections that are not announced yet.
    lanes: HashMap<ConnectionId, Lanes>,
    engine: Arc<Engine>,
}

impl Links {
    pub(crate) fn new(
        limits: ConnectionLimits,
        half_open: Arc<HalfOpen>,
        allowed: HashSet<PeerId>,
        engine: Arc<Engine>,
    ) -> Self {
        Self {
            limits,
            allowed,
            half_open,
            established: HashMap::new(),
            total: 0,
            lanes: HashMap::new(),
            engine,
        }
    }

    /// The lanes of a connection that was just announced.
    pub(crate) fn take_lanes(&mut self, connection: ConnectionId) -> Option<Lanes> {
        self.lanes.remove(&connection)
    }

    fn tally(&self) -> &Tally {
        &self.engine.tally
    }

    fn admit(&mut self, id: ConnectionId, peer: PeerId, dialled: bool) -> Result<Handler, ConnectionDenied> {
        if !self.allowed.is_empty() && !self.allowed.contains(&peer) {
            self.tally().refused(Refused::NotAllowed);
            return Err(ConnectionDenied::new(Refused::NotAllowed));
        }
        let of_peer = self.established.get(&peer).copied().unwrap_or(0);
        if self.total >= self.limits.established || of_peer >= self.limits.per_peer {
            self.tally().refused_limits.up();
            return Err(ConnectionDenied::new(TooMany));
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
            FromSwarm::ConnectionEstablished(established) => {
                *self.established.entry(established.peer_id).or_default() += 1;
                self.total += 1;
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.lanes.remove(&connection_id);
                self.total -= 1;
                if let Some(count) = self.established.get_mut(&peer_id) {
                    *count -= 1;
                    if *count == 0 {
                        self.established.remove(&peer_id);
                    }
                }
            }
            // Another behaviour may have denied what this one had admitted.
            FromSwarm::ListenFailure(failure) => {
                self.half_open.ended(failure.connection_id);
                self.lanes.remove(&failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
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
