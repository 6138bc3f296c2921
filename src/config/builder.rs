//! Settings given in code, above those of the environment and the file.
//!
//! The methods that give one setting each come from the table in `settings.rs`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::backend_name::{BackendList, BackendName};
use super::clock::ProcessClock;
use super::configuration::{COMMAND, Config};
use super::env::{self, Env, place_of};
use super::error::ConfigError;
use super::file::{Choice, File};
use super::kinds::{
    Addresses, Backends, Bytes, FileOf, Ip, NodeSync, Path, PeerIds, Port, Role, Seconds, Secret, Secrets,
    Sockets, Switch, Text, Url, Wait, Waits, Whole,
};
use super::name::Name;
use super::role::NodeRole;
use super::settings::settings;
use super::source::Sources;
use super::value::{Given, Origin, Set};
use super::values::Values;
use super::{backends, misspelt, peers, secret, untrusted};

/// The longest name of an application, in bytes.
const MAX_APPLICATION_BYTES: usize = 64;
/// The longest namespace, in bytes.
const MAX_NAMESPACE_BYTES: usize = 128;

/// Gives settings in code; what is not given comes from the environment, then the file, then
/// defaults.
///
/// `Debug` shows which settings are given, not their values.
///
/// ```
/// use peercache::config::ConfigBuilder;
///
/// let config = ConfigBuilder::new("my-app").memory_bytes(8 << 20).read_vars(|_| None)?;
/// assert_eq!(config.settings()?[3].to_string(), "memory_bytes = 8MiB (code)");
/// # Ok::<(), peercache::ConfigError>(())
/// ```
#[derive(Clone)]
#[must_use = "settings are made by `read_env` or `read_vars`"]
pub struct ConfigBuilder {
    application: String,
    file: Choice,
    given: BTreeMap<Name, Given>,
}

impl ConfigBuilder {
    /// No settings yet, for the program called `application`: 1 to 64 letters, digits, `-`, `_` and
    /// `.`.
    pub fn new(application: impl Into<String>) -> Self {
        Self { application: application.into(), file: Choice::default(), given: BTreeMap::new() }
    }

    /// Reads this file, whatever `CACHE_CONFIG` says.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Choice::Path(path.into());
        self
    }

    /// Takes this text for the file; errors call it `name`.
    pub fn file_text(mut self, name: impl Into<String>, toml: impl Into<String>) -> Self {
        self.file = Choice::Text(name.into(), toml.into());
        self
    }

    /// Reads no file.
    pub fn without_file(mut self) -> Self {
        self.file = Choice::None;
        self
    }

    /// The settings, with the environment of this process.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn read_env(self) -> Result<Config, ConfigError> {
        env::of_this_process(|env| self.read(env))
    }

    /// The settings, with `var` for the environment, by variable name. The variables also say which
    /// file is read.
    ///
    /// # Errors
    /// The first mistake found.
    pub fn read_vars(self, var: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        self.read(&Env::new(var))
    }

    fn read(&self, env: &Env<'_>) -> Result<Config, ConfigError> {
        self.check_application()?;
        let command = self.application == COMMAND;
        let file = File::find(&self.file, env)?;
        let sources = Sources { code: &self.given, env, file: &file, warnings: RefCell::default() };
        if let Some(warning) = &file.warning {
            sources.warn(warning.clone());
        }
        misspelt::warnings(&sources);
        let mut values = Values::read(&sources)?;
        peers::check(&values, &sources)?;
        let backends = backends::backends(&values, &sources, command)?;
        backends::warnings(&sources, command);
        peers::warnings(&sources, backends.value.contains(&BackendName::Libp2p));
        values.backend = Set { value: BackendList::These(backends.value), origin: backends.origin };
        if values.listen_port.origin == Origin::Default {
            values.listen_port.value = peers::usual_port(&values);
        }
        if values.dir.origin == Origin::Default {
            values.dir.value = self.usual_dir(env);
        }
        self.name_the_application(&mut values, &sources)?;
        let event = untrusted::event(env);
        if let (Origin::Default, Some(found)) = (&values.read_only.origin, &event) {
            values.read_only = Set { value: true, origin: found.origin.clone() };
        }
        let secrets = secret::Secrets::read(&values)?;
        Ok(Config {
            application: self.application.clone(),
            untrusted: event.is_some() && values.read_only.value,
            secrets,
            values,
            clock: ProcessClock::default(),
            one_shot: false,
            look_only: false,
            alone: false,
            warnings: sources.warnings.into_inner(),
            file: file.path,
        })
    }

    fn check_application(&self) -> Result<(), ConfigError> {
        let name = &self.application;
        let accepted = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if first && name.len() <= MAX_APPLICATION_BYTES && name.chars().all(accepted) {
            return Ok(());
        }
        Err(ConfigError::at(
            "CACHE_NAMESPACE",
            format!("application {:?}", super::error::shortened(name)),
            "this is not the name of an application",
            format!(
                "give 1 to {MAX_APPLICATION_BYTES} letters, digits, `-`, `_` and `.`, beginning with a letter or a \
                 digit, such as the name of your crate"
            ),
        ))
    }

    /// The directory at the usual place for caches: of this application alone.
    fn usual_dir(&self, env: &Env<'_>) -> Option<PathBuf> {
        let place = place_of("XDG_CACHE_HOME", ".cache", env)?;
        Some(match self.application == COMMAND {
            true => place.join(COMMAND),
            false => place.join(&self.application).join(COMMAND),
        })
    }

    /// Puts the application into the namespace: two programs never read each other's entries, also
    /// where one environment gives both a directory and a namespace.
    fn name_the_application(&self, values: &mut Values, sources: &Sources<'_>) -> Result<(), ConfigError> {
        if self.application == COMMAND {
            return Ok(());
        }
        let namespace = match &values.namespace.value {
            Some(given) => format!("{given}/{}", self.application),
            None => self.application.clone(),
        };
        if namespace.len() > MAX_NAMESPACE_BYTES
            && let Some(raw) = sources.given(Name::Namespace)
        {
            let problem = format!(
                "with the application's name it has {} bytes, the most is {MAX_NAMESPACE_BYTES}",
                namespace.len()
            );
            return Err(ConfigError::of(&raw, problem, "choose a shorter one"));
        }
        values.namespace.value = Some(namespace);
        Ok(())
    }

    fn with(mut self, name: Name, given: Given) -> Self {
        self.given.insert(name, given);
        self
    }
}

