//! Reads and writes of one key over the space.

use std::collections::BTreeSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, maybe_done};
use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;
use peercache_api::{Class, Clock, Entry, Error, ErrorKind, Freshness, Key, Operation, Timestamp, envelope};
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::client::{Client, Outcome, Task};
use crate::layout::{Roots, shard};
use crate::report::{Counters, count};
use crate::request_error::RequestError;
use crate::slots::quiet_root;
use crate::ucan::car::{CAR, digest_of};
use crate::ucan::{fields, list, map};

/// How many writes are remembered: where their bytes are and which one they are. About 300 bytes
/// each.
const REMEMBERED: usize = 8192;
/// The most shards of one root that are looked at, the last ones of the list.
const MAX_SHARDS: usize = 64;
/// From as many shards on, a root is compacted.
pub(crate) const CROWDED: usize = 4;
/// How long writes are not tried after the service has said that it takes none.
const WRITES_DISABLED_FOR: Duration = Duration::from_secs(60);

/// A write that was seen: its digest is its name, so this never changes.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    url: Url,
    head: Entry,
}

pub(crate) struct Store {
    pub(crate) client: Client,
    pub(crate) prefix: String,
    pub(crate) counters: Arc<Counters>,
    pub(crate) clock: Arc<dyn Clock>,
    known: Cache<[u8; 32], Known>,
    /// The newest write that was seen of a key, by the digest of the key.
    latest: Cache<[u8; 32], [u8; 32]>,
    allow_private: bool,
    timeout: Duration,
    /// Until when writes are refused here, and why.
    writes_disabled: Mutex<Option<(Timestamp, Error)>>,
}

/// What the two roots of a key hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shards(pub(crate) [Vec<[u8; 32]>; 2]);

impl Shards {
    pub(crate) fn all(&self) -> BTreeSet<[u8; 32]> {
        self.0.iter().flatten().copied().collect()
    }
}

impl Store {
    pub(crate) fn new(
        client: Client,
        prefix: String,
        counters: Arc<Counters>,
        clock: Arc<dyn Clock>,
        allow_private: bool,
        timeout: Duration,
    ) -> Self {
        Self {
            client,
            prefix,
            counters,
            clock,
            known: Cache::new(REMEMBERED),
            latest: Cache::new(REMEMBERED),
            allow_private,
            timeout,
            writes_disabled: Mutex::default(),
        }
    }

