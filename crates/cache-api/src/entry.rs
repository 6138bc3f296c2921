//! What is stored under a key: a value with its lifetime and version, or a tombstone.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Operation};
use crate::time::{MAX_CLOCK_SKEW, Timestamp, whole_millis};
use crate::version::Version;

/// The largest value of one entry: 8 MiB. Larger values are stored as several entries.
pub const MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;
/// The longest that an entry may live, fresh and stale time together: 30 days.
pub const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a tombstone is kept. It outlives every entry that it can hide, even one whose writer's
/// clock ran ahead, so a removed value does not come back when the tombstone expires.
pub const TOMBSTONE_LIFETIME: Duration =
    Duration::from_secs(MAX_LIFETIME.as_secs() + 2 * MAX_CLOCK_SKEW.as_secs());
/// The most tags on one entry.
pub const MAX_TAGS: usize = 32;
/// The longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 256;
/// The longest content type, in bytes.
pub const MAX_CONTENT_TYPE_BYTES: usize = 256;
/// The longest entity tag or modification date, in bytes.
pub const MAX_VALIDATOR_BYTES: usize = 1024;

/// The most bytes that a tombstone carries; see [`Entry::tombstone_with_proof`].
pub const MAX_PROOF_BYTES: usize = 4 * 1024;

/// Whether an entry holds a value or marks a removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A value.
    #[default]
    Value,
    /// "There is nothing here since this version": stops older values from coming back.
    Tombstone,
}

/// Who may read a value, for wrappers that seal and for stores that strangers can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Class {
    /// Only members that are trusted with everything. Stores that strangers can read refuse it
    /// unless a setting allows it.
    #[default]
    Private,
    /// Every member, jobs of untrusted pull requests included: what its origin shows to everybody.
    Public,
}

/// What the origin gave to ask whether a value is still current (RFC 9110, section 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Validators {
    /// The `ETag` as received, quotes and `W/` included.
    pub etag: Option<String>,
    /// The `Last-Modified` date as received.
    pub last_modified: Option<String>,
}

/// Everything about an entry but its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// Value or tombstone.
    pub kind: EntryKind,
    /// Which write this is; the greatest wins.
    pub version: Version,
    /// When the value was true at its origin.
    pub created: Timestamp,
    /// For how long after `created` it may be served without asking.
    pub fresh_for: Duration,
    /// For how long after that it may still be served when asking is impossible, or while asking.
    pub stale_for: Duration,
    /// The media type of the value, if known.
    pub content_type: Option<String>,
    /// How to ask the origin whether it changed.
    pub validators: Validators,
    /// Groups that this entry belongs to, for invalidation together.
    pub tags: Vec<String>,
    /// Who may read the value. Not used for a tombstone, which holds none: see [`Entry::class`].
    pub class: Class,
}

/// Where an entry stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// May be served.
    Fresh,
    /// May be served if the origin cannot be asked, or while it is being asked.
    Stale,
    /// Must not be served; a store may drop it.
    Expired,
}

/// One stored entry. Cloning shares both the metadata and the value.
#[derive(Clone)]
pub struct Entry {
    shared: Arc<Shared>,
    value: Bytes,
}

/// What the clones of an entry share.
struct Shared {
    meta: Metadata,
    /// The value in a form that its readers need not decode.
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl PartialEq for Entry {
    /// What was decoded follows from the value, and does not count.
    fn eq(&self, other: &Self) -> bool {
        self.shared.meta == other.shared.meta && self.value == other.value
    }
}

impl Eq for Entry {}

impl Entry {
    /// Starts an entry with this value, version and time of creation. It is fresh for no time until
    /// [`EntryBuilder::fresh_for`] says otherwise.
    pub fn builder(value: impl Into<Bytes>, version: Version, created: Timestamp) -> EntryBuilder {
        EntryBuilder { meta: Metadata { version, created, ..Metadata::default() }, value: value.into() }
    }

    /// A removal as of `version`. Stored like a value, so every backend orders it like one.
    #[must_use]
    pub fn tombstone(version: Version, created: Timestamp) -> Self {
        let meta = Metadata {
            kind: EntryKind::Tombstone,
            version,
            created,
            fresh_for: TOMBSTONE_LIFETIME,
            ..Metadata::default()
        };
        Self::assembled(meta, Bytes::new())
    }

