//! Tags: many entries removed by one small write.
//!
//! Invalidating a tag stores one tombstone under a key that is derived from the tag. An entry that
//! carries the tag and is not newer than that tombstone is treated as removed wherever it is found.
//!
//! What is known about tags is remembered, so a hit in memory costs no I/O. It is looked up again in the
//! local tiers after [`NEAR`] and in the shared tiers after [`FAR`]: that is how long an invalidation by
//! another process on this machine, and by another machine, may go unnoticed here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use peercache_api::{Clock, Entry, Error, ErrorKind, Key, MAX_TAG_BYTES, Operation, Version};
use serde::Serialize;

use crate::chain::Chain;
use crate::lookup::PutOutcome;
use crate::stats::Count;
use crate::tier::{Call, Tier};

/// How long what the local tiers say about a tag is believed.
pub(crate) const NEAR: Duration = Duration::from_secs(1);
/// How long what the shared tiers say about a tag is believed.
pub(crate) const FAR: Duration = Duration::from_secs(30);
/// The most tags that are remembered: twice this, the younger half of them surely.
const HALF: usize = 5_000;
/// No key that a program would make by hand begins like this.
const RESERVED: &str = "\u{1}tag";

/// What a chain knows about tags.
#[derive(Debug)]
pub(crate) struct Tags {
    namespace: String,
    known: Mutex<Known>,
    invalidated: Count,
    lookups: Count,
}

/// How often tags were invalidated and looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TagReport {
    /// Tags invalidated through this chain.
    pub invalidated: u64,
    /// Reads of tiers for the sake of a tag. They are not among the lookups.
    pub lookups: u64,
}

/// Two generations: when the young one is full it becomes the old one, and what was old is forgotten
/// unless it is used.
#[derive(Debug, Default)]
struct Known {
    young: HashMap<Box<str>, Seen>,
    old: HashMap<Box<str>, Seen>,
}

/// What is known about one tag.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Up to where entries with this tag are removed.
    version: Option<Version>,
    /// When the local tiers were asked last, in monotonic time.
    near: Option<Duration>,
    /// When the shared tiers were.
    far: Option<Duration>,
    /// The digest of the tag's key, once it was asked for.
    digest: Option<[u8; 32]>,
}

impl Known {
    fn get(&mut self, tag: &str) -> Seen {
        if let Some(seen) = self.young.get(tag) {
            return *seen;
        }
        let seen = self.old.remove(tag).unwrap_or_default();
        self.set(tag, seen);
        seen
    }

    fn set(&mut self, tag: &str, seen: Seen) {
        if let Some(known) = self.young.get_mut(tag) {
            *known = seen;
            return;
        }
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tag.into(), seen);
    }
}

impl Tags {
    pub(crate) fn new(namespace: String) -> Self {
        Self { namespace, known: Mutex::default(), invalidated: Count::default(), lookups: Count::default() }
    }

    pub(crate) fn report(&self) -> TagReport {
        TagReport { invalidated: self.invalidated.get(), lookups: self.lookups.get() }
    }

    /// The key under which the invalidation of `tag` is stored.
    fn key(&self, tag: &str) -> Result<Key, Error> {
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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that `tag` was invalidated as of `version`, if that is news.
    fn learn(&self, tag: &str, version: Option<Version>) {
        let mut known = self.known();
        let seen = known.get(tag);
        if version > seen.version {
            known.set(tag, Seen { version, ..seen });
        }
    }

    /// What is known about `tag`, and whether the local tiers and the shared ones are to be asked anew.
    /// Who is told so is the only one for a while: the others make do with what is known.
    fn consult(&self, tag: &str, now: Duration) -> (Seen, bool, bool) {
        let due =
            |asked: Option<Duration>, every| asked.is_none_or(|asked| now.saturating_sub(asked) >= every);
        let mut known = self.known();
        let seen = known.get(tag);
        let (near, far) = (due(seen.near, NEAR), due(seen.far, FAR));
        // The very first time nobody can make do with anything.
        let claim = Seen {
            near: if near && seen.near.is_some() { Some(now) } else { seen.near },
            far: if far && seen.far.is_some() { Some(now) } else { seen.far },
            ..seen
        };
        if near || far {
            known.set(tag, claim);
        }
        (seen, near, far)
    }

    fn asked(&self, tag: &str, near: Option<Duration>, far: Option<Duration>) {
        let mut known = self.known();
        let seen = known.get(tag);
        known.set(tag, Seen { near: near.or(seen.near), far: far.or(seen.far), ..seen });
    }

    /// The greatest version under which any of `tiers` knows `tag` to be invalidated, read without being
    /// counted as lookups.
    async fn ask(&self, tag: &str, tiers: &[Arc<Tier>], clock: &dyn Clock) -> Option<Entry> {
        let newest = ask_tiers(&self.key(tag).ok()?, tiers, clock, &self.lookups).await?;
        self.learn(tag, Some(newest.version()));
        Some(newest)
    }

    /// The digest of the tag's key.
    fn digest(&self, tag: &str, seen: Seen) -> Option<[u8; 32]> {
        seen.digest.or_else(|| {
            let digest = *self.key(tag).ok()?.digest();
            let mut known = self.known();
            let seen = known.get(tag);
            known.set(tag, Seen { digest: Some(digest), ..seen });
            Some(digest)
        })
    }
}

/// The newest that any of `tiers` holds or is to be given under `key`, read without being counted as
/// lookups, except in `lookups`.
pub(crate) async fn ask_tiers(
    key: &Key,
    tiers: &[Arc<Tier>],
    clock: &dyn Clock,
    lookups: &Count,
) -> Option<Entry> {
    let held = join_all(tiers.iter().map(async |tier| {
        let waiting = tier.pending(key);
        if !tier.breaker.allow() {
            return waiting;
        }
        lookups.add(1);
        let held = match tier.peek(key).await {
            Call::Done(held) => held,
            // Nothing is known, which is what was known before.
            Call::Failed(_) | Call::TimedOut(_) => None,
        };
        waiting.into_iter().chain(held).max_by_key(Entry::version)
    }));
    let now = clock.now();
    let newest = held.await.into_iter().flatten().filter(|entry| !entry.is_from_future(now));
    newest.max_by_key(Entry::version)
}

impl Chain {
    /// Removes every entry that carries `tag` and is not newer than `version`, by one small write that
    /// goes to every tier and lives for [`TOMBSTONE_LIFETIME`](peercache_api::TOMBSTONE_LIFETIME).
    ///
    /// In this process at once, and so on every machine that hears of it through a fleet. Another process on
    /// this machine notices within a second, another machine without a fleet within 30 s after the write has
    /// reached a tier that both share.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a tag that no entry can have. Never because a tier failed.
    pub async fn invalidate_tag(&self, tag: &str, version: Version) -> Result<PutOutcome, Error> {
        let key = self.tags.key(tag)?;
        self.tags.invalidated.add(1);
        self.tags.learn(tag, Some(version));
        Ok(self.write(&key, Entry::tombstone(version, self.clock.now())).await)
    }