    /// Gives an operation up at its deadline, and counts that.
    pub(crate) async fn within<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            count(&self.counters.timeouts);
            Err(Error::new(ErrorKind::Timeout, operation, "the upload service did not answer in time")
                .with_backend("storacha")
                .with_context("deadline_ms", self.timeout.as_millis()))
        })
    }

    pub(crate) fn writes_disabled(&self) -> Option<Error> {
        let disabled = self.writes_disabled.lock().unwrap_or_else(PoisonError::into_inner);
        disabled.as_ref().filter(|(until, _)| self.clock.now() < *until).map(|(_, error)| error.clone())
    }

    fn fail(&self, error: RequestError, operation: Operation) -> Error {
        let disabled = error.is_writes_disabled();
        let error = error.into_error(operation);
        if disabled {
            let until = self.clock.now().saturating_add(WRITES_DISABLED_FOR);
            let mut state = self.writes_disabled.lock().unwrap_or_else(PoisonError::into_inner);
            if state.is_none() {
                tracing::warn!(%error, "the Storacha tier is read-only");
            }
            *state = Some((until, error.clone()));
        }
        error
    }

    /// The bytes of the newest write that was seen before are fetched while the service is asked
    /// which write is the newest: usually it still is, and then the two take the time of one.
    pub(crate) async fn read(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let fail = |error| self.fail(error, Operation::Get);
        let expected = self.expected(key);
        let fetch = expected
            .as_ref()
            .map(|(digest, known)| self.client.fetch(&known.url, *digest, envelope::MAX_ENVELOPE_BYTES));
        let mut fetched = pin!(maybe_done(async {
            match fetch {
                Some(fetch) => Some(fetch.await),
                None => None,
            }
        }));
        let find = async {
            let writes = self.writes(key).await?;
            self.newest(key, &writes).await
        };
        let found = {
            let mut find = pin!(find);
            poll_fn(|context| {
                let found = find.as_mut().poll(context);
                if found.is_pending() {
                    // Its end is no news. It is polled to the end of the search all the same: it
                    // has a place for a request that the search may wait for.
                    let _ended = fetched.as_mut().poll(context);
                }
                found
            })
            .await
            .map_err(fail)?
        };
        if let Some((digest, _)) = &found {
            self.latest.insert(*key.digest(), *digest);
        }
        let entry = match found {
            None => None,
            Some((_, Some(entry))) => Some(entry),
            Some((digest, None)) => {
                let fetched = match &expected {
                    Some((expected, _)) if *expected == digest => {
                        fetched.as_mut().await;
                        fetched.take_output().flatten()
                    }
                    _ => None,
                };
                Some(self.entry(key, digest, fetched).await.map_err(fail)?)
            }
        };
        let entry = entry.filter(|entry| entry.freshness(self.clock.now()) != Freshness::Expired);
        count(if entry.is_some() { &self.counters.hits } else { &self.counters.misses });
        Ok(entry)
    }

    /// The newest write of a key that was seen, if it has a value that can still be used.
    fn expected(&self, key: &Key) -> Option<([u8; 32], Known)> {
        let digest = self.latest.get(key.digest())?;
        let known = self.known.get(&digest)?;
        let of_use =
            !known.head.is_tombstone() && known.head.freshness(self.clock.now()) != Freshness::Expired;
        of_use.then_some((digest, known))
    }

    /// The writes of a key among which the newest is. A root that lists the newest write which was
    /// seen before has every acknowledged one, as both do; else both are looked at.
    async fn writes(&self, key: &Key) -> Result<BTreeSet<[u8; 32]>, RequestError> {
        let roots = Roots::of(&self.prefix, key);
        if let Some(seen) = self.latest.get(key.digest()) {
            let found = self.client.invoke(&[lookup(roots.0[quiet_root()])]).await?;
            let listed = listed(&found[0])?;
            if listed.contains(&seen) {
                return Ok(listed.into_iter().collect());
            }
        }
        Ok(self.shards(&roots).await?.all())
    }

    /// Whether compaction is due afterwards.
    pub(crate) async fn write(&self, key: &Key, entry: &Entry) -> Result<bool, Error> {
        if entry.class() != Class::Public && !self.allow_private {
            count(&self.counters.private_refused);
            return Err(Error::new(
                ErrorKind::Denied,
                Operation::Put,
                "private entries are not stored at Storacha",
            )
            .with_backend("storacha")
            .with_help(
                "what is removed there can stay readable; STORACHA_ALLOW_PRIVATE=true allows it all the same",
            ));
        }
        if let Some(error) = self.writes_disabled() {
            return Err(error);
        }
        let fail = |error| self.fail(error, Operation::Put);
        let bytes = envelope::encode(key, entry);
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let roots = Roots::of(&self.prefix, key);
        let pending = self.client.upload(&bytes, digest).await.map_err(fail)?;
        let length = bytes.len() as u64;
        let url = self.client.finish(pending, bytes, digest).await.map_err(fail)?;
        self.counters.bytes_out.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
        // Whether it is the newest does not matter: that is decided by who reads.
        let mut crowded = false;
        for outcome in self.client.invoke(&roots.0.map(|root| add(root, &[digest]))).await.map_err(fail)? {
            crowded |= digests(outcome.ok().map_err(fail)?).len() >= CROWDED;
        }
        self.remember(digest, url, entry);
        let seen = self.latest.get(key.digest()).and_then(|seen| self.known.get(&seen));
        if seen.is_none_or(|seen| entry.supersedes(&seen.head, self.clock.now())) {
            self.latest.insert(*key.digest(), digest);
        }
        count(&self.counters.puts);
        Ok(crowded)
    }

    /// What both roots list.
    pub(crate) async fn shards(&self, roots: &Roots) -> Result<Shards, RequestError> {
        let found = self.client.invoke(&roots.0.map(lookup)).await?;
        Ok(Shards([listed(&found[0])?, listed(&found[1])?]))
    }

    /// The newest write among these, with its value where it had to be fetched to find out. Writes
    /// that cannot be read are left out unless none can.
    pub(crate) async fn newest(
        &self,
        key: &Key,
        digests: &BTreeSet<[u8; 32]>,
    ) -> Result<Option<([u8; 32], Option<Entry>)>, RequestError> {
        let looked = join_all(digests.iter().map(|digest| async move {
            if let Some(known) = self.known.get(digest) {
                return Ok((*digest, known.head, None));
            }
            let entry = self.entry(key, *digest, None).await?;
            Ok((*digest, head_of(&entry), Some(entry)))
        }));
        let now = self.clock.now();
        let mut newest: Option<([u8; 32], Entry, Option<Entry>)> = None;
        let mut failed = None;
        for found in looked.await {
            match found {
                Ok(found) if newest.as_ref().is_none_or(|(_, head, _)| found.1.supersedes(head, now)) => {
                    newest = Some(found);
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        match (newest, failed) {
            (Some((digest, _, entry)), _) => Ok(Some((digest, entry))),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// As [`Store::newest`], without the value.
    pub(crate) async fn newest_head(
        &self,
        key: &Key,
        digests: &BTreeSet<[u8; 32]>,
    ) -> Result<Option<([u8; 32], Entry)>, RequestError> {
        let newest = self.newest(key, digests).await;
        Ok(match newest {
            Ok(Some((digest, Some(entry)))) => Some((digest, head_of(&entry))),
            Ok(Some((digest, None))) => self.known.get(&digest).map(|known| (digest, known.head)),
            Ok(None) => None,
            // What cannot be read is no reason not to write.
            Err(error @ (RequestError::Bytes | RequestError::Location(_) | RequestError::Malformed(_))) => {
                tracing::debug!(?error, "what is stored cannot be read and is replaced");
                None
            }
            Err(error) => return Err(error),
        })
    }

    /// The write with this digest. `fetched`: what a request for its bytes ended with, where one
    /// was made.
    async fn entry(
        &self,
        key: &Key,
        digest: [u8; 32],
        fetched: Option<Result<Bytes, RequestError>>,
    ) -> Result<Entry, RequestError> {
        let known = self.known.get(&digest);
        let mut url = match &known {
            Some(known) => known.url.clone(),
            None => self.client.locate(digest).await?,
        };
        let fetched = match fetched {
            Some(fetched) => fetched,
            None => self.client.fetch(&url, digest, envelope::MAX_ENVELOPE_BYTES).await,
        };
        let bytes: Bytes = match fetched {
            // The storage node may have changed since.
            Err(RequestError::StorageNode(_)) if known.is_some() => {
                url = self.client.locate(digest).await?;
                self.client.fetch(&url, digest, envelope::MAX_ENVELOPE_BYTES).await?
            }
            other => other?,
        };
        self.counters.bytes_in.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
        let entry = envelope::decode(key, bytes).map_err(|_| {
            count(&self.counters.corrupt);
            RequestError::Bytes
        })?;
        self.remember(digest, url, &entry);
        Ok(entry)
    }

    fn remember(&self, digest: [u8; 32], url: Url, entry: &Entry) {
        self.known.insert(digest, Known { url, head: head_of(entry) });
    }

    pub(crate) fn forget(&self, digest: &[u8; 32]) {
        self.known.remove(digest);
    }

    pub(crate) fn disabled_reason(&self) -> Option<String> {
        self.writes_disabled().map(|error| error.message().to_owned())
    }

    pub(crate) const fn allow_private(&self) -> bool {
        self.allow_private
    }
}

/// An entry without its value: what decides which of two is newer.
fn head_of(entry: &Entry) -> Entry {
    let meta = entry.metadata();
    if entry.is_tombstone() {
        return Entry::tombstone(meta.version, meta.created);
    }
    // Bounds were checked when the entry was made.
    Entry::builder(Bytes::new(), meta.version, meta.created)
        .fresh_for(meta.fresh_for)
        .stale_for(meta.stale_for)
        .build()
        .unwrap_or_else(|_| Entry::tombstone(meta.version, meta.created))
}

/// The digests of the shards that the service lists, at most [`MAX_SHARDS`].
pub(crate) fn digests(ok: &Ipld) -> Vec<[u8; 32]> {
    let Ok(ok) = fields(ok) else { return Vec::new() };
    let shards: Vec<_> = list(ok, "shards")
        .iter()
        .filter_map(|shard| match shard {
            Ipld::Link(cid) if cid.codec() == CAR => digest_of(cid),
            _ => None,
        })
        .collect();
    shards[shards.len().saturating_sub(MAX_SHARDS)..].to_vec()
}

/// What a root lists; nothing where there is no such root.
fn listed(outcome: &Outcome) -> Result<Vec<[u8; 32]>, RequestError> {
    match outcome.ok() {
        Ok(ok) => Ok(digests(ok)),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn lookup(root: Cid) -> Task {
    Task { can: "upload/get", nb: map([("root", Ipld::Link(root))]) }
}

pub(crate) fn add(root: Cid, digests: &[[u8; 32]]) -> Task {
    let shards = digests.iter().map(|digest| Ipld::Link(shard(*digest))).collect();
    Task { can: "upload/add", nb: map([("root", Ipld::Link(root)), ("shards", Ipld::List(shards))]) }
}

pub(crate) fn remove(root: Cid) -> Task {
    Task { can: "upload/remove", nb: map([("root", Ipld::Link(root))]) }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("service", &self.client.service).finish_non_exhaustive()
    }
}
