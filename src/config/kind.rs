//! The kinds of values that settings take: how a value is parsed, shown, given in code and
//! described.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{self, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::backends::{BackendList, BackendName};
use super::env::Env;
use super::error::{ConfigError, redacted, shortened};
use super::peers::{NodeRole, check};
use super::settings::{self, Name};
use super::size;
use super::value::{Given, Origin, Raw};

/// A kind of value, for those who do not need the value's type.
pub(super) trait AnyKind: Sync {
    /// What is accepted, as the remedy of a value that is of no use. `default` is the setting's.
    fn accepted(&self, default: Option<&str>) -> String;
    /// The kind in a few words, with its bounds, as the reference shows it.
    fn described(&self) -> String;

    /// Whether its value must never be shown.
    fn is_secret(&self) -> bool {
        false
    }

    /// Whether the file may give a number.
    fn takes_number(&self) -> bool {
        false
    }

    /// Whether the file may give `true` or `false`.
    fn takes_truth(&self) -> bool {
        false
    }

    /// Whether the file may give a list.
    fn takes_list(&self) -> bool {
        false
    }

    /// The setting whose value is in the file that this one names.
    fn file_of(&self) -> Option<Name> {
        None
    }
}

/// A kind of value.
pub(super) trait Kind: AnyKind {
    type Value: Clone + Eq + fmt::Debug;

    /// The value.
    fn parse(&self, raw: &Raw, env: &Env<'_>) -> Result<Self::Value, ConfigError>;

    /// The value as the setting takes it; `None` for one that stands for nothing.
    fn show(&self, value: &Self::Value) -> Option<String>;

    /// Whether a blank value in code stands for a setting that is not made.
    fn blank_is_unset(&self) -> bool {
        true
    }
}

fn refused<T>(raw: &Raw, problem: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::of(raw, problem, settings::accepted(raw.name)))
}

fn texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Given {
    Given::List(texts.into_iter().map(Into::into).collect())
}

/// The list of tiers.
pub(super) struct Backends;

impl Backends {
    pub(super) fn given(backends: impl IntoIterator<Item = BackendName>) -> Given {
        let names: Vec<_> = backends.into_iter().map(|name| name.as_str().to_owned()).collect();
        if names.is_empty() { Given::Text("none".to_owned()) } else { Given::List(names) }
    }
}

impl AnyKind for Backends {
    fn accepted(&self, _: Option<&str>) -> String {
        format!("accepted is {}", settings::accepted_backends())
    }

