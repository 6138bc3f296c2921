//! From a bootstrap address to addresses that can be dialled, anew at each try.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;

use crate::address::{Host, PeerAddress, may_dial};

/// How long the name servers have to answer for one name.
const LIMIT: Duration = Duration::from_secs(2);
/// The most addresses that are tried for one that was given.
const MOST: usize = 8;

/// Where to dial for any of `addresses`, which a peer told of.
pub(crate) async fn resolve_all(addresses: Vec<PeerAddress>) -> Result<Vec<PeerAddress>, String> {
    if addresses.is_empty() {
        return Err("it told of no address that can be dialled".to_owned());
    }
    any_of(join_all(addresses.iter().map(resolve)).await)
}

/// What was found, or why nothing was.
fn any_of(results: Vec<Result<Vec<PeerAddress>, String>>) -> Result<Vec<PeerAddress>, String> {
    let (mut all, mut why) = (Vec::new(), String::new());
    for result in results {
        match result {
            Ok(found) => all.extend(found),
            Err(error) => why = error,
        }
    }
    all.truncate(MOST);
    if all.is_empty() { Err(why) } else { Ok(all) }
}

/// Where to dial for `address`; why not, in words. Takes up to [`LIMIT`].
pub(crate) async fn resolve(address: &PeerAddress) -> Result<Vec<PeerAddress>, String> {
    let all = match &address.host {
        Host::Ip(_) => return Ok(vec![address.clone()]),
        Host::Dns(name) => look_up(name, address, |_| true).await?,
        Host::Dns4(name) => look_up(name, address, IpAddr::is_ipv4).await?,
        Host::Dns6(name) => look_up(name, address, IpAddr::is_ipv6).await?,
    };
    if all.is_empty() { Err("the name has no address that can be dialled".to_owned()) } else { Ok(all) }
}

async fn look_up(
    name: &str,
    address: &PeerAddress,
    wanted: impl Fn(&IpAddr) -> bool,
) -> Result<Vec<PeerAddress>, String> {
    let found = tokio::time::timeout(LIMIT, tokio::net::lookup_host((name, address.port)))
        .await
        .map_err(|_| format!("no name server answered for {name} within {} s", LIMIT.as_secs()))?
        .map_err(|error| format!("{name} has no address: {error}"))?;
    let ips: BTreeSet<_> = found.map(|found: SocketAddr| found.ip()).filter(|ip| may_dial(*ip)).collect();
    let ips = ips.into_iter().filter(wanted).take(MOST);
    Ok(ips.map(|ip| PeerAddress { host: Host::Ip(ip), ..address.clone() }).collect())
}
