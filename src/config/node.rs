//! The node of the peers tier: from settings to a member of the network.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use peercache_api::{CacheBackend, Error};
use peercache_chain::TierOptions;
use peercache_libp2p::{
    BootstrapReport, Identity, Limits, NetworkKey, PeerName, Peers, PeersBuilder, RoleChoice,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::cache::CacheBuilder;

use super::backend_name::BackendName;
use super::configuration::Config;
use super::error::{ConfigError, without_help};
use super::name::Name;
use super::open::opened_tier;
use super::role::NodeRole;
use super::secret::Ring;

/// How long a process that does one thing waits for the first peer.
const CONNECT_WITHIN: Duration = Duration::from_millis(1500);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(5);

/// Who the node of some settings is, before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeSummary {
    /// `anchor` or `leaf`.
    pub role: &'static str,
    /// Its name; `None` where each start makes another one.
    pub name: Option<PeerName>,
    /// The port that it listens on, if any; 0 for any that is free.
    pub listen_port: Option<u16>,
    /// Where others can dial it, with its name at the end where it is known. Empty for a node that
    /// only dials out, and for one whose port is any that is free.
    pub addresses: Vec<String>,
}

impl Config {
    /// The same settings for a process that does one thing and ends, beside a server of this
    /// machine that has them too: it takes neither the server's port nor its identity.
    ///
    /// With peers in the chain it is a leaf under a name of its own, does not listen, and dials the
    /// port of the server on this machine besides the bootstrap peers. A write waits for one shared
    /// tier within its deadline.
    #[must_use]
    pub fn one_shot(mut self) -> Self {
        self.one_shot = true;
        self
    }

    /// Who the node of these settings is, and where it will be found, without starting it. A file
    /// for its identity that does not exist yet is made.
    ///
    /// To learn the addresses of this machine, a port that is free is listened on for a moment.
    ///
    /// # Errors
    /// A mistake in the settings, or no secret and no leave to do without one.
    pub async fn node(&self) -> Result<NodeSummary, ConfigError> {
        let ring = self.secrets.ring_off_the_runtime().await?;
        let key = self.network_key(ring.as_ref())?;
        let identity = self.identity(&key).await?;
        let (port, announced) = (self.values.listen_port.value, self.values.announce_addrs.list());
        let addresses = match (identity.is_some(), port) {
            (false, _) => Vec::new(),
            (true, _) if !announced.is_empty() => announced.to_vec(),
            (true, None | Some(0)) => Vec::new(),
            (true, Some(port)) => of_this_machine(&key, port).await?,
        };
        let name = identity.map(|identity| identity.name());
        let suffix = name.map(|name| format!("/p2p/{name}")).unwrap_or_default();
        let whole = |address: String| if address.ends_with(&suffix) { address } else { address + &suffix };
        Ok(NodeSummary {
            role: if self.is_anchor() { "anchor" } else { "leaf" },
            name,
            listen_port: port,
            addresses: addresses.into_iter().map(whole).collect(),
        })
    }

    /// A key for `purpose` that every machine of the fleet comes to by itself: from the secret,
    /// full or read-only. With the public form it is another one, which only holders of that form
    /// share. Without a secret there is none, except for peers that share in clear, where anybody
    /// can compute it.
    ///
    /// # Errors
    /// A secret that cannot be used.
    pub async fn fleet_key(&self, purpose: &str) -> Result<Option<Zeroizing<[u8; 32]>>, ConfigError> {
        let in_clear = self.values.insecure_plaintext.value && self.backends().contains(&BackendName::Libp2p);
        Ok(match self.secrets.ring_off_the_runtime().await? {
            Some(ring) => {
                let secret = ring.keyring.current();
                Some(secret.derive_for_readers(purpose).unwrap_or_else(|| secret.derive(purpose)))
            }
            None => in_clear.then(|| Zeroizing::new(key_of_nobody(purpose, self.namespace()))),
        })
    }

    /// Starts the node, and adds the tier that stands on it.
    pub(super) async fn open_peers(
        &self,
        ring: Option<&Ring>,
        builder: CacheBuilder,
        options: TierOptions,
    ) -> Result<CacheBuilder, ConfigError> {
        let key = self.network_key(ring)?;
        let started = match self.one_shot {
            true => {
                let builder = Peers::builder(key).corrected_clock(self.clock.corrected());
                self.start_guest(builder).await
            }
            false => self.resident(key, ring).await?.start().await,
        };
        let peers = started.map_err(|error| self.not_started(&error))?;
        let tier: Arc<dyn CacheBackend> = match ring {
            Some(ring) => ring.seal_shared(peers.clone(), self.clock.shared()),
            None => {
                tracing::warn!(
                    "CACHE_INSECURE_PLAINTEXT is true and there is no secret: whoever reaches a port of these peers \
                     reads and changes everything that they share"
                );
                Arc::new(peers.clone())
            }
        };
        Ok(opened_tier(builder.peers(peers), tier, options))
    }

