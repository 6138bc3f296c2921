//! Compares another node's root with ours, and reads only the folders that differ.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::adopt::{AT_ONCE, Adopted, adopt};
use super::message::{Link, is_cid};
use super::shared::Shared;
use crate::layout::is_raw_block;
use crate::report::add;
use crate::rpc::{Listed, Trouble};

/// Folders that are read at once.
const FOLDERS: usize = 16;
/// How long the node may look for a folder.
const FETCH: Duration = Duration::from_secs(10);
/// The most files of one folder that are looked at.
const MAX_FILES: usize = 4096;

/// Compares roots as they come, one at a time.
pub(super) async fn run(shared: Arc<Shared>, mut roots: mpsc::Receiver<String>) {
    let mut last_own = String::new();
    while let Some(theirs) = roots.recv().await {
        match compare(&shared, &theirs, &mut last_own).await {
            Ok(()) => {}
            Err(trouble) => {
                add(&shared.counters.failed, 1);
                tracing::debug!(%trouble, "the root of another IPFS node could not be compared");
            }
        }
    }
}

async fn compare(shared: &Shared, theirs: &str, last_own: &mut String) -> Result<(), Trouble> {
    let store = &shared.store;
    let root = store.layout.root();
    let own = store.node.folder(&root).await?;
    let empty = store.node.list(&root).await?.is_none_or(|files| files.is_empty());
    if empty && !last_own.is_empty() {
        // The node was replaced, or somebody removed everything: what was settled is to be had
        // again.
        shared.settled.clear();
    }
    *last_own = own.as_ref().map(|own| own.cid.clone()).filter(|_| !empty).unwrap_or_default();
    if own.is_some_and(|own| own.cid == theirs) || shared.settled.contains(theirs) {
        return Ok(());
    }
    add(&shared.counters.walks, 1);
    if walk(shared, theirs, "", 0).await? {
        shared.settled.insert(theirs.to_owned());
    }
    Ok(())
}

/// Reads a folder of another node below `path`, and takes over what differs. Gives whether nothing
/// is left to be had from it.
async fn walk(shared: &Shared, cid: &str, path: &str, depth: u8) -> Result<bool, Trouble> {
    let store = &shared.store;
    add(&shared.counters.folders, 1);
    let theirs = store.node.links(cid, FETCH).await?;
    let folder = format!("{}{path}", store.layout.root());
    let ours: HashMap<String, String> = store
        .node
        .list(&folder)
        .await?
        .unwrap_or_default()
        .into_iter()
        .map(|listed| (listed.name, listed.cid))
        .collect();
    let differs = |listed: &Listed| ours.get(&listed.name) != Some(&listed.cid);
    let different: Vec<_> = theirs.into_iter().take(MAX_FILES).filter(differs).collect();
    let settled = if depth == 2 {
        let links = different.into_iter().filter(|listed| is_raw_block(&listed.cid)).map(|listed| Link {
            path: format!("{}/{}", path.trim_start_matches('/'), listed.name),
            cid: listed.cid,
        });
        stream::iter(links)
            .map(|link| async move { adopt(shared, &link).await })
            .buffer_unordered(AT_ONCE)
            .fold(true, |all, adopted| std::future::ready(all && adopted == Adopted::Settled))
            .await
    } else {
        let folders = different.into_iter().filter(|listed| {
            is_level(&listed.name) && is_cid(&listed.cid) && !shared.settled.contains(&listed.cid)
        });
        stream::iter(folders)
            .map(|listed| async move {
                let below = format!("{path}/{}", listed.name);
                // Boxed, since it calls itself.
                match Box::pin(walk(shared, &listed.cid, &below, depth + 1)).await {
                    Ok(true) => {
                        shared.settled.insert(listed.cid);
                        true
                    }
                    Ok(false) => false,
                    Err(trouble) => {
                        tracing::debug!(%trouble, "a folder of another IPFS node could not be read");
                        false
                    }
                }
            })
            .buffer_unordered(FOLDERS)
            .fold(true, |all, settled| std::future::ready(all && settled))
            .await
    };
    Ok(settled)
}

/// Whether a folder is one of ours: two hexadecimal digits.
fn is_level(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}
