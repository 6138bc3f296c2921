//! The network of the peers: this node's port, and each address that it dials.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use peercache::Config;
use peercache::config::BackendName;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::{sleep, timeout};

use super::container::Container;
use super::finding::Finding;
use super::settings;

/// How long a name may take to resolve, and a host to accept a connection.
const RESOLVE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(3);
/// How long the addresses may take to become members, or to say why not, and how often that is
/// looked at.
const HANDSHAKE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

/// Whether a peer is connected, so that the tier can be exercised.
pub(super) async fn check(
    config: &Config,
    container: &Container,
    server: Option<&Value>,
    findings: &mut Vec<Finding>,
) -> bool {
    let cache = match config.only(BackendName::Libp2p).open().await {
        Ok(cache) => cache,
        Err(error) => {
            findings.push(settings::mistake(&error));
            return false;
        }
    };
    let report = match cache.peers() {
        Some(peers) => Some(settled(peers).await),
        None => None,
    };
    if let Err(error) = cache.close().await {
        tracing::warn!("{error}");
    }
    let Some(report) = report else { return false };
    let own = config.own_peer_address();
    for target in &report.bootstrap {
        let check = "peers";
        if target.connected {
            findings.push(Finding::ok(check, format!("{} is a member of this network", target.address)));
        } else if own.as_ref() != Some(&target.address) {
            let why = target.trouble.as_deref();
            findings.push(unreachable(&target.address, why, container).await);
        }
    }
    let serves = own.is_some()
        && report.bootstrap.iter().any(|target| own.as_ref() == Some(&target.address) && target.connected);
    if let Some(port) = config.listen_port().filter(|port| *port != 0)
        && !serves
    {
        findings.push(own_port(port, server.is_some()).await);
    }
    if report.bootstrap.iter().all(|target| own.as_ref() == Some(&target.address)) && report.connected == 0 {
        findings.push(Finding::skipped(
            "libp2p",
            "no other node is named or found, so there is nothing to store with: CACHE_BOOTSTRAP_PEERS names one",
        ));
    }
    report.connected > 0
}

/// What the node reports once each address that it dials has answered or failed, or when they had
/// their time.
async fn settled(peers: &peercache::Peers) -> peercache::backend::peers::PeersReport {
    let began = Instant::now();
    loop {
        let report = peers.report();
        let is_open = report.bootstrap.iter().any(|target| !target.connected && target.trouble.is_none());
        if !is_open || began.elapsed() > HANDSHAKE {
            return report;
        }
        sleep(LOOK).await;
    }
}

