//! Keeps the tier's files within their byte limit, and removes what has expired.
//!
//! The names say everything, so no file is opened. The node knows the bytes of the whole folder, so
//! looking whether there are too many is one call. Of all processes on a node, one sweeps at a
//! time: the one that links the mark of the current turn, which only one can.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use peercache_api::{MAX_CLOCK_SKEW, Timestamp};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::layout::Name;
use crate::report::add;
use crate::rpc::{Listed, Trouble};
use crate::store::{Store, Writes};

/// How often it is looked whether there are too many bytes, where little is written.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often what has expired is removed, in milliseconds of the wall clock.
const SWEEP_EVERY_MILLIS: u64 = 15 * 60 * 1000;
/// How often the same node may be swept for its bytes, in milliseconds of the wall clock.
const EVICT_EVERY_MILLIS: u64 = 10 * 1000;
/// Folders that are read at once.
const FOLDERS: usize = 8;
/// An eviction leaves this part of the limit, in hundredths, so that not every write evicts.
const KEEP_PERCENT: u64 = 90;
/// A write that is still not whole after this long never will be.
const UNFINISHED: Duration = Duration::from_secs(600);
/// What the mark of a turn holds.
const MARK: &[u8] = b"peercache sweep\n";

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Files that are there now, of entries and removals.
    pub files: u64,
    /// Their bytes, without folders.
    pub bytes: u64,
    /// Files that had expired or were left behind by writes that never ended, or that newer ones
    /// replaced.
    pub expired: u64,
    /// Files that were removed to stay within the byte limit, the oldest writes first.
    pub evicted: u64,
}

/// Starts the maintenance of a store; `None` without a runtime.
pub(crate) fn start(store: &Arc<Store>) -> Option<AbortHandle> {
    let runtime = Handle::try_current().ok()?;
    Some(runtime.spawn(run(Arc::downgrade(store))).abort_handle())
}

async fn run(store: Weak<Store>) {
    let mut swept = 0;
    loop {
        {
            let Some(store) = store.upgrade() else { return };
            // By a tenth more or less, so that processes that started together spread.
            let pause = LOOK_EVERY.mul_f64(0.9 + 0.2 * jitter(&store));
            let woken = timeout(pause, store.much_written.notified()).await;
            drop(woken);
        }
        let Some(store) = store.upgrade() else { return };
        if let Err(trouble) = maintain(&store, &mut swept).await {
            tracing::debug!(%trouble, "the IPFS node could not be swept; it is tried again");
        }
    }
}

/// A number from 0 to 1 that differs between processes and moments.
fn jitter(store: &Store) -> f64 {
    let nanos = store.clock.monotonic().subsec_nanos() ^ std::process::id().wrapping_mul(2_654_435_761);
    f64::from(nanos % 1000) / 1000.0
}

/// Looks whether something has to be removed, and whether it is this process's turn.
async fn maintain(store: &Store, swept: &mut u64) -> Result<(), Trouble> {
    let now = store.clock.now().as_millis();
    store.written.store(0, Ordering::Relaxed);
    let Some(folder) = store.node.folder(&store.layout.root()).await? else { return Ok(()) };
    store.stored.store(folder.bytes, Ordering::Relaxed);
    let full = folder.bytes > store.settings.max_bytes;
    let turn = now / SWEEP_EVERY_MILLIS;
    let due = turn != *swept;
    let chosen = (full && take_turn(store, "bytes", now / EVICT_EVERY_MILLIS).await?)
        || (due && take_turn(store, "time", turn).await?);
    if chosen {
        sweep(store).await?;
    }
    *swept = turn;
    Ok(())
}

/// Whether this process is the one that sweeps in this turn.
async fn take_turn(store: &Store, kind: &str, turn: u64) -> Result<bool, Trouble> {
    let folder = store.layout.sweeps();
    let name = format!("{kind}.{turn:016x}");
    let cid = store.node.put_block(Bytes::from_static(MARK)).await?;
    match store.node.link(&cid, &format!("{folder}/{name}")).await {
        Ok(()) => {}
        Err(Trouble::Exists) => return Ok(false),
        Err(trouble) => return Err(trouble),
    }
    let marks = store.node.list(&folder).await?.unwrap_or_default();
    let old: Vec<_> = marks
        .iter()
        .filter(|mark| mark.name.split_once('.').is_some_and(|(of, _)| of == kind) && mark.name < name)
        .collect();
    store.remove_all(&folder, old).await?;
    Ok(true)
}

