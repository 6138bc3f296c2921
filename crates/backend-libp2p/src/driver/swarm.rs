//! The task that owns the swarm: listens, dials, and gives each connection its task.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use libp2p::PeerId;
use libp2p::core::transport::TransportError;
use libp2p::core::{ConnectedPoint, Multiaddr};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, ListenError, Swarm, SwarmEvent};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::behaviour::{Behaviour, BehaviourEvent, remote};
use super::connection::{Connection, serve};
use super::dialler::{Dialler, Target};
use super::engine::{Addresses, Command, Engine};
use super::fault::{Reason, explain, reason};
use super::hello::{Refused, Side};
use super::plan::{Plan, StartError};
use super::resolve::{resolve, resolve_all};
use super::transport::build;
use crate::address::{Host, PeerAddress};
use crate::core::Event;
use crate::wire::PeerKey;

#[cfg(feature = "mdns")]
mod discovery;

/// The most look-ups at one time, of bootstrap addresses and of peers.
const MAX_RESOLVING: usize = 256;
/// How often a look is taken at what no event tells of.
const PULSE: Duration = Duration::from_secs(1);

/// The swarm with its listeners, ready to run.
pub(crate) struct SwarmTask {
    swarm: Swarm<Behaviour>,
    engine: Arc<Engine>,
    commands: mpsc::Receiver<Command>,
    dialler: Dialler,
    announce: Vec<PeerAddress>,
    listening: BTreeSet<PeerAddressText>,
    /// For whom a connection was asked.
    dials: HashMap<ConnectionId, Purpose>,
    resolving: JoinSet<(Purpose, Result<Vec<PeerAddress>, String>)>,
    /// Dials of one target that are under way.
    tries: HashMap<Target, usize>,
    connections: JoinSet<Ended>,
    origin: Instant,
    me: PeerId,
}

type PeerAddressText = String;

/// A connection that has ended.
struct Ended {
    id: ConnectionId,
    /// The address that led to it, and why the peer did not become a link.
    refused: Option<(Target, Refused)>,
}

/// Why a dial was made.
#[derive(Clone, Debug)]
enum Purpose {
    Bootstrap(Target),
    /// The core asked; see [`crate::core::Action::Dial`].
    Dial(PeerKey),
    /// The core asked; see [`crate::core::Action::Probe`].
    Probe(PeerKey),
}

impl SwarmTask {
    /// Listens. Must be called within a tokio runtime.
    pub(crate) fn new(
        plan: Plan,
        engine: Arc<Engine>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, StartError> {
        let swarm = build(&plan, &engine)?;
        let me = *swarm.local_peer_id();
        let mut task = Self {
            swarm,
            engine,
            commands,
            dialler: Dialler::new(plan.bootstrap, Duration::ZERO),
            announce: plan.announce,
            listening: BTreeSet::new(),
            dials: HashMap::new(),
            resolving: JoinSet::new(),
            tries: HashMap::new(),
            connections: JoinSet::new(),
            origin: Instant::now(),
            me,
        };
        task.listen(&plan.listen)?;
        task.tell_addresses();
        Ok(task)
    }

    fn listen(&mut self, addresses: &[(IpAddr, u16)]) -> Result<(), StartError> {
        let mut failed = None;
        let mut listens = false;
        for (ip, port) in addresses {
            match self.listen_at(*ip, *port) {
                Ok(()) => listens = true,
                Err(error) => {
                    tracing::debug!(%ip, port, %error, "this address cannot be listened on");
                    // A machine without IPv6 is no error, and a port in use says so for IPv4 as
                    // well.
                    failed.get_or_insert(StartError::Listen(*ip, *port, error));
                }
            }
            // The first one counts.
            if !listens && let Some(error) = failed.take() {
                return Err(error);
            }
        }
        Ok(())
    }

    fn listen_at(&mut self, ip: IpAddr, port: u16) -> io::Result<()> {
        check_free(ip, port)?;
        let address = PeerAddress::at(ip, port).to_multiaddr();
        self.swarm.listen_on(address).map(|_| ()).map_err(|error| match error {
            TransportError::Other(error) => error,
            TransportError::MultiaddrNotSupported(_) => io::ErrorKind::Unsupported.into(),
        })
    }

    /// Runs for ever.
    pub(crate) async fn run(mut self) {
        let mut pulse = tokio::time::interval(PULSE);
        pulse.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.dial_due();
            let due = self.dialler.next().map_or(PULSE, |due| due.saturating_sub(self.origin.elapsed()));
            tokio::select! {
                () = tokio::time::sleep(due) => {}
                event = self.swarm.select_next_some() => self.on_event(event),
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                Some(resolved) = self.resolving.join_next(), if !self.resolving.is_empty() => {
                    if let Ok((purpose, addresses)) = resolved {
                        self.on_resolved(purpose, addresses);
                    }
                }
                Some(ended) = self.connections.join_next(), if !self.connections.is_empty() => {
                    if let Ok(ended) = ended {
                        self.on_ended(ended);
                    }
                }
                _ = pulse.tick() => {
                    self.tell_targets();
                }
            }
        }
    }

