//! A local network: hosts on one switch that hear each other's multicasts. Each is a network
//! namespace.

use std::path::Path;
use std::rc::Rc;

use crate::namespace::Namespace;
use crate::tools::Tools;

/// The switch and its hosts. All of it vanishes with this value.
#[derive(Debug)]
pub(crate) struct Lan {
    switch: Rc<Namespace>,
    hosts: Vec<Rc<Namespace>>,
}

impl Lan {
    /// `hosts` of them, at most 200, which have the addresses 10.78.0.1 and so on.
    pub(crate) fn new(tools: &Tools, dir: &Path, hosts: u8) -> Self {
        assert!(hosts <= 200, "they are all in one network of 254 addresses");
        let switch = Namespace::new(tools, dir, "switch");
        switch.script("ip link add switch type bridge && ip link set switch up");
        let mut lan = Self { switch, hosts: Vec::new() };
        for number in 0..hosts {
            let host = Namespace::new(tools, dir, &format!("host-{number}"));
            lan.switch.script(&format!(
                "ip link add port{number} type veth peer name eth0 netns {}
                 ip link set port{number} master switch
                 ip link set port{number} up",
                host.id(),
            ));
            host.script(&format!("ip addr add 10.78.0.{}/24 dev eth0 && ip link set eth0 up", number + 1));
            lan.hosts.push(host);
        }
        lan
    }

    pub(crate) fn switch(&self) -> &Rc<Namespace> {
        &self.switch
    }

    pub(crate) fn host(&self, number: u8) -> &Rc<Namespace> {
        &self.hosts[usize::from(number)]
    }
}

/// Plugs a host's cable out of `switch`, or in again: `down` or `up`.
pub(crate) fn set_port(switch: &Namespace, number: u8, state: &str) {
    switch.script(&format!("ip link set port{number} {state}"));
}
