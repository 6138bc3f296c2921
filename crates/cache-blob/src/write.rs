//! Newest wins: how a write finds out whether it is the newest, and how many requests that takes.
//!
//! Usually one. A store that compares versions does it all in that request. With conditions on
//! revisions, a blob that this process has read or written is replaced under its revision, and one
//! that it has not seen is taken for absent. Only when the store says otherwise is the blob read,
//! compared, and the write tried again.

use std::time::Duration;

use bytes::Bytes;
use peercache_api::{Entry, Error, ErrorKind, Key, MAX_CLOCK_SKEW, Operation, Timestamp, envelope};

use crate::backend::BlobBackend;
use crate::object_cache::Known;
use crate::report::{Finding, add};
use crate::store::{BlobStore, Condition, Conditions, Newer, Revision, Written};

/// How often a write is tried against others. It loses a round only to a write that is newer than
/// what was there before and older than itself, so this many would have to come one by one in
/// rising order.
const ROUNDS: usize = 32;
/// The same on a store without conditions, where each round reads twice.
const UNCONDITIONAL_ROUNDS: usize = 4;
/// The least time to live. An entry that has expired still hides an older one for this long.
const MIN_TTL: Duration = Duration::from_secs(1);

/// What the probing blob holds.
const PROBE_BODY: &str =
    "peercache asks with this object whether the store honours If-None-Match and If-Match.\n";
/// A revision that no blob has: the entity tag of S3 would be the MD5 of nothing that we write.
const NO_SUCH_REVISION: &str = "\"00000000000000000000000000000000\"";

/// A write on its way.
struct Write<'a> {
    key: &'a Key,
    entry: &'a Entry,
    name: String,
    body: Bytes,
    ttl: Option<Duration>,
}

impl<S: BlobStore> BlobBackend<S> {
    /// Writes `entry` unless what is there is newer.
    pub(crate) async fn write(&self, key: &Key, entry: &Entry) -> Result<(), Error> {
        if self.store.info().conditions == Conditions::Versions {
            let now = self.clock.now();
            return self.write_if_newer(self.prepared(key, entry, now), now).await;
        }
        // On the heap, as what is rare below: it is several times as large as what remains.
        Box::pin(self.write_in_turn(key, entry)).await
    }

    fn prepared<'a>(&self, key: &'a Key, entry: &'a Entry, now: Timestamp) -> Write<'a> {
        Write {
            key,
            entry,
            name: self.layout.name(key),
            body: envelope::encode(key, entry),
            ttl: self.store.info().native_ttl.then(|| time_to_live(entry, now)),
        }
    }

    /// On a store that does not compare versions: what is there has to be known.
    async fn write_in_turn(&self, key: &Key, entry: &Entry) -> Result<(), Error> {
        let now = self.clock.now();
        let _turn = self.turns.wait(key).await;
        let known = self.cache.get(key);
        // Without conditions a blob can go back to an older write, so what is remembered proves
        // nothing.
        if self.loses(known.as_ref(), entry) && self.conditional.get() != Finding::No {
            return Ok(());
        }
        let write = self.prepared(key, entry, now);
        if self.finds_conditions().await? {
            self.write_if_unchanged(&write, known).await
        } else {
            self.write_unconditionally(&write).await
        }
    }

    /// Whether a write of `entry` leaves a blob that holds `known` as it is.
    fn loses(&self, known: Option<&Known>, entry: &Entry) -> bool {
        known.is_some_and(|known| !known.loses_to(entry, self.clock.now()))
    }

    /// On a store that compares versions: one request. The store reads no checksum, so what it
    /// takes for newer is verified before this write gives way to it.
    async fn write_if_newer(&self, write: Write<'_>, now: Timestamp) -> Result<(), Error> {
        let latest = now.saturating_add(MAX_CLOCK_SKEW);
        let condition = Condition::IfNewer(Newer { version: write.entry.version(), latest });
        if !write.entry.is_from_future(now) && self.cache.get(write.key).is_none() {
            match self.send(&write, condition).await? {
                Written::Stored(_) => {
                    self.writable.set(Finding::Yes);
                    return Ok(());
                }
                Written::ReadOnly(why) => return Err(self.note_read_only(why)),
                Written::Conflict => add(&self.counters.conflicts, 1),
                Written::Unsupported => {}
            }
        }
        Box::pin(self.write_compared(&write)).await
    }

    /// On a store that compares versions, where its comparison has to be verified.
    async fn write_compared(&self, write: &Write<'_>) -> Result<(), Error> {
        let _turn = self.turns.wait(write.key).await;
        let known = self.look(write).await?;
        let written = self.write_if_unchanged(write, known).await;
        if written.is_ok() {
            self.cache.forget(write.key);
        }
        written
    }