    fn dial_due(&mut self) {
        let now = self.origin.elapsed();
        let connected = |peer: &PeerId| PeerKey::of(peer).is_some_and(|key| self.engine.is_connected(key));
        self.dialler.observe(now, connected, chance());
        for (target, address) in self.dialler.due(now) {
            let purpose = Purpose::Bootstrap(target);
            self.resolving.spawn(async move { (purpose, resolve(&address).await) });
        }
    }

    /// The core asks for a dial or a probe.
    fn on_command(&mut self, command: Command) {
        let (addresses, purpose) = match command {
            Command::Dial { peer, addresses } => (addresses, Purpose::Dial(peer)),
            Command::Probe { peer, addresses } => (addresses, Purpose::Probe(peer)),
        };
        if self.resolving.len() >= MAX_RESOLVING {
            return self.not_dialled(&purpose, "too many names are being looked up".to_owned());
        }
        let addresses = addresses.iter().filter_map(|text| text.parse().ok()).collect();
        self.resolving.spawn(async move { (purpose, resolve_all(addresses).await) });
    }

    fn on_resolved(&mut self, purpose: Purpose, addresses: Result<Vec<PeerAddress>, String>) {
        let usable = addresses.and_then(|all| {
            let others: Vec<_> = all.into_iter().filter(|address| !self.is_own(address)).collect();
            if others.is_empty() { Err("these are this node's own addresses".to_owned()) } else { Ok(others) }
        });
        match (usable, purpose) {
            (Err(why), purpose) => self.not_dialled(&purpose, why),
            (Ok(addresses), Purpose::Bootstrap(target)) => self.dial_target(target, addresses),
            (Ok(addresses), purpose @ Purpose::Dial(peer)) => {
                self.dial_peer(peer, &addresses, purpose, PeerCondition::DisconnectedAndNotDialing);
            }
            (Ok(addresses), purpose @ Purpose::Probe(peer)) => {
                self.dial_peer(peer, &addresses, purpose, PeerCondition::Always);
            }
        }
    }

    fn not_dialled(&mut self, purpose: &Purpose, why: String) {
        match purpose {
            Purpose::Bootstrap(target) => {
                self.dialler.ended(*target, self.origin.elapsed(), Err(why), chance());
            }
            Purpose::Dial(peer) | Purpose::Probe(peer) => {
                tracing::debug!(?peer, why, "not dialled");
                let reached = matches!(purpose, Purpose::Dial(_)) && self.engine.is_connected(*peer);
                self.engine.tell(Event::Dialled { peer: *peer, reached });
            }
        }
    }

    /// Each address by itself: without a name in it, each may lead to another node.
    fn dial_target(&mut self, target: Target, addresses: Vec<PeerAddress>) {
        let (mut tries, mut why) = (0, String::new());
        for address in addresses {
            let at = address.to_multiaddr();
            let opts = match address.peer {
                Some(peer) => DialOpts::peer_id(peer)
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    .addresses(vec![at])
                    .allocate_new_port()
                    .build(),
                None => DialOpts::unknown_peer_id().address(at).allocate_new_port().build(),
            };
            match self.dial(opts, Purpose::Bootstrap(target)) {
                Ok(()) => tries += 1,
                Err(error) => why = explain(&error),
            }
        }
        if tries == 0 {
            self.not_dialled(&Purpose::Bootstrap(target), why);
        } else {
            self.tries.insert(target, tries);
        }
    }

    fn dial_peer(
        &mut self,
        peer: PeerKey,
        addresses: &[PeerAddress],
        purpose: Purpose,
        condition: PeerCondition,
    ) {
        let Some(id) = peer.to_peer_id().filter(|id| *id != self.me) else {
            return self.not_dialled(&purpose, "it is this node itself, or nobody".to_owned());
        };
        let at = addresses.iter().map(|address| PeerAddress { peer: None, ..address.clone() }.to_multiaddr());
        let opts =
            DialOpts::peer_id(id).condition(condition).addresses(at.collect()).allocate_new_port().build();
        if let Err(error) = self.dial(opts, purpose.clone()) {
            self.not_dialled(&purpose, explain(&error));
        }
    }

    fn dial(&mut self, opts: DialOpts, purpose: Purpose) -> Result<(), DialError> {
        let id = opts.connection_id();
        self.swarm.dial(opts)?;
        self.engine.tally.dials.up();
        self.dials.insert(id, purpose);
        Ok(())
    }

