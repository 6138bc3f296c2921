//! `CACHE_SECRET` and `CACHE_SECRET_OLD`: what seals the disk tier.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use peercache_api::Error;
#[cfg(any(
    feature = "disk",
    feature = "libp2p",
    feature = "redis",
    feature = "ipfs",
    feature = "s3",
    feature = "storacha"
))]
use peercache_api::{CacheBackend, Clock};
#[cfg(feature = "disk")]
use peercache_api::{NodeId, VersionClock};
#[cfg(any(
    feature = "disk",
    feature = "libp2p",
    feature = "redis",
    feature = "ipfs",
    feature = "s3",
    feature = "storacha"
))]
use peercache_seal::Sealed;
use peercache_seal::{KeyId, Keyring, Secret};

use crate::cache::CacheBuilder;

use super::error::ConfigError;
use super::kinds::SecretText;
use super::name::Name;
use super::value::{Given, Origin, Raw, Set};
use super::values::Values;

/// The secrets as they were given, and what they turned out to be once somebody asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Secrets {
    current: Option<Set<SecretText>>,
    old: Option<Set<Vec<SecretText>>>,
    ring: Understood,
}

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
    pub(super) fn read(values: &Values) -> Result<Self, ConfigError> {
        let (current, old) = (&values.secret, &values.secret_old);
        let old = old.value.clone().map(|value| Set { value, origin: old.origin.clone() });
        let old = old.filter(|old| !old.value.is_empty());
        if let (None, Some(old)) = (&current.value, &old) {
            return Err(ConfigError::of(
                &unshown(Name::SecretOld, &old.origin),
                "there are former secrets, and no secret to write with",
                "give that one as CACHE_SECRET",
            ));
        }
        let current = current.value.clone().map(|value| Set { value, origin: current.origin.clone() });
        Ok(Self { current, old, ring: Understood::default() })
    }

    /// The secrets, if there are any. The first call takes a fraction of a second for each
    /// passphrase.
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
        let secret = parse(&current.value, Name::Secret, &current.origin)?;
        let mut ring = Ring { keyring: Keyring::new(secret.clone()), current: secret, old: Vec::new() };
        for text in self.old.iter().flat_map(|old| &old.value) {
            let origin = self.old.as_ref().map_or(&Origin::Default, |old| &old.origin);
            let old = parse(text, Name::SecretOld, origin)?;
            ring.old.push(old.id());
            let refuse = |error: Error| refused(Name::SecretOld, origin, &error);
            ring.keyring = ring.keyring.with_old(old).map_err(refuse)?;
        }
        Ok(Some(ring))
    }

    /// Both settings as they may be shown; `None` where there is none.
    pub(super) fn show(&self) -> Result<[Option<String>; 2], ConfigError> {
        let Some(ring) = self.ring()? else { return Ok([None, None]) };
        let rights = ring.current.rights();
        let old: Vec<_> = ring.old.iter().map(ToString::to_string).collect();
        Ok([
            Some(format!("set, key id {}, {rights}", ring.current.id())),
            self.old.as_ref().map(|_| format!("set, key id {}", old.join(", "))),
        ])
    }
}

impl Ring {
    /// Gives `builder` a journal in `dir` that is sealed with these secrets.
    pub(super) fn journal(&self, builder: CacheBuilder, dir: PathBuf) -> CacheBuilder {
        builder.sealed_journal(dir, &self.keyring)
    }
}

#[cfg(any(feature = "libp2p", feature = "redis", feature = "ipfs", feature = "s3", feature = "storacha"))]
impl Ring {
    /// Seals what leaves this machine.
    pub(super) fn seal_shared(
        &self,
        backend: impl CacheBackend + 'static,
        clock: Arc<dyn Clock>,
    ) -> Arc<dyn CacheBackend> {
        Arc::new(Sealed::builder(self.keyring.clone(), backend).clock(clock).build())
    }
}

#[cfg(all(feature = "libp2p", feature = "disk"))]
impl Ring {
    /// Whether one of these secrets sealed what a store holds.
    pub(super) fn has_sealed(&self, stored: &peercache_api::Entry) -> bool {
        self.keyring.has_sealed(stored)
    }
}

#[cfg(feature = "disk")]
impl Ring {
    /// Seals `disk`. Another secret in use in the same directory is told and no more: the entries
    /// of both lie there side by side, neither readable to the other. Who must `only_look` leaves
    /// no mark of its own.
    pub(super) async fn seal(
        &self,
        disk: peercache_local::Disk,
        namespace: &str,
        only_look: bool,
        clock: Arc<dyn Clock>,
    ) -> Arc<dyn CacheBackend> {
        let sealed = Sealed::builder(self.keyring.clone(), disk).clock(clock).build();
        if only_look {
            return Arc::new(sealed);
        }
        let versions = VersionClock::new(NodeId::random());
        let looked = sealed.verify_canary(namespace, &versions).await.map(drop);
        if let Err(error) = looked {
            tracing::warn!("{error}");
        }
        Arc::new(sealed)
    }
}

fn parse(text: &SecretText, name: Name, origin: &Origin) -> Result<Secret, ConfigError> {
    Secret::parse(text.expose()).map_err(|error| refused(name, origin, &error))
}

/// A secret that was given, without its text.
fn unshown(name: Name, origin: &Origin) -> Raw {
    Raw { name, given: Given::Text(String::new()), origin: origin.clone() }
}

/// Of a secret that is no good. The error of its crate does not repeat the text.
fn refused(name: Name, origin: &Origin, error: &Error) -> ConfigError {
    let remedy = error.help().unwrap_or("make a secret with `peercache keygen`").to_owned();
    ConfigError::of(&unshown(name, origin), error.message(), remedy).with_source(error.clone())
}

/// It follows from the texts.
impl PartialEq for Understood {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Understood {}
