//! The journal of a cache: where it is, and how its records are sealed.

use std::path::PathBuf;
#[cfg(feature = "seal")]
use std::sync::Arc;

use peercache_api::Error;
use peercache_chain::Journal;
#[cfg(feature = "seal")]
use peercache_chain::JournalSeal;
#[cfg(feature = "seal")]
use peercache_seal::{KeyId, Keyring, LocalSeal};

use crate::cache::CacheBuilder;

/// What the journal's key is derived for; `docs/sealing.md` names it.
#[cfg(feature = "seal")]
const PURPOSE: &str = "peercache journal 1";

/// A journal that is opened when the cache is built.
#[derive(Debug)]
pub(crate) enum Journalled {
    InClear(PathBuf),
    #[cfg(feature = "seal")]
    Sealed(PathBuf, Arc<dyn JournalSeal>),
}

impl Journalled {
    /// Blocks for a few file operations.
    pub(crate) fn open(self) -> Result<Journal, Error> {
        match self {
            Self::InClear(dir) => Journal::open(dir),
            #[cfg(feature = "seal")]
            Self::Sealed(dir, seal) => Journal::open_sealed(dir, seal),
        }
    }
}

impl CacheBuilder {
    /// Keeps what waits to be written to shared tiers in this directory as well, so that it outlives
    /// this process; the next one with the same directory delivers it. Keys and values lie there as they
    /// are; see [`Journal`]. Default: none.
    pub fn journal(mut self, dir: impl Into<PathBuf>) -> Self {
        self.journal = Some(Journalled::InClear(dir.into()));
        self
    }

    /// As [`CacheBuilder::journal`], with every record sealed for those who have the full secret. What
    /// somebody else left there, or nobody sealed, is not delivered.
    ///
    /// With a read-only secret there is no journal: who has it does not write to sealed tiers, and must
    /// not be able to have others write in its stead.
    #[cfg(feature = "seal")]
    pub fn sealed_journal(mut self, dir: impl Into<PathBuf>, keyring: &Keyring) -> Self {
        let seal = LocalSeal::new(keyring, PURPOSE).map(|seal| Arc::new(WritersOnly(seal)) as _);
        self.journal = seal.map(|seal| Journalled::Sealed(dir.into(), seal));
        self
    }
}

/// Seals a journal with what the full secret gives and the read-only one does not.
#[cfg(feature = "seal")]
#[derive(Debug)]
struct WritersOnly(LocalSeal);

#[cfg(feature = "seal")]
impl JournalSeal for WritersOnly {
    fn key_id(&self) -> [u8; 8] {
        *self.0.key_id().as_bytes()
    }

    fn knows(&self, key_id: [u8; 8]) -> bool {
        self.0.knows(KeyId::from_bytes(key_id))
    }

    fn seal(&self, segment: &[u8], record: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.seal(segment, record)
    }

    fn open(&self, key_id: [u8; 8], segment: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(KeyId::from_bytes(key_id), segment, sealed)
    }
}

#[cfg(feature = "seal")]
const _: () = assert!(peercache_seal::LOCAL_SEAL_BYTES <= peercache_chain::MAX_JOURNAL_SEAL_BYTES);
