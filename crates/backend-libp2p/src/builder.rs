//! How a node is set up and started.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use peercache_api::{Clock, CorrectedClock, Error, ErrorKind, Operation, SystemClock};
use tokio::sync::mpsc;

use crate::address::{PeerAddress, PeerName};
use crate::anchor_store::AnchorStore;
use crate::core::Role;
use crate::driver::{
    ConnectionLimits, Engine, HalfOpenLimits, Keeper, Plan, QueueLimits, Setup, StartError, SwarmTask,
    keeper_tasks,
};
use crate::identity::Identity;
use crate::limits::Limits;
use crate::network_key::NetworkKey;
use crate::peers::Peers;
use crate::wire::PeerKey;

const MIB: usize = 1024 * 1024;
/// Dials and probes that the core may ask for faster than they are begun.
const COMMANDS: usize = 256;
/// How long a node waits to learn where it listens, before it announces that.
const LISTEN_WAIT: Duration = Duration::from_millis(500);

/// What a node is to be for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoleChoice {
    /// An anchor where a fixed port is listened on, else a leaf.
    #[default]
    Auto,
    /// Long-lived and dialable: stores for others. It takes part when another anchor could dial it.
    Anchor,
    /// Stores nothing for others. Everything works over the connections that it opens.
    Leaf,
}

/// Sets up a node; see [`Peers::builder`].
#[derive(Clone)]
pub struct PeersBuilder {
    key: NetworkKey,
    role: RoleChoice,
    identity: Option<Identity>,
    listen_port: Option<u16>,
    listen_ips: Vec<IpAddr>,
    bootstrap: Vec<PeerAddress>,
    announce: Vec<PeerAddress>,
    allowed: Vec<PeerName>,
    capacity: usize,
    store: Option<Arc<dyn AnchorStore>>,
    mdns: bool,
    limits: Limits,
    clock: Arc<CorrectedClock>,
}

impl Peers {
    /// Sets up a node of the network of `key`.
    #[must_use]
    pub fn builder(key: NetworkKey) -> PeersBuilder {
        PeersBuilder::new(key)
    }
}

impl PeersBuilder {
    fn new(key: NetworkKey) -> Self {
        Self {
            key,
            role: RoleChoice::Auto,
            identity: None,
            listen_port: None,
            listen_ips: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            bootstrap: Vec::new(),
            announce: Vec::new(),
            allowed: Vec::new(),
            capacity: 256 * MIB,
            store: None,
            mdns: false,
            limits: Limits::default(),
            clock: Arc::new(CorrectedClock::new(Arc::new(SystemClock::new()))),
        }
    }

    /// What the node is for others. Default: [`RoleChoice::Auto`].
    #[must_use]
    pub const fn role(mut self, role: RoleChoice) -> Self {
        self.role = role;
        self
    }

    /// Who the node is. Default: [`Identity::ephemeral`].
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The TCP port to listen on; 0 picks one, `None` (the default) listens nowhere.
    #[must_use]
    pub const fn listen_port(mut self, port: Option<u16>) -> Self {
        self.listen_port = port;
        self
    }

    /// The addresses of this machine to listen at. Default: all, of IPv4 and, where there is any,
    /// IPv6. An address that cannot be listened on is an error if it is the first one, else a
    /// message.
    #[must_use]
    pub fn listen_ips(mut self, ips: Vec<IpAddr>) -> Self {
        self.listen_ips = ips;
        self
    }

    /// Peers to connect with. They are dialled for ever, names are looked up anew each time, and
    /// none of them has to be there.
    #[must_use]
    pub fn bootstrap(mut self, addresses: Vec<PeerAddress>) -> Self {
        self.bootstrap = addresses;
        self
    }

    /// Where others should dial this node, instead of the addresses of this machine: for a port
    /// that is published by a container or a router.
    #[must_use]
    pub fn announce(mut self, addresses: Vec<PeerAddress>) -> Self {
        self.announce = addresses;
        self
    }

    /// Refuses everyone else, also those with the key. Default: nobody is refused who has it.
    #[must_use]
    pub fn allowed_peers(mut self, peers: Vec<PeerName>) -> Self {
        self.allowed = peers;
        self
    }

    /// The most bytes of entries that the node holds, for itself and others. Default: 256 MiB.
    #[must_use]
    pub const fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    /// Where an anchor keeps what it holds, so that a restart loses nothing: it takes everything
    /// that is stored on it, and is asked for what the node's memory does not hold. What it held
    /// before is taken back at the start, as far as the capacity allows. A leaf, which holds
    /// nothing for others, does not use it. Default: nowhere.
    ///
    /// An entry is acknowledged before it is stored here: what arrived in the last moments before a
    /// process is killed may be lost.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn AnchorStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Looks for peers in the local network by multicast DNS. Needs the feature `mdns`.
    #[must_use]
    pub const fn mdns(mut self, mdns: bool) -> Self {
        self.mdns = mdns;
        self
    }

