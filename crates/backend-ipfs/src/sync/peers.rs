//! Other nodes: who was heard, when, and where they are. A node that was restarted is connected to nobody, and
//! Kubo's own peering takes long to notice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::Shared;
use super::message::{ADDRESSES, is_address};
use crate::report::add;
use crate::rpc::Trouble;

/// Nodes that are remembered; the one that was not heard for longest is forgotten first.
const NODES: usize = 64;
/// A node that was not heard for so long is connected to again.
const SILENT: Duration = Duration::from_secs(8);
/// A node that was not heard for so long is forgotten.
const GONE: Duration = Duration::from_secs(3600);
/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// Connections that are made at once.
const AT_ONCE: usize = 8;

#[derive(Debug)]
struct Peer {
    addresses: Vec<String>,
    heard: Instant,
}

#[derive(Debug, Default)]
struct State {
    id: String,
    addresses: Vec<String>,
    /// When our own node's root was last published, by whichever process.
    root: Option<Instant>,
    peers: HashMap<String, Peer>,
}

/// Connects to the nodes that are not heard any more, once in a while.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        sleep(SILENT).await;
        shared.peers.connect(&shared, SILENT).await;
    }
}

/// The nodes.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<State>);

impl Peers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks our own node who it is.
    pub(super) async fn learn_own_identity(&self, shared: &Shared) -> Result<(), Trouble> {
        let identity = shared.store.node.identity().await?;
        let addresses = identity.addresses.unwrap_or_default();
        let mut state = self.state();
        state.id = identity.id;
        state.addresses = addresses.into_iter().filter(|text| is_address(text)).take(ADDRESSES).collect();
        Ok(())
    }

    pub(super) async fn own_addresses(&self, shared: &Shared) -> Result<Vec<String>, Trouble> {
        if self.state().id.is_empty() {
            self.learn_own_identity(shared).await?;
        }
        Ok(self.state().addresses.clone())
    }

    pub(super) fn is_own(&self, id: &str) -> bool {
        self.state().id == id
    }

    pub(super) fn note_own_root(&self) {
        self.state().root = Some(Instant::now());
    }

    /// Whether our own node's root was published within `time`.
    pub(super) fn own_root_is_known(&self, time: Duration) -> bool {
        // Half the time, so that one process alone does not leave out every other beat.
        self.state().root.is_some_and(|at| at.elapsed() < time / 2)
    }

    /// Notes that a node was heard.
    pub(super) fn note(&self, id: &str, addresses: Vec<String>) {
        let mut state = self.state();
        let heard = Instant::now();
        match state.peers.get_mut(id) {
            Some(peer) => {
                peer.heard = heard;
                if !addresses.is_empty() {
                    peer.addresses = addresses;
                }
            }
            None => {
                if state.peers.len() >= NODES {
                    let oldest = state.peers.iter().min_by_key(|(_, peer)| peer.heard);
                    let oldest = oldest.map(|(id, _)| id.clone());
                    oldest.and_then(|id| state.peers.remove(&id));
                }
                state.peers.insert(id.to_owned(), Peer { addresses, heard });
            }
        }
    }

    /// Connects to every node that is known.
    pub(super) async fn reconnect_all(&self, shared: &Shared) {
        self.connect(shared, Duration::ZERO).await;
    }

    async fn connect(&self, shared: &Shared, silent: Duration) {
        let addresses: Vec<String> = {
            let mut state = self.state();
            state.peers.retain(|_, peer| peer.heard.elapsed() < GONE);
            let silent = state.peers.values().filter(|peer| peer.heard.elapsed() >= silent);
            silent.flat_map(|peer| peer.addresses.iter().cloned()).collect()
        };
        stream::iter(addresses)
            .for_each_concurrent(AT_ONCE, |address| async move {
                match shared.store.node.connect(&address, CONNECT).await {
                    Ok(()) => add(&shared.counters.connected, 1),
                    Err(trouble) => tracing::debug!(%trouble, "no connection to another IPFS node"),
                }
            })
            .await;
    }
}
