//! The settings of the peers tier, as they were given: which there are, and what is wrong with them.

use std::fmt;
use std::path::PathBuf;

use super::error::{ConfigError, place, shortened};
use super::names::Name;
use super::source::{Given, Origin, Raw, Set, Sources};
use super::values::{accepted, cargo_line, path_in, peer_bytes, switch};

/// The port of an anchor that names none.
pub(super) const ANCHOR_PORT: u16 = 9100;
/// The longest name of a node, in bytes.
const MAX_NODE_NAME_BYTES: usize = 255;

/// What this process is for the others of its fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NodeRole {
    /// An anchor where a fixed port is listened on, else a leaf.
    #[default]
    Auto,
    /// Long-lived and dialable: it stores for others.
    Anchor,
    /// It only dials out, and stores nothing for others.
    Leaf,
}

impl NodeRole {
    /// The name, as the setting takes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Anchor => "anchor",
            Self::Leaf => "leaf",
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The settings of the peers tier. Addresses and ids have been looked at, and are kept as texts: a build
/// without peers has no types for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerSettings {
    pub(super) enabled: Set<Option<bool>>,
    pub(super) listen_port: Set<Option<u16>>,
    pub(super) bootstrap: Set<Vec<String>>,
    pub(super) role: Set<NodeRole>,
    pub(super) node_name: Set<Option<String>>,
    pub(super) identity_file: Set<Option<PathBuf>>,
    pub(super) announce: Set<Vec<String>>,
    pub(super) allowed: Set<Vec<String>>,
    pub(super) mdns: Set<bool>,
    pub(super) bytes: Set<u64>,
    pub(super) plaintext: Set<bool>,
}

impl PeerSettings {
    pub(super) fn read(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let role = role(sources)?;
        let truth = |name| {
            switch(sources, name)
                .map(|Set { value, origin }| Set { value: value.unwrap_or_default(), origin })
        };
        Ok(Self {
            enabled: switch(sources, Name::EnableP2p)?,
            listen_port: listen_port(sources, role.value)?,
            bootstrap: addresses(sources, Name::BootstrapPeers)?,
            role,
            node_name: node_name(sources)?,
            identity_file: identity_file(sources)?,
            announce: addresses(sources, Name::AnnounceAddrs)?,
            allowed: listed(sources, Name::AllowedPeers, check::peer)?,
            mdns: truth(Name::Mdns)?,
            bytes: peer_bytes(sources)?,
            plaintext: truth(Name::InsecurePlaintext)?,
        })
    }

    /// Whether `auto` takes the peers.
    pub(super) fn are_present(&self) -> bool {
        let given = !self.bootstrap.value.is_empty() || self.listen_port.origin != Origin::Default;
        self.enabled.value.unwrap_or(given)
    }
}

