//! Reads and writes entries among the node's own files.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use peercache_api::{Class, Clock, Entry, Error, ErrorKind, Freshness, Key, Operation, Timestamp, envelope};
use tokio::sync::{Notify, OnceCell, Semaphore};
use tokio::time::timeout;

use crate::layout::{self, Layout, Name, Place, Write};
use crate::report::{Counters, IpfsReport, add};
use crate::rpc::{Listed, Node, Trouble};
use crate::superseded_keys::Queue;

/// Operations at once.
const OPERATIONS: usize = 64;
/// Calls that one operation makes at once.
const CALLS: usize = 4;
/// How often a write is repeated whose blocks a collection took before they were linked.
const WRITE_ROUNDS: usize = 4;
/// How often a lookup looks again when what it was about to read is gone.
const READ_ROUNDS: usize = 6;
/// The oldest Kubo that the tier was tried with: the first with `files/cp --force` refused by
/// default and trailers on every answer.
const OLDEST: (u64, u64) = (0, 40);

/// What the tier is set to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) api: String,
    pub(crate) client: &'static str,
    pub(crate) allow_private: bool,
    pub(crate) max_bytes: u64,
    pub(crate) request_timeout: Duration,
}

/// The node's files, as entries.
pub(crate) struct Store {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) layout: Layout,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Counters,
    version: OnceCell<String>,
    permits: Semaphore,
    /// Bytes that were written since somebody last looked how many there are.
    pub(crate) written: AtomicU64,
    /// That there are many of them.
    pub(crate) much_written: Notify,
    /// Bytes on the node when it was last looked; `u64::MAX`: never.
    pub(crate) stored: AtomicU64,
    /// Keys of which older writes are to be removed.
    pub(crate) cleaning: Queue,
    /// Writes older than this were evicted to make room, in milliseconds: they are not taken over
    /// again.
    pub(crate) evicted_below: AtomicU64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A write that the node has acknowledged: the paths and CIDs of its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written(pub(crate) Vec<(String, String)>);

/// The writes of one key that a folder holds.
#[derive(Debug, Default)]
pub(crate) struct Writes(BTreeMap<Write, Vec<(Name, Listed)>>);

impl Writes {
    pub(crate) fn add(&mut self, name: Name, listed: Listed) {
        self.0.entry(name.write).or_default().push((name, listed));
    }

    /// The greatest write that is whole and does not claim to come from the future, with its blocks
    /// in order.
    pub(crate) fn newest(&self, now: Timestamp) -> Option<(Write, Vec<&Listed>)> {
        self.0.iter().rev().filter(|(write, _)| !write.version.is_from_future(now)).find_map(
            |(write, files)| {
                let blocks = files.first()?.0.blocks;
                let mut found: Vec<Option<&Listed>> = vec![None; usize::from(blocks)];
                for (name, listed) in files.iter().filter(|(name, _)| name.blocks == blocks) {
                    found[usize::from(name.block)] = Some(listed);
                }
                found.into_iter().collect::<Option<Vec<_>>>().map(|blocks| (*write, blocks))
            },
        )
    }

    /// Every file but those of the newest write and of those that come after it and may be on their
    /// way. A write from the future goes too: any other supersedes it.
    pub(crate) fn superseded(&self, now: Timestamp) -> Vec<&Listed> {
        let Some((newest, _)) = self.newest(now) else { return Vec::new() };
        let goes = |write: &Write| *write < newest || write.version.is_from_future(now);
        self.0
            .iter()
            .filter(|(write, _)| goes(write))
            .flat_map(|(_, files)| files.iter().map(|(_, listed)| listed))
            .collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Write, &Vec<(Name, Listed)>)> {
        self.0.iter()
    }
}

