//! What sealing has done and refused, counted where it is decided.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why something that was stored is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// It is not sealed at all: somebody wrote in clear.
    NotSealed,
    /// A format that this build does not know.
    UnknownFormat,
    /// It ends before a sealed entry can.
    Truncated,
    /// Sealed with a secret that this process does not have; read as absent.
    Foreign,
    /// A private entry, which the public form of the secret does not open; read as absent.
    Private,
    /// No writer signed it as it stands: a flipped bit, another key's or version's entry, a
    /// stretched lifetime, or an entry made with a read-only secret.
    Forged,
    /// A writer signed what cannot be decrypted.
    Undecryptable,
    /// A writer signed and encrypted what is not an entry of this key.
    Malformed,
}

impl Rejection {
    /// What to say about it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSealed => "it is not sealed",
            Self::UnknownFormat => "it has a format that this build does not know",
            Self::Truncated => "it is truncated",
            Self::Foreign => "it is sealed with another secret",
            Self::Private => "it is private, and this process has the public secret",
            Self::Forged => {
                "its signature does not match: it is damaged, moved, altered, or no writer made it"
            }
            Self::Undecryptable => "it does not decrypt",
            Self::Malformed => "its content is not an entry of this key",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counts since the backend was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealStats {
    /// Entries sealed, tombstones included.
    pub sealed: u64,
    /// How many of these were compressed first.
    pub compressed: u64,
    /// Entries opened and verified.
    pub opened: u64,
    /// See [`Rejection::NotSealed`].
    pub not_sealed: u64,
    /// See [`Rejection::UnknownFormat`].
    pub unknown_format: u64,
    /// See [`Rejection::Truncated`].
    pub truncated: u64,
    /// See [`Rejection::Foreign`].
    pub foreign: u64,
    /// See [`Rejection::Private`].
    pub private: u64,
    /// See [`Rejection::Forged`].
    pub forged: u64,
    /// See [`Rejection::Undecryptable`].
    pub undecryptable: u64,
    /// See [`Rejection::Malformed`].
    pub malformed: u64,
}

impl SealStats {
    /// How many entries were refused as `Corrupt`: all reasons but
    /// [`Rejection::Foreign`] and [`Rejection::Private`], which read as absent.
    #[must_use]
    pub const fn corrupt(&self) -> u64 {
        self.not_sealed
            + self.unknown_format
            + self.truncated
            + self.forged
            + self.undecryptable
            + self.malformed
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    sealed: AtomicU64,
    compressed: AtomicU64,
    opened: AtomicU64,
    not_sealed: AtomicU64,
    unknown_format: AtomicU64,
    truncated: AtomicU64,
    foreign: AtomicU64,
    private: AtomicU64,
    forged: AtomicU64,
    undecryptable: AtomicU64,
    malformed: AtomicU64,
}

impl Counters {
    pub(crate) fn sealed(&self, compressed: bool) {
        self.sealed.fetch_add(1, Ordering::Relaxed);
        self.compressed.fetch_add(compressed.into(), Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rejected(&self, why: Rejection) {
        let counter = match why {
            Rejection::NotSealed => &self.not_sealed,
            Rejection::UnknownFormat => &self.unknown_format,
            Rejection::Truncated => &self.truncated,
            Rejection::Foreign => &self.foreign,
            Rejection::Private => &self.private,
            Rejection::Forged => &self.forged,
            Rejection::Undecryptable => &self.undecryptable,
            Rejection::Malformed => &self.malformed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> SealStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SealStats {
            sealed: read(&self.sealed),
            compressed: read(&self.compressed),
            opened: read(&self.opened),
            not_sealed: read(&self.not_sealed),
            unknown_format: read(&self.unknown_format),
            truncated: read(&self.truncated),
            foreign: read(&self.foreign),
            private: read(&self.private),
            forged: read(&self.forged),
            undecryptable: read(&self.undecryptable),
            malformed: read(&self.malformed),
        }
    }
}
