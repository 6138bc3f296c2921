//! Tags: many entries removed by one small write.
//!
//! Invalidating a tag stores one tombstone under a key that is derived from the tag. An entry that
//! carries the tag and is not newer than that tombstone is treated as removed wherever it is found.
//!
//! What is known about tags is remembered here, so a hit in memory costs no I/O. It is due to be
//! looked up again in the local tiers after [`NEAR`] and in the shared tiers after [`FAR`]: that is
//! how long an invalidation by another process on this machine, and by another machine, may go
//! unnoticed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peercache_api::util::{Count, Generations};
use peercache_api::{Error, ErrorKind, Key, MAX_TAG_BYTES, Operation, Timestamp, Version};
use serde::Serialize;

/// For how long what the local tiers say about a tag is used.
const NEAR: Duration = Duration::from_secs(1);
/// For how long what the shared tiers say about a tag is used.
const FAR: Duration = Duration::from_secs(30);
/// The most tags that are remembered: twice this, those used last for sure.
const GENERATION: usize = 5_000;
/// No key that a program would make by hand begins like this.
const RESERVED: &str = "\u{1}tag";

/// How often tags were invalidated and looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TagReport {
    /// Tags invalidated through this chain.
    pub invalidated: u64,
    /// Reads of tiers for the sake of a tag. They are not among the lookups.
    pub lookups: u64,
}

/// What a chain knows about tags.
#[derive(Debug)]
pub(crate) struct Tags {
    namespace: String,
    known: Mutex<Generations<Box<str>, Seen>>,
    pub(crate) invalidated: Count,
    /// Reads of tiers for the sake of a tag.
    pub(crate) lookups: Count,
}

/// What is known about one tag.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Up to where entries with this tag are removed.
    pub(crate) version: Option<Version>,
    /// When the local tiers were last asked, in monotonic time.
    near: Option<Duration>,
    /// When the shared tiers were.
    far: Option<Duration>,
    /// The digest of the tag's key, once it was asked for.
    digest: Option<[u8; 32]>,
}

/// What is to be looked up about a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// In the local tiers.
    pub(crate) near: bool,
    /// In the shared tiers.
    pub(crate) far: bool,
}

impl Tags {
    pub(crate) fn new(namespace: String) -> Self {
        Self {
            namespace,
            known: Mutex::new(Generations::new(GENERATION)),
            invalidated: Count::default(),
            lookups: Count::default(),
        }
    }

    pub(crate) fn report(&self) -> TagReport {
        TagReport { invalidated: self.invalidated.get(), lookups: self.lookups.get() }
    }

    /// The key under which the invalidation of `tag` is stored.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a tag that no entry can have.
    pub(crate) fn key(&self, tag: &str) -> Result<Key, Error> {
        if tag.is_empty() || tag.len() > MAX_TAG_BYTES {
            return Err(Error::new(
                ErrorKind::Config,
                Operation::Put,
                format!("a tag has 1 to {MAX_TAG_BYTES} bytes, this one has {}", tag.len()),
            ));
        }
        let key = Key::from_parts([RESERVED, tag])?;
        Ok(if self.namespace.is_empty() { key } else { key.scoped(&self.namespace) })
    }

    fn known(&self) -> MutexGuard<'_, Generations<Box<str>, Seen>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known about `tag`, changed by `change`.
    fn update(&self, tag: &str, change: impl FnOnce(&mut Seen)) {
        let mut known = self.known();
        let mut seen = known.get_used(tag).copied().unwrap_or_default();
        change(&mut seen);
        known.insert(tag.into(), seen);
    }

    /// Remembers that `tag` was invalidated as of `version`, if that is news at `now`: what was
    /// learnt from a clock that was ahead does not stand in the way.
    pub(crate) fn learn(&self, tag: &str, version: Version, now: Timestamp) {
        self.update(tag, |seen| {
            let known = seen.version.filter(|known| !known.is_from_future(now));
            seen.version = known.max(Some(version));
        });
    }