    /// The tombstone for what a store holds that is older than `entry`, where `entry` itself does
    /// not fit: the store would otherwise go on showing the value that was replaced. Its version
    /// lies just below the entry's, so that stores which hold the entry still answer.
    #[must_use]
    pub fn tombstone_for(entry: &Self) -> Self {
        Self::tombstone(entry.version().just_below(), entry.metadata().created)
    }

    /// As [`Entry::tombstone`], with bytes that prove who made it. Only the wrapper that wrote them
    /// reads them; to every backend they are a value.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for more than [`MAX_PROOF_BYTES`].
    pub fn tombstone_with_proof(
        version: Version,
        created: Timestamp,
        proof: impl Into<Bytes>,
    ) -> Result<Self, Error> {
        Self::checked(Self::tombstone(version, created).shared.meta.clone(), proof.into())
    }

    /// The value; possibly empty. For a tombstone its proof, empty unless it was given one.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The value, without copying it.
    #[must_use]
    pub fn into_value(self) -> Bytes {
        self.value
    }

    /// Everything but the value.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.shared.meta
    }

    /// Which write this is.
    #[must_use]
    pub fn version(&self) -> Version {
        self.shared.meta.version
    }

    /// Whether this marks a removal.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.shared.meta.kind == EntryKind::Tombstone
    }

    /// Who may read this entry. A tombstone is public: it says that something is gone, and
    /// everybody who could read the value has to learn that.
    #[must_use]
    pub fn class(&self) -> Class {
        if self.is_tombstone() { Class::Public } else { self.shared.meta.class }
    }

    /// Time since creation; zero if the writer's clock ran ahead of `now`.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        now.saturating_since(self.shared.meta.created)
    }

    /// When it stops being servable even as stale; a store may drop it from then on.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.shared
            .meta
            .created
            .saturating_add(self.shared.meta.fresh_for)
            .saturating_add(self.shared.meta.stale_for)
    }

    /// Where this entry stands at `now`.
    #[must_use]
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        let age = self.age(now);
        if age < self.shared.meta.fresh_for {
            Freshness::Fresh
        } else if age < self.shared.meta.fresh_for.saturating_add(self.shared.meta.stale_for) {
            Freshness::Stale
        } else {
            Freshness::Expired
        }
    }

    /// Whether it claims to be written more than [`MAX_CLOCK_SKEW`] ahead of `now`. Such an entry
    /// is never served, and every honest write replaces it.
    #[must_use]
    pub fn is_from_future(&self, now: Timestamp) -> bool {
        self.shared.meta.version.is_from_future(now)
            || self.shared.meta.created > now.saturating_add(MAX_CLOCK_SKEW)
    }

    /// Whether a store that holds `stored` must replace it with this entry.
    ///
    /// The greater version wins, except that an entry from the future loses against one that is
    /// not. Every backend with ordered writes decides by this one function.
    #[must_use]
    pub fn supersedes(&self, stored: &Self, now: Timestamp) -> bool {
        match (self.is_from_future(now), stored.is_from_future(now)) {
            (false, true) => true,
            (true, false) => false,
            _ => self.shared.meta.version > stored.shared.meta.version,
        }
    }

    /// About how many bytes this entry occupies in memory, value and metadata.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let text = |value: &Option<String>| value.as_ref().map_or(0, String::len);
        size_of::<Metadata>()
            + self.value.len()
            + text(&self.shared.meta.content_type)
            + text(&self.shared.meta.validators.etag)
            + text(&self.shared.meta.validators.last_modified)
            + self.shared.meta.tags.iter().map(|tag| tag.len() + size_of::<String>()).sum::<usize>()
    }

    /// The value as [`Entry::set_decoded`] kept it, here or by way of a clone.
    #[must_use]
    pub fn decoded(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.shared.decoded.get()
    }

    /// Keeps a decoded form of the value with this entry and its clones, unless there is one
    /// already. It is never stored or sent: an entry that is read from bytes has none. It lives as
    /// long as the entry does in memory, and is not part of [`Entry::memory_bytes`].
    pub fn set_decoded(&self, decoded: Arc<dyn Any + Send + Sync>) {
        // Whoever was first decoded the same bytes.
        let _first = self.shared.decoded.set(decoded);
    }

    fn assembled(meta: Metadata, value: Bytes) -> Self {
        Self { shared: Arc::new(Shared { meta, decoded: OnceLock::new() }), value }
    }

    /// Checks every bound; what is read from a store goes through here like what a caller builds.
    pub(crate) fn checked(meta: Metadata, value: Bytes) -> Result<Self, Error> {
        let lifetime = meta.fresh_for.saturating_add(meta.stale_for);
        let longest = match meta.kind {
            EntryKind::Value => MAX_LIFETIME,
            EntryKind::Tombstone => TOMBSTONE_LIFETIME,
        };
        let long = |text: &Option<String>, most| text.as_ref().is_some_and(|text| text.len() > most);
        if value.len() > MAX_VALUE_BYTES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                Operation::Encode,
                format!("the value has {} bytes, an entry takes at most {MAX_VALUE_BYTES}", value.len()),
            ));
        }
        let complaint = if lifetime > longest {
            format!("it would live {} s, the most is {} s", lifetime.as_secs(), longest.as_secs())
        } else if long(&meta.content_type, MAX_CONTENT_TYPE_BYTES) {
            format!("its content type is longer than {MAX_CONTENT_TYPE_BYTES} bytes")
        } else if long(&meta.validators.etag, MAX_VALIDATOR_BYTES)
            || long(&meta.validators.last_modified, MAX_VALIDATOR_BYTES)
        {
            format!("a validator is longer than {MAX_VALIDATOR_BYTES} bytes")
        } else if meta.tags.len() > MAX_TAGS {
            format!("it has {} tags, the most is {MAX_TAGS}", meta.tags.len())
        } else if meta.tags.iter().any(|tag| tag.is_empty() || tag.len() > MAX_TAG_BYTES) {
            format!("a tag has 1 to {MAX_TAG_BYTES} bytes, one of its tags has not")
        } else if meta.kind == EntryKind::Tombstone && value.len() > MAX_PROOF_BYTES {
            format!("a tombstone's proof has at most {MAX_PROOF_BYTES} bytes, this one has {}", value.len())
        } else {
            return Ok(Self::assembled(meta, value));
        };
        Err(Error::new(ErrorKind::Config, Operation::Encode, format!("the entry is not valid: {complaint}")))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the value nor the tags: both may hold what a log must not.
        f.debug_struct("Entry")
            .field("kind", &self.shared.meta.kind)
            .field("version", &self.shared.meta.version)
            .field("created", &self.shared.meta.created)
            .field("fresh_for", &self.shared.meta.fresh_for)
            .field("stale_for", &self.shared.meta.stale_for)
            .field("class", &self.class())
            .field("bytes", &self.value.len())
            .finish_non_exhaustive()
    }
}

