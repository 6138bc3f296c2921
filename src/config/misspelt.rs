//! Variables that look like a misspelt setting: ignored in silence, they would seem to work.

use super::name::Name;
use super::source::Sources;
use super::spelling::nearest;

/// Names that other parts of this project read: of the file, and of what `peercache serve` takes
/// from the environment alone.
const OTHERS: [&str; 3] = ["CACHE_CONFIG", "CACHE_CLIENT_TOKEN", "CACHE_WEBHOOK_SECRET"];

/// A warning for each variable that is nearly the name of a setting, or one with `PEERCACHE_` for
/// `CACHE_`. Variables that merely begin with `CACHE_` are other programs'.
pub(super) fn warnings(sources: &Sources<'_>) {
    let known = || Name::ALL.iter().flat_map(|name| name.variables()).copied().chain(OTHERS);
    for name in &sources.env.names {
        if known().any(|known| known == name) {
            continue;
        }
        let meant = match name.strip_prefix("PEER") {
            Some(rest) if known().any(|known| known == rest) => Some(rest),
            _ if name.starts_with("CACHE_") || name.starts_with("CACHE") => nearest(name, known()),
            _ => None,
        };
        if let Some(meant) = meant {
            sources.warn(format!("{name} is no setting and has no effect; did you mean {meant}?"));
        }
    }
}
