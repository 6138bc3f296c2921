//! Where a peer can be dialled, and how a peer is called, as people write them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use peercache_api::{Error, ErrorKind, Operation};

/// What an address may look like.
const ACCEPTED: &str = "write /ip4/172.17.0.1/tcp/9100, /ip6/fd00::1/tcp/9100, /dns4/mcp-server/tcp/9100, \
                        /dns6/HOST/tcp/9100 or /dns/HOST/tcp/9100, each with or without /p2p/ID at its end";

/// The public name of a node: its peer id, `12D3Koo…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(pub(crate) PeerId);

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerName({self})")
    }
}

impl serde::Serialize for PeerName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for PeerName {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Config`] for anything that is not the id of a peer with an Ed25519 key.
    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().ok().filter(|peer| crate::wire::PeerKey::of(peer).is_some()).map(Self).ok_or_else(|| {
            config("this is no peer id")
                .with_context("value", short(text))
                .with_help("a peer id begins with 12D3Koo; `peercache id` prints a node's own")
        })
    }
}

/// Where a node is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Ip(IpAddr),
    /// A name with addresses of both families.
    Dns(String),
    Dns4(String),
    Dns6(String),
}

/// Where a peer can be dialled: a libp2p multiaddress of the kinds that this network uses.
///
/// `/ip4/…/tcp/PORT`, `/ip6/…/tcp/PORT`, `/dns4/…/tcp/PORT`, `/dns6/…/tcp/PORT` or
/// `/dns/…/tcp/PORT`, with `/p2p/ID` at the end where the peer's name is known. With it, only that
/// peer is talked to; without it, any member of the network that answers there.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) peer: Option<PeerId>,
}

impl PeerAddress {
    /// The name of the peer, where the address has it.
    #[must_use]
    pub fn peer(&self) -> Option<PeerName> {
        self.peer.map(PeerName)
    }

    /// From an address that libp2p gave; `None` when it is of another kind.
    pub(crate) fn from_multiaddr(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let host = match parts.next()? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(ip.into()),
            Protocol::Dns(name) => Host::Dns(name.into_owned()),
            Protocol::Dns4(name) => Host::Dns4(name.into_owned()),
            Protocol::Dns6(name) => Host::Dns6(name.into_owned()),
            _ => return None,
        };
        // An address without a port leads nowhere.
        let Some(Protocol::Tcp(port @ 1..)) = parts.next() else { return None };
        let peer = match parts.next() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(peer),
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self { host, port, peer })
    }

    /// As libp2p wants it. To listen there, a port of zero is any.
    pub(crate) fn to_multiaddr(&self) -> Multiaddr {
        let mut address = Multiaddr::empty();
        address.push(match &self.host {
            Host::Ip(IpAddr::V4(ip)) => Protocol::Ip4(*ip),
            Host::Ip(IpAddr::V6(ip)) => Protocol::Ip6(*ip),
            Host::Dns(name) => Protocol::Dns(name.into()),
            Host::Dns4(name) => Protocol::Dns4(name.into()),
            Host::Dns6(name) => Protocol::Dns6(name.into()),
        });
        address.push(Protocol::Tcp(self.port));
        if let Some(peer) = self.peer {
            address.push(Protocol::P2p(peer));
        }
        address
    }

    pub(crate) fn at(ip: IpAddr, port: u16) -> Self {
        Self { host: Host::Ip(ip), port, peer: None }
    }
}

impl FromStr for PeerAddress {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::Config`] for anything else than the accepted forms, which the error lists.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |what: &'static str| config(what).with_context("value", short(text)).with_help(ACCEPTED);
        let address: Multiaddr = text.trim().parse().map_err(|_| wrong("this is no address of a peer"))?;
        let parsed =
            Self::from_multiaddr(&address).ok_or_else(|| wrong("this kind of address is not used here"))?;
        match &parsed.host {
            Host::Ip(ip) if !may_dial(*ip) => Err(wrong("nobody can be dialled at this address")),
            Host::Dns(name) | Host::Dns4(name) | Host::Dns6(name) if name.is_empty() || name.len() > 253 => {
                Err(wrong("a host's name has 1 to 253 bytes"))
            }
            _ => Ok(parsed),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_multiaddr().fmt(f)
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerAddress({self})")
    }
}

/// Whether a node is ever dialled there, whoever says that it is: not where no host can be, and not
/// at link-local addresses, among which clouds keep the credentials of the machine
/// (169.254.169.254).
pub(crate) fn may_dial(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            !(ip.is_unspecified() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast())
        }
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_unicast_link_local() || ip.is_multicast()),
    }
}

/// At most the first 80 characters of what somebody wrote.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn config(message: &'static str) -> Error {
    Error::new(ErrorKind::Config, Operation::Configure, message).with_backend(crate::BACKEND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    #[test]
    fn every_accepted_form_is_read_and_written_alike() {
        for text in [
            "/ip4/172.17.0.1/tcp/9100",
            "/ip6/fd00::1/tcp/9100",
            "/dns/mcp-server/tcp/9100",
            "/dns4/mcp-server/tcp/9100",
            "/dns6/mcp-server/tcp/9100",
        ] {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.peer()), (text, None));
            let text = format!("{text}/p2p/{ID}");
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.peer().unwrap().to_string(), ID);
        }
    }

    #[test]
    fn everything_else_is_refused_and_says_what_is_accepted() {
        for text in [
            "",
            "172.17.0.1:9100",
            "/ip4/172.17.0.1",
            "/ip4/172.17.0.1/tcp/0",
            "/ip4/172.17.0.1/udp/9100/quic-v1",
            "/ip4/300.1.1.1/tcp/1",
            "/ip4/1.2.3.4/tcp/1/ws",
            "/ip4/1.2.3.4/tcp/1/p2p/xyz",
            "/dns4//tcp/1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/169.254.169.254/tcp/80",
            "/ip6/fe80::1/tcp/1",
            "/ip4/224.0.0.1/tcp/1",
            "/ip6/::ffff:169.254.169.254/tcp/80",
            "/dnsaddr/peers.example.org",
        ] {
            let error = text.parse::<PeerAddress>().unwrap_err();
            assert_eq!(error.help(), Some(ACCEPTED), "{text}");
        }
        let error = "172.17.0.1:9100".parse::<PeerAddress>().unwrap_err();
        insta::assert_snapshot!(error, @"peers: configure failed (configuration): this is no address of a peer [value=172.17.0.1:9100]; write /ip4/172.17.0.1/tcp/9100, /ip6/fd00::1/tcp/9100, /dns4/mcp-server/tcp/9100, /dns6/HOST/tcp/9100 or /dns/HOST/tcp/9100, each with or without /p2p/ID at its end");
        let error = "/ip4/169.254.169.254/tcp/80".parse::<PeerAddress>().unwrap_err();
        insta::assert_snapshot!(error, @"peers: configure failed (configuration): nobody can be dialled at this address [value=/ip4/169.254.169.254/tcp/80]; write /ip4/172.17.0.1/tcp/9100, /ip6/fd00::1/tcp/9100, /dns4/mcp-server/tcp/9100, /dns6/HOST/tcp/9100 or /dns/HOST/tcp/9100, each with or without /p2p/ID at its end");
    }

    #[test]
    fn a_peers_name_is_its_id() {
        assert_eq!(ID.parse::<PeerName>().unwrap().to_string(), ID);
        let error = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse::<PeerName>().unwrap_err();
        insta::assert_snapshot!(error, @"peers: configure failed (configuration): this is no peer id [value=QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N]; a peer id begins with 12D3Koo; `peercache id` prints a node's own");
    }
}
