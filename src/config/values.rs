//! From what was given to values, setting by setting.

use std::path::{Path, PathBuf};
use std::time::Duration;

use peercache_api::MAX_LIFETIME;

use crate::size;

use super::env::Env;
use super::error::{ConfigError, on_one_line, place, shortened};
use super::names::{BackendName, Name};
use super::peers::PeerSettings;
use super::s3::S3Settings;
use super::source::{Origin, Raw, Set, Sources};

const MEMORY_BYTES: u64 = 64 << 20;
const MIN_MEMORY_BYTES: u64 = 1 << 20;
const DISK_BYTES: u64 = 1 << 30;
const MIN_DISK_BYTES: u64 = 16 << 20;
const PEER_BYTES: u64 = 256 << 20;
const MIN_PEER_BYTES: u64 = 16 << 20;
const DEFAULT_TTL: Duration = Duration::from_secs(300);
const MAX_NAMESPACE_BYTES: usize = 128;

/// What `name` takes, as the remedy of a value that is of no use.
pub(super) fn accepted(name: Name) -> String {
    match name {
        Name::Backend => format!("accepted is {}", accepted_backends()),
        Name::Dir => "give a path as text".to_owned(),
        Name::MemoryBytes => accepted_bytes(MEMORY_BYTES),
        Name::DiskBytes => accepted_bytes(DISK_BYTES),
        Name::DefaultTtl => format!("give whole seconds from 1 to {}", MAX_LIFETIME.as_secs()),
        Name::Namespace => "give a name as text".to_owned(),
        Name::Secret => "give the secret as text, as `peercache keygen` prints it".to_owned(),
        Name::ReadOnly | Name::InsecurePlaintext | Name::EnableP2p | Name::Mdns | Name::S3PathStyle => {
            "give true or false".to_owned()
        }
        Name::ListenPort => "give a port from 1 to 65535, or 0 for any that is free".to_owned(),
        Name::BootstrapPeers | Name::AnnounceAddrs => {
            "give addresses such as /ip4/172.17.0.1/tcp/9100 or /dns4/mcp-server/tcp/9100".to_owned()
        }
        Name::Role => "give anchor, leaf or auto".to_owned(),
        Name::Node => "give a name as text".to_owned(),
        Name::IdentityFile => "give a path as text".to_owned(),
        Name::AllowedPeers => "give peer ids, which begin with 12D3Koo".to_owned(),
        Name::PeerBytes => accepted_bytes(PEER_BYTES),
        Name::S3Bucket => "give the name of a bucket, without s3:// or a path".to_owned(),
        Name::S3Prefix => "give what objects' names begin with, such as ci".to_owned(),
        Name::S3Endpoint => "give a URL such as https://s3.example.net".to_owned(),
        Name::S3Region => "give a region such as eu-central-1".to_owned(),
        Name::SecretOld => "give the former secrets as a list of texts, or one text with commas".to_owned(),
    }
}

/// The tiers. `auto` has those whose settings are present: local ones need none.
pub(super) fn backends(
    sources: &Sources<'_>,
    peers: &PeerSettings,
    s3: &S3Settings,
) -> Result<Set<Vec<BackendName>>, ConfigError> {
    let mut auto = BackendName::local();
    if BackendName::Libp2p.is_built() && peers.are_present() {
        auto.push(BackendName::Libp2p);
    }
    if BackendName::S3.is_built() && s3.is_present() {
        auto.push(BackendName::S3);
    }
    let Some(raw) = sources.get(Name::Backend) else { return Ok(Set::default(auto)) };
    let value = read_backends(&raw, auto)?;
    if value.contains(&BackendName::Libp2p)
        && peers.enabled.value == Some(false)
        && let Some(switch) = sources.get(Name::EnableP2p)
    {
        return Err(ConfigError::of(
            &raw,
            format!("the list asks for `libp2p`, and {} switches it off", place(&switch).1),
            "leave `libp2p` out of the list, or set CACHE_ENABLE_P2P=true",
        ));
    }
    if value.contains(&BackendName::S3) && !s3.is_present() {
        return Err(ConfigError::of(
            &raw,
            "the list asks for `s3`, and no bucket is named",
            "set AWS_S3_BUCKET to the name of a bucket, or leave `s3` out of the list",
        ));
    }
    Ok(Set { value, origin: raw.origin })
}

