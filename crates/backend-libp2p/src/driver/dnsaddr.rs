//! `/dnsaddr/NAME`: each text record of `_dnsaddr.NAME` that begins with `dnsaddr=` holds an
//! address, which may be another `/dnsaddr` (multiaddr specification, `protocols/DNSADDR.md`).
//!
//! Records are data of strangers: how many are read, how deep they lead and how long that takes is
//! bounded, and what they say is judged like any address that is given. Nothing is kept between two
//! look-ups.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use libp2p::PeerId;

use super::resolve;
use crate::address::{Host, PeerAddress};

/// How long the whole look-up may take, with all the names that records lead to.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// How many names may lead to one another; the first one counts.
const DEPTH: usize = 4;
/// The most names that are looked up for one address.
const MOST_NAMES: usize = 8;
/// The most records of one name that are read.
const MOST_RECORDS: usize = 64;

const PREFIX: &str = "dnsaddr=";

/// Looks text records up, at the name servers of the system.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextRecords {
    /// Asked instead: tests bring one of their own.
    server: Option<SocketAddr>,
}

impl TextRecords {
    #[cfg(test)]
    pub(crate) const fn at(server: SocketAddr) -> Self {
        Self { server: Some(server) }
    }

    /// The text records of `name`; none if there are none. May be cancelled.
    async fn of(&self, name: &str) -> Result<Vec<String>, String> {
        let this = self.clone();
        // Reads /etc/resolv.conf, each time: a machine that moves gets other name servers.
        let resolver = tokio::task::spawn_blocking(move || this.resolver()).await;
        let resolver = match resolver {
            Ok(Ok(resolver)) => resolver,
            Ok(Err(error)) => return Err(format!("this machine names no name server: {error}")),
            Err(error) => return Err(format!("the name servers could not be found out: {error}")),
        };
        let found = match tokio::time::timeout(resolve::LIMIT, resolver.txt_lookup(name)).await {
            Err(_) | Ok(Err(NetError::Timeout)) => {
                let limit = resolve::LIMIT.as_secs();
                return Err(format!("no name server answered for {name} within {limit} s"));
            }
            Ok(Err(error)) if error.is_no_records_found() => return Ok(Vec::new()),
            Ok(Err(error)) => return Err(format!("{name} was not looked up: {error}")),
            Ok(Ok(found)) => found,
        };
        let texts = found.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(text) => String::from_utf8(text.txt_data.concat()).ok(),
            _ => None,
        });
        Ok(texts.collect())
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match self.server {
            None => TokioResolver::builder_tokio()?,
            Some(server) => {
                let mut config = NameServerConfig::udp_and_tcp(server.ip());
                config.connections.iter_mut().for_each(|connection| connection.port = server.port());
                let config = ResolverConfig::from_name_servers(vec![config]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        (options.cache_size, options.use_hosts_file) = (0, ResolveHosts::Never);
        builder.build()
    }
}

/// The addresses that the records of `name` lead to, other than `/dnsaddr`; with a `peer`, those of
/// that peer alone. Why there is none, in words. Takes up to [`LIMIT`]. May be cancelled.
pub(super) async fn look_up(
    records: &TextRecords,
    name: &str,
    peer: Option<PeerId>,
) -> Result<Vec<PeerAddress>, String> {
    let all = follow(records, name, peer);
    let late = |_| format!("the records of {name} were not followed to their end in {} s", LIMIT.as_secs());
    tokio::time::timeout(LIMIT, all).await.map_err(late)?
}

async fn follow(records: &TextRecords, name: &str, peer: Option<PeerId>) -> Result<Vec<PeerAddress>, String> {
    let first = (name.to_owned(), peer);
    let mut known = HashSet::from([first.clone()]);
    let mut names = VecDeque::from([(first, 1)]);
    let (mut addresses, mut why) = (Vec::new(), nothing(name, peer));
    while let Some(((name, peer), depth)) = names.pop_front() {
        let texts = match records.of(&format!("_dnsaddr.{name}")).await {
            Ok(texts) => texts,
            Err(error) => {
                why = error;
                continue;
            }
        };
        for address in texts.iter().take(MOST_RECORDS).filter_map(|text| told(text, peer)) {
            let Host::DnsAddr(next) = address.host else {
                addresses.push(address);
                continue;
            };
            let next = (next, address.peer);
            if depth < DEPTH && known.len() < MOST_NAMES && known.insert(next.clone()) {
                names.push_back((next, depth + 1));
            }
        }
    }
    if addresses.is_empty() { Err(why) } else { Ok(addresses) }
}

/// The address in one record, if it may be that of `peer`. A record that names nobody may: there,
/// only `peer` is talked to.
fn told(text: &str, peer: Option<PeerId>) -> Option<PeerAddress> {
    let mut address: PeerAddress = text.strip_prefix(PREFIX)?.parse().ok()?;
    if peer.is_some() && address.peer.is_some_and(|told| Some(told) != peer) {
        return None;
    }
    address.peer = address.peer.or(peer);
    Some(address)
}

fn nothing(name: &str, peer: Option<PeerId>) -> String {
    match peer {
        None => format!("no text record of _dnsaddr.{name} holds an address that is used here"),
        Some(peer) => format!("no text record of _dnsaddr.{name} holds an address of {peer}"),
    }
}

#[cfg(test)]
mod tests;
