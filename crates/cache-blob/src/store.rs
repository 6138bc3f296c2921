//! What a store of named byte strings offers: the trait that a backend author implements.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use peercache_api::{Error, MAX_VALUE_BYTES, Scope, Timestamp, Version, envelope};

/// A store of named byte strings: a bucket, a directory, a key-value server.
///
/// [`BlobBackend`](crate::BlobBackend) turns it into a
/// [`CacheBackend`](peercache_api::CacheBackend). The store moves bytes and checks conditions; it
/// does not look into the bytes, does not compare versions and does not expire anything.
///
/// # Rules for implementations
/// - A read returns one whole blob that was written under this name, or `None`.
/// - A write replaces the whole blob at once: a reader sees the old bytes or the new ones.
/// - After a write returned [`Written::Stored`], a read by this process sees it or a later one.
/// - Every future may be dropped at any await point. A write has then happened wholly or not at
///   all.
/// - A failure is an error of the kind that fits; [`BlobBackend`](crate::BlobBackend) adds the name
///   of the backend. Messages contain no secret and no name of a blob in clear.
///
/// Deadlines, the bound on concurrent calls and the refusal after closing are the backend's.
#[async_trait]
pub trait BlobStore: fmt::Debug + Send + Sync {
    /// What the store is called and what it can do. Constant for its lifetime.
    fn info(&self) -> &BlobStoreInfo;

    /// Reads the blob called `name`, or `None` where there is none.
    async fn read(&self, name: &str) -> Result<Option<Blob>, Error>;

    /// Writes `bytes` under `name` if `condition` holds. After `ttl` the blob is of no use any
    /// more: a store with a native time to live lets it go then, any other ignores the argument.
    ///
    /// A condition that the store cannot check is answered with [`Written::Unsupported`], never
    /// ignored.
    async fn write(
        &self,
        name: &str,
        bytes: Bytes,
        condition: Condition,
        ttl: Option<Duration>,
    ) -> Result<Written, Error>;

    /// Whether the store answers. Cheap: the circuit breaker asks it often.
    async fn probe(&self) -> Result<(), Error>;

    /// Lets go of connections and files. Called once, after the last read and write.
    async fn close(&self) -> Result<(), Error>;
}

/// The name of a store, and what it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobStoreInfo {
    /// A short name for reports and errors: `s3`, `redis`.
    pub name: Cow<'static, str>,
    /// Who can read and write it.
    pub scope: Scope,
    /// Whether blobs survive the end of the process. Default: yes.
    pub durable: bool,
    /// The largest value of an entry that fits, in bytes. Default and most: [`MAX_VALUE_BYTES`].
    pub max_value_bytes: usize,
    /// Whether a write's time to live is honoured. Default: no.
    pub native_ttl: bool,
    /// Which conditions a write honours. Default: none.
    pub conditions: Conditions,
    /// How blobs are named. Default: in folders.
    pub naming: Naming,
}

impl BlobStoreInfo {
    /// A store that only this machine can reach.
    pub fn local(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            scope: Scope::Local,
            durable: true,
            max_value_bytes: MAX_VALUE_BYTES,
            native_ttl: false,
            conditions: Conditions::None,
            naming: Naming::Folders,
        }
    }

    /// A store that other machines share.
    pub fn shared(name: impl Into<Cow<'static, str>>) -> Self {
        Self { scope: Scope::Shared, ..Self::local(name) }
    }

    /// Declares whether blobs survive the end of the process.
    #[must_use]
    pub fn with_durable(self, durable: bool) -> Self {
        Self { durable, ..self }
    }

    /// Declares the largest value, in bytes; capped at [`MAX_VALUE_BYTES`].
    #[must_use]
    pub fn with_max_value_bytes(self, bytes: usize) -> Self {
        Self { max_value_bytes: bytes.min(MAX_VALUE_BYTES), ..self }
    }

    /// Declares that a write's time to live is honoured.
    #[must_use]
    pub fn with_native_ttl(self) -> Self {
        Self { native_ttl: true, ..self }
    }

    /// Declares which conditions a write honours.
    #[must_use]
    pub fn with_conditions(self, conditions: Conditions) -> Self {
        Self { conditions, ..self }
    }

    /// Declares how blobs are to be named.
    #[must_use]
    pub fn with_naming(self, naming: Naming) -> Self {
        Self { naming, ..self }
    }
}

/// Which conditions a store checks before a write, atomically with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conditions {
    /// None but [`Condition::Always`]. Each write then reads before and after.
    None,
    /// [`Condition::IfAbsent`] and [`Condition::IfRevision`].
    Revisions,
    /// As [`Conditions::Revisions`], and [`Condition::IfNewer`]: one request per write.
    Versions,
    /// [`Conditions::Revisions`] or [`Conditions::None`]: the first write finds out which.
    Detect,
}