/// Removes what has expired, then the oldest writes if there are too many bytes.
pub(crate) async fn sweep(store: &Store) -> Result<Swept, Trouble> {
    let mut swept = Swept::default();
    let found = walk(store, Pass::Expired).await?;
    swept.expired = found.removed;
    (swept.files, swept.bytes) = (found.files, found.bytes);
    add(&store.counters.expired, found.removed);
    // Folders count too, and every name is in one: the node's own number decides.
    let folder = store.node.folder(&store.layout.root()).await?;
    let stored = folder.map_or(0, |folder| folder.bytes);
    store.stored.store(stored, Ordering::Relaxed);
    if stored <= store.settings.max_bytes {
        return Ok(swept);
    }
    let goal = store.settings.max_bytes / 100 * KEEP_PERCENT;
    let mut surplus = stored - goal;
    let mut oldest_kept = Timestamp::EPOCH;
    for (minute, bytes) in found.by_minute {
        oldest_kept = Timestamp::from_millis((minute + 1).saturating_mul(60_000));
        surplus = surplus.saturating_sub(bytes);
        if surplus == 0 {
            break;
        }
    }
    // What was written within one minute goes or stays together; of the last minute, the part that
    // is needed.
    let evicted = walk(store, Pass::OlderThan(oldest_kept, stored - goal)).await?;
    swept.evicted = evicted.removed;
    swept.files = evicted.files;
    swept.bytes = evicted.bytes;
    store.evicted_below.fetch_max(evicted.newest_removed.as_millis(), Ordering::Relaxed);
    add(&store.counters.evicted, evicted.removed);
    add(&store.counters.evicted_bytes, evicted.removed_bytes);
    if let Some(folder) = store.node.folder(&store.layout.root()).await? {
        store.stored.store(folder.bytes, Ordering::Relaxed);
    }
    Ok(swept)
}

/// What a walk through all folders removes.
#[derive(Clone, Copy, Debug)]
enum Pass {
    /// What has expired, what newer writes have replaced, and what was never finished.
    Expired,
    /// Writes older than this, until so many bytes are gone.
    OlderThan(Timestamp, u64),
}

/// What a walk found.
#[derive(Debug, Default)]
struct Found {
    files: u64,
    bytes: u64,
    removed: u64,
    removed_bytes: u64,
    newest_removed: Timestamp,
    /// Bytes of what stays, by the minute of the write: at most 43,211 of them, since an entry
    /// lives for 30 days.
    by_minute: BTreeMap<u64, u64>,
}

async fn walk(store: &Store, pass: Pass) -> Result<Found, Trouble> {
    let root = store.layout.root();
    let mut found = Found::default();
    for outer in folders(store, &root).await? {
        let outer = format!("{root}/{outer}");
        let inner = folders(store, &outer).await?;
        let mut listed = stream::iter(inner.into_iter().map(|inner| format!("{outer}/{inner}")))
            .map(|folder| async move {
                let files = store.node.list(&folder).await?.unwrap_or_default();
                Ok::<_, Trouble>((folder, files))
            })
            .buffer_unordered(FOLDERS);
        while let Some((folder, files)) = listed.try_next().await? {
            visit(store, &folder, files, pass, &mut found).await?;
        }
    }
    Ok(found)
}

/// The folders of a level: two hexadecimal digits each.
async fn folders(store: &Store, folder: &str) -> Result<Vec<String>, Trouble> {
    let listed = store.node.list(folder).await?.unwrap_or_default();
    let ours = |name: &String| name.len() == 2 && name.bytes().all(|c| c.is_ascii_hexdigit());
    Ok(listed.into_iter().map(|listed| listed.name).filter(ours).collect())
}

async fn visit(
    store: &Store,
    folder: &str,
    files: Vec<Listed>,
    pass: Pass,
    found: &mut Found,
) -> Result<(), Trouble> {
    let now = store.clock.now();
    let mut keys: BTreeMap<String, Writes> = BTreeMap::new();
    for listed in files {
        if let Some(name) = Name::parse(&listed.name) {
            keys.entry(name.key.clone()).or_default().add(name, listed);
        }
    }
    for writes in keys.values() {
        // The older ones first: an older value must not be the newest for a moment.
        let mut goes = writes.superseded(now);
        let mut stays = Vec::new();
        let newest = writes.newest(now).map(|(write, _)| write);
        for (write, files) in writes.iter() {
            let superseded =
                newest.is_some_and(|newest| *write < newest) || write.version.is_from_future(now);
            if superseded && newest.is_some() {
                continue;
            }
            let finished = Some(*write) == newest;
            let begun = write.version.wall.saturating_add(UNFINISHED);
            let dead =
                write.expires <= now || (!finished && begun < now && !write.version.is_from_future(now));
            let evicted = match pass {
                Pass::Expired => false,
                Pass::OlderThan(oldest, surplus) => {
                    write.version.wall < oldest && found.removed_bytes < surplus
                }
            };
            for (_, listed) in files {
                if evicted || (dead && !unbelievable(write.version.wall, now)) {
                    goes.push(listed);
                    found.removed_bytes += listed.size;
                    if evicted {
                        found.newest_removed = found.newest_removed.max(write.version.wall);
                    }
                } else {
                    stays.push((write, listed));
                }
            }
        }
        for (write, listed) in &stays {
            found.files += 1;
            found.bytes += listed.size;
            *found.by_minute.entry(write.version.wall.as_millis() / 60_000).or_default() += listed.size;
        }
        // In order, and each one acknowledged before the next: see above.
        for listed in goes {
            store.node.remove(&format!("{folder}/{}", listed.name)).await?;
            found.removed += 1;
        }
    }
    Ok(())
}

/// Whether a write claims a time so far ahead that our own clock may be the wrong one: nothing is
/// removed for its age then.
fn unbelievable(wall: Timestamp, now: Timestamp) -> bool {
    wall > now.saturating_add(MAX_CLOCK_SKEW)
}
