//! Takes over what another node has: fetches a block, looks at it, links it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use peercache_api::{Key, envelope};
use tokio::sync::mpsc;

use super::message::Link;
use super::shared::Shared;
use crate::layout::{BLOCK_BYTES, Name, Place, Write};
use crate::report::add;
use crate::rpc::Trouble;

/// Blocks that are fetched at once: more are not faster.
pub(super) const AT_ONCE: usize = 16;
/// How long the node may look for a block.
const FETCH: Duration = Duration::from_secs(5);

/// How often a link is made again that another one raced in making a folder.
const LINKS: usize = 4;
/// The most links that are not flushed, beside those under way: the node refuses 256, and several
/// processes may use it.
const MAX_UNFLUSHED: usize = 32;

/// How taking over a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adopted {
    /// It is here, or nothing is to be had from it.
    Settled,
    /// It may succeed later.
    Failed,
}

/// Takes over what is announced.
pub(super) async fn run(shared: Arc<Shared>, queue: mpsc::Receiver<Link>) {
    stream::unfold(queue, |mut queue| async move { queue.recv().await.map(|link| (link, queue)) })
        .for_each_concurrent(AT_ONCE, |link| {
            let shared = Arc::clone(&shared);
            async move {
                adopt(&shared, &link).await;
            }
        })
        .await;
}

/// Takes over one link, unless there is something newer.
pub(super) async fn adopt(shared: &Shared, link: &Link) -> Adopted {
    let Some((name, key)) = link.parse() else {
        add(&shared.counters.refused, 1);
        return Adopted::Settled;
    };
    shared.adopting.fetch_add(1, Ordering::AcqRel);
    let taken = take(shared, link, &name, &key).await;
    let flushed = end(shared).await;
    match taken.and(flushed) {
        Ok(()) => Adopted::Settled,
        Err(trouble) => {
            add(&shared.counters.failed, 1);
            tracing::debug!(%trouble, "an entry of another IPFS node could not be taken over");
            Adopted::Failed
        }
    }
}

/// The last one under way flushes what all have linked, and so does whoever finds that it is much.
async fn end(shared: &Shared) -> Result<(), Trouble> {
    let is_last = shared.adopting.fetch_sub(1, Ordering::AcqRel) == 1;
    let linked = shared.unflushed.load(Ordering::Acquire);
    if linked == 0 || !is_last && linked < MAX_UNFLUSHED {
        return Ok(());
    }
    // Those that others count from here on are flushed by the next one.
    let linked = shared.unflushed.swap(0, Ordering::AcqRel);
    let flushed = shared.store.node.flush(&shared.store.layout.root()).await;
    if flushed.is_err() {
        shared.unflushed.fetch_add(linked, Ordering::AcqRel);
    }
    flushed
}

async fn take(shared: &Shared, link: &Link, name: &Name, key: &str) -> Result<(), Trouble> {
    let store = &shared.store;
    let now = store.clock.now();
    let write = name.write;
    let evicted_below = store.evicted_below.load(Ordering::Relaxed);
    if write.version.is_from_future(now)
        || write.expires <= now
        || write.version.wall.as_millis() <= evicted_below
    {
        add(&shared.counters.late, 1);
        return Ok(());
    }
    let place = Place {
        folder: format!("{}/{}/{}", store.layout.root(), &key[..2], &key[2..4]),
        key: name.key.clone(),
    };
    let writes = store.writes(&place).await?;
    let newer = writes.newest(now).is_some_and(|(newest, _)| newest >= write);
    if newer || writes.iter().any(|(_, files)| files.iter().any(|(here, _)| here == name)) {
        add(&shared.counters.late, 1);
        return Ok(());
    }
    let block = store.node.fetch_block(&link.cid, FETCH).await?;
    if !is_believable(store.settings.allow_private, name, key, &block) {
        add(&shared.counters.refused, 1);
        return Ok(());
    }
    let path = format!("{}/{}", place.folder, link.path.rsplit('/').next().unwrap_or_default());
    let mut linked = store.node.link_unflushed(&link.cid, &path).await;
    for _ in 0..LINKS {
        if !matches!(linked, Err(Trouble::FolderRaced)) {
            break;
        }
        linked = store.node.link_unflushed(&link.cid, &path).await;
    }
    shared.unflushed.fetch_add(1, Ordering::AcqRel);
    match linked {
        Ok(()) => add(&shared.counters.adopted, 1),
        Err(Trouble::Exists) => add(&shared.counters.late, 1),
        // Removed at once by whoever wrote a newer one; or the folder was raced, and it is not
        // here.
        Err(Trouble::NoSuchFile) => {
            let newest = store.writes(&place).await?.newest(now).map(|(newest, _)| newest);
            if newest.is_none_or(|newest| newest < write) {
                return Err(Trouble::NoSuchFile);
            }
            add(&shared.counters.late, 1);
        }
        Err(trouble) => return Err(trouble),
    }
    store.note_written(block.len() as u64);
    store.clean(&place).await
}

/// Whether a block is what its name says. Whoever reads the entry verifies its signature as well.
fn is_believable(allow_private: bool, name: &Name, key: &str, block: &Bytes) -> bool {
    if block.len() > BLOCK_BYTES {
        return false;
    }
    if name.blocks > 1 {
        // One of several cannot be read alone. All but the last are full.
        return name.block + 1 == name.blocks || block.len() == BLOCK_BYTES;
    }
    let Ok((digest, entry)) = envelope::decode_unkeyed(block.clone()) else { return false };
    let key_matches =
        Key::from_digest(digest).digest().iter().zip(key.as_bytes().chunks(2)).all(|(byte, digits)| {
            std::str::from_utf8(digits).is_ok_and(|text| u8::from_str_radix(text, 16) == Ok(*byte))
        });
    key_matches
        && Write::of(&entry, block) == name.write
        && (allow_private || !crate::store::is_private(&entry))
}
