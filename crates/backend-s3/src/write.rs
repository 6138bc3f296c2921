//! Newest wins: how a write finds out whether it is the newest, and how many requests that takes.
//!
//! Usually one. What this process has read or written it remembers with its entity tag, and writes under
//! `If-Match`; what it has not seen it takes for absent, and writes under `If-None-Match: *`. Only when the
//! store says that it is otherwise is the object read, compared, and the write tried again.

use bytes::Bytes;
use peercache_api::{Entry, Error, ErrorKind, Key, Operation, envelope};

use crate::known::Known;
use crate::report::{Finding, add};
use crate::s3::S3;
use crate::store::{Condition, Written};
use crate::trouble::Trouble;

/// How often a write is tried against others. It loses a round only to a write that is newer than what was there
/// before and older than itself, so this many would have to come one by one in rising order.
const ROUNDS: usize = 32;
/// The same on a store without conditions, where each round reads twice.
const UNCONDITIONAL_ROUNDS: usize = 4;

/// What the probing object holds.
const PROBE_BODY: &str =
    "peercache asks with this object whether the store honours If-None-Match and If-Match.\n";
/// An entity tag that no object has: the MD5 of nothing that we write.
const NO_SUCH_ETAG: &str = "\"00000000000000000000000000000000\"";

impl S3 {
    /// Writes `entry` unless what is there is newer.
    pub(crate) async fn write(&self, key: &Key, entry: &Entry) -> Result<(), Error> {
        let _turn = self.turns.wait(key).await;
        let mut known = self.memory.get(key);
        let loses = |known: &Option<Known>| {
            known.as_ref().is_some_and(|known| !known.loses_to(entry, self.store.clock.now()))
        };
        // Without conditions an object can go back to an older write, so what is remembered proves nothing.
        if loses(&known) && self.conditional.get() != Finding::No {
            return Ok(());
        }
        let mut conditional = self.finds_conditions().await?;
        let name = self.layout.object(key);
        let body = envelope::encode(key, entry);
        for _ in 0..ROUNDS {
            if !conditional {
                return self.write_unconditionally(key, entry, &name, &body).await;
            }
            if loses(&known) {
                return Ok(());
            }
            let condition = match &known {
                None => Condition::Absent,
                Some(Known { etag: Some(etag), .. }) => Condition::Matches(etag.clone()),
                // A store that names no version of what it holds cannot compare either.
                Some(Known { etag: None, .. }) => Condition::None,
            };
            match self.store.put(&name, &body, &condition, Operation::Put).await {
                Ok(Written::Stored(etag)) => {
                    self.stored(key, entry, etag);
                    return Ok(());
                }
                Ok(Written::Conflict) => {
                    add(&self.store.counters.conflicts, 1);
                    known = self.look(key, &name).await?;
                }
                Ok(Written::NoConditions) => {
                    self.has_no_conditions();
                    conditional = false;
                }
                Err(trouble) => return Err(self.refused_write(trouble)),
            }
        }
        Err(self.outrun())
    }

    /// On a store without conditions: look, write, and look again whether it stayed. A write that began before
    /// ours and ends after our last look still goes unseen; only conditions can exclude that.
    async fn write_unconditionally(
        &self,
        key: &Key,
        entry: &Entry,
        name: &str,
        body: &Bytes,
    ) -> Result<(), Error> {
        for round in 0..=UNCONDITIONAL_ROUNDS {
            let known = self.look(key, name).await?;
            if known.is_some_and(|known| !known.loses_to(entry, self.store.clock.now())) {
                return Ok(());
            }
            if round > 0 {
                add(&self.store.counters.conflicts, 1);
            }
            if round == UNCONDITIONAL_ROUNDS {
                break;
            }
            match self.store.put(name, body, &Condition::None, Operation::Put).await {
                Ok(Written::Stored(etag)) => self.stored(key, entry, etag),
                Ok(Written::Conflict | Written::NoConditions) => {}
                Err(trouble) => return Err(self.refused_write(trouble)),
            }
        }
        Err(self.outrun())
    }

    fn outrun(&self) -> Error {
        Error::new(ErrorKind::Unavailable, Operation::Put, "others keep replacing the object")
            .with_backend("s3")
            .with_context("bucket", &self.store.bucket)
            .with_help("see whether two stores of one name share the prefix")
    }

    fn stored(&self, key: &Key, entry: &Entry, etag: Option<String>) {
        self.writable.set(Finding::Yes);
        self.memory.note(key, Known::holding(entry, etag), self.store.clock.now());
    }

    /// What the object of `key` holds, whole and verified: a damaged one must not keep a write out by the
    /// version that it claims.
    async fn look(&self, key: &Key, name: &str) -> Result<Option<Known>, Error> {
        let found = self.store.get(name, Operation::Put).await;
        let object = match found {
            Ok(object) => object,
            Err(Trouble::TooLong(_, etag)) => {
                let known = Known::unreadable(etag);
                self.memory.note(key, known.clone(), self.store.clock.now());
                return Ok(Some(known));
            }
            Err(trouble) => return Err(self.store.fail(trouble, Operation::Get)),
        };
        let Some(object) = object else {
            self.memory.forget(key);
            return Ok(None);
        };
        let known = match envelope::decode(key, object.body) {
            Ok(held) => Known::holding(&held, object.etag),
            Err(_) => Known::unreadable(object.etag),
        };
        self.memory.note(key, known.clone(), self.store.clock.now());
        Ok(Some(known))
    }

    /// Whether the store honours conditions: found out once, by whoever writes first.
    async fn finds_conditions(&self) -> Result<bool, Error> {
        let known = || match self.conditional.get() {
            Finding::Yes => Some(true),
            Finding::No => Some(false),
            Finding::Unknown => None,
        };
        if let Some(known) = known() {
            return Ok(known);
        }
        let _turn = self.finding.lock().await;
        if let Some(known) = known() {
            return Ok(known);
        }
        let honoured = self.try_conditions().await.map_err(|trouble| self.refused_write(trouble))?;
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
                "the S3 store does not honour conditional writes: each write looks before and after, and two \
                 machines that write one key in the same instant may leave the older entry"
            );
        }
    }

    /// Writes the probing object under conditions that do not hold. A store that honours them refuses: it
    /// costs one refused write each. Only where the object is not there yet is it written.
    async fn try_conditions(&self) -> Result<bool, Trouble> {
        let name = self.layout.probe();
        let body = Bytes::from_static(PROBE_BODY.as_bytes());
        let put = |condition| {
            let (name, body) = (&name, &body);
            async move { self.store.put(name, body, &condition, Operation::Put).await }
        };
        let absent = match put(Condition::Absent).await? {
            // Made just now, or overwritten: the second time tells.
            Written::Stored(_) => put(Condition::Absent).await?,
            other => other,
        };
        if !matches!(absent, Written::Conflict) {
            return Ok(false);
        }
        Ok(matches!(put(Condition::Matches(NO_SUCH_ETAG.into())).await?, Written::Conflict))
    }
}
