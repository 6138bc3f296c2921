//! Opens and accepts the two lanes of a connection, and hands them to the connection's task.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, SubstreamProtocol};
use tokio::sync::mpsc;

use super::greet::HELLO_LIMIT;

const SMALL: &str = "/peercache/1/small";
const BULK: &str = "/peercache/1/bulk";

/// Which of the two lanes a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneKind {
    Small,
    Bulk,
}

/// The lanes of a connection as they are opened; the channel ends with the connection.
pub(crate) type Lanes = mpsc::Receiver<(LaneKind, Stream)>;

/// One connection's handler. Dropping the other end of its channel lets the connection go.
pub(crate) struct Handler {
    lanes: Option<mpsc::Sender<(LaneKind, Stream)>>,
    /// What the dialler has to open still, the last one first.
    to_open: Vec<LaneKind>,
}

impl Handler {
    pub(crate) fn new(dialled: bool) -> (Self, Lanes) {
        let (sender, receiver) = mpsc::channel(2);
        let to_open = if dialled { vec![LaneKind::Bulk, LaneKind::Small] } else { Vec::new() };
        (Self { lanes: Some(sender), to_open }, receiver)
    }

    /// More than two streams are one too many, and end here.
    fn hand_over(&self, lane: (LaneKind, Stream)) {
        if let Some(lanes) = &self.lanes
            && lanes.try_send(lane).is_err()
        {
            tracing::debug!("a stream that is no lane was closed");
        }
    }
}

/// Negotiates a stream's name, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Named(&'static [&'static str]);

impl UpgradeInfo for Named {
    type Info = &'static str;
    type InfoIter = std::iter::Copied<std::slice::Iter<'static, &'static str>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().copied()
    }
}

fn lane(name: &str, stream: Stream) -> Ready<Result<(LaneKind, Stream), Infallible>> {
    ready(Ok((if name == SMALL { LaneKind::Small } else { LaneKind::Bulk }, stream)))
}

impl InboundUpgrade<Stream> for Named {
    type Output = (LaneKind, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: &'static str) -> Self::Future {
        lane(name, stream)
    }
}

impl OutboundUpgrade<Stream> for Named {
    type Output = (LaneKind, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: &'static str) -> Self::Future {
        lane(name, stream)
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Named;
    type OutboundProtocol = Named;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Named> {
        SubstreamProtocol::new(Named(&[SMALL, BULK]), ()).with_timeout(HELLO_LIMIT)
    }

    fn connection_keep_alive(&self) -> bool {
        self.lanes.as_ref().is_some_and(|lanes| !lanes.is_closed())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Named, (), Infallible>> {
        let Some(kind) = self.to_open.pop() else { return Poll::Pending };
        let name: &'static [&'static str] = match kind {
            LaneKind::Small => &[SMALL],
            LaneKind::Bulk => &[BULK],
        };
        let protocol = SubstreamProtocol::new(Named(name), ()).with_timeout(HELLO_LIMIT);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Named, Named>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. })
            | ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.hand_over(protocol);
            }
            // Without its lanes the connection is of no use: its task sees the channel end.
            ConnectionEvent::DialUpgradeError(_) => self.lanes = None,
            _ => {}
        }
    }
}