    /// If `entry` was removed by one of its tags: as of which version. `shared` says that it comes from
    /// a shared tier, so that asking others there is in proportion.
    pub(crate) async fn removed_by_tag(&self, entry: &Entry, shared: bool) -> Option<Version> {
        let mut removed = None;
        for tag in &entry.metadata().tags {
            let version = self.tag_version(tag, shared).await;
            if version >= Some(entry.version()) {
                removed = removed.max(version);
            }
        }
        removed
    }

    async fn tag_version(&self, tag: &str, shared: bool) -> Option<Version> {
        let (tags, now) = (&self.tags, self.clock.monotonic());
        let (seen, near, far) = tags.consult(tag, now);
        let heard = self.tag_heard(tag, seen);
        if !near && !far {
            return seen.version.max(heard);
        }
        // Boxed, so that a hit in memory does not carry the room for it.
        Box::pin(self.look_up_tag(tag, shared, near, far, now)).await
    }

    /// Up to where other machines were heard to have invalidated `tag`.
    fn tag_heard(&self, tag: &str, seen: Seen) -> Option<Version> {
        if !self.removals.has_heard() {
            return None;
        }
        let heard = self.removals.heard(&self.tags.digest(tag, seen)?)?.version;
        self.tags.learn(tag, Some(heard));
        Some(heard)
    }

    async fn look_up_tag(
        &self,
        tag: &str,
        shared: bool,
        near: bool,
        far: bool,
        now: Duration,
    ) -> Option<Version> {
        let (clock, tags) = (&self.clock, &self.tags);
        let readable = |local: bool| {
            let tiers = self.tiers.iter().filter(move |tier| tier.is_local() == local && tier.reads());
            tiers.cloned().collect::<Vec<_>>()
        };
        if near {
            tags.ask(tag, &readable(true), &**clock).await;
            tags.asked(tag, Some(now), None);
        }
        if far {
            tags.asked(tag, None, Some(now));
            let ask =
                ask_far(Arc::clone(tags), tag.to_owned(), readable(false), readable(true), Arc::clone(clock));
            if shared {
                ask.await;
            } else {
                // A hit on this machine does not wait for another one.
                tokio::spawn(ask);
            }
        }
        let mut known = tags.known();
        known.get(tag).version
    }
}

/// Asks the shared tiers, and keeps what they know in the local ones, so that it is still known here
/// when they are away.
async fn ask_far(
    tags: Arc<Tags>,
    tag: String,
    shared: Vec<Arc<Tier>>,
    local: Vec<Arc<Tier>>,
    clock: Arc<dyn Clock>,
) {
    let before = tags.known().get(&tag).version;
    let Some(newest) = tags.ask(&tag, &shared, &*clock).await else { return };
    let (true, Ok(key)) = (Some(newest.version()) > before, tags.key(&tag)) else { return };
    for tier in local.iter().filter(|tier| tier.writes()) {
        if let Call::Failed(error) = tier.put(&key, newest.clone(), &*clock).await {
            tier.stats.note(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_used_stays() {
        let tags = Tags::new(String::new());
        let version = Some(Version { counter: 7, ..Version::ZERO });
        tags.learn("used", version);
        for n in 0..4 * HALF {
            tags.learn(&format!("tag {n}"), version);
            assert_eq!(tags.known().get("used").version, version);
        }
        let known = tags.known();
        assert!(known.young.len() <= HALF && known.old.len() <= HALF);
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
        assert!(matches!(tags.consult("t", at(0)), (_, true, true)));
        assert!(matches!(tags.consult("t", at(0)), (_, true, true)), "nobody has an answer yet");
        tags.asked("t", Some(at(0)), Some(at(0)));
        assert!(matches!(tags.consult("t", at(999)), (_, false, false)));
        assert!(matches!(tags.consult("t", at(1000)), (_, true, false)));
        assert!(matches!(tags.consult("t", at(1000)), (_, false, false)), "another asks already");
        assert!(matches!(tags.consult("t", at(30_000)), (_, true, true)));
        assert!(matches!(tags.consult("t", at(30_000)), (_, false, false)));
    }
}