impl Store {
    pub(crate) fn new(
        node: Arc<dyn Node>,
        layout: Layout,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            node,
            layout,
            settings,
            clock,
            counters: Counters::default(),
            version: OnceCell::new(),
            permits: Semaphore::new(OPERATIONS),
            written: AtomicU64::new(0),
            much_written: Notify::new(),
            stored: AtomicU64::new(u64::MAX),
            cleaning: Queue::default(),
            evicted_below: AtomicU64::new(0),
        }
    }

    pub(crate) fn report(&self) -> IpfsReport {
        let stored = self.stored.load(Ordering::Relaxed);
        IpfsReport {
            api: self.settings.api.clone(),
            prefix: self.layout.prefix().to_owned(),
            client: self.settings.client,
            version: self.version.get().cloned(),
            max_bytes: self.settings.max_bytes,
            stored_bytes: (stored != u64::MAX).then_some(stored),
            allow_private: self.settings.allow_private,
            counts: self.counters.read(),
            sync: None,
            sync_error: None,
        }
    }

    /// The error for a caller.
    pub(crate) fn fail(&self, trouble: Trouble, operation: Operation) -> Error {
        if matches!(trouble, Trouble::Timeout(_) | Trouble::WritesWait(_)) {
            add(&self.counters.timeouts, 1);
        }
        trouble.explain(operation, &self.settings.api)
    }

    /// Runs an operation within its deadline, when fewer than [`OPERATIONS`] run.
    pub(crate) async fn within<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let deadline = self.settings.request_timeout;
        let bounded = async {
            // It is never closed.
            let _permit = self.permits.acquire().await;
            work.await
        };
        match timeout(deadline, bounded).await {
            Ok(done) => done,
            Err(_) => Err(self.fail(Trouble::Timeout(deadline), operation)),
        }
    }

    /// Asks the node which Kubo it is, once: an older one does not do what the tier relies on.
    pub(crate) async fn check_version(&self, operation: Operation) -> Result<(), Error> {
        let asked = async {
            let version = self.node.version().await.map_err(|trouble| self.fail(trouble, operation))?;
            check(&version, &self.settings.api, operation)?;
            // A folder is there from the start, so that nodes that share agree how it is made.
            self.node
                .make_folder(&self.layout.root())
                .await
                .map_err(|trouble| self.fail(trouble, operation))?;
            Ok::<_, Error>(version)
        };
        self.version.get_or_try_init(|| asked).await.map(drop)
    }

    /// The writes of a key that the node holds.
    pub(crate) async fn writes(&self, place: &Place) -> Result<Writes, Trouble> {
        let mut writes = Writes::default();
        for listed in self.node.list(&place.folder).await?.unwrap_or_default() {
            match Name::parse(&listed.name) {
                Some(name) if name.key == place.key => writes.add(name, listed),
                _ => {}
            }
        }
        Ok(writes)
    }

    /// Reads the newest write of a key.
    pub(crate) async fn read(&self, key: &Key) -> Result<Option<Entry>, Error> {
        self.check_version(Operation::Get).await?;
        let place = self.layout.place(key);
        let fail = |trouble| self.fail(trouble, Operation::Get);
        let mut missing = None;
        for _ in 0..READ_ROUNDS {
            let now = self.clock.now();
            let writes = self.writes(&place).await.map_err(fail)?;
            let Some((write, blocks)) = writes.newest(now).filter(|(write, _)| write.expires > now) else {
                add(&self.counters.misses, 1);
                return Ok(None);
            };
            if missing == Some(write) {
                // It is listed and its block is not there, twice: the repository has lost it.
                let error = self.corrupt(key, "the node lists the entry and has lost its block");
                self.drop_write(&place, write, blocks.len()).await;
                return Err(error);
            }
            match self.read_blocks(&blocks).await {
                Ok(bytes) => return self.decode(key, &place, write, blocks.len(), bytes).await,
                Err(Trouble::NotLocal) => {
                    // Replaced and collected since it was listed.
                    add(&self.counters.looked_again, 1);
                    missing = Some(write);
                }
                Err(trouble) => return Err(fail(trouble)),
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            Operation::Get,
            "the entry is replaced faster than it can be read",
        )
        .with_backend("ipfs"))
    }

    async fn read_blocks(&self, blocks: &[&Listed]) -> Result<Bytes, Trouble> {
        if let [only] = blocks {
            return self.node.block(&only.cid).await;
        }
        let cids: Vec<_> = blocks.iter().map(|block| block.cid.clone()).collect();
        let read: Vec<Bytes> = stream::iter(cids)
            .map(|cid| async move { self.node.block(&cid).await })
            .buffered(CALLS)
            .try_collect()
            .await?;
        let mut whole = BytesMut::with_capacity(read.iter().map(Bytes::len).sum());
        for block in read {
            whole.extend_from_slice(&block);
        }
        Ok(whole.freeze())
    }

    async fn decode(
        &self,
        key: &Key,
        place: &Place,
        write: Write,
        blocks: usize,
        bytes: Bytes,
    ) -> Result<Option<Entry>, Error> {
        add(&self.counters.bytes_in, bytes.len() as u64);
        let error = match envelope::decode(key, bytes) {
            Ok(entry) if entry.version() != write.version => {
                self.corrupt(key, "the entry has another version than its name")
            }
            Ok(entry) if entry.freshness(self.clock.now()) == Freshness::Expired => {
                add(&self.counters.misses, 1);
                return Ok(None);
            }
            Ok(entry) => {
                add(&self.counters.hits, 1);
                return Ok(Some(entry));
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
            Err(error) => self.corrupt(key, "the entry is not what was written").with_source(error),
        };
        self.drop_write(place, write, blocks).await;
        Err(error)
    }

    fn corrupt(&self, key: &Key, message: &'static str) -> Error {
        add(&self.counters.corrupt, 1);
        Error::new(ErrorKind::Corrupt, Operation::Get, message)
            .with_backend("ipfs")
            .with_context("entry", key.fingerprint())
            .with_help("it is removed from the node; the next put of this key stores it again")
    }

    /// Removes a write that cannot be read, so that the next lookup is a miss. Best effort: what
    /// stays is found again.
    async fn drop_write(&self, place: &Place, write: Write, blocks: usize) {
        for name in place.names(write, blocks) {
            if let Err(trouble) = self.node.remove(&format!("{}/{name}", place.folder)).await {
                tracing::debug!(%trouble, "a damaged entry could not be removed from the IPFS node");
            }
        }
    }

    /// Writes an entry unless what is there is newer.
    pub(crate) async fn write(&self, key: &Key, entry: &Entry) -> Result<Written, Error> {
        self.check_version(Operation::Put).await?;
        let place = self.layout.place(key);
        let fail = |trouble| self.fail(trouble, Operation::Put);
        if !self.settings.allow_private && is_private(entry) {
            return Err(self.refuse_private(&place, entry).await);
        }
        if entry.is_from_future(self.clock.now()) {
            // Every other write supersedes it, and no reader would return it.
            return Ok(Written(Vec::new()));
        }
        let envelope = envelope::encode(key, entry);
        let write = Write::of(entry, &envelope);
        let written = self.store_write(&place, write, &envelope).await.map_err(fail)?;
        add(&self.counters.bytes_out, envelope.len() as u64);
        self.note_written(envelope.len() as u64);
        // What was removed is gone when this returns. What was replaced may go a moment later.
        if entry.is_tombstone() || !self.cleaning.push(&place) {
            self.clean(&place).await.map_err(fail)?;
        }
        add(&self.counters.puts, 1);
        Ok(written)
    }

    /// Stores and links every block of a write. Whole once the last is linked.
    async fn store_write(&self, place: &Place, write: Write, envelope: &Bytes) -> Result<Written, Trouble> {
        let blocks = layout::blocks(envelope);
        let names: Vec<_> =
            place.names(write, blocks.len()).map(|name| format!("{}/{name}", place.folder)).collect();
        let parts: Vec<_> = names.into_iter().zip(blocks).collect();
        stream::iter(parts)
            .map(|(path, block)| self.store_block(place, write, path, block))
            .buffered(CALLS)
            .try_collect()
            .await
            .map(Written)
    }

    /// Stores one block and links it. A collection may take the block before it is linked, and
    /// another writer may make the same folder in the same moment, which the node does not sort
    /// out: then again.
    async fn store_block(
        &self,
        place: &Place,
        write: Write,
        path: String,
        block: Bytes,
    ) -> Result<(String, String), Trouble> {
        let mut last = Trouble::NotLocal;
        for round in 0..WRITE_ROUNDS {
            if round > 0 {
                add(&self.counters.repeated, 1);
            }
            let cid = self.node.put_block(block.clone()).await?;
            match self.node.link(&cid, &path).await {
                // Whoever stored it before us stored the same: the name carries a digest of the
                // bytes.
                Ok(()) | Err(Trouble::Exists) => return Ok((path, cid)),
                Err(trouble @ (Trouble::NotLocal | Trouble::FolderRaced)) => last = trouble,
                // It was linked, and removed before the node had finished: by whoever wrote a newer
                // one.
                Err(Trouble::NoSuchFile) => {
                    let newest = self.writes(place).await?.newest(self.clock.now()).map(|(newest, _)| newest);
                    if newest.is_some_and(|newest| newest > write) {
                        return Ok((path, cid));
                    }
                    last = Trouble::NoSuchFile;
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Err(last)
    }

    /// Removes what the newest write of a key has superseded.
    pub(crate) async fn clean(&self, place: &Place) -> Result<(), Trouble> {
        let writes = self.writes(place).await?;
        let removed = self.remove_all(&place.folder, writes.superseded(self.clock.now())).await?;
        add(&self.counters.superseded, removed);
        Ok(())
    }

    /// Removes files of a folder, and gives their number.
    pub(crate) async fn remove_all(&self, folder: &str, files: Vec<&Listed>) -> Result<u64, Trouble> {
        let paths: Vec<_> = files.iter().map(|file| format!("{folder}/{}", file.name)).collect();
        let count = paths.len() as u64;
        stream::iter(paths)
            .map(|path| async move { self.node.remove(&path).await })
            .buffer_unordered(CALLS)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await?;
        Ok(count)
    }

    /// A private entry is not stored, and neither is what it replaces kept: a public value that is
    /// out of date would come back from here.
    async fn refuse_private(&self, place: &Place, entry: &Entry) -> Error {
        add(&self.counters.private_refused, 1);
        let removed = async {
            let writes = self.writes(place).await?;
            let older: Vec<_> = writes
                .iter()
                .filter(|(write, _)| write.version < entry.version())
                .flat_map(|(_, files)| files.iter().map(|(_, listed)| listed))
                .collect();
            self.remove_all(&place.folder, older).await
        };
        match removed.await {
            Ok(removed) => add(&self.counters.superseded, removed),
            Err(trouble) => return self.fail(trouble, Operation::Put),
        }
        Error::new(ErrorKind::Denied, Operation::Put, "private entries are not stored on an IPFS node")
            .with_backend("ipfs")
            .with_help("set IPFS_ALLOW_PRIVATE=true where nobody but the fleet can reach the node")
    }

    /// Counts bytes that were written here or taken over, and wakes who keeps to the limit after
    /// many.
    pub(crate) fn note_written(&self, bytes: u64) {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        let step = self.settings.max_bytes / 16;
        if before < step && before.saturating_add(bytes) >= step {
            self.much_written.notify_one();
        }
    }
}

/// Whether an entry must stay off nodes that strangers may reach. A removal holds nothing, counts
/// as public, and must reach every place where a value was.
pub(crate) fn is_private(entry: &Entry) -> bool {
    entry.class() == Class::Private
}

fn check(version: &str, api: &str, operation: Operation) -> Result<(), Error> {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u64>().ok());
    let error = |kind, message: &'static str| {
        Error::new(kind, operation, message)
            .with_backend("ipfs")
            .with_context("api", api)
            .with_context("version", version.chars().take(40).collect::<String>())
            .with_help("run Kubo 0.40 or newer; 0.43 is what the tier was tested with")
    };
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(()),
        (Some(_), Some(_)) => Err(error(ErrorKind::Config, "the IPFS node runs a Kubo that is too old")),
        _ => Err(error(ErrorKind::Unsupported, "the IPFS node does not name its version as Kubo does")),
    }
}