/// How the names of blobs are made from the digest of a key, behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Naming {
    /// `ab/cd/REST`: for stores that people browse in folders, or that scale by prefix.
    Folders,
    /// `abcdREST`.
    Flat,
}

/// The store's own mark of one state of a blob: an entity tag, a generation. Opaque to the backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(Arc<str>);

impl Revision {
    /// A revision with this text.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A blob as it was read.
#[derive(Clone, Debug)]
pub struct Blob {
    content: Content,
    revision: RevisionOf,
}

/// Where the revision of a blob comes from.
#[derive(Clone, Debug)]
enum RevisionOf {
    /// The store named it, or has none.
    Store(Option<Revision>),
    /// It follows from the bytes.
    Bytes(fn(&[u8]) -> Revision),
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content && self.revision() == other.revision()
    }
}

impl Eq for Blob {}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Bytes(Bytes),
    TooLarge(u64),
}

impl Blob {
    /// The longest blob that can be an entry, in bytes. A store need not read a longer one.
    pub const MAX_BYTES: usize = envelope::MAX_ENVELOPE_BYTES;

    /// A blob that was read whole.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Bytes(bytes.into()), revision: RevisionOf::Store(None) }
    }

    /// A blob of this many bytes, more than [`Blob::MAX_BYTES`], which was not read for that
    /// reason.
    #[must_use]
    pub fn too_large(bytes: u64) -> Self {
        Self { content: Content::TooLarge(bytes), revision: RevisionOf::Store(None) }
    }

    /// The same in this revision.
    #[must_use]
    pub fn with_revision(self, revision: Option<Revision>) -> Self {
        Self { revision: RevisionOf::Store(revision), ..self }
    }

    /// The same in the revision that `derive` computes from its bytes. It is computed when it is
    /// needed, which a lookup does not.
    #[must_use]
    pub fn with_derived_revision(self, derive: fn(&[u8]) -> Revision) -> Self {
        Self { revision: RevisionOf::Bytes(derive), ..self }
    }

    /// The revision, where the store names one.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        match (&self.revision, &self.content) {
            (RevisionOf::Store(revision), _) => revision.clone(),
            (RevisionOf::Bytes(derive), Content::Bytes(bytes)) => Some(derive(bytes)),
            (RevisionOf::Bytes(_), Content::TooLarge(_)) => None,
        }
    }

    /// The bytes; or the length of a blob that is too long to be an entry.
    pub(crate) fn into_content(self) -> Result<Bytes, u64> {
        match self.content {
            Content::Bytes(bytes) if bytes.len() <= Self::MAX_BYTES => Ok(bytes),
            Content::Bytes(bytes) => Err(bytes.len() as u64),
            Content::TooLarge(bytes) => Err(bytes),
        }
    }
}

/// What must hold for a write to happen. The store checks it atomically with the write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Nothing: the write always happens.
    Always,
    /// There is no blob of this name.
    IfAbsent,
    /// The blob has this revision.
    IfRevision(Revision),
    /// What is there is not an envelope of the same key with an equal or greater version. A stored
    /// version beyond [`Newer::latest`] does not count: a clock was wrong.
    IfNewer(Newer),
}

/// The version of a write, for [`Condition::IfNewer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Newer {
    /// The version that is written.
    pub version: Version,
    /// The latest time that an honest writer's clock can show now.
    pub latest: Timestamp,
}

/// How a write ended, if it did not fail.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Written {
    /// The blob is stored, in this revision if the store names one.
    Stored(Option<Revision>),
    /// The condition does not hold, or another write was under way. Nothing was stored.
    Conflict,
    /// The store cannot check the condition. Nothing was stored.
    Unsupported,
    /// This process may read and not write, for the reason in the error. The backend refuses writes
    /// with it for ten minutes and then asks the store again.
    ReadOnly(Error),
}

macro_rules! forward_through_pointer {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<S: BlobStore + ?Sized> BlobStore for $pointer<S> {
            fn info(&self) -> &BlobStoreInfo {
                (**self).info()
            }

            async fn read(&self, name: &str) -> Result<Option<Blob>, Error> {
                (**self).read(name).await
            }

            async fn write(
                &self,
                name: &str,
                bytes: Bytes,
                condition: Condition,
                ttl: Option<Duration>,
            ) -> Result<Written, Error> {
                (**self).write(name, bytes, condition, ttl).await
            }

            async fn probe(&self) -> Result<(), Error> {
                (**self).probe().await
            }

            async fn close(&self) -> Result<(), Error> {
                (**self).close().await
            }
        }
    )*};
}

forward_through_pointer!(Arc, Box);
