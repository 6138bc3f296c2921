//! Which backends the settings ask for.

use super::backend_name::{BACKENDS, Backend, BackendList, BackendName};
use super::error::{ConfigError, cargo_line, place};
use super::name::Name;
use super::peers;
use super::row::file_of;
use super::source::Sources;
use super::value::{Origin, Set};
use super::values::Values;

/// The tiers of these settings. `auto` has those whose settings are given: local ones need none.
///
/// In a library, a variable that other software reads too, such as `AWS_S3_BUCKET`, is no reason to
/// use the store that it names: it is the application's. There `CACHE_BACKEND` or a variable of
/// this cache asks for it. The `command` takes every variable.
pub(super) fn backends(
    values: &Values,
    sources: &Sources<'_>,
    command: bool,
) -> Result<Set<Vec<BackendName>>, ConfigError> {
    let raw = sources.get(Name::Backend)?;
    let names = match &values.backend.value {
        BackendList::These(names) => names.clone(),
        BackendList::Auto => {
            let mut names = BackendName::local();
            if BackendName::Libp2p.is_built() && peers::are_given(values) {
                names.push(BackendName::Libp2p);
            }
            let asked_for = |backend: &&Backend| {
                let needs = backend.needs.map(|(name, _)| name);
                backend.name.is_built() && needs.is_some_and(|name| is_ours(sources, name, command))
            };
            names.extend(BACKENDS.iter().filter(asked_for).map(|backend| backend.name));
            names.sort_by_key(|name| BACKENDS.iter().position(|backend| backend.name == *name));
            if BackendName::built().is_empty() {
                return Err(ConfigError::of_variable(
                    "CACHE_BACKEND",
                    "this build has no backend, every cargo feature of one is off",
                    format!(
                        "in Cargo.toml: {}, or set CACHE_BACKEND=none for a cache that stores nothing",
                        cargo_line(env!("CARGO_PKG_VERSION"), "memory")
                    ),
                ));
            }
            return Ok(Set { value: names, origin: values.backend.origin.clone() });
        }
    };
    let Some(raw) = raw else { return Ok(Set::default(names)) };
    if names.contains(&BackendName::Libp2p)
        && values.enable_p2p.value == Some(false)
        && let Some(switch) = sources.given(Name::EnableP2p)
    {
        return Err(ConfigError::of(
            &raw,
            format!("the list asks for `libp2p`, and {} switches it off", place(&switch).1),
            "leave `libp2p` out of the list, or set CACHE_ENABLE_P2P=true",
        ));
    }
    for name in &names {
        if let Some((setting, missing)) = name.row().needs
            && sources.given(setting).is_none()
            && file_of(setting).and_then(|file| sources.given(file)).is_none()
        {
            let (problem, remedy) = missing.split_once("; ").unwrap_or((missing, "name one"));
            return Err(ConfigError::of(
                &raw,
                format!("the list asks for `{name}`, and {problem}"),
                format!("{remedy}, or leave `{name}` out of the list"),
            ));
        }
    }
    Ok(Set { value: names, origin: raw.origin })
}

/// Whether the setting is given in a way that can only mean this cache.
fn is_ours(sources: &Sources<'_>, name: Name, command: bool) -> bool {
    let given = [Some(name), file_of(name)].into_iter().flatten().filter_map(|name| sources.given(name));
    given.filter(|raw| !raw.given.is_blank()).any(|raw| match raw.origin {
        Origin::Environment { variable } => command || variable.starts_with("CACHE_"),
        _ => true,
    })
}

/// Settings of backends that this build does not have. Silence would say that they work.
pub(super) fn warnings(sources: &Sources<'_>, command: bool) {
    for backend in BACKENDS.iter().filter(|backend| !backend.built) {
        let Some((name, _)) = backend.needs.filter(|(name, _)| is_ours(sources, *name, command)) else {
            continue;
        };
        let Some(raw) = sources.given(name) else { continue };
        let (called, feature) = (raw.called(), backend.names[0]);
        sources.warn(format!(
            "{called} is set, but this build has no `{feature}`, its cargo feature is off; in Cargo.toml: {}",
            cargo_line(env!("CARGO_PKG_VERSION"), feature)
        ));
    }
}