/// Whether this node could take its port.
async fn own_port(port: u16, server_runs: bool) -> Finding {
    match TcpListener::bind((IpAddr::from([0, 0, 0, 0]), port)).await {
        Ok(_) => Finding::ok("port", format!("{port} is free for this node")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::failed(
            "port",
            format!("{port} is taken by a process that is no member of this network"),
            "stop that process, or set CACHE_LISTEN_PORT to another port",
        )
        .because(match server_runs {
            true => "the peercache that answers here may have other settings; restart it with these",
            false => "no peercache of this machine answers",
        }),
        Err(error) => Finding::failed(
            "port",
            format!("{port} cannot be listened on: {error}"),
            "set CACHE_LISTEN_PORT to a port that this user may take, such as 9100",
        ),
    }
}

/// An address of a peer, taken apart.
struct Place {
    host: String,
    port: u16,
    is_name: bool,
}

fn place(address: &str) -> Option<Place> {
    let mut parts = address.strip_prefix('/')?.split('/');
    let (kind, host, transport, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if transport != "tcp" {
        return None;
    }
    Some(Place { host: host.to_owned(), port: port.parse().ok()?, is_name: kind.starts_with("dns") })
}

/// Why nobody is connected at `address`, found out step by step.
async fn unreachable(address: &str, trouble: Option<&str>, container: &Container) -> Finding {
    let failed =
        |found: String, remedy: &str| Finding::failed("peers", format!("{address}: {found}"), remedy);
    let Some(Place { host, port, is_name }) = place(address) else {
        let found = trouble.unwrap_or("nobody is connected there").to_owned();
        return failed(found, "correct CACHE_BOOTSTRAP_PEERS");
    };
    let targets: Vec<SocketAddr> = match timeout(RESOLVE, lookup_host((host.as_str(), port))).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) if is_name => {
            let finding = failed(
                format!("the name {host} does not resolve"),
                "use a name that this network knows, such as that of the service in a compose file, or an address",
            );
            return finding.because(error.to_string());
        }
        Ok(Err(error)) => return failed(error.to_string(), "correct CACHE_BOOTSTRAP_PEERS"),
        Err(_) => {
            let finding = failed(
                format!("the name {host} is not resolved within {} s", RESOLVE.as_secs()),
                "look at the name server of this machine (/etc/resolv.conf), or use an address",
            );
            return finding.outside(true);
        }
    };
    let mut last = None;
    for target in &targets {
        match timeout(CONNECT, TcpStream::connect(target)).await {
            Ok(Ok(_)) => {
                return failed(
                    "something answers, and it is no member of this network".to_owned(),
                    "give both sides the same CACHE_SECRET: `peercache config secret` shows its key id on each",
                )
                .because(trouble.unwrap_or("the handshake did not end"));
            }
            Ok(Err(error)) => last = Some((*target, Some(error))),
            Err(_) => last = Some((*target, None)),
        }
    }
    let Some((target, error)) = last else {
        return failed(format!("the name {host} has no address"), "use a name that has one, or an address");
    };
    if target.ip().is_loopback() && container.has_own_loopback() {
        let finding = failed(
            "nothing listens there".to_owned(),
            "dial the host by the gateway's address, or run this container with --network host",
        )
        .because("in a container, a loopback address is the container itself and not its host");
        return match container.gateway {
            Some(gateway) => finding.by(format!("export CACHE_BOOTSTRAP_PEERS=/ip4/{gateway}/tcp/{port}")),
            None => finding,
        };
    }
    match error {
        Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => failed(
            format!("nothing listens on port {port}"),
            "start `peercache serve` there with CACHE_LISTEN_PORT set to that port, or correct the port",
        ),
        Some(error) => failed(error.to_string(), "look at the routes between the two, or correct the address")
            .outside(!target.ip().is_loopback()),
        None => failed(
            format!("no answer within {} s", CONNECT.as_secs()),
            "open that port in the firewall between the two, or publish it from its container (`docker run -p`)",
        )
        .outside(!target.ip().is_loopback()),
    }
}

/// Puts one finding about this machine's network in the place of those that are consequences of
/// it: two checks or more asked other machines, and nothing came back from any.
pub(super) fn merge(findings: &mut Vec<Finding>) {
    let silent: Vec<_> = findings.iter().filter(|finding| finding.outside).cloned().collect();
    let mut checks: Vec<_> = silent.iter().map(|finding| finding.check.as_str()).collect();
    checks.dedup();
    if checks.len() < 2 {
        return;
    }
    let tried = silent.iter().map(|finding| finding.found.as_str()).collect::<Vec<_>>().join("; ");
    let place = findings.iter().position(|finding| finding.outside).unwrap_or_default();
    findings.retain(|finding| !finding.outside);
    findings.insert(
        place,
        Finding::failed(
            "network",
            "no other machine that was asked answers",
            "connect this machine or container to a network, and let its firewall pass what goes out",
        )
        .because(tried),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let parts = |address| place(address).map(|place| (place.host, place.port, place.is_name));
        assert_eq!(parts("/ip4/10.0.0.1/tcp/9100"), Some(("10.0.0.1".to_owned(), 9100, false)));
        assert_eq!(parts("/dns4/host/tcp/9100/p2p/12D3"), Some(("host".to_owned(), 9100, true)));
        assert_eq!(parts("/ip6/::1/tcp/1"), Some(("::1".to_owned(), 1, false)));
        assert_eq!(parts("/dnsaddr/peers.example.org"), None);
    }

    fn silent(check: &str) -> Finding {
        Finding::failed(check, format!("{check} is silent"), "look").outside(true)
    }

    #[test]
    fn silence_of_several_checks_is_one_finding_about_the_network() {
        let mut findings = vec![Finding::ok("disk", ""), silent("peers"), silent("peers"), silent("origin")];
        merge(&mut findings);
        let checks: Vec<_> = findings.iter().map(|finding| finding.check.as_str()).collect();
        assert_eq!(checks, ["disk", "network"]);
        assert_eq!(findings[1].cause.as_deref(), Some("peers is silent; peers is silent; origin is silent"));
    }

    #[test]
    fn silence_of_one_check_stays_its_own_finding() {
        let mut findings = vec![silent("peers"), silent("peers"), Finding::ok("origin", "it answers")];
        merge(&mut findings);
        assert_eq!(findings.len(), 3);
    }
}