    /// A node with its own port and identity.
    async fn resident(&self, key: NetworkKey, ring: Option<&Ring>) -> Result<PeersBuilder, ConfigError> {
        let settings = &self.values;
        let identity = self.identity(&key).await?;
        let mut builder = Peers::builder(key)
            .role(match settings.role.value {
                NodeRole::Auto => RoleChoice::Auto,
                NodeRole::Anchor => RoleChoice::Anchor,
                NodeRole::Leaf => RoleChoice::Leaf,
            })
            .listen_port(settings.listen_port.value)
            .bootstrap(parsed(settings.bootstrap_peers.list(), Name::BootstrapPeers)?)
            .announce(parsed(settings.announce_addrs.list(), Name::AnnounceAddrs)?)
            .allowed_peers(parsed(settings.allowed_peers.list(), Name::AllowedPeers)?)
            // More than this machine can address is as good as everything.
            .capacity(usize::try_from(settings.peer_bytes.value).unwrap_or(usize::MAX))
            .mdns(settings.mdns.value)
            .corrected_clock(self.clock.corrected());
        #[cfg(not(feature = "disk"))]
        let _ = ring;
        #[cfg(feature = "disk")]
        if let Some(store) = self.anchor_store(ring).await {
            builder = builder.store(store);
        }
        if let Some(address) = settings.listen_addr.value {
            builder = builder.listen_ips(vec![address]);
        }
        Ok(match identity {
            Some(identity) => builder.identity(identity),
            None => builder,
        })
    }

    /// A node that leaves nothing behind and takes nothing from the server of this machine.
    async fn start_guest(&self, builder: PeersBuilder) -> Result<Peers, Error> {
        let mut addresses = self.values.bootstrap_peers.list().to_vec();
        addresses.extend(self.own_peer_address().filter(|own| !addresses.contains(own)));
        // They were looked at when the settings were read.
        let bootstrap: Vec<_> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        let targets = bootstrap.len();
        let allowed = self.values.allowed_peers.list().iter().filter_map(|name| name.parse().ok()).collect();
        let mut limits = Limits::default();
        limits.connect_wait = Duration::ZERO;
        // It takes a while, and answers of others: only where there is no other way.
        let mdns = self.values.mdns.value && targets == 0;
        let builder = builder.role(RoleChoice::Leaf).bootstrap(bootstrap).allowed_peers(allowed).mdns(mdns);
        let peers = builder.limits(limits).start().await?;
        first_peer(&peers, targets, mdns).await;
        Ok(peers)
    }

    /// Where a process of this machine dials the server that has these settings too, if its port is
    /// fixed.
    #[must_use]
    pub fn own_peer_address(&self) -> Option<String> {
        let port = self.values.listen_port.value.filter(|port| *port != 0)?;
        Some(server_address(self.values.listen_addr.value, port))
    }

    pub(super) fn is_anchor(&self) -> bool {
        match self.values.role.value {
            NodeRole::Anchor => true,
            NodeRole::Leaf => false,
            NodeRole::Auto => matches!(self.values.listen_port.value, Some(1..)),
        }
    }

    /// The key of the private network: of the secret, or of nothing where that was asked for.
    fn network_key(&self, ring: Option<&Ring>) -> Result<NetworkKey, ConfigError> {
        match ring {
            Some(ring) => Ok(crate::network::network_key(&ring.keyring)),
            None if self.values.insecure_plaintext.value => Ok(network_key_of_nobody(self.namespace())),
            None => Err(ConfigError::of_variable(
                Name::Secret.variables()[0],
                "peers share entries with other machines, and there is no secret to seal them with",
                "make one with `peercache keygen` and give it to every machine as CACHE_SECRET, or set \
                 CACHE_BACKEND=memory,disk to do without peers (CACHE_INSECURE_PLAINTEXT=true shares in clear, with \
                 whoever can reach the port)",
            )),
        }
    }

    /// Who the node is; `None` for somebody else at each start.
    async fn identity(&self, key: &NetworkKey) -> Result<Option<Identity>, ConfigError> {
        if let Some(name) = &self.values.node_name.value {
            let wrong = |error: Error| {
                let remedy = "give a name of 1 to 255 bytes";
                ConfigError::at(
                    "CACHE_NODE_NAME",
                    format!("CACHE_NODE_NAME={name:?}"),
                    error.message(),
                    remedy,
                )
                .with_source(error)
            };
            return Identity::derived(key, name).map(Some).map_err(wrong);
        }
        let Some(path) = self.values.identity_file.value.clone() else { return Ok(None) };
        let place = format!("CACHE_IDENTITY_FILE={:?}", path.display().to_string());
        let stored = tokio::task::spawn_blocking(move || Identity::stored(path)).await;
        let unread = |problem: String, remedy: &str| {
            ConfigError::at("CACHE_IDENTITY_FILE", place.clone(), problem, remedy)
        };
        match stored {
            Ok(Ok(identity)) => Ok(Some(identity)),
            Ok(Err(error)) => {
                let remedy = error.help().unwrap_or("name another file").to_owned();
                Err(unread(without_help(&error), &remedy).with_source(error))
            }
            Err(_) => Err(unread("reading it was interrupted".to_owned(), "start again")),
        }
    }

