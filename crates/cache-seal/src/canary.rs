//! A mark that every process with the same secret recognises, to find out early that secrets
//! differ.
//!
//! With another secret every key is blinded differently, so a wrong `CACHE_SECRET` looks like a
//! cache that never hits. The mark lies under a name that depends on the namespace alone, where
//! everybody looks.

use std::time::Duration;

use peercache_api::{
    CacheBackend, Class, Entry, Error, ErrorKind, Freshness, Key, Operation, Version, VersionClock,
};

use crate::format::peek_key_id;
use crate::keys::{Keys, Place};
use crate::sealed::Sealed;

/// How long a mark speaks for those who left it: a fleet that changes its secret without a
/// transition is warned for at most this long after its last process with the former one.
pub const CANARY_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// From this age on it is renewed by whoever sees it; sooner would be a write for each new process.
const RENEW_AFTER: Duration = Duration::from_secs(6 * 3600);

/// What [`Sealed::verify_canary`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Canary {
    /// Others use the same secret here.
    Ours,
    /// Nobody had left a mark, or an old one; this process has left its own.
    Planted,
    /// Nobody has left a mark, and this process cannot write.
    Absent,
}

impl<B: CacheBackend> Sealed<B> {
    /// Looks whether another secret is in use in this store and namespace, and leaves a mark for
    /// those who come next. One read, and one write when there is no recent mark; do it once, at
    /// the start.
    ///
    /// This is advice against mistakes, not a defence: whoever can write to the store can remove
    /// the mark or leave a false one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the mark was made with a secret that is not on the keyring.
    /// Otherwise as [`CacheBackend::get`] and [`CacheBackend::put`].
    pub async fn verify_canary(&self, namespace: &str, versions: &VersionClock) -> Result<Canary, Error> {
        let key = Key::from_parts(["peercache", "canary", "1"])?.scoped(namespace);
        let place = Place { name: *key.digest(), key: key.clone() };
        let now = self.clock.now();
        let found = self.inner.get(&key).await?.filter(|mark| mark.freshness(now) != Freshness::Expired);
        let seen = found.as_ref().map_or(Version::ZERO, Entry::version);
        if let Some(mark) = found {
            let keys = self.owner_of(&mark)?;
            let opened = self.open(keys, &key, place.clone(), mark).await?;
            let recent = opened.is_some_and(|mark| mark.age(now) < RENEW_AFTER);
            let current = keys.id() == self.key_id();
            if (recent && current) || !self.ring.current.can_write() {
                return Ok(Canary::Ours);
            }
        } else if !self.ring.current.can_write() {
            return Ok(Canary::Absent);
        }
        // Ordered writes need a version above the mark that is replaced; a mark from the future
        // loses anyway.
        versions.observe(seen, now);
        let mark = Entry::builder("", versions.next(now), now)
            .fresh_for(CANARY_LIFETIME)
            .class(Class::Public)
            .build()?;
        self.put_at(&self.ring.current, &key, place, mark).await?;
        Ok(Canary::Planted)
    }

    fn owner_of(&self, mark: &Entry) -> Result<&std::sync::Arc<Keys>, Error> {
        let id = match peek_key_id(mark) {
            Ok(id) => id,
            Err(why) => return Err(self.rejected(why).unwrap_or_else(|| self.another_secret(None))),
        };
        self.ring.all().find(|keys| keys.id() == id).ok_or_else(|| self.another_secret(Some(id)))
    }

    fn another_secret(&self, theirs: Option<crate::KeyId>) -> Error {
        let error = self
            .error(
                ErrorKind::Config,
                Operation::Open,
                "another secret is in use here: what the others store cannot be read, nor can they read what this process stores",
            )
            .with_context("ours", self.key_id())
            .with_help(
                "give every process the same CACHE_SECRET; during a rotation list the former one in CACHE_SECRET_OLD; \
                 a fleet of its own takes a CACHE_NAMESPACE of its own",
            );
        theirs.map_or(error.clone(), |theirs| error.with_context("theirs", theirs))
    }
}