    fn described(&self) -> String {
        "list of backends, `auto` or `none`".to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for Backends {
    type Value = BackendList;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<BackendList, ConfigError> {
        super::backends::read_backends(raw)
    }

    fn show(&self, list: &BackendList) -> Option<String> {
        Some(list.to_string())
    }
}

/// A path. `~/` at its beginning is the home directory; in a file it must not be relative.
pub(super) struct Path;

impl Path {
    pub(super) fn given(path: impl Into<PathBuf>) -> Given {
        Given::Path(path.into())
    }
}

impl AnyKind for Path {
    fn accepted(&self, _: Option<&str>) -> String {
        "give a path as text".to_owned()
    }

    fn described(&self) -> String {
        "path; `~/` is the home directory".to_owned()
    }
}

impl Kind for Path {
    type Value = PathBuf;

    fn parse(&self, raw: &Raw, env: &Env<'_>) -> Result<PathBuf, ConfigError> {
        let given = match &raw.given {
            Given::Path(path) => return Ok(path.clone()),
            other => PathBuf::from(other.text().trim()),
        };
        let path = env.expand(&given);
        if path.starts_with("~") {
            return Err(ConfigError::of(
                raw,
                "the path begins with ~ and HOME is not set",
                "set HOME, or give an absolute path",
            ));
        }
        if given.as_os_str().as_encoded_bytes().starts_with(b"~") && path == given {
            return Err(ConfigError::of(
                raw,
                "the home directory of another user is not looked up",
                "give an absolute path, or one that begins with ~/",
            ));
        }
        // The variable is relative to where the process is started. In a file nobody could tell.
        if matches!(raw.origin, Origin::File { .. }) && !path.is_absolute() {
            return Err(ConfigError::of(
                raw,
                "a path in a file must not depend on where the process is started",
                "give an absolute path, or one that begins with ~/",
            ));
        }
        Ok(path)
    }

    fn show(&self, path: &PathBuf) -> Option<String> {
        Some(path.display().to_string())
    }
}

/// A path to a file that holds the value of another setting.
pub(super) struct FileOf(pub(super) Name);

impl FileOf {
    pub(super) fn given(path: impl Into<PathBuf>) -> Given {
        Given::Path(path.into())
    }
}

impl AnyKind for FileOf {
    fn accepted(&self, _: Option<&str>) -> String {
        format!("give the path of a file that holds nothing but {}", self.0.variables()[0])
    }

    fn described(&self) -> String {
        "path of a file; `~/` is the home directory".to_owned()
    }

    fn file_of(&self) -> Option<Name> {
        Some(self.0)
    }
}

impl Kind for FileOf {
    type Value = PathBuf;

    fn parse(&self, raw: &Raw, env: &Env<'_>) -> Result<PathBuf, ConfigError> {
        Path.parse(raw, env)
    }

    fn show(&self, path: &PathBuf) -> Option<String> {
        Path.show(path)
    }
}

/// A size in bytes.
pub(super) struct Bytes {
    pub(super) least: u64,
}

impl Bytes {
    pub(super) fn given(bytes: u64) -> Given {
        Given::Number(bytes.to_string())
    }
}

impl AnyKind for Bytes {
    fn accepted(&self, default: Option<&str>) -> String {
        settings::accepted_bytes(default)
    }

    fn described(&self) -> String {
        format!("bytes, such as `64MiB`; at least {}", size::write(self.least))
    }

    fn takes_number(&self) -> bool {
        true
    }
}

impl Kind for Bytes {
    type Value = u64;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<u64, ConfigError> {
        match size::parse(&raw.given.text()) {
            None => refused(raw, "this is not a size"),
            Some(bytes) if bytes < self.least => {
                refused(raw, format!("this is too small, the least is {}", size::write(self.least)))
            }
            Some(bytes) => Ok(bytes),
        }
    }

    fn show(&self, bytes: &u64) -> Option<String> {
        Some(size::write(*bytes))
    }
}

/// A duration in whole seconds.
pub(super) struct Seconds {
    /// What it is, with its article.
    pub(super) what: &'static str,
    pub(super) least: u64,
    pub(super) most: u64,
}

impl Seconds {
    pub(super) fn given(duration: Duration) -> Given {
        Given::Number(duration.as_secs().to_string())
    }
}

impl AnyKind for Seconds {
    fn accepted(&self, _: Option<&str>) -> String {
        format!("give whole seconds from {} to {}", self.least, self.most)
    }

    fn described(&self) -> String {
        format!("whole seconds, {} to {}", self.least, self.most)
    }

    fn takes_number(&self) -> bool {
        true
    }
}

impl Kind for Seconds {
    type Value = Duration;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Duration, ConfigError> {
        match raw.given.text().trim().parse::<u64>() {
            Ok(seconds) if (self.least..=self.most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            _ => refused(raw, format!("this is not {}", self.what)),
        }
    }

    fn show(&self, duration: &Duration) -> Option<String> {
        Some(duration.as_secs().to_string())
    }
}

/// The longest deadline that a setting gives.
const LONGEST: Duration = Duration::from_secs(600);

/// A duration with a unit, from 1 ms to 10 min.
pub(super) struct Wait;

impl Wait {
    pub(super) fn given(duration: Duration) -> Given {
        Given::Text(wait_text(duration))
    }
}

const ACCEPTED_WAIT: &str = "give a time with its unit, from 1ms to 600s, such as 800ms or 2s";

impl AnyKind for Wait {
    fn accepted(&self, _: Option<&str>) -> String {
        ACCEPTED_WAIT.to_owned()
    }

    fn described(&self) -> String {
        "time with a unit, such as `800ms` or `2s`; 1ms to 600s".to_owned()
    }
}

impl Kind for Wait {
    type Value = Duration;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Duration, ConfigError> {
        wait(&raw.given.text()).map_or_else(|| refused(raw, "this is not a time"), Ok)
    }

    fn show(&self, duration: &Duration) -> Option<String> {
        Some(wait_text(*duration))
    }
}

fn wait(text: &str) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let duration = match text[digits..].trim() {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" | "min" => Duration::from_secs(number.checked_mul(60)?),
        _ => return None,
    };
    (Duration::from_millis(1)..=LONGEST).contains(&duration).then_some(duration)
}

fn wait_text(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis % 1000 == 0 => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

/// Deadlines: one for every tier, or one for each that is named, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deadlines {
    pub(super) every: Option<Duration>,
    pub(super) of: Vec<(BackendName, Duration)>,
}

impl Deadlines {
    /// The deadline of one tier, if there is one for it.
    pub(super) fn of(&self, name: BackendName) -> Option<Duration> {
        let own = self.of.iter().find(|(named, _)| *named == name).map(|(_, wait)| *wait);
        own.or(self.every)
    }
}

/// Deadlines by tier.
pub(super) struct Waits;

impl Waits {
    pub(super) fn given(deadlines: impl Into<String>) -> Given {
        Given::Text(deadlines.into())
    }
}

impl AnyKind for Waits {
    fn accepted(&self, _: Option<&str>) -> String {
        "give one time for all tiers, such as 2s, or times by tier, such as s3=2s,libp2p=300ms, each from 1ms to 600s"
            .to_owned()
    }

    fn described(&self) -> String {
        "time with a unit, such as `2s`, for all tiers; or by tier, `s3=2s,libp2p=300ms`; 1ms to 600s"
            .to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for Waits {
    type Value = Deadlines;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Deadlines, ConfigError> {
        let mut deadlines = Deadlines::default();
        for part in raw.given.parts() {
            let (name, text) = match part.split_once('=') {
                Some((name, text)) => (Some(name.trim()), text),
                None => (None, part.as_str()),
            };
            let Some(wait) = wait(text) else {
                return refused(raw, format!("`{}` is not a time", shortened(&redacted(&part))));
            };
            let Some(name) = name else {
                if deadlines.every.replace(wait).is_some() {
                    return refused(raw, "there are two times for all tiers");
                }
                continue;
            };
            let Ok(backend) = name.to_ascii_lowercase().parse::<BackendName>() else {
                return refused(raw, format!("there is no backend `{}`", shortened(&redacted(name))));
            };
            if deadlines.of.iter().any(|(named, _)| *named == backend) {
                return refused(raw, format!("there are two times for `{backend}`"));
            }
            deadlines.of.push((backend, wait));
        }
        Ok(deadlines)
    }

    fn show(&self, deadlines: &Deadlines) -> Option<String> {
        let of = deadlines.of.iter().map(|(name, wait)| format!("{name}={}", wait_text(*wait)));
        let all: Vec<_> = deadlines.every.map(wait_text).into_iter().chain(of).collect();
        Some(all.join(",")).filter(|text| !text.is_empty())
    }
}

/// A text.
pub(super) struct Text {
    /// What it is, with its article.
    pub(super) what: &'static str,
    /// The most bytes that it has.
    pub(super) most: usize,
}

impl Text {
    pub(super) fn given(text: impl Into<String>) -> Given {
        Given::Text(text.into())
    }
}

impl AnyKind for Text {
    fn accepted(&self, _: Option<&str>) -> String {
        format!("give {}", self.what)
    }

    fn described(&self) -> String {
        format!("text, at most {} bytes", self.most)
    }
}

impl Kind for Text {
    type Value = String;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<String, ConfigError> {
        let text = raw.given.text().trim().to_owned();
        if text.len() > self.most {
            let problem = format!("it has {} bytes, the most is {}", text.len(), self.most);
            return Err(ConfigError::of(raw, problem, "choose a shorter one"));
        }
        Ok(text)
    }

    fn show(&self, text: &String) -> Option<String> {
        Some(redacted(text)).filter(|text| !text.is_empty())
    }
}

/// A URL.
pub(super) struct Url {
    /// The schemes that are accepted, without `://`.
    pub(super) schemes: &'static [&'static str],
    pub(super) example: &'static str,
    /// Whether it may hold a user and a password. They are never shown.
    pub(super) with_user: bool,
}

impl Url {
    pub(super) fn given(url: impl Into<String>) -> Given {
        Given::Text(url.into())
    }
}

impl AnyKind for Url {
    fn accepted(&self, _: Option<&str>) -> String {
        format!("give a URL such as {}", self.example)
    }

    fn described(&self) -> String {
        let schemes: Vec<_> = self.schemes.iter().map(|scheme| format!("`{scheme}://`")).collect();
        format!("URL, {}", schemes.join(" or "))
    }
}

impl Kind for Url {
    type Value = String;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<String, ConfigError> {
        let text = raw.given.text().trim().to_owned();
        let Some((scheme, rest)) = text.split_once("://") else { return refused(raw, "this is not a URL") };
        if !self.schemes.iter().any(|accepted| scheme.eq_ignore_ascii_case(accepted)) {
            let schemes = self.schemes.join(", ");
            return refused(raw, format!("the URL begins with another scheme than {schemes}"));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let has_host = scheme.eq_ignore_ascii_case("unix") || !authority.trim_matches(['@', ':']).is_empty();
        if !has_host || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return refused(raw, "this is not a URL");
        }
        if !self.with_user && authority.contains('@') {
            return refused(raw, "the URL holds a user or a password, and this setting is shown");
        }
        Ok(text)
    }

    fn show(&self, url: &String) -> Option<String> {
        // The query of a socket's URL may hold a password.
        let shown = match url.split_once('?') {
            Some((start, _)) if self.with_user => format!("{}?…", redacted(start)),
            _ => redacted(url),
        };
        Some(shown).filter(|url| !url.is_empty())
    }
}

/// A secret's text: wiped when dropped where this build can seal, never shown.
#[derive(Clone)]
pub(super) struct SecretText(Arc<Wiped>);

#[cfg(feature = "seal")]
type Wiped = zeroize::Zeroizing<String>;
#[cfg(not(feature = "seal"))]
type Wiped = String;

impl SecretText {
    fn new(text: &str) -> Self {
        Self(Arc::new(Wiped::from(text.trim().to_owned())))
    }

    /// The text itself. Whoever takes it must not show it.
    #[cfg_attr(not(feature = "seal"), allow(dead_code, reason = "without sealing a secret is a mistake"))]
    pub(super) fn expose(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

/// By digest, so that the time it takes tells nothing about the text.
impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(other.0.as_bytes())
    }
}

impl Eq for SecretText {}

/// A secret.
pub(super) struct Secret {
    pub(super) accepted: &'static str,
}

impl Secret {
    pub(super) fn given(secret: impl Into<String>) -> Given {
        Given::Text(secret.into())
    }
}

impl AnyKind for Secret {
    fn accepted(&self, _: Option<&str>) -> String {
        self.accepted.to_owned()
    }

    fn described(&self) -> String {
        "secret; never shown".to_owned()
    }

    fn is_secret(&self) -> bool {
        true
    }
}

impl Kind for Secret {
    type Value = SecretText;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<SecretText, ConfigError> {
        Ok(SecretText::new(&raw.given.text()))
    }

    fn show(&self, _: &SecretText) -> Option<String> {
        Some("set".to_owned())
    }

    fn blank_is_unset(&self) -> bool {
        false
    }
}

/// Secrets.
pub(super) struct Secrets {
    pub(super) most: usize,
}

impl Secrets {
    pub(super) fn given<S: Into<String>>(secrets: impl IntoIterator<Item = S>) -> Given {
        texts(secrets)
    }
}

impl AnyKind for Secrets {
    fn accepted(&self, _: Option<&str>) -> String {
        "give the former secrets as a list of texts, or one text with commas".to_owned()
    }

    fn described(&self) -> String {
        format!("list of at most {} secrets; never shown", self.most)
    }

    fn is_secret(&self) -> bool {
        true
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for Secrets {
    type Value = Vec<SecretText>;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Vec<SecretText>, ConfigError> {
        let secrets: Vec<_> = raw.given.parts().iter().map(|text| SecretText::new(text)).collect();
        if secrets.len() > self.most {
            return Err(ConfigError::of(
                raw,
                format!("there are {} former secrets, the most is {}", secrets.len(), self.most),
                "leave out the oldest: entries live for 30 days at most",
            ));
        }
        Ok(secrets)
    }

    fn show(&self, secrets: &Vec<SecretText>) -> Option<String> {
        (!secrets.is_empty()).then(|| "set".to_owned())
    }
}

/// `true` or `false`.
pub(super) struct Switch;

impl Switch {
    pub(super) fn given(on: bool) -> Given {
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
            _ => refused(raw, "this is neither true nor false"),
        }
    }

    fn show(&self, on: &bool) -> Option<String> {
        Some(on.to_string())
    }
}

/// A TCP port.
pub(super) struct Port;

impl Port {
    pub(super) fn given(port: u16) -> Given {
        Given::Number(port.to_string())
    }
}

impl AnyKind for Port {
    fn accepted(&self, _: Option<&str>) -> String {
        "give a port from 1 to 65535, or 0 for any that is free".to_owned()
    }

    fn described(&self) -> String {
        "port, 1 to 65535; 0 for any that is free".to_owned()
    }

    fn takes_number(&self) -> bool {
        true
    }
}

impl Kind for Port {
    type Value = u16;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<u16, ConfigError> {
        raw.given.text().trim().parse().or_else(|_| refused(raw, "this is not a port"))
    }

    fn show(&self, port: &u16) -> Option<String> {
        Some(port.to_string())
    }
}

/// An IP address of this machine.
pub(super) struct Ip;

impl Ip {
    pub(super) fn given(address: IpAddr) -> Given {
        Given::Text(address.to_string())
    }
}

impl AnyKind for Ip {
    fn accepted(&self, _: Option<&str>) -> String {
        "give an address of this machine, such as 10.0.0.5 or fd00::5".to_owned()
    }

    fn described(&self) -> String {
        "IP address".to_owned()
    }
}

impl Kind for Ip {
    type Value = IpAddr;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<IpAddr, ConfigError> {
        raw.given.text().trim().parse().or_else(|_| refused(raw, "this is not an IP address"))
    }

    fn show(&self, address: &IpAddr) -> Option<String> {
        Some(address.to_string())
    }
}

/// IP addresses with ports.
pub(super) struct Sockets;

impl Sockets {
    pub(super) fn given(addresses: impl IntoIterator<Item = SocketAddr>) -> Given {
        texts(addresses.into_iter().map(|address| address.to_string()))
    }
}

impl AnyKind for Sockets {
    fn accepted(&self, _: Option<&str>) -> String {
        "give addresses with their port, such as 127.0.0.1:9180 or [::1]:9180".to_owned()
    }

    fn described(&self) -> String {
        "list of IP addresses with a port".to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for Sockets {
    type Value = Vec<SocketAddr>;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Vec<SocketAddr>, ConfigError> {
        let parts = raw.given.parts();
        let parsed = parts.iter().map(|part| {
            let shown = || format!("`{}` is not an address with its port", shortened(&redacted(part)));
            part.parse().or_else(|_| refused(raw, shown()))
        });
        parsed.collect()
    }

    fn show(&self, addresses: &Vec<SocketAddr>) -> Option<String> {
        joined(addresses)
    }
}

fn joined<T: ToString>(values: &[T]) -> Option<String> {
    let list: Vec<_> = values.iter().map(ToString::to_string).collect();
    Some(list.join(",")).filter(|list| !list.is_empty())
}

/// Addresses of peers.
pub(super) struct Addresses;

impl Addresses {
    pub(super) fn given<S: Into<String>>(addresses: impl IntoIterator<Item = S>) -> Given {
        texts(addresses)
    }
}

impl AnyKind for Addresses {
    fn accepted(&self, _: Option<&str>) -> String {
        "give addresses such as /ip4/172.17.0.1/tcp/9100 or /dns4/mcp-server/tcp/9100".to_owned()
    }

    fn described(&self) -> String {
        "list of addresses, such as `/ip4/172.17.0.1/tcp/9100` or `/dns4/mcp-server/tcp/9100`".to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for Addresses {
    type Value = Vec<String>;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Vec<String>, ConfigError> {
        checked(raw, check::address)
    }

    fn show(&self, addresses: &Vec<String>) -> Option<String> {
        joined(addresses)
    }
}

/// Ids of peers.
pub(super) struct PeerIds;

impl PeerIds {
    pub(super) fn given<S: Into<String>>(ids: impl IntoIterator<Item = S>) -> Given {
        texts(ids)
    }
}

impl AnyKind for PeerIds {
    fn accepted(&self, _: Option<&str>) -> String {
        "give peer ids, which begin with 12D3Koo".to_owned()
    }

    fn described(&self) -> String {
        "list of peer ids".to_owned()
    }

    fn takes_list(&self) -> bool {
        true
    }
}

impl Kind for PeerIds {
    type Value = Vec<String>;

    fn parse(&self, raw: &Raw, _: &Env<'_>) -> Result<Vec<String>, ConfigError> {
        checked(raw, check::peer)
    }

    fn show(&self, ids: &Vec<String>) -> Option<String> {
        joined(ids)
    }
}

/// The texts of a list. Blank ones are left out, as a workflow makes them of what does not exist;
/// every other that is of no use is named.
fn checked(raw: &Raw, check: fn(&str) -> Result<(), check::Wrong>) -> Result<Vec<String>, ConfigError> {
    let texts: Vec<_> = raw.given.parts().into_iter().filter(|text| !text.is_empty()).collect();
    let wrong: Vec<_> =
        texts.iter().filter_map(|text| check(text).err().map(|wrong| (text, wrong))).collect();
    let Some((_, check::Wrong { remedy, .. })) = wrong.first() else { return Ok(texts) };
    let each =
        wrong.iter().map(|(text, wrong)| format!("{:?} ({})", shortened(&redacted(text)), wrong.problem));
    let each: Vec<_> = each.collect();
    Err(ConfigError::of(raw, format!("not usable: {}", each.join(", ")), remedy))
}

/// What a node is for others.
pub(super) struct Role;

impl Role {
    pub(super) fn given(role: NodeRole) -> Given {
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
            _ => refused(raw, "there is no such role"),
        }
    }

    fn show(&self, role: &NodeRole) -> Option<String> {
        Some(role.to_string())
    }
}

/// How IPFS nodes share.
pub(super) struct NodeSync;

impl NodeSync {
    pub(super) fn given(on: bool) -> Given {
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
            _ => refused(raw, "nodes do not share like this"),
        }
    }

    fn show(&self, on: &bool) -> Option<String> {
        Some(Self::given(*on).text().into_owned())
    }
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &path::Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}
