//! Noise, for this network alone: each key of the ring is a protocol of its own, with a prologue
//! that both sides must know.
//!
//! A stranger has no protocol in common with this node, or a prologue that is not ours, and is
//! refused before anything that he says is looked at. The prologue is confirmed by the handshake,
//! not mixed into its keys: secrecy comes from Noise's own key exchange.

use std::fmt;
use std::sync::Arc;

use futures_util::io::{AsyncRead, AsyncWrite};
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p::noise;

use crate::network_key::{NetworkKey, hex};

/// The upgrade that secures a connection.
#[derive(Clone)]
pub(crate) struct PrivateNoise(Arc<[(Protocol, noise::Config)]>);

/// The name under which one key of the ring is offered. It carries the key's public id.
#[derive(Clone)]
pub(crate) struct Protocol {
    name: Arc<str>,
    at: usize,
}

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl PrivateNoise {
    pub(crate) fn new(keypair: &Keypair, key: &NetworkKey) -> Result<Self, noise::Error> {
        let base = noise::Config::new(keypair)?;
        let offers = key.ring().enumerate().map(|(at, key)| {
            let name = format!("/peercache/noise/1/{}", hex(&key.id())).into();
            (Protocol { name, at }, base.clone().with_prologue(key.prologue().to_vec()))
        });
        Ok(Self(offers.collect()))
    }

    fn config(&self, protocol: &Protocol) -> noise::Config {
        self.0[protocol.at].1.clone()
    }
}

impl fmt::Debug for PrivateNoise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(protocol, _)| &protocol.name)).finish()
    }
}

impl UpgradeInfo for PrivateNoise {
    type Info = Protocol;
    type InfoIter = Vec<Protocol>;

    fn protocol_info(&self) -> Vec<Protocol> {
        self.0.iter().map(|(protocol, _)| protocol.clone()).collect()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> InboundConnectionUpgrade<S> for PrivateNoise {
    type Output = <noise::Config as InboundConnectionUpgrade<S>>::Output;
    type Error = noise::Error;
    type Future = <noise::Config as InboundConnectionUpgrade<S>>::Future;

    fn upgrade_inbound(self, socket: S, protocol: Protocol) -> Self::Future {
        self.config(&protocol).upgrade_inbound(socket, "")
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> OutboundConnectionUpgrade<S> for PrivateNoise {
    type Output = <noise::Config as OutboundConnectionUpgrade<S>>::Output;
    type Error = noise::Error;
    type Future = <noise::Config as OutboundConnectionUpgrade<S>>::Future;

    fn upgrade_outbound(self, socket: S, protocol: Protocol) -> Self::Future {
        self.config(&protocol).upgrade_outbound(socket, "")
    }
}