    /// Of a node that could not be started, in terms of the setting to change.
    fn not_started(&self, error: &Error) -> ConfigError {
        let (variable, place) = match self.values.listen_port.value {
            Some(port) => ("CACHE_LISTEN_PORT", format!("CACHE_LISTEN_PORT={port}")),
            None => ("CACHE_BACKEND", format!("CACHE_BACKEND: {}", BackendName::Libp2p)),
        };
        let remedy = error.help().unwrap_or("leave `libp2p` out of CACHE_BACKEND to do without peers");
        ConfigError::at(variable, place, without_help(error), remedy).with_source(error.clone())
    }
}

/// The texts as what they are. They were looked at when the settings were read.
fn parsed<T: std::str::FromStr<Err = Error>>(texts: &[String], name: Name) -> Result<Vec<T>, ConfigError> {
    let wrong =
        |error: Error| ConfigError::of_variable(name.variables()[0], error.message(), "give another one");
    texts.iter().map(|text| text.parse().map_err(wrong)).collect()
}

/// Where the server of this machine listens.
fn server_address(address: Option<IpAddr>, port: u16) -> String {
    match address.filter(|address| !address.is_unspecified()) {
        Some(IpAddr::V4(address)) => format!("/ip4/{address}/tcp/{port}"),
        Some(IpAddr::V6(address)) => format!("/ip6/{address}/tcp/{port}"),
        None => format!("/ip4/127.0.0.1/tcp/{port}"),
    }
}

/// The addresses of this machine, with `port`.
async fn of_this_machine(key: &NetworkKey, port: u16) -> Result<Vec<String>, ConfigError> {
    let failed = |error: Error| {
        ConfigError::of_variable(
            "CACHE_LISTEN_PORT",
            without_help(&error),
            "name where others find this node with CACHE_ANNOUNCE_ADDRS",
        )
        .with_source(error)
    };
    // Only who listens is told what the machine's addresses are.
    let node = Peers::builder(key.clone()).role(RoleChoice::Leaf).listen_port(Some(0));
    let node = node.start().await.map_err(failed)?;
    let addresses = node.addresses();
    node.close().await.map_err(failed)?;
    let with_port = |address: String| {
        let (host, _) = address.split_once("/tcp/")?;
        Some(format!("{host}/tcp/{port}"))
    };
    Ok(addresses.into_iter().filter_map(with_port).collect())
}

/// Waits for the first peer, as long as one of the `targets` addresses may still answer or, with
/// `mdns`, somebody may be found.
async fn first_peer(peers: &Peers, targets: usize, mdns: bool) {
    let settled = async {
        loop {
            let report = peers.report();
            // By what the node dials: an address that was given twice is dialled once.
            let failed = |target: &BootstrapReport| target.trouble.is_some();
            let dials = targets == 0 || !report.bootstrap.is_empty();
            let all_failed = dials && report.bootstrap.iter().all(failed);
            if report.connected > 0 || (all_failed && !mdns) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    // Whether somebody came or time ran out is in the report.
    let _ = tokio::time::timeout(CONNECT_WITHIN, settled).await;
    let report = peers.report();
    if report.connected == 0 {
        let why: Vec<_> = report
            .bootstrap
            .iter()
            .map(|target| {
                format!("{}: {}", target.address, target.trouble.as_deref().unwrap_or("no answer yet"))
            })
            .collect();
        let why = match (why.is_empty(), mdns) {
            (false, _) => why.join("; "),
            (true, true) => "multicast DNS found none, and CACHE_BOOTSTRAP_PEERS names none".to_owned(),
            (true, false) => "CACHE_BOOTSTRAP_PEERS names none".to_owned(),
        };
        tracing::warn!("no peer is connected, going on without peers: {why}");
    }
}

/// A key that anybody can compute: for networks that are open on purpose.
fn network_key_of_nobody(namespace: &str) -> NetworkKey {
    let derive = |purpose: &str| key_of_nobody(purpose, namespace);
    NetworkKey::new(derive("network"), Some(derive("writers")), *b"in clear")
}

fn key_of_nobody(purpose: &str, namespace: &str) -> [u8; 32] {
    let text = format!("peercache peers in clear 1: {purpose}\0{namespace}");
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_networks_are_apart_by_namespace_and_from_closed_ones() {
        let name = |key: &NetworkKey| Identity::derived(key, "n").unwrap().name().to_string();
        let (one, other) = (network_key_of_nobody("one"), network_key_of_nobody("other"));
        assert_ne!(name(&one), name(&other));
        assert_eq!(name(&one), name(&network_key_of_nobody("one")));
    }
}
