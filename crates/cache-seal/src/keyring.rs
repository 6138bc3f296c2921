//! The secrets that a process knows: one to write with, and former ones that it still reads.

use std::fmt;

use peercache_api::{Entry, Error, ErrorKind, Operation};

use crate::format;
use crate::secret::Secret;

/// The most former secrets: each costs one more lookup for every read.
pub const MAX_OLD_SECRETS: usize = 4;

/// A current secret, and the former ones whose entries are still to be read.
#[derive(Clone)]
pub struct Keyring {
    pub(crate) current: Secret,
    pub(crate) old: Vec<Secret>,
}

impl Keyring {
    /// Reads and writes with this secret; only reads if it is a read-only one.
    #[must_use]
    pub const fn new(current: Secret) -> Self {
        Self { current, old: Vec::new() }
    }

    /// Also reads what was sealed with a former secret. Removals are written under it too, if it is
    /// a full one, so that those who know nothing newer see them. A secret that is on the ring
    /// already changes nothing.
    ///
    /// Do not keep a secret here that has leaked: who has it could go on writing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for more than [`MAX_OLD_SECRETS`].
    pub fn with_old(mut self, old: Secret) -> Result<Self, Error> {
        if self.current.id() == old.id() || self.old.iter().any(|known| known.id() == old.id()) {
            return Ok(self);
        }
        if self.old.len() == MAX_OLD_SECRETS {
            return Err(Error::new(
                ErrorKind::Config,
                Operation::Configure,
                format!("there are more than {MAX_OLD_SECRETS} former secrets"),
            )
            .with_help("leave out the oldest of CACHE_SECRET_OLD: entries live for 30 days at most"));
        }
        self.old.push(old);
        Ok(self)
    }

    /// Whether `stored`, as a store holds it, says that one of these secrets sealed it: then it
    /// tells nothing to who lacks them, and may be given to others as it is. It is not verified.
    #[must_use]
    pub fn has_sealed(&self, stored: &Entry) -> bool {
        let known = |id| self.current.id() == id || self.old.iter().any(|old| old.id() == id);
        format::sealed_by(stored).is_some_and(known)
    }

    /// The secret that writes.
    #[must_use]
    pub const fn current(&self) -> &Secret {
        &self.current
    }

    /// The former secrets, in the order in which they were given.
    #[must_use]
    pub fn old(&self) -> &[Secret] {
        &self.old
    }
}

impl From<Secret> for Keyring {
    fn from(current: Secret) -> Self {
        Self::new(current)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("current", &self.current).field("old", &self.old).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_takes_each_secret_once() {
        let secret = || Secret::generate().unwrap();
        let current = secret();
        let mut ring = Keyring::new(current.clone()).with_old(current.read_only()).unwrap();
        assert!(ring.old.is_empty());
        for _ in 0..MAX_OLD_SECRETS {
            let old = secret();
            ring = ring.with_old(old.clone()).unwrap().with_old(old).unwrap();
        }
        assert_eq!(ring.old.len(), MAX_OLD_SECRETS);
        let error = ring.with_old(secret()).unwrap_err();
        insta::assert_snapshot!(error, @"configure failed (configuration): there are more than 4 former secrets; leave out the oldest of CACHE_SECRET_OLD: entries live for 30 days at most");
    }
}