    /// On a store that knows revisions: under the revision that is known, until it is the right
    /// one.
    async fn write_if_unchanged(&self, write: &Write<'_>, mut known: Option<Known>) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            if self.loses(known.as_ref(), write.entry) {
                return Ok(());
            }
            let condition = match &known {
                None => Condition::IfAbsent,
                Some(Known { revision: Some(revision), .. }) => Condition::IfRevision(revision.clone()),
                // A store that names no revision of what it holds cannot compare either.
                Some(Known { revision: None, .. }) => Condition::Always,
            };
            match self.send(write, condition).await? {
                Written::Stored(revision) => {
                    self.stored(write, revision);
                    return Ok(());
                }
                Written::Conflict => {
                    add(&self.counters.conflicts, 1);
                    known = self.look(write).await?;
                }
                Written::Unsupported => {
                    self.has_no_conditions();
                    return self.write_unconditionally(write).await;
                }
                Written::ReadOnly(why) => return Err(self.note_read_only(why)),
            }
        }
        Err(self.outrun())
    }

    /// On a store without conditions: read, write, and read again whether it stayed. A write that
    /// began before ours and ends after our last read still goes unseen; only conditions can
    /// exclude that.
    async fn write_unconditionally(&self, write: &Write<'_>) -> Result<(), Error> {
        for round in 0..=UNCONDITIONAL_ROUNDS {
            let known = self.look(write).await?;
            if self.loses(known.as_ref(), write.entry) {
                return Ok(());
            }
            if round > 0 {
                add(&self.counters.conflicts, 1);
            }
            if round == UNCONDITIONAL_ROUNDS {
                break;
            }
            match self.send(write, Condition::Always).await? {
                Written::Stored(revision) => self.stored(write, revision),
                Written::Conflict | Written::Unsupported => {}
                Written::ReadOnly(why) => return Err(self.note_read_only(why)),
            }
        }
        Err(self.outrun())
    }

    fn outrun(&self) -> Error {
        self.error(ErrorKind::Unavailable, Operation::Put, "other writers keep replacing the blob")
            .with_help("see whether two stores of one name share the prefix")
    }

    async fn send(&self, write: &Write<'_>, condition: Condition) -> Result<Written, Error> {
        add(&self.counters.writes, 1);
        add(&self.counters.bytes_out, write.body.len() as u64);
        self.store.write(&write.name, write.body.clone(), condition, write.ttl).await
    }

    fn stored(&self, write: &Write<'_>, revision: Option<Revision>) {
        self.writable.set(Finding::Yes);
        if self.remembers_revisions() {
            self.cache.note(write.key, Known::holding(write.entry, revision), self.clock.now());
        }
    }

    /// What the blob holds, whole and verified: a damaged one must not keep a write out by the
    /// version that it claims.
    async fn look(&self, write: &Write<'_>) -> Result<Option<Known>, Error> {
        let Some(blob) = self.fetch(&write.name).await? else {
            self.cache.forget(write.key);
            return Ok(None);
        };
        let revision = blob.revision();
        let known = match blob.into_content().map(|bytes| envelope::decode(write.key, bytes)) {
            Ok(Ok(held)) => Known::holding(&held, revision),
            Ok(Err(_)) | Err(_) => Known::unreadable(revision),
        };
        if self.remembers_revisions() {
            self.cache.note(write.key, known.clone(), self.clock.now());
        }
        Ok(Some(known))
    }

    /// Whether the store honours conditions: found out once, by the first write.
    async fn finds_conditions(&self) -> Result<bool, Error> {
        let known = || match self.conditional.get() {
            Finding::Yes => Some(true),
            Finding::No => Some(false),
            Finding::Unknown => None,
        };
        if let Some(known) = known() {
            return Ok(known);
        }
        let _turn = self.detecting.lock().await;
        if let Some(known) = known() {
            return Ok(known);
        }
        let honoured = self.try_conditions().await?;
        match honoured {
            true => self.conditional.set(Finding::Yes),
            false => self.has_no_conditions(),
        }
        Ok(honoured)
    }

    /// Notes that the store knows no conditions, and warns of it once.
    fn has_no_conditions(&self) {
        if self.conditional.replace(Finding::No) != Finding::No {
            tracing::warn!(
                backend = %self.info.name,
                "the store does not honour conditional writes: each write reads before and after, and two \
                 machines that write one key in the same instant may leave the older entry"
            );
        }
    }

    /// Writes the probing blob under conditions that do not hold. A store that honours them
    /// refuses: it costs one refused write each. Only where the blob is not there yet is it
    /// written.
    async fn try_conditions(&self) -> Result<bool, Error> {
        let name = self.layout.probe();
        let put = |condition| {
            let (name, body) = (&name, Bytes::from_static(PROBE_BODY.as_bytes()));
            async move {
                add(&self.counters.writes, 1);
                match self.store.write(name, body, condition, None).await? {
                    Written::ReadOnly(why) => Err(self.note_read_only(why)),
                    written => Ok(written),
                }
            }
        };
        let absent = match put(Condition::IfAbsent).await? {
            // Made just now, or overwritten: the second time tells.
            Written::Stored(_) => put(Condition::IfAbsent).await?,
            other => other,
        };
        if !matches!(absent, Written::Conflict) {
            return Ok(false);
        }
        let unlike = Condition::IfRevision(Revision::new(NO_SUCH_REVISION));
        Ok(matches!(put(unlike).await?, Written::Conflict))
    }
}

/// How long a store is to keep `entry`.
fn time_to_live(entry: &Entry, now: Timestamp) -> Duration {
    let left = entry.expires().as_millis().saturating_sub(now.as_millis());
    Duration::from_millis(left).max(MIN_TTL)
}
