//! A node of a fleet as tests see it: what its steps answer, and how its network is cut.

use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::command::{LIMIT, eventually};
use crate::engine::Container;
use crate::fleet::PEER_PORT;
use crate::namespace::Namespace;
use crate::node::Node;
use crate::{lan, nat};

/// A node that serves.
#[derive(Debug)]
pub(crate) struct Member {
    node: Box<dyn Node>,
    url: String,
    wire: Wire,
}

/// How a node's network is cut and mended.
#[derive(Debug)]
pub(crate) enum Wire {
    /// By taking the container out of this network, and putting it back.
    Network(Container, String),
    /// By dropping what goes to and comes from the anchor's port, in this network: for everyone
    /// there.
    Port(Rc<Namespace>),
    /// By dropping everything from and to this runner, at this router.
    Runner(Rc<Namespace>, u8),
    /// By plugging the cable of this host out of this switch.
    Cable(Rc<Namespace>, u8),
}

/// What a `get` answered.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) code: Option<i32>,
    pub(crate) answer: Value,
}

impl Got {
    /// The value and the tier that it came from; nothing for a miss.
    pub(crate) fn hit(&self) -> Option<(&str, &str)> {
        let hit = self.answer["outcome"] == "hit";
        hit.then(|| (self.answer["value"].as_str().unwrap(), self.answer["tier"].as_str().unwrap()))
    }
}

impl Member {
    /// `node`, when its server answers.
    pub(crate) fn ready(node: Box<dyn Node>, url: String, wire: Wire) -> Self {
        let member = Self { node, url, wire };
        eventually(&format!("{} serves", member.name()), LIMIT, || {
            let log = member.node.logs();
            if log.contains("listening on") { Ok(()) } else { Err(log) }
        });
        member
    }

    pub(crate) fn name(&self) -> &str {
        self.node.name()
    }

    /// Ends the serving process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.node.kill();
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.node.step(&["put", key], value.as_bytes()).ok(&format!("put on {}", self.name()));
    }

    pub(crate) fn invalidate(&self, key: &str) {
        self.node.step(&["invalidate", key], b"").ok(&format!("invalidate on {}", self.name()));
    }

    pub(crate) fn get(&self, key: &str) -> Got {
        let output = self.node.step(&["--json", "get", key], b"");
        let answer = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("get on {}: {error}: {output:?}", self.name()));
        Got { code: output.code(), answer }
    }

    /// A command that asks the serving process, its answer as JSON.
    pub(crate) fn ask(&self, command: &str) -> Value {
        let output = self.node.step(&["--json", command, "--url", &self.url], b"").ok(command);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The address of a container.
    pub(crate) fn address(&self, network: &str) -> String {
        match &self.wire {
            Wire::Network(container, _) => container.address(network),
            wire => panic!("{} is no container: {wire:?}", self.name()),
        }
    }

    /// From now on no packet leaves or arrives; none is refused.
    pub(crate) fn unplug(&self) {
        self.wire.cut();
    }

    /// Takes an [`Member::unplug`] back.
    pub(crate) fn plug(&self) {
        self.wire.heal();
    }
}

impl Wire {
    /// From now on no packet passes; none is refused.
    pub(crate) fn cut(&self) {
        match self {
            Self::Network(container, network) => container.disconnect(network),
            Self::Port(host) => port_rules(host, "-I"),
            Self::Runner(router, number) => nat::runner_rules(router, "-I", *number),
            Self::Cable(switch, number) => lan::set_port(switch, *number, "down"),
        }
    }

    /// Takes a [`Wire::cut`] back.
    pub(crate) fn heal(&self) {
        match self {
            Self::Network(container, network) => container.connect(network, &[]),
            Self::Port(host) => port_rules(host, "-D"),
            Self::Runner(router, number) => nat::runner_rules(router, "-D", *number),
            Self::Cable(switch, number) => lan::set_port(switch, *number, "up"),
        }
    }
}

fn port_rules(host: &Namespace, change: &str) {
    host.script(&format!(
        "iptables --wait {change} INPUT -p tcp --dport {PEER_PORT} -j DROP
         iptables --wait {change} INPUT -p tcp --sport {PEER_PORT} -j DROP"
    ));
}

/// How long the network may take to find together again; the pauses between two dials are shorter.
pub(crate) const REJOIN: Duration = Duration::from_secs(15);
