//! A host, and runners behind network address translation: nobody can dial a runner, and a runner
//! reaches nobody but the host. Each is a network namespace.

use std::path::Path;
use std::rc::Rc;

use crate::namespace::Namespace;
use crate::tools::Tools;

/// The host's address, the same for every runner.
pub(crate) const HOST: &str = "10.77.0.1";

/// The host and the router in front of the runners. All of it vanishes with this value.
#[derive(Debug)]
pub(crate) struct Nat {
    host: Rc<Namespace>,
    router: Rc<Namespace>,
    runners: Vec<Rc<Namespace>>,
}

impl Nat {
    /// `runners` of them, at most 60, each on a link of its own.
    pub(crate) fn new(tools: &Tools, dir: &Path, runners: u8) -> Self {
        assert!(runners <= 60, "each runner takes four addresses of one network");
        let host = Namespace::new(tools, dir, "host");
        let router = Namespace::new(tools, dir, "router");
        // What is not forwarded is dropped in silence, as firewalls do.
        router.script(&format!(
            "ip link add uplink type veth peer name downlink netns {host}
             ip addr add 10.77.0.2/24 dev uplink
             ip link set uplink up
             echo 1 > /proc/sys/net/ipv4/ip_forward
             iptables --wait -P FORWARD DROP
             iptables --wait -A FORWARD -i uplink -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
             iptables --wait -A FORWARD -o uplink -j ACCEPT
             iptables --wait -t nat -A POSTROUTING -o uplink -j MASQUERADE",
            host = host.id(),
        ));
        host.script(&format!("ip addr add {HOST}/24 dev downlink && ip link set downlink up"));
        let mut nat = Self { host, router, runners: Vec::new() };
        for number in 0..runners {
            let runner = Namespace::new(tools, dir, &format!("runner-{number}"));
            let (gateway, address) = (link_address(number, 1), link_address(number, 2));
            nat.router.script(&format!(
                "ip link add runner{number} type veth peer name eth0 netns {}
                 ip addr add {gateway}/30 dev runner{number}
                 ip link set runner{number} up",
                runner.id(),
            ));
            runner.script(&format!(
                "ip addr add {address}/30 dev eth0
                 ip link set eth0 up
                 ip route add default via {gateway}"
            ));
            nat.runners.push(runner);
        }
        nat
    }

    pub(crate) fn host(&self) -> &Rc<Namespace> {
        &self.host
    }

    pub(crate) fn router(&self) -> &Rc<Namespace> {
        &self.router
    }

    pub(crate) fn runner(&self, number: u8) -> &Rc<Namespace> {
        &self.runners[usize::from(number)]
    }

    /// From now on every packet from and to the runner is dropped, those of open connections too.
    pub(crate) fn cut(&self, runner: u8) {
        runner_rules(&self.router, "-I", runner);
    }

    /// Takes a [`Nat::cut`] back.
    pub(crate) fn heal(&self, runner: u8) {
        runner_rules(&self.router, "-D", runner);
    }

    /// As [`Nat::cut`] for all runners at once: the host is gone for everybody.
    pub(crate) fn cut_host(&self) {
        self.router.script(
            "iptables --wait -I FORWARD -o uplink -j DROP
             iptables --wait -I FORWARD -i uplink -j DROP",
        );
    }

    /// Takes a [`Nat::cut_host`] back.
    pub(crate) fn heal_host(&self) {
        self.router.script(
            "iptables --wait -D FORWARD -o uplink -j DROP
             iptables --wait -D FORWARD -i uplink -j DROP",
        );
    }
}

/// Adds or removes the rules at `router` that drop every packet from and to the runner.
pub(crate) fn runner_rules(router: &Namespace, change: &str, runner: u8) {
    router.script(&format!(
        "iptables --wait {change} FORWARD -i runner{runner} -j DROP
         iptables --wait {change} FORWARD -o runner{runner} -j DROP"
    ));
}

/// An address of the network of four that the link to a runner has.
fn link_address(runner: u8, host: u8) -> String {
    format!("192.168.77.{}", runner * 4 + host)
}
