//! `CACHE_SECRET` and `CACHE_SECRET_OLD`: what seals the disk tier.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

#[cfg(any(feature = "disk", feature = "libp2p", feature = "s3"))]
use peercache_api::CacheBackend;
use peercache_api::Error;
#[cfg(feature = "disk")]
use peercache_api::{NodeId, VersionClock};
#[cfg(any(feature = "disk", feature = "libp2p", feature = "s3"))]
use peercache_seal::Sealed;
use peercache_seal::{KeyId, Keyring, MAX_OLD_SECRETS, Secret};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::cache::CacheBuilder;

use super::error::ConfigError;
use super::names::Name;
use super::source::{Given, Origin, Raw, Set, Sources};

/// The secrets as they were given, and what they turned out to be once somebody asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Secrets {
    current: Option<Set<Text>>,
    old: Option<Set<Vec<Text>>>,
    ring: Understood,
}

/// A secret's text: wiped when dropped, never shown.
#[derive(Clone)]
struct Text(Zeroizing<String>);

/// What the texts mean, found out once: a passphrase takes a fraction of a second.
#[derive(Clone, Debug, Default)]
struct Understood(Arc<OnceLock<Result<Option<Ring>, ConfigError>>>);

/// The secrets of a process.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) keyring: Keyring,
    current: Secret,
    old: Vec<KeyId>,
}

impl Secrets {
    pub(super) fn read(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let (current, old) = (sources.get(Name::Secret), sources.get(Name::SecretOld));
        let old = old.filter(|raw| !matches!(&raw.given, Given::List(texts) if texts.is_empty()));
        if let (None, Some(old)) = (&current, &old) {
            return Err(ConfigError::of(
                old,
                "there are former secrets, and no secret to write with",
                "give that one as CACHE_SECRET",
            ));
        }
        let old = old.map(|raw| {
            let texts: Vec<_> = match &raw.given {
                Given::Text(text) | Given::Number(text) => text.split(',').map(Text::new).collect(),
                Given::List(texts) => texts.iter().map(|text| Text::new(text)).collect(),
            };
            if texts.len() > MAX_OLD_SECRETS {
                return Err(ConfigError::of(
                    &raw,
                    format!("there are {} former secrets, the most is {MAX_OLD_SECRETS}", texts.len()),
                    "leave out the oldest: entries live for 30 days at most",
                ));
            }
            Ok(Set { value: texts, origin: raw.origin })
        });
        Ok(Self {
            current: current.map(|raw| Set { value: Text::new(&raw.given.text()), origin: raw.origin }),
            old: old.transpose()?,
            ring: Understood::default(),
        })
    }

    /// The secrets, if there are any. The first call takes a fraction of a second for each passphrase.
    pub(super) fn ring(&self) -> Result<Option<&Ring>, ConfigError> {
        let ring = self.ring.0.get_or_init(|| self.understand());
        ring.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// As [`Secrets::ring`], without holding up the runtime.
    pub(super) async fn ring_off_the_runtime(&self) -> Result<Option<Ring>, ConfigError> {
        if self.current.is_none() {
            return Ok(None);
        }
        let secrets = self.clone();
        let ring = tokio::task::spawn_blocking(move || secrets.ring().map(Option::<&Ring>::cloned));
        ring.await.unwrap_or_else(|_| {
            Err(ConfigError::of_variable(
                Name::Secret.variables()[0],
                "reading it was interrupted: the runtime is shutting down",
                "start again",
            ))
        })
    }

    fn understand(&self) -> Result<Option<Ring>, ConfigError> {
        let Some(current) = &self.current else { return Ok(None) };
        let secret = current.value.parse(Name::Secret, &current.origin)?;
        let mut ring = Ring { keyring: Keyring::new(secret.clone()), current: secret, old: Vec::new() };
        for text in self.old.iter().flat_map(|old| &old.value) {
            let origin = self.old.as_ref().map_or(&Origin::Default, |old| &old.origin);
            let old = text.parse(Name::SecretOld, origin)?;
            ring.old.push(old.id());
            let refuse = |error: Error| refused(Name::SecretOld, origin, &error);
            ring.keyring = ring.keyring.with_old(old).map_err(refuse)?;
        }
        Ok(Some(ring))
    }

    /// Both settings as they may be shown.
    pub(super) fn show(&self) -> Result<[Set<String>; 2], ConfigError> {
        let unset = || Set::default("not set".to_owned());
        let Some(ring) = self.ring()? else { return Ok([unset(), unset()]) };
        let origin = |origin: Option<&Origin>| origin.cloned().unwrap_or(Origin::Default);
        let rights = ring.current.rights();
        let old: Vec<_> = ring.old.iter().map(ToString::to_string).collect();
        Ok([
            Set {
                value: format!("set, key id {}, {rights}", ring.current.id()),
                origin: origin(self.current.as_ref().map(|current| &current.origin)),
            },
            match &self.old {
                Some(Set { origin, .. }) => {
                    Set { value: format!("set, key id {}", old.join(", ")), origin: origin.clone() }
                }
                None => unset(),
            },
        ])
    }
}

impl Ring {
    /// Gives `builder` a journal in `dir` that is sealed with these secrets.
    pub(super) fn journal(&self, builder: CacheBuilder, dir: PathBuf) -> CacheBuilder {
        builder.sealed_journal(dir, &self.keyring)
    }
}

#[cfg(any(feature = "libp2p", feature = "s3"))]
impl Ring {
    /// Seals what leaves this machine.
    pub(super) fn seal_shared(&self, backend: impl CacheBackend + 'static) -> Arc<dyn CacheBackend> {
        Arc::new(Sealed::new(self.keyring.clone(), backend))
    }
}

#[cfg(feature = "disk")]
impl Ring {
    /// Seals `disk`. Another secret in use in the same directory is told and no more: the entries of
    /// both lie there side by side, neither readable to the other.
    pub(super) async fn seal(&self, disk: peercache_local::Disk, namespace: &str) -> Arc<dyn CacheBackend> {
        let sealed = Sealed::new(self.keyring.clone(), disk);
        let looked = match NodeId::random() {
            Ok(node) => sealed.verify_canary(namespace, &VersionClock::new(node)).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = looked {
            tracing::warn!("{error}");
        }
        Arc::new(sealed)
    }
}

impl Text {
    fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    fn parse(&self, name: Name, origin: &Origin) -> Result<Secret, ConfigError> {
        Secret::parse(&self.0).map_err(|error| refused(name, origin, &error))
    }
}

/// Of a secret that is no good. The error of its crate does not repeat the text.
fn refused(name: Name, origin: &Origin, error: &Error) -> ConfigError {
    let raw = Raw { name, given: Given::Text(String::new()), origin: origin.clone() };
    let remedy = error.help().unwrap_or("make a secret with `peercache keygen`").to_owned();
    ConfigError::of(&raw, error.message(), remedy).with_source(error.clone())
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

/// By digest, so that the time it takes tells nothing about the text.
impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        Sha256::digest(self.0.as_bytes()) == Sha256::digest(other.0.as_bytes())
    }
}

impl Eq for Text {}

/// It follows from the texts.
impl PartialEq for Understood {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Understood {}