    /// The node's bounds.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The wall clock, by which entries grow old. Waiting is measured by the machine.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Arc::new(CorrectedClock::new(clock));
        self
    }

    /// As [`PeersBuilder::clock`], with a clock that others go by as well: this node corrects it
    /// where the anchors of the network have another time.
    #[must_use]
    pub fn corrected_clock(mut self, clock: Arc<CorrectedClock>) -> Self {
        self.clock = clock;
        self
    }

    fn chosen_role(&self) -> Role {
        match (self.role, self.listen_port) {
            (RoleChoice::Anchor, _) | (RoleChoice::Auto, Some(1..)) => Role::Anchor,
            (RoleChoice::Leaf, _) | (RoleChoice::Auto, None | Some(0)) => Role::Leaf,
        }
    }

    /// Starts the node. Waits up to [`Limits::connect_wait`] for the first peer, so that a process
    /// that runs for a second finds its peers; where none answers it starts without, and goes on
    /// trying. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Only what a user has to mend: [`ErrorKind::Config`] for a port that is in use or an anchor
    /// that does not listen, [`ErrorKind::Unavailable`] where the system has no random bytes.
    pub async fn start(self) -> Result<Peers, Error> {
        let role = self.chosen_role();
        if role == Role::Anchor && self.listen_port.is_none() && self.announce.is_empty() {
            return Err(config("an anchor has to be dialled by others, and this one does not listen")
                .with_help("give it a port to listen on (CACHE_LISTEN_PORT=9100), or make it a leaf"));
        }
        if self.mdns && !cfg!(feature = "mdns") {
            return Err(config("this build cannot look for peers by multicast DNS")
                .with_help("build peercache-libp2p with the feature `mdns`, or leave CACHE_MDNS out"));
        }
        let identity = self.identity.clone().map_or_else(Identity::ephemeral, Ok)?;
        let Some(me) = PeerKey::of(&identity.name().0) else {
            return Err(config("the identity is no Ed25519 key"));
        };
        let (sender, commands) = mpsc::channel(COMMANDS);
        let setup = self.setup(role)?;
        let store = self.store.clone().filter(|_| role == Role::Anchor);
        let keeper = store.map(|store| Arc::new(Keeper::new(store)));
        let clock = Arc::clone(&self.clock);
        let engine = Arc::new(Engine::new(me, setup, self.capacity, keeper, clock, sender));
        let swarm =
            SwarmTask::new(self.plan(&identity, role), Arc::clone(&engine), commands).map_err(explain)?;
        let timers = Arc::clone(&engine);
        let mut tasks = keeper_tasks(&engine).await;
        tasks.push(tokio::spawn(swarm.run()));
        tasks.push(tokio::spawn(async move { timers.run_timers().await }));
        let peers = Peers::new(identity.name(), engine, self.limits, tasks);
        let looks_for_peers = self.mdns || !self.bootstrap.is_empty();
        peers.settle(self.listen_port.map(|_| LISTEN_WAIT), looks_for_peers).await;
        Ok(peers)
    }

    fn setup(&self, role: Role) -> Result<Setup, Error> {
        let instance = getrandom::u64().map_err(|error| {
            Error::new(ErrorKind::Unavailable, Operation::Open, "the system gives no random bytes")
                .with_backend(crate::BACKEND)
                .with_context("reason", error)
        })?;
        Ok(Setup {
            key: self.key.clone(),
            role,
            instance,
            queues: QueueLimits {
                small: (self.limits.send_bytes_per_peer / 4).max(MIB),
                bulk: self.limits.send_bytes_per_peer,
            },
            send_bytes: self.limits.send_bytes,
            receive_bytes: self.limits.receive_bytes,
        })
    }

    fn plan(&self, identity: &Identity, role: Role) -> Plan {
        let listen = |port| self.listen_ips.iter().map(move |ip| (*ip, port));
        let established = self.limits.connections.unwrap_or(match role {
            Role::Anchor => 2048,
            Role::Leaf => 16,
        });
        Plan {
            keypair: identity.keypair().clone(),
            listen: self.listen_port.map(|port| listen(port).collect()).unwrap_or_default(),
            bootstrap: self.bootstrap.clone(),
            announce: self.announce.clone(),
            allowed: self.allowed.iter().map(|name| name.0).collect::<HashSet<_>>(),
            limits: ConnectionLimits {
                half_open: HalfOpenLimits {
                    total: self.limits.negotiating,
                    per_address: self.limits.negotiating_per_address,
                },
                established,
                per_peer: 3,
            },
            mdns: self.mdns,
        }
    }
}

fn explain(error: StartError) -> Error {
    match error {
        StartError::Listen(ip, port, error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            config("the port is in use by another process")
                .with_context("port", port)
                .with_context("address", ip)
                .with_source(error)
                .with_help("stop that process, set CACHE_LISTEN_PORT to another port, or 0 for any")
        }
        StartError::Listen(ip, port, error) => config("this address cannot be listened on")
            .with_context("port", port)
            .with_context("address", ip)
            .with_source(error)
            .with_help("set CACHE_LISTEN_PORT to a port that this user may listen on, or 0 for any"),
        error => config("the network could not be set up").with_source(error),
    }
}

fn config(message: &'static str) -> Error {
    Error::new(ErrorKind::Config, Operation::Open, message).with_backend(crate::BACKEND)
}

impl fmt::Debug for PeersBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeersBuilder")
            .field("key", &self.key)
            .field("role", &self.role)
            .field("listen_port", &self.listen_port)
            .field("bootstrap", &self.bootstrap)
            .finish_non_exhaustive()
    }
}