/// What was said about peers and has no effect: in silence it would be a lie.
pub(super) fn warnings(sources: &Sources<'_>, is_in_chain: bool) -> Vec<String> {
    let is_off = |raw: &Raw| {
        matches!(raw.name, Name::EnableP2p | Name::Mdns) && raw.given.text().eq_ignore_ascii_case("false")
    };
    let switched_off = sources.get(Name::EnableP2p).is_some_and(|raw| is_off(&raw));
    if is_in_chain || switched_off {
        return Vec::new();
    }
    let given = Name::OF_PEERS.into_iter().filter_map(|name| sources.get(name)).filter(|raw| !is_off(raw));
    let names: Vec<_> = given.map(|raw| raw.called()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let (are, names) = (if names.len() == 1 { "is" } else { "are" }, names.join(", "));
    vec![match cfg!(feature = "libp2p") {
        true => format!(
            "{names} {are} set, but this chain has no peers: set CACHE_ENABLE_P2P=true, and where CACHE_BACKEND is a \
             list, add `libp2p` to it"
        ),
        false => format!(
            "{names} {are} set, but this build has no peers, its cargo feature `libp2p` is off; in Cargo.toml: {}",
            cargo_line(env!("CARGO_PKG_VERSION"), "libp2p")
        ),
    }]
}

fn role(sources: &Sources<'_>) -> Result<Set<NodeRole>, ConfigError> {
    let Some(raw) = sources.get(Name::Role) else { return Ok(Set::default(NodeRole::Auto)) };
    let value = match raw.given.text().to_ascii_lowercase().as_str() {
        "anchor" => NodeRole::Anchor,
        "leaf" => NodeRole::Leaf,
        "auto" => NodeRole::Auto,
        _ => return Err(ConfigError::of(&raw, "there is no such role", accepted(Name::Role))),
    };
    Ok(Set { value, origin: raw.origin })
}

/// The port: as given, or an anchor's usual one.
fn listen_port(sources: &Sources<'_>, role: NodeRole) -> Result<Set<Option<u16>>, ConfigError> {
    let Some(raw) = sources.get(Name::ListenPort) else {
        return Ok(Set::default((role == NodeRole::Anchor).then_some(ANCHOR_PORT)));
    };
    match raw.given.text().parse() {
        Ok(port) => Ok(Set { value: Some(port), origin: raw.origin }),
        Err(_) => Err(ConfigError::of(&raw, "this is not a port", accepted(Name::ListenPort))),
    }
}

fn node_name(sources: &Sources<'_>) -> Result<Set<Option<String>>, ConfigError> {
    let Some(raw) = sources.get(Name::Node) else { return Ok(Set::default(None)) };
    let value = raw.given.text().trim().to_owned();
    if value.len() > MAX_NODE_NAME_BYTES {
        let problem = format!("it has {} bytes, the most is {MAX_NODE_NAME_BYTES}", value.len());
        return Err(ConfigError::of(&raw, problem, "choose a shorter name"));
    }
    if let Some(file) = sources.get(Name::IdentityFile) {
        let problem = format!("a node has one identity, and {} gives it another", place(&file).1);
        return Err(ConfigError::of(&raw, problem, "leave one of the two out"));
    }
    Ok(Set { value: Some(value).filter(|name| !name.is_empty()), origin: raw.origin })
}

fn identity_file(sources: &Sources<'_>) -> Result<Set<Option<PathBuf>>, ConfigError> {
    let Some(raw) = sources.get(Name::IdentityFile) else { return Ok(Set::default(None)) };
    Ok(Set { value: Some(path_in(&raw, sources)?), origin: raw.origin })
}

fn addresses(sources: &Sources<'_>, name: Name) -> Result<Set<Vec<String>>, ConfigError> {
    listed(sources, name, check::address)
}

/// The texts of a list. Blank ones are left out, as a workflow makes them of what does not exist; every
/// other that is no good is named.
fn listed(
    sources: &Sources<'_>,
    name: Name,
    check: fn(&str) -> Result<(), check::Wrong>,
) -> Result<Set<Vec<String>>, ConfigError> {
    let Some(raw) = sources.get(name) else { return Ok(Set::default(Vec::new())) };
    let texts: Vec<_> = match &raw.given {
        Given::Text(text) | Given::Number(text) => {
            text.split(',').map(|text| text.trim().to_owned()).collect()
        }
        Given::List(texts) => texts.iter().map(|text| text.trim().to_owned()).collect(),
    };
    let texts: Vec<_> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    let wrong: Vec<_> =
        texts.iter().filter_map(|text| check(text).err().map(|wrong| (text, wrong))).collect();
    let Some((_, check::Wrong { remedy, .. })) = wrong.first() else {
        return Ok(Set { value: texts, origin: raw.origin });
    };
    let each: Vec<_> =
        wrong.iter().map(|(text, wrong)| format!("{:?} ({})", shortened(text), wrong.problem)).collect();
    Err(ConfigError::of(&raw, format!("not usable: {}", each.join(", ")), remedy))
}

/// Whether a text is what the peers' crate takes for one.
#[cfg(feature = "libp2p")]
mod check {
    use peercache_api::Error;
    use peercache_libp2p::{PeerAddress, PeerName};

    /// What is wrong with one text, and what would be right.
    pub(super) struct Wrong {
        pub(super) problem: String,
        pub(super) remedy: String,
    }

    pub(super) fn address(text: &str) -> Result<(), Wrong> {
        text.parse::<PeerAddress>().map(drop).map_err(|error| wrong(&error))
    }

    pub(super) fn peer(text: &str) -> Result<(), Wrong> {
        text.parse::<PeerName>().map(drop).map_err(|error| wrong(&error))
    }

    fn wrong(error: &Error) -> Wrong {
        let remedy = error.help().unwrap_or("see docs/settings.md").to_owned();
        Wrong { problem: error.message().to_owned(), remedy }
    }
}

/// Nothing: a build without peers does not know what an address is, and says that it uses none.
#[cfg(not(feature = "libp2p"))]
mod check {
    pub(super) struct Wrong {
        pub(super) problem: String,
        pub(super) remedy: String,
    }

    pub(super) fn address(_: &str) -> Result<(), Wrong> {
        Ok(())
    }

    pub(super) fn peer(_: &str) -> Result<(), Wrong> {
        Ok(())
    }
}
