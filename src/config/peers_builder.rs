//! The settings of the peers tier, given in code.

use super::builder::ConfigBuilder;
use super::names::Name;
use super::peers::NodeRole;
use super::source::Given;

/// The peers. A build without the cargo feature `libp2p` takes these settings and warns that they have no
/// effect.
impl ConfigBuilder {
    /// Whether `auto` takes the peers tier; `false` wins over every other setting.
    pub fn enable_p2p(self, enabled: bool) -> Self {
        self.with(Name::EnableP2p, Given::Text(enabled.to_string()))
    }

    /// The TCP port on which other nodes are listened for, 0 for any that is free.
    pub fn listen_port(self, port: u16) -> Self {
        self.with(Name::ListenPort, Given::Number(port.to_string()))
    }

    /// Peers to connect with: `/ip4/172.17.0.1/tcp/9100`, `/dns4/mcp-server/tcp/9100`, with or without
    /// `/p2p/ID` at the end.
    pub fn bootstrap_peers<S: Into<String>>(self, addresses: impl IntoIterator<Item = S>) -> Self {
        self.with(Name::BootstrapPeers, list(addresses))
    }

    /// What this process is for others.
    pub fn role(self, role: NodeRole) -> Self {
        self.with(Name::Role, Given::Text(role.to_string()))
    }

    /// Derives the node's identity from the secret and this name, at most 255 bytes. No two nodes of a
    /// fleet may have one name.
    pub fn node_name(self, name: impl Into<String>) -> Self {
        self.with(Name::Node, Given::Text(name.into()))
    }

    /// Keeps the node's identity in the file at this path, which is made if there is none.
    pub fn identity_file(self, path: impl Into<String>) -> Self {
        self.with(Name::IdentityFile, Given::Text(path.into()))
    }

    /// Where others should dial this node, instead of the addresses of this machine.
    pub fn announce_addrs<S: Into<String>>(self, addresses: impl IntoIterator<Item = S>) -> Self {
        self.with(Name::AnnounceAddrs, list(addresses))
    }

    /// Refuses every other peer, by id.
    pub fn allowed_peers<S: Into<String>>(self, peers: impl IntoIterator<Item = S>) -> Self {
        self.with(Name::AllowedPeers, list(peers))
    }

    /// Whether peers are looked for in the local network.
    pub fn mdns(self, mdns: bool) -> Self {
        self.with(Name::Mdns, Given::Text(mdns.to_string()))
    }

    /// The most bytes that this node holds for itself and others, at least 16 MiB.
    pub fn peer_bytes(self, bytes: u64) -> Self {
        self.with(Name::PeerBytes, Given::Number(bytes.to_string()))
    }

    /// Whether entries may be shared without a secret, in clear, with whoever reaches the port.
    pub fn insecure_plaintext(self, plaintext: bool) -> Self {
        self.with(Name::InsecurePlaintext, Given::Text(plaintext.to_string()))
    }
}

fn list<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Given {
    Given::List(texts.into_iter().map(Into::into).collect())
}