/// Builds an [`Entry`].
#[derive(Debug)]
#[must_use = "an entry is made by `build`"]
pub struct EntryBuilder {
    meta: Metadata,
    value: Bytes,
}

impl EntryBuilder {
    /// How long it may be served without asking. Whole milliseconds; default zero.
    pub fn fresh_for(mut self, duration: Duration) -> Self {
        self.meta.fresh_for = Duration::from_millis(whole_millis(duration));
        self
    }

    /// How long after that it may be served as stale. Whole milliseconds; default zero.
    pub fn stale_for(mut self, duration: Duration) -> Self {
        self.meta.stale_for = Duration::from_millis(whole_millis(duration));
        self
    }

    /// The media type of the value.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.meta.content_type = Some(content_type.into());
        self
    }

    /// The origin's entity tag, as received.
    pub fn etag(mut self, etag: impl Into<String>) -> Self {
        self.meta.validators.etag = Some(etag.into());
        self
    }

    /// The origin's modification date, as received.
    pub fn last_modified(mut self, date: impl Into<String>) -> Self {
        self.meta.validators.last_modified = Some(date.into());
        self
    }

    /// Who may read the value; default [`Class::Private`].
    pub fn class(mut self, class: Class) -> Self {
        self.meta.class = class;
        self
    }

    /// Adds a group that this entry belongs to.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.meta.tags.push(tag.into());
        self
    }

    /// The entry.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] for a value above [`MAX_VALUE_BYTES`]; [`ErrorKind::Config`] when a
    /// lifetime, tag, content type or validator exceeds its bound.
    pub fn build(self) -> Result<Entry, Error> {
        Entry::checked(self.meta, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::NodeId;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn version(seconds: i64) -> Version {
        let wall = Timestamp::from_millis(NOW.as_millis().checked_add_signed(seconds * 1000).unwrap());
        Version { wall, counter: 0, node: NodeId::from_u64(1) }
    }

    fn entry(seconds: i64) -> Entry {
        Entry::builder("v", version(seconds), NOW)
            .fresh_for(Duration::from_secs(10))
            .stale_for(Duration::from_secs(20))
            .build()
            .unwrap()
    }

    #[test]
    fn life_is_fresh_then_stale_then_expired() {
        let entry = entry(0);
        let at = |seconds| entry.freshness(NOW.saturating_add(Duration::from_millis(seconds)));
        assert_eq!(at(9_999), Freshness::Fresh);
        assert_eq!(at(10_000), Freshness::Stale);
        assert_eq!(at(29_999), Freshness::Stale);
        assert_eq!(at(30_000), Freshness::Expired);
        assert_eq!(entry.expires(), NOW.saturating_add(Duration::from_secs(30)));
    }

    #[test]
    fn the_greater_version_wins_unless_it_comes_from_the_future() {
        assert!(entry(1).supersedes(&entry(0), NOW));
        assert!(!entry(0).supersedes(&entry(0), NOW), "the same write twice changes nothing");
        assert!(!entry(0).supersedes(&entry(1), NOW));
        assert!(entry(0).supersedes(&entry(301), NOW), "a wrong clock must not pin a value");
        assert!(!entry(301).supersedes(&entry(0), NOW));
    }

    #[test]
    fn a_tombstone_outlives_every_entry_that_it_buries() {
        let latest = NOW.saturating_add(MAX_CLOCK_SKEW);
        let buried = Entry::builder("v", version(0), latest).fresh_for(MAX_LIFETIME).build().unwrap();
        assert!(Entry::tombstone(version(1), NOW).expires() >= buried.expires());
    }

    #[test]
    fn every_bound_is_kept() {
        let build = |change: fn(EntryBuilder) -> EntryBuilder| {
            change(Entry::builder("v", version(0), NOW)).build().map_err(|error| error.kind())
        };
        assert!(build(|b| b.fresh_for(MAX_LIFETIME)).is_ok());
        assert_eq!(
            build(|b| b.fresh_for(MAX_LIFETIME).stale_for(Duration::from_secs(1))),
            Err(ErrorKind::Config)
        );
        assert_eq!(build(|b| b.fresh_for(Duration::MAX).stale_for(Duration::MAX)), Err(ErrorKind::Config));
        assert_eq!(build(|b| b.content_type("x".repeat(257))), Err(ErrorKind::Config));
        assert_eq!(build(|b| b.etag("x".repeat(1025))), Err(ErrorKind::Config));
        assert_eq!(build(|b| b.tag("")), Err(ErrorKind::Config));
        assert_eq!(build(|b| (0..33).fold(b, |b, n| b.tag(n.to_string()))), Err(ErrorKind::Config));
        let large = Entry::builder(vec![0; MAX_VALUE_BYTES + 1], version(0), NOW).build();
        assert_eq!(large.map_err(|error| error.kind()), Err(ErrorKind::TooLarge));
    }

    #[test]
    fn a_tombstone_may_carry_a_small_proof() {
        let with = |bytes| Entry::tombstone_with_proof(version(0), NOW, vec![1; bytes]);
        assert!(with(MAX_PROOF_BYTES).unwrap().is_tombstone());
        assert_eq!(with(MAX_PROOF_BYTES + 1).map_err(|error| error.kind()), Err(ErrorKind::Config));
    }

    #[test]
    fn what_was_decoded_is_shared_by_clones_and_does_not_count() {
        let (one, other) = (entry(0), entry(0));
        let clone = one.clone();
        clone.set_decoded(Arc::new(7_u8));
        one.set_decoded(Arc::new(8_u8));
        assert_eq!(one.decoded().unwrap().downcast_ref(), Some(&7_u8), "the first is kept");
        assert!(other.decoded().is_none());
        assert_eq!(one, other);
        assert_eq!(one.memory_bytes(), other.memory_bytes());
    }

    #[test]
    fn debug_shows_neither_value_nor_tags() {
        let entry = Entry::builder("hush", version(0), NOW).tag("acme/hidden").build().unwrap();
        let shown = format!("{entry:?}");
        assert!(!shown.contains("hush") && !shown.contains("hidden"), "{shown}");
    }
}