fn read_backends(raw: &Raw, auto: Vec<BackendName>) -> Result<Vec<BackendName>, ConfigError> {
    let text = raw.given.text();
    let list: Vec<_> = text.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    match list.as_slice() {
        [one] if one == "none" => return Ok(Vec::new()),
        [one] if one == "auto" => return Ok(auto),
        _ => {}
    }
    let mut backends = Vec::new();
    for name in &list {
        if name == "auto" || name == "none" {
            return Err(ConfigError::of(
                raw,
                format!("`{name}` stands alone"),
                "name it without others, or list backends only",
            ));
        }
        let Ok(backend) = name.parse::<BackendName>() else {
            let problem = match name.is_empty() {
                true => "a name is missing before or after a comma".to_owned(),
                false => format!("there is no backend `{}`", on_one_line(&shortened(name))),
            };
            return Err(ConfigError::of(raw, problem, accepted(Name::Backend)));
        };
        if !backend.is_built() {
            return Err(not_built(raw, backend));
        }
        if backends.contains(&backend) {
            return Err(ConfigError::of(raw, format!("`{backend}` stands there twice"), "name it once"));
        }
        backends.push(backend);
    }
    if !backends.iter().any(|name| matches!(name, BackendName::Memory | BackendName::Disk)) {
        backends.splice(0..0, BackendName::local());
    }
    Ok(backends)
}

/// What `CACHE_BACKEND` takes in this build.
fn accepted_backends() -> String {
    let names: Vec<_> = BackendName::built().into_iter().map(BackendName::as_str).collect();
    format!("a comma-separated list of {}, or `auto`, or `none`", names.join(", "))
}

fn not_built(raw: &Raw, backend: BackendName) -> ConfigError {
    let version = env!("CARGO_PKG_VERSION");
    if backend.is_released() {
        return ConfigError::of(
            raw,
            format!("this build has no `{backend}`, its cargo feature is off"),
            format!("in Cargo.toml: {}", cargo_line(version, backend.as_str())),
        );
    }
    ConfigError::of(
        raw,
        format!("this build has no `{backend}`: peercache {version} does not ship that backend yet"),
        format!(
            "accepted is {}; with a release that ships it, in Cargo.toml: {}",
            accepted_backends(),
            cargo_line("THAT RELEASE", backend.as_str())
        ),
    )
}

/// The line of `Cargo.toml` that switches `feature` on.
pub(super) fn cargo_line(version: &str, feature: &str) -> String {
    format!("peercache = {{ version = \"{version}\", features = [\"{feature}\"] }}")
}

pub(super) fn memory_bytes(sources: &Sources<'_>) -> Result<Set<u64>, ConfigError> {
    bytes(sources, Name::MemoryBytes, MEMORY_BYTES, MIN_MEMORY_BYTES)
}

pub(super) fn disk_bytes(sources: &Sources<'_>) -> Result<Set<u64>, ConfigError> {
    bytes(sources, Name::DiskBytes, DISK_BYTES, MIN_DISK_BYTES)
}

/// What an anchor holds for itself and others.
pub(super) fn peer_bytes(sources: &Sources<'_>) -> Result<Set<u64>, ConfigError> {
    bytes(sources, Name::PeerBytes, PEER_BYTES, MIN_PEER_BYTES)
}

fn bytes(sources: &Sources<'_>, name: Name, default: u64, least: u64) -> Result<Set<u64>, ConfigError> {
    let Some(raw) = sources.get(name) else { return Ok(Set::default(default)) };
    match size::parse(&raw.given.text()) {
        None => Err(ConfigError::of(&raw, "this is not a size", accepted(name))),
        Some(bytes) if bytes < least => Err(ConfigError::of(
            &raw,
            format!("this is too small, the least is {}MiB", least >> 20),
            accepted(name),
        )),
        Some(value) => Ok(Set { value, origin: raw.origin }),
    }
}

