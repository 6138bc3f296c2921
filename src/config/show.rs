//! Every setting as it counts, and where it came from.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::Config;
use super::error::ConfigError;
use super::names::Name;
use super::source::{Origin, Set};

/// A setting as it may be shown, and where its value came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// Its key in the file; `config` for the file itself.
    pub name: &'static str,
    /// The variable that sets it.
    pub variable: &'static str,
    /// Its value. Of a secret only whether it is set, its key id and what it allows.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.name, self.value, self.origin)
    }
}

impl Config {
    /// Every setting, the configuration file first, then in the order of the documentation.
    ///
    /// Blocks: to show the key id of a passphrase takes a fraction of a second, once.
    ///
    /// # Errors
    /// A secret that cannot be used.
    pub fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let named = |name: Name, value: String, origin: &Origin| Setting {
            name: name.key(),
            variable: name.variables()[0],
            value,
            origin: origin.clone(),
        };
        let file = Setting {
            name: "config",
            variable: "CACHE_CONFIG",
            value: self.file.value.clone().unwrap_or_else(|| "none".to_owned()),
            origin: self.file.origin.clone(),
        };
        let list: Vec<_> = self.backends.value.iter().map(|name| name.as_str()).collect();
        let list = if list.is_empty() { "none".to_owned() } else { list.join(",") };
        let dir = self.dir.value.as_deref().map(Path::display).map(|dir| dir.to_string());
        let [current, old] = self.secrets.show()?;
        let secret = |name, Set { value, origin }: Set<String>| named(name, value, &origin);
        Ok([
            file,
            named(Name::Backend, list, &self.backends.origin),
            named(Name::Dir, dir.unwrap_or_else(unset), &self.dir.origin),
            named(Name::MemoryBytes, bytes(self.memory_bytes.value), &self.memory_bytes.origin),
            named(Name::DiskBytes, bytes(self.disk_bytes.value), &self.disk_bytes.origin),
            named(Name::DefaultTtl, self.default_ttl.value.as_secs().to_string(), &self.default_ttl.origin),
            named(
                Name::Namespace,
                Some(self.namespace.value.clone()).filter(|name| !name.is_empty()).unwrap_or_else(unset),
                &self.namespace.origin,
            ),
            secret(Name::Secret, current),
            secret(Name::SecretOld, old),
            named(Name::ReadOnly, self.read_only.value.to_string(), &self.read_only.origin),
        ]
        .into_iter()
        .chain(self.peer_settings().map(|(name, value, origin)| named(name, value, origin)))
        .chain(self.s3.show().map(|(name, value, origin)| named(name, value.unwrap_or_else(unset), origin)))
        .collect())
    }

    fn peer_settings(&self) -> impl Iterator<Item = (Name, String, &Origin)> {
        let peers = &self.peers;
        let maybe = |value: Option<String>| value.unwrap_or_else(unset);
        let list = |values: &[String]| Some(values.join(",")).filter(|list| !list.is_empty());
        let file = peers.identity_file.value.as_deref().map(|path| path.display().to_string());
        [
            (Name::InsecurePlaintext, peers.plaintext.value.to_string(), &peers.plaintext.origin),
            (Name::EnableP2p, maybe(peers.enabled.value.map(|on| on.to_string())), &peers.enabled.origin),
            (
                Name::ListenPort,
                maybe(peers.listen_port.value.map(|port| port.to_string())),
                &peers.listen_port.origin,
            ),
            (Name::BootstrapPeers, maybe(list(&peers.bootstrap.value)), &peers.bootstrap.origin),
            (Name::Role, peers.role.value.to_string(), &peers.role.origin),
            (Name::Node, maybe(peers.node_name.value.clone()), &peers.node_name.origin),
            (Name::IdentityFile, maybe(file), &peers.identity_file.origin),
            (Name::AnnounceAddrs, maybe(list(&peers.announce.value)), &peers.announce.origin),
            (Name::AllowedPeers, maybe(list(&peers.allowed.value)), &peers.allowed.origin),
            (Name::Mdns, peers.mdns.value.to_string(), &peers.mdns.origin),
            (Name::PeerBytes, bytes(peers.bytes.value), &peers.bytes.origin),
        ]
        .into_iter()
    }
}

fn unset() -> String {
    "not set".to_owned()
}

/// A size as the setting takes it, with the largest unit that loses nothing.
fn bytes(count: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fitting = UNITS.into_iter().find(|(shift, _)| count != 0 && count.trailing_zeros() >= *shift);
    fitting.map_or_else(|| count.to_string(), |(shift, unit)| format!("{}{unit}", count >> shift))
}
