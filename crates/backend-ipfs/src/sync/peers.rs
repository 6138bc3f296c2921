//! Other nodes: who was heard, when, and where they are.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::message::{ADDRESSES, is_address};

/// Nodes that are remembered; the one that was not heard for longest is forgotten first.
const NODES: usize = 64;
/// A node that was not heard for so long is forgotten.
const GONE: Duration = Duration::from_secs(3600);

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

/// The nodes.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<State>);

impl Peers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets who our own node is and where it is reached.
    pub(super) fn set_own(&self, id: String, addresses: Vec<String>) {
        let mut state = self.state();
        state.id = id;
        state.addresses = addresses.into_iter().filter(|text| is_address(text)).take(ADDRESSES).collect();
    }

    /// Where our own node is reached; `None` before [`Peers::set_own`].
    pub(super) fn own_addresses(&self) -> Option<Vec<String>> {
        let state = self.state();
        (!state.id.is_empty()).then(|| state.addresses.clone())
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

    /// The addresses of the nodes that were not heard for so long, after those that are gone for
    /// good are forgotten.
    pub(super) fn silent(&self, silent: Duration) -> Vec<String> {
        let mut state = self.state();
        state.peers.retain(|_, peer| peer.heard.elapsed() < GONE);
        let silent = state.peers.values().filter(|peer| peer.heard.elapsed() >= silent);
        silent.flat_map(|peer| peer.addresses.iter().cloned()).collect()
    }
}