    /// As of which version `tag` was invalidated, as far as is known.
    pub(crate) fn version(&self, tag: &str) -> Option<Version> {
        self.known().get_used(tag).and_then(|seen| seen.version)
    }

    /// What is known about `tag`, and whether the local tiers and the shared ones are to be asked
    /// again. Only one caller gets that answer for a while: the others use what is known.
    pub(crate) fn consult(&self, tag: &str, now: Duration) -> (Seen, Due) {
        let due =
            |asked: Option<Duration>, every| asked.is_none_or(|asked| now.saturating_sub(asked) >= every);
        let mut known = self.known();
        let seen = known.get_used(tag).copied().unwrap_or_default();
        let (near, far) = (due(seen.near, NEAR), due(seen.far, FAR));
        // The very first time nothing is known that others could use.
        let claim = Seen {
            near: if near && seen.near.is_some() { Some(now) } else { seen.near },
            far: if far && seen.far.is_some() { Some(now) } else { seen.far },
            ..seen
        };
        if near || far {
            known.insert(tag.into(), claim);
        }
        (seen, Due { near, far })
    }

    /// Remembers that the local tiers, or the shared ones, were asked.
    pub(crate) fn asked(&self, tag: &str, near: Option<Duration>, far: Option<Duration>) {
        self.update(tag, |seen| (seen.near, seen.far) = (near.or(seen.near), far.or(seen.far)));
    }

    /// The digest of the tag's key.
    pub(crate) fn digest(&self, tag: &str, seen: Seen) -> Option<[u8; 32]> {
        seen.digest.or_else(|| {
            let digest = *self.key(tag).ok()?.digest();
            self.update(tag, |seen| seen.digest = Some(digest));
            Some(digest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_used_stays() {
        let tags = Tags::new(String::new());
        let (version, now) = (Version { counter: 7, ..Version::ZERO }, Timestamp::EPOCH);
        tags.learn("used", version, now);
        for n in 0..4 * GENERATION {
            tags.learn(&format!("tag {n}"), version, now);
            assert_eq!(tags.version("used"), Some(version));
        }
        let (young, old) = tags.known().sizes();
        assert!(young <= GENERATION && old <= GENERATION);
    }

    #[test]
    fn tags_of_different_namespaces_and_spellings_have_keys_of_their_own() {
        let (none, some) = (Tags::new(String::new()), Tags::new("ns".to_owned()));
        assert_ne!(none.key("a").unwrap(), some.key("a").unwrap());
        assert_ne!(none.key("a/b").unwrap(), none.key("a%2Fb").unwrap());
        assert_eq!(none.key("").unwrap_err().kind(), ErrorKind::Config);
        let longest = "/".repeat(MAX_TAG_BYTES);
        assert!(none.key(&longest).is_ok(), "however many bytes it takes escaped");
        assert!(none.key(&format!("{longest}/")).is_err());
    }

    #[test]
    fn only_one_asks_again_and_the_first_all_ask() {
        let tags = Tags::new(String::new());
        let at = Duration::from_millis;
        assert!(matches!(tags.consult("t", at(0)), (_, Due { near: true, far: true })));
        assert!(
            matches!(tags.consult("t", at(0)), (_, Due { near: true, far: true })),
            "nobody has an answer yet"
        );
        tags.asked("t", Some(at(0)), Some(at(0)));
        assert!(matches!(tags.consult("t", at(999)), (_, Due { near: false, far: false })));
        assert!(matches!(tags.consult("t", at(1000)), (_, Due { near: true, far: false })));
        assert!(
            matches!(tags.consult("t", at(1000)), (_, Due { near: false, far: false })),
            "another asks already"
        );
        assert!(matches!(tags.consult("t", at(30_000)), (_, Due { near: true, far: true })));
        assert!(matches!(tags.consult("t", at(30_000)), (_, Due { near: false, far: false })));
    }
}
