//! Watching for removals behind a seal: the blinded names of sealed tombstones turned into real
//! ones.

use std::fmt;
use std::sync::{Arc, Weak};

use peercache_api::{Clock, Entry, RemovalWatcher};

use crate::format;
use crate::keys::Keys;
use crate::stats::{Counters, Rejection};

/// Tells a watcher of removals by the digests of the keys themselves.
///
/// A sealed tombstone holds its key's digest, encrypted and signed. So nothing has to be remembered
/// to turn a blinded name back, and nobody without the secret to write can have a key forgotten.
pub(crate) struct Unsealing {
    pub(crate) ring: Vec<Arc<Keys>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) watcher: Weak<dyn RemovalWatcher>,
}

impl Unsealing {
    /// Whether the watcher is still there.
    pub(crate) fn has_watcher(&self) -> bool {
        self.watcher.strong_count() > 0
    }

    fn open(&self, name: &[u8; 32], outer: &Entry) -> Result<([u8; 32], Entry), Rejection> {
        let id = format::peek_key_id(outer)?;
        let keys = self.ring.iter().find(|keys| keys.id() == id).ok_or(Rejection::Foreign)?;
        format::open_removal(keys, name, outer.clone())
    }
}

impl RemovalWatcher for Unsealing {
    fn removed(&self, key: &[u8; 32], tombstone: &Entry) {
        let Some(watcher) = self.watcher.upgrade() else { return };
        if tombstone.is_from_future(self.clock.now()) {
            return;
        }
        match self.open(key, tombstone) {
            Ok((key, tombstone)) => watcher.removed(&key, &tombstone),
            Err(why) => self.counters.rejected(why),
        }
    }
}

impl fmt::Debug for Unsealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsealing").field("ring", &self.ring).finish_non_exhaustive()
    }
}
