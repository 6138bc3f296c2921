//! Sharing with the tiers of other nodes: every write is announced, and roots are compared.
//!
//! - After a put the paths and CIDs of its blocks are published on a topic of the nodes' pubsub.
//!   Who has nothing newer fetches each block, looks at it, and links it.
//! - Pubsub loses messages. About every two seconds each node's root is published; who has another
//!   one reads the folders that differ, and no others.
//! - What is published is sealed and signed as entries are. A stranger can neither make a node
//!   fetch or link something, nor see what is announced.
//! - Only single raw blocks are linked, and only once they are here: a folder whose children are on
//!   a node that is gone would hold up every later write of the node.

mod adopt;
mod listen;
mod message;
mod peers;
mod publish;
mod reconnect;
mod seal;
mod settled;
mod shared;
mod walk;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use peercache_api::{Error, ErrorKind, Operation};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::report::{SyncCounts, add};
use crate::store::{Store, Written};
use message::Link;
pub(crate) use seal::Seal;
use seal::Sealer;
use shared::Shared;

/// Links that wait to be announced, or to be looked at.
const QUEUE: usize = 1024;
/// Roots of other nodes that wait to be compared: there is always a next one.
const ROOTS: usize = 4;
/// How long [`Sync::flush`] waits.
const FLUSH: Duration = Duration::from_secs(1);

/// The running exchange with other nodes. Ends when it is stopped.
#[derive(Debug)]
pub(crate) struct Sync {
    shared: Arc<Shared>,
    announcements: Option<mpsc::Sender<Link>>,
    tasks: Vec<AbortHandle>,
}

impl Sync {
    /// Starts to listen, and to announce if `announces`.
    pub(crate) fn start(store: &Arc<Store>, seal: Seal, announces: bool) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|error| {
            Error::new(
                ErrorKind::Config,
                Operation::Open,
                "sharing with other IPFS nodes needs a tokio runtime",
            )
            .with_backend("ipfs")
            .with_source(error)
        })?;
        let sealer = Sealer::new(&seal, Arc::clone(&store.clock))?;
        let shared = Arc::new(Shared::new(Arc::clone(store), sealer));
        let (links, heard) = mpsc::channel(QUEUE);
        let (roots, to_compare) = mpsc::channel(ROOTS);
        let mut tasks = vec![
            runtime.spawn(listen::run(Arc::clone(&shared), links, roots)).abort_handle(),
            runtime.spawn(adopt::run(Arc::clone(&shared), heard)).abort_handle(),
            runtime.spawn(reconnect::run(Arc::clone(&shared))).abort_handle(),
            runtime.spawn(walk::run(Arc::clone(&shared), to_compare)).abort_handle(),
        ];
        let announcements = announces.then(|| {
            let (announcements, queue) = mpsc::channel(QUEUE);
            tasks.push(runtime.spawn(publish::run(Arc::clone(&shared), queue)).abort_handle());
            announcements
        });
        Ok(Self { shared, announcements, tasks })
    }

    pub(crate) fn counts(&self) -> SyncCounts {
        self.shared.counters.read()
    }

    /// Why it does not work at the moment.
    pub(crate) fn error(&self) -> Option<String> {
        self.shared.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Queues a write to be announced. A queue that is full drops it: a comparison of roots finds
    /// it.
    pub(crate) fn announce(&self, written: Written) {
        let Some(announcements) = &self.announcements else { return };
        let root = self.shared.store.layout.root();
        for (path, cid) in written.0 {
            let Some(path) = path.strip_prefix(&root).and_then(|path| path.strip_prefix('/')) else {
                continue;
            };
            self.shared.waiting.fetch_add(1, Ordering::AcqRel);
            if announcements.try_send(Link { path: path.to_owned(), cid }).is_err() {
                self.shared.done(1);
                add(&self.shared.counters.dropped, 1);
            }
        }
    }

    /// Waits until everything is announced, for at most a second.
    pub(crate) async fn flush(&self) {
        let empty = async {
            loop {
                let published = self.shared.published.notified();
                if self.shared.waiting.load(Ordering::Acquire) == 0 {
                    return;
                }
                published.await;
            }
        };
        if timeout(FLUSH, empty).await.is_err() {
            tracing::debug!("the IPFS tier was closed before everything was announced to other nodes");
        }
    }

    pub(crate) fn stop(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        self.stop();
    }
}