fn accepted_bytes(default: u64) -> String {
    let example = match default {
        gib if gib >= 1 << 30 => format!("{}GiB", gib >> 30),
        mib => format!("{}MiB", mib >> 20),
    };
    format!("give a whole number of bytes, or one with a unit such as {example}")
}

pub(super) fn default_ttl(sources: &Sources<'_>) -> Result<Set<Duration>, ConfigError> {
    let Some(raw) = sources.get(Name::DefaultTtl) else { return Ok(Set::default(DEFAULT_TTL)) };
    match raw.given.text().parse::<u64>() {
        Ok(seconds) if (1..=MAX_LIFETIME.as_secs()).contains(&seconds) => {
            Ok(Set { value: Duration::from_secs(seconds), origin: raw.origin })
        }
        _ => Err(ConfigError::of(&raw, "this is not a time to live", accepted(Name::DefaultTtl))),
    }
}

pub(super) fn namespace(sources: &Sources<'_>) -> Result<Set<String>, ConfigError> {
    let Some(raw) = sources.get(Name::Namespace) else { return Ok(Set::default(String::new())) };
    let value = raw.given.text().trim().to_owned();
    if value.len() > MAX_NAMESPACE_BYTES {
        return Err(ConfigError::of(
            &raw,
            format!("it has {} bytes, the most is {MAX_NAMESPACE_BYTES}", value.len()),
            "choose a shorter name",
        ));
    }
    Ok(Set { value, origin: raw.origin })
}

/// The directory: from code, or as given, or the usual place for caches.
pub(super) fn dir(code: Option<&Path>, sources: &Sources<'_>) -> Result<Set<Option<PathBuf>>, ConfigError> {
    if let Some(dir) = code {
        return Ok(Set { value: Some(dir.to_owned()), origin: Origin::Code });
    }
    let Some(raw) = sources.get(Name::Dir) else {
        let usual = place_of("XDG_CACHE_HOME", ".cache", sources.env).map(|dir| dir.join("peercache"));
        return Ok(Set::default(usual));
    };
    Ok(Set { value: Some(path_in(&raw, sources)?), origin: raw.origin })
}

/// The path that was given.
pub(super) fn path_in(raw: &Raw, sources: &Sources<'_>) -> Result<PathBuf, ConfigError> {
    let text = raw.given.text();
    let mut path = PathBuf::from(text.trim());
    if matches!(raw.origin, Origin::File { .. }) {
        if let (Ok(rest), Some(home)) = (path.strip_prefix("~"), sources.env.one("HOME")) {
            path = Path::new(&home).join(rest);
        }
        // The variable is relative to where the process is started. In a file nobody could tell.
        if !path.is_absolute() {
            return Err(ConfigError::of(
                raw,
                "a path in a file must not depend on where the process is started",
                "give an absolute path, or one that begins with ~/ where HOME is set",
            ));
        }
    }
    Ok(path)
}

/// A truth value; unset where it was not given.
pub(super) fn switch(sources: &Sources<'_>, name: Name) -> Result<Set<Option<bool>>, ConfigError> {
    let Some(raw) = sources.get(name) else { return Ok(Set::default(None)) };
    Ok(Set { value: Some(truth(&raw)?), origin: raw.origin })
}

pub(super) fn truth(raw: &Raw) -> Result<bool, ConfigError> {
    match raw.given.text().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ConfigError::of(raw, "this is neither yes nor no", accepted(raw.name))),
    }
}

/// A base directory (XDG Base Directory Specification): from its variable, which must be absolute to
/// count, else in the home directory.
pub(super) fn place_of(variable: &'static str, in_home: &str, env: &Env<'_>) -> Option<PathBuf> {
    let home = || env.one("HOME").map(|home| Path::new(&home).join(in_home));
    env.one(variable).map(PathBuf::from).filter(|dir| dir.is_absolute()).or_else(home)
}
