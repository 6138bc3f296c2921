//! The settings of the peers tier: when they count, and what does not go together.

use super::error::{ConfigError, cargo_line, place};
use super::name::Name;
use super::role::NodeRole;
use super::source::Sources;
use super::value::{Origin, Raw};
use super::values::Values;

/// The port of an anchor that names none.
const ANCHOR_PORT: u16 = 9100;

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