/// Makes a method for each setting.
macro_rules! methods {
    ($(
        $(#[doc = $help:literal])+
        $variant:ident $field:ident: $kind:ident $(= $default:literal)? {
            kind: $make:expr,
            variables: [$($variable:literal),+ $(,)?],
            group: $group:ident,
            unset: $unset:literal $(,)?
        }
    )+) => {
        impl ConfigBuilder {
            $(
                $(#[doc = $help])+
                pub fn $field(self, value: methods!(@code $kind)) -> Self {
                    self.with(Name::$variant, $kind::given(value))
                }
            )+
        }
    };

    // What code gives for each kind.
    (@code Backends) => { impl IntoIterator<Item = BackendName> };
    (@code Path) => { impl Into<PathBuf> };
    (@code FileOf) => { impl Into<PathBuf> };
    (@code Bytes) => { u64 };
    (@code Seconds) => { Duration };
    (@code Wait) => { Duration };
    (@code Waits) => { impl Into<String> };
    (@code Text) => { impl Into<String> };
    (@code Url) => { impl Into<String> };
    (@code Secret) => { impl Into<String> };
    (@code Secrets) => { impl IntoIterator<Item = impl Into<String>> };
    (@code Switch) => { bool };
    (@code NodeSync) => { bool };
    (@code Port) => { u16 };
    (@code Whole) => { u32 };
    (@code Ip) => { IpAddr };
    (@code Sockets) => { impl IntoIterator<Item = SocketAddr> };
    (@code Addresses) => { impl IntoIterator<Item = impl Into<String>> };
    (@code PeerIds) => { impl IntoIterator<Item = impl Into<String>> };
    (@code Role) => { NodeRole };
}

settings!(methods);

impl fmt::Debug for ConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.given.keys().map(|name| name.key()).collect();
        f.debug_struct("ConfigBuilder")
            .field("application", &self.application)
            .field("given", &names)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// The settings in the environment of this process, and in the file that it names, for the
    /// program called `application`: 1 to 64 letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    /// The first mistake found. A secret is looked at by [`Config::open`] and [`Config::settings`].
    pub fn from_env(application: impl Into<String>) -> Result<Self, ConfigError> {
        ConfigBuilder::new(application).read_env()
    }

    /// The settings that `var` gives, by variable name, and those of the file that it names.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn from_vars(
        application: impl Into<String>,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        ConfigBuilder::new(application).read_vars(var)
    }
}
