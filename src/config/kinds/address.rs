//! Addresses: of this machine, of peers, and their ids.

use std::net::{IpAddr, SocketAddr};

use super::kind::{AnyKind, Kind, joined, refused, texts};
use crate::config::env::Env;
use crate::config::error::{ConfigError, redacted, shortened};
use crate::config::peer_text::{self, Wrong};
use crate::config::value::{Given, Raw};

/// An IP address of this machine.
pub(in crate::config) struct Ip;

impl Ip {
    pub(in crate::config) fn given(address: IpAddr) -> Given {
        Given::Text(address.to_string())
    }
}

impl AnyKind for Ip {
    fn accepted(&self, _: Option<&str>) -> String {
        "give an address of this machine, such as 10.0.0.5 or fd00::5".to_owned()
    }

    fn described(&self) -> String {
        "IP address".to_owned()
    }
}

impl Kind for Ip {
    type Value = IpAddr;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<IpAddr, ConfigError> {
        raw.given.text().trim().parse().or_else(|_| refused(self, raw, "this is not an IP address"))
    }

    fn show(&self, address: &IpAddr) -> Option<String> {
        Some(address.to_string())
    }
}

/// IP addresses with ports.
pub(in crate::config) struct Sockets;

impl Sockets {
    pub(in crate::config) fn given(addresses: impl IntoIterator<Item = SocketAddr>) -> Given {
        texts(addresses.into_iter().map(|address| address.to_string()))
    }
}

impl AnyKind for Sockets {
    fn accepted(&self, _: Option<&str>) -> String {
        "give addresses with their port, such as 127.0.0.1:9180 or [::1]:9180".to_owned()
    }

    fn described(&self) -> String {
        "list of IP addresses with a port".to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for Sockets {
    type Value = Vec<SocketAddr>;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Vec<SocketAddr>, ConfigError> {
        let parts = raw.given.parts();
        let parsed = parts.iter().map(|part| {
            let shown = || format!("`{}` is not an address with its port", shortened(&redacted(part)));
            part.parse().or_else(|_| refused(self, raw, shown()))
        });
        parsed.collect()
    }

    fn show(&self, addresses: &Vec<SocketAddr>) -> Option<String> {
        joined(addresses)
    }
}

/// Addresses of peers.
pub(in crate::config) struct Addresses;

impl Addresses {
    pub(in crate::config) fn given<S: Into<String>>(addresses: impl IntoIterator<Item = S>) -> Given {
        texts(addresses)
    }
}

impl AnyKind for Addresses {
    fn accepted(&self, _: Option<&str>) -> String {
        "give addresses such as /ip4/172.17.0.1/tcp/9100 or /dns4/mcp-server/tcp/9100".to_owned()
    }

    fn described(&self) -> String {
        "list of addresses, such as `/ip4/172.17.0.1/tcp/9100` or `/dns4/mcp-server/tcp/9100`".to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for Addresses {
    type Value = Vec<String>;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Vec<String>, ConfigError> {
        checked(raw, peer_text::address)
    }

    fn show(&self, addresses: &Vec<String>) -> Option<String> {
        joined(addresses)
    }
}

/// Ids of peers.
pub(in crate::config) struct PeerIds;

impl PeerIds {
    pub(in crate::config) fn given<S: Into<String>>(ids: impl IntoIterator<Item = S>) -> Given {
        texts(ids)
    }
}

impl AnyKind for PeerIds {
    fn accepted(&self, _: Option<&str>) -> String {
        "give peer ids, which begin with 12D3Koo".to_owned()
    }

    fn described(&self) -> String {
        "list of peer ids".to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for PeerIds {
    type Value = Vec<String>;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Vec<String>, ConfigError> {
        checked(raw, peer_text::peer)
    }

    fn show(&self, ids: &Vec<String>) -> Option<String> {
        joined(ids)
    }
}

/// The texts of a list. Blank ones are left out, as a workflow makes them of what does not exist;
/// every other that is of no use is named.
fn checked(raw: &Raw, check: fn(&str) -> Result<(), Wrong>) -> Result<Vec<String>, ConfigError> {
    let texts: Vec<_> = raw.given.parts().into_iter().filter(|text| !text.is_empty()).collect();
    let wrong: Vec<_> =
        texts.iter().filter_map(|text| check(text).err().map(|wrong| (text, wrong))).collect();
    let Some((_, Wrong { remedy, .. })) = wrong.first() else { return Ok(texts) };
    let each =
        wrong.iter().map(|(text, wrong)| format!("{:?} ({})", shortened(&redacted(text)), wrong.problem));
    let each: Vec<_> = each.collect();
    Err(ConfigError::of(raw, format!("not usable: {}", each.join(", ")), remedy))
}