    fn is_own(&self, address: &PeerAddress) -> bool {
        self.listening.contains(&PeerAddress { peer: None, ..address.clone() }.to_string())
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connection(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.on_dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                self.on_refused(&send_back_addr, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some(address) = PeerAddress::from_multiaddr(&address) {
                    self.listening.insert(address.to_string());
                    self.tell_addresses();
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                if let Some(address) = PeerAddress::from_multiaddr(&address) {
                    self.listening.remove(&address.to_string());
                    self.tell_addresses();
                }
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "this node no longer listens here");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener had trouble"),
            #[cfg(feature = "mdns")]
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => self.on_mdns(event),
            _ => {}
        }
    }

    fn on_connection(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let purpose = self.dials.remove(&id);
        let lanes = self.swarm.behaviour_mut().links.take_lanes(id);
        let mut led = None;
        if let Some(Purpose::Bootstrap(target)) = purpose {
            led = Some(target);
            self.tries.remove(&target);
            self.dialler.ended(target, self.origin.elapsed(), Ok(peer), chance());
        }
        if let Some(Purpose::Dial(peer) | Purpose::Probe(peer)) = purpose {
            self.engine.tell(Event::Dialled { peer, reached: true });
        }
        let (Some(lanes), Some(key)) = (lanes, PeerKey::of(&peer)) else {
            self.swarm.close_connection(id);
            return;
        };
        if let Some(Purpose::Probe(_)) = purpose {
            self.swarm.close_connection(id);
            return;
        }
        let at = PeerAddress::from_multiaddr(&without_peer(remote(endpoint)));
        let connection = Connection {
            peer: key,
            side: if endpoint.is_dialer() { Side::Dialler } else { Side::Listener },
            remote: at.as_ref().map(ToString::to_string).unwrap_or_default(),
            ip: at.and_then(|address| match address.host {
                Host::Ip(ip) => Some(ip),
                _ => None,
            }),
        };
        let engine = Arc::clone(&self.engine);
        self.connections.spawn(async move {
            let refused = serve(engine, connection, lanes).await;
            Ended { id, refused: led.zip(refused) }
        });
    }

    fn on_ended(&mut self, Ended { id, refused }: Ended) {
        self.swarm.close_connection(id);
        if let Some((target, why)) = refused {
            self.dialler.refused(target, why.to_string());
            self.tell_targets();
        }
    }

    fn on_dial_failed(&mut self, id: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        self.engine.tally.dials_failed.up();
        let now = self.origin.elapsed();
        if matches!(error, DialError::LocalPeerId { .. }) {
            self.engine.tally.own.up();
        }
        let why = explain(error);
        tracing::debug!(peer = ?peer.map(|peer| peer.to_string()), why, "a dial failed");
        match self.dials.remove(&id) {
            Some(Purpose::Bootstrap(target)) => {
                let Some(left) = self.tries.get_mut(&target) else { return };
                *left -= 1;
                if *left == 0 {
                    self.tries.remove(&target);
                    self.dialler.ended(target, now, Err(why), chance());
                }
            }
            Some(Purpose::Dial(peer) | Purpose::Probe(peer)) => {
                self.engine.tell(Event::Dialled { peer, reached: false });
            }
            None => {}
        }
    }

    fn on_refused(&mut self, from: &Multiaddr, error: &ListenError) {
        let tally = &self.engine.tally;
        let why = match error {
            ListenError::LocalPeerId { .. } => return,
            // Counted where it was denied.
            ListenError::Denied { .. } => return,
            ListenError::Transport(TransportError::Other(error)) => reason(error),
            _ => Reason::Other,
        };
        match why {
            Reason::Stranger => tally.refused_strangers.up(),
            Reason::Key => tally.refused_keys.up(),
            Reason::Slow => tally.refused_slow.up(),
            Reason::Other => {}
        }
        tracing::debug!(%from, %error, "a connection was refused");
    }

    fn tell_targets(&self) {
        self.engine.set_targets(self.dialler.report().collect());
    }

    /// Says anew where this node can be dialled.
    fn tell_addresses(&self) {
        let listening = || self.listening.iter().filter_map(|text| text.parse::<PeerAddress>().ok());
        let addresses = if self.announce.is_empty() {
            let is_local = |address: &PeerAddress| matches!(address.host, Host::Ip(ip) if ip.is_loopback());
            let public = listening().filter(|address| !is_local(address));
            Addresses {
                public: public.map(|address| address.to_string()).collect(),
                local: listening().map(|address| address.to_string()).collect(),
            }
        } else {
            let announced: Vec<_> = self.announce.iter().map(ToString::to_string).collect();
            Addresses { public: announced.clone(), local: announced }
        };
        self.engine.set_addresses(addresses);
    }
}

/// Fails where another process listens: libp2p shares ports between processes (SO_REUSEPORT), and
/// would not notice. IPv6 is asked about alone, as libp2p listens: otherwise this node's own IPv4
/// port would be in the way.
fn check_free(ip: IpAddr, port: u16) -> io::Result<()> {
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port that was listened on a moment ago is free.
    socket.set_reuse_address(cfg!(unix))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1)
}

fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_))).collect()
}

/// Between 0 and 1, to spread what many nodes would do at once.
fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    use super::*;

    #[test]
    fn a_port_of_ipv4_is_free_for_ipv6_and_taken_for_ipv4() {
        let ipv4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = ipv4.local_addr().unwrap().port();
        let taken = check_free(Ipv4Addr::UNSPECIFIED.into(), port).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        match check_free(Ipv6Addr::UNSPECIFIED.into(), port) {
            Ok(()) => {}
            // A machine without IPv6 cannot say more.
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::AddrInUse, "{error}"),
        }
    }
}
