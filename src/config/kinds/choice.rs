//! One of a few words.

use super::kind::{AnyKind, Kind, refused};
use crate::config::env::Env;
use crate::config::error::ConfigError;
use crate::config::role::NodeRole;
use crate::config::value::{Given, Raw};

/// `true` or `false`.
pub(in crate::config) struct Switch;

impl Switch {
    pub(in crate::config) fn given(on: bool) -> Given {
        Given::Text(on.to_string())
    }
}

impl AnyKind for Switch {
    fn accepted(&self, _: Option<&str>) -> String {
        "give true or false".to_owned()
    }

    fn described(&self) -> String {
        "`true` or `false`".to_owned()
    }

    fn takes_truth(&self) -> bool {
        true
    }
}

impl Kind for Switch {
    type Value = bool;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<bool, ConfigError> {
        match raw.given.text().trim().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => refused(self, raw, "this is neither true nor false"),
        }
    }

    fn show(&self, on: &bool) -> Option<String> {
        Some(on.to_string())
    }
}

/// What a node is for others.
pub(in crate::config) struct Role;

impl Role {
    pub(in crate::config) fn given(role: NodeRole) -> Given {
        Given::Text(role.to_string())
    }
}

impl AnyKind for Role {
    fn accepted(&self, _: Option<&str>) -> String {
        "give anchor, leaf or auto".to_owned()
    }

    fn described(&self) -> String {
        "`anchor`, `leaf` or `auto`".to_owned()
    }
}

impl Kind for Role {
    type Value = NodeRole;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<NodeRole, ConfigError> {
        match raw.given.text().trim().to_ascii_lowercase().as_str() {
            "anchor" => Ok(NodeRole::Anchor),
            "leaf" => Ok(NodeRole::Leaf),
            "auto" => Ok(NodeRole::Auto),
            _ => refused(self, raw, "there is no such role"),
        }
    }

    fn show(&self, role: &NodeRole) -> Option<String> {
        Some(role.to_string())
    }
}

/// How IPFS nodes share.
pub(in crate::config) struct NodeSync;

impl NodeSync {
    pub(in crate::config) fn given(on: bool) -> Given {
        Given::Text(if on { "pubsub" } else { "off" }.to_owned())
    }
}

impl AnyKind for NodeSync {
    fn accepted(&self, _: Option<&str>) -> String {
        "give pubsub or off".to_owned()
    }

    fn described(&self) -> String {
        "`pubsub` or `off`".to_owned()
    }
}

impl Kind for NodeSync {
    type Value = bool;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<bool, ConfigError> {
        match raw.given.text().trim().to_ascii_lowercase().as_str() {
            "pubsub" => Ok(true),
            "off" => Ok(false),
            _ => refused(self, raw, "nodes do not share like this"),
        }
    }

    fn show(&self, on: &bool) -> Option<String> {
        Some(Self::given(*on).text().into_owned())
    }
}
