//! Sets up libp2p: TCP, Noise for this network, Yamux, and lazy negotiation, which saves a round
//! trip for each stream.

use std::sync::Arc;
use std::time::Duration;

use libp2p::core::Transport;
use libp2p::core::upgrade::Version;
use libp2p::swarm::Swarm;
use libp2p::{connection_limits, tcp};

use super::behaviour::{Behaviour, Links};
use super::engine::Engine;
use super::half_open::HalfOpen;
use super::muxer::Muxing;
use super::plan::{Plan, StartError};
use super::security::PrivateNoise;
use super::socket::Gathering;

/// How long a dial may take, with TCP, Noise and Yamux.
const DIAL_LIMIT: Duration = Duration::from_secs(2);
/// How long others have to secure a connection that they opened.
const ACCEPT_LIMIT: Duration = Duration::from_secs(3);

pub(super) fn build(plan: &Plan, engine: &Arc<Engine>) -> Result<Swarm<Behaviour>, StartError> {
    let noise = PrivateNoise::new(&plan.keypair, &engine.setup.key)?;
    let half_open = Arc::new(HalfOpen::new(plan.limits.half_open));
    let guards = Arc::clone(&half_open);
    let transport = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .map(move |socket, endpoint| Gathering::new(guards.guard(socket, &endpoint)))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(Muxing::new())
        .outbound_timeout(DIAL_LIMIT)
        .inbound_timeout(ACCEPT_LIMIT)
        .boxed();
    let me = plan.keypair.public().to_peer_id();
    let most = |count: usize| Some(u32::try_from(count).unwrap_or(u32::MAX));
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_established(most(plan.limits.established))
        .with_max_established_per_peer(most(plan.limits.per_peer));
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        links: Links::new(half_open, plan.allowed.clone(), Arc::clone(engine)),
        #[cfg(feature = "mdns")]
        mdns: mdns(plan.mdns, me)?,
    };
    #[cfg(not(feature = "mdns"))]
    if plan.mdns {
        tracing::warn!("this build cannot look for peers by multicast DNS: it lacks the feature `mdns`");
    }
    let config = libp2p::swarm::Config::with_tokio_executor()
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_max_negotiating_inbound_streams(4)
        .with_idle_connection_timeout(Duration::from_secs(1));
    Ok(Swarm::new(transport, behaviour, me, config))
}

#[cfg(feature = "mdns")]
fn mdns(
    wanted: bool,
    me: libp2p::PeerId,
) -> Result<libp2p::swarm::behaviour::toggle::Toggle<libp2p::mdns::tokio::Behaviour>, StartError> {
    let made = wanted.then(|| libp2p::mdns::tokio::Behaviour::new(libp2p::mdns::Config::default(), me));
    made.transpose().map(Into::into).map_err(StartError::Mdns)
}
