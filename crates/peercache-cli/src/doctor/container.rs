//! Where this process runs: the machine itself, or a container, and how that reaches its host.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use super::finding::Finding;

/// What runs this process.
#[derive(Debug)]
pub(super) struct Container {
    /// The engine, if there is one.
    engine: Option<&'static str>,
    /// Whether the network is the host's own.
    host_network: bool,
    /// Where packets for other networks go: on a bridge, the host.
    pub(super) gateway: Option<Ipv4Addr>,
    actions: bool,
}

impl Container {
    pub(super) fn look() -> Self {
        let exists = |path: &str| Path::new(path).exists();
        let cgroup = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
        let engine = if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
            Some("Kubernetes")
        } else if exists("/run/.containerenv") {
            Some("Podman")
        } else if exists("/.dockerenv") || cgroup.contains("/docker/") {
            Some("Docker")
        } else if std::env::var_os("container").is_some() {
            Some("a container engine")
        } else {
            None
        };
        Self {
            engine,
            // Docker's own bridge is seen on the host's network only.
            host_network: exists("/sys/class/net/docker0") || exists("/sys/class/net/podman0"),
            gateway: gateway(&fs::read_to_string("/proc/net/route").unwrap_or_default()),
            actions: std::env::var_os("GITHUB_ACTIONS").is_some(),
        }
    }

    /// Whether a loopback address is this container's and not its host's.
    pub(super) fn has_own_loopback(&self) -> bool {
        self.engine.is_some() && !self.host_network
    }

    pub(super) fn finding(&self) -> Finding {
        let place = match (self.engine, self.host_network, self.gateway) {
            (None, ..) => "on the machine itself".to_owned(),
            (Some(engine), true, _) => format!("in {engine}, on the host's network"),
            (Some(engine), false, Some(gateway)) => {
                format!("in {engine}, on a network of its own; its gateway is {gateway}")
            }
            (Some(engine), false, None) => format!("in {engine}, on a network of its own without a gateway"),
        };
        let actions = if self.actions { ", in a GitHub Actions job" } else { "" };
        Finding::ok("place", place + actions)
    }
}

/// The gateway of the default route, from the text of `/proc/net/route` (proc(5)).
fn gateway(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (destination, gateway) = (*fields.get(1)?, *fields.get(2)?);
        let address = u32::from_str_radix(gateway, 16).ok().filter(|_| destination == "00000000")?;
        // In the byte order of the machine, as the kernel prints it.
        Some(Ipv4Addr::from(address.to_ne_bytes())).filter(|address| !address.is_unspecified())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn gateway_is_that_of_the_default_route() {
        let routes = "Iface\tDestination\tGateway\tFlags\n\
                      eth0\t000011AC\t00000000\t0001\n\
                      eth0\t00000000\t010011AC\t0003\n";
        assert_eq!(gateway(routes), Some(Ipv4Addr::new(172, 17, 0, 1)));
        assert_eq!(gateway("Iface\n"), None);
    }
}
