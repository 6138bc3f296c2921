//! The settings of the peers tier: when they count, and what does not go together.

use std::fmt;

use super::error::{ConfigError, place};
use super::settings::{Name, Values, cargo_line};
use super::source::Sources;
use super::value::{Origin, Raw};

/// The port of an anchor that names none.
const ANCHOR_PORT: u16 = 9100;

/// What this process is for the others of its fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
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

/// Whether `auto` takes the peers.
pub(super) fn are_given(values: &Values) -> bool {
    let given = !values.bootstrap_peers.list().is_empty() || values.listen_port.value.is_some();
    values.enable_p2p.value.unwrap_or(given)
}

/// The port where none is given.
pub(super) fn usual_port(values: &Values) -> Option<u16> {
    (values.role.value == NodeRole::Anchor).then_some(ANCHOR_PORT)
}

/// Refuses settings that contradict each other.
pub(super) fn check(values: &Values, sources: &Sources<'_>) -> Result<(), ConfigError> {
    if let (Some(_), Some(_), Some(name), Some(file)) = (
        &values.node_name.value,
        &values.identity_file.value,
        sources.given(Name::NodeName),
        sources.given(Name::IdentityFile),
    ) {
        let problem = format!("a node has one identity, and {} gives it another", place(&file).1);
        return Err(ConfigError::of(&name, problem, "leave one of the two out"));
    }
    Ok(())
}

/// Settings of the peers that have no effect. Silence would say that they work.
pub(super) fn warnings(sources: &Sources<'_>, is_in_chain: bool) {
    let is_off = |raw: &Raw| {
        matches!(raw.name, Name::EnableP2p | Name::Mdns)
            && raw.given.text().trim().eq_ignore_ascii_case("false")
    };
    let switched_off = sources.given(Name::EnableP2p).is_some_and(|raw| is_off(&raw));
    if is_in_chain || switched_off {
        return;
    }
    let given = Name::of_peers().filter_map(|name| sources.given(name)).filter(|raw| !is_off(raw));
    let names: Vec<_> = given.filter(|raw| raw.origin != Origin::Default).map(|raw| raw.called()).collect();
    if names.is_empty() {
        return;
    }
    let (are, names) = (if names.len() == 1 { "is" } else { "are" }, names.join(", "));
    sources.warn(match cfg!(feature = "libp2p") {
        true => format!(
            "{names} {are} set, but this chain has no peers: set CACHE_ENABLE_P2P=true, and where CACHE_BACKEND is a \
             list, add `libp2p` to it"
        ),
        false => format!(
            "{names} {are} set, but this build has no peers, its cargo feature `libp2p` is off; in Cargo.toml: {}",
            cargo_line(env!("CARGO_PKG_VERSION"), "libp2p")
        ),
    });
}

/// Whether a text is what the peers' crate takes for one.
#[cfg(feature = "libp2p")]
pub(super) mod check {
    use peercache_api::Error;
    use peercache_libp2p::{PeerAddress, PeerName};

    /// What is wrong with one text, and what would be right.
    pub(in crate::config) struct Wrong {
        pub(in crate::config) problem: String,
        pub(in crate::config) remedy: String,
    }

    pub(in crate::config) fn address(text: &str) -> Result<(), Wrong> {
        text.parse::<PeerAddress>().map(drop).map_err(|error| wrong(&error))
    }

    pub(in crate::config) fn peer(text: &str) -> Result<(), Wrong> {
        text.parse::<PeerName>().map(drop).map_err(|error| wrong(&error))
    }

    fn wrong(error: &Error) -> Wrong {
        let remedy = error.help().unwrap_or("see docs/reference/settings.md").to_owned();
        Wrong { problem: error.message().to_owned(), remedy }
    }
}

/// Nothing: a build without peers does not know what an address is, and says that it uses none.
#[cfg(not(feature = "libp2p"))]
pub(super) mod check {
    pub(in crate::config) struct Wrong {
        pub(in crate::config) problem: String,
        pub(in crate::config) remedy: String,
    }

    pub(in crate::config) fn address(_: &str) -> Result<(), Wrong> {
        Ok(())
    }

    pub(in crate::config) fn peer(_: &str) -> Result<(), Wrong> {
        Ok(())
    }
}
