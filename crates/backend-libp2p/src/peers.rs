//! The backend: a handle on a running node.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use peercache_api::{
    BackendInfo, CacheBackend, Capabilities, CorrectedClock, Entry, Error, ErrorKind, Fleet, Freshness, Key,
    LeaseAnswer, LeaseRequest, LeaseToken, MAX_VALUE_BYTES, Operation, RemovalWatcher, envelope,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::address::PeerName;
use crate::core::{Event, Failure, OpId, Outcome, Role};
use crate::driver::Engine;
use crate::limits::Limits;
use crate::report::{KeptReport, PeersReport, members, role_name};
use crate::wire::KeyId;

/// How often is looked whether everything has been sent.
const LOOK: Duration = Duration::from_millis(5);
/// What was handed to the connections still has to be encrypted and written.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// A node of the network, as a cache backend. Clones are handles on the same node, which stops with
/// the last of them, or with [`CacheBackend::close`].
///
/// A read asks the anchors that own the key, over connections that are open already: nothing is
/// ever dialled for a read, and with nobody connected it fails at once, with kind `Unavailable`. A
/// miss is an answer of an owner. A write returns when an owner has it.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    name: PeerName,
    info: BackendInfo,
    engine: Arc<Engine>,
    limits: Limits,
    closed: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Peers {
    pub(crate) fn new(
        name: PeerName,
        engine: Arc<Engine>,
        limits: Limits,
        tasks: Vec<JoinHandle<()>>,
    ) -> Self {
        let mut capabilities = Capabilities::shared()
            .with_ordered_writes()
            .with_native_expiry()
            .with_max_value_bytes(MAX_VALUE_BYTES);
        // What a leaf has written is with somebody else, so it outlives the leaf. An anchor may be
        // alone.
        if engine.setup.role == Role::Leaf {
            capabilities = capabilities.with_durable();
        }
        if !engine.setup.key.can_write() {
            capabilities = capabilities.with_read_only();
        }
        let info = BackendInfo::new(crate::BACKEND, capabilities);
        Self(Arc::new(Inner {
            name,
            info,
            engine,
            limits,
            closed: AtomicBool::new(false),
            tasks: Mutex::new(tasks),
        }))
    }

    /// Waits until the node knows where it listens, and for the first peer.
    pub(crate) async fn settle(&self, listens: Option<Duration>, looks_for_peers: bool) {
        if let Some(limit) = listens {
            let listening = async {
                while self.addresses().is_empty() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            if tokio::time::timeout(limit, listening).await.is_err() {
                tracing::warn!("this node does not know yet where it listens");
            }
        }
        let wait = self.0.limits.connect_wait;
        // Who does not wait here looks after it by itself.
        if looks_for_peers
            && !wait.is_zero()
            && tokio::time::timeout(wait, self.0.engine.anybody()).await.is_err()
        {
            tracing::warn!(
                waited_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "no peer has answered yet; this node starts without peers and keeps dialling"
            );
        }
    }

    /// This node's name.
    #[must_use]
    pub fn name(&self) -> PeerName {
        self.0.name
    }

    /// Where others can dial this node, to paste into their bootstrap addresses. Empty for a node
    /// that only dials out.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let addresses = self.0.engine.addresses();
        let all = if addresses.public.is_empty() { addresses.local } else { addresses.public };
        let suffix = format!("/p2p/{}", self.0.name);
        all.into_iter()
            .map(|address| if address.ends_with(&suffix) { address } else { address + &suffix })
            .collect()
    }

    /// The clock that this node goes by: the machine's, corrected where the anchors of the network
    /// have another time. A cache above it, and its other tiers, should go by the same.
    #[must_use]
    pub fn clock(&self) -> Arc<CorrectedClock> {
        Arc::clone(self.0.engine.clock())
    }

    /// How the node is doing.
    #[must_use]
    pub fn report(&self) -> PeersReport {
        let engine = &self.0.engine;
        let (node, links) = engine.report();
        PeersReport {
            name: self.0.name,
            role: role_name(engine.setup.role),
            addresses: self.addresses(),
            writer: engine.setup.key.can_write(),
            in_ring: node.in_ring,
            settled: node.settled,
            anchors: node.anchors,
            connected: links.len(),
            entries: node.records,
            bytes: node.bytes,
            evicted: node.evicted,
            unsent_bytes: engine.unsent(),
            kept: engine.keeper.as_ref().map(|keeper| KeptReport {
                loaded: keeper.has_loaded(),
                waiting_bytes: keeper.unkept(),
                not_kept: keeper.not_kept(),
            }),
            clock_correction_ms: node.correction,
            members: members(&node, &links),
            bootstrap: engine.targets(),
            counters: node.counters,
            connections: engine.connections(),
        }
    }

    /// Runs an operation to its end; the node itself ends it at its deadline. May be cancelled.
    async fn run(&self, operation: Operation, event: impl FnOnce(OpId) -> Event) -> Result<Outcome, Error> {
        self.refuse_if_closed(operation)?;
        let (op, outcome) = self.0.engine.begin(event);
        let mut running = Running { engine: &self.0.engine, op, outcome };
        (&mut running.outcome).await.map_err(|_| closed(operation))
    }

    /// The entry in what a peer or this node holds under `key`.
    fn read(&self, key: &Key, bytes: bytes::Bytes) -> Result<Option<Entry>, Error> {
        let entry = envelope::decode(key, bytes).map_err(|error| error.with_backend(crate::BACKEND))?;
        Ok((entry.freshness(self.0.engine.wall()) != Freshness::Expired).then_some(entry))
    }

    fn refuse_if_closed(&self, operation: Operation) -> Result<(), Error> {
        if self.0.closed.load(Ordering::Acquire) { Err(closed(operation)) } else { Ok(()) }
    }
}

/// An operation that is given up when nobody waits for it any more.
struct Running<'a> {
    engine: &'a Engine,
    op: OpId,
    outcome: oneshot::Receiver<Outcome>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.engine.cancel(self.op);
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for Peers {
    fn info(&self) -> &BackendInfo {
        &self.0.info
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        Some(self)
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, Error> {
        let (id, deadline) = (KeyId::from(key), self.0.limits.read_deadline);
        match self.run(Operation::Get, |op| Event::Get { op, key: id, deadline }).await? {
            Outcome::Found(bytes) => self.read(key, bytes),
            Outcome::Absent | Outcome::Stored(_) | Outcome::Granted { .. } => Ok(None),
            Outcome::Failed(failure) => Err(failed(failure, Operation::Get)),
        }
    }

    async fn put(&self, key: &Key, entry: Entry) -> Result<(), Error> {
        self.refuse_if_closed(Operation::Put)?;
        if !self.0.info.capabilities.writable {
            return Err(failed(Failure::Refused, Operation::Put));
        }
        if entry.value().len() > MAX_VALUE_BYTES {
            let error =
                Error::new(ErrorKind::TooLarge, Operation::Put, "the value is larger than peers take");
            let error =
                error.with_context("bytes", entry.value().len()).with_context("most", MAX_VALUE_BYTES);
            return Err(error.with_backend(crate::BACKEND));
        }
        let (envelope, deadline) = (envelope::encode(key, &entry), self.0.limits.write_deadline);
        match self.run(Operation::Put, |op| Event::Put { op, envelope, deadline }).await? {
            Outcome::Failed(failure) => Err(failed(failure, Operation::Put)),
            _ => Ok(()),
        }
    }

    async fn probe(&self) -> Result<(), Error> {
        self.refuse_if_closed(Operation::Probe)?;
        if self.0.engine.is_of_use() { Ok(()) } else { Err(failed(Failure::Unreachable, Operation::Probe)) }
    }

    async fn close(&self) -> Result<(), Error> {
        if self.0.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let engine = &self.0.engine;
        engine.tell(Event::Leave);
        let sent = async {
            while engine.unsent() > 0 || engine.unkept() > 0 {
                tokio::time::sleep(LOOK).await;
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        if tokio::time::timeout(self.0.limits.close_wait, sent).await.is_err() {
            tracing::warn!(
                unsent_bytes = engine.unsent(),
                unstored_bytes = engine.unkept(),
                "not everything was sent and stored before this node closed"
            );
        }
        // The port is free when this returns.
        for task in self.0.stop() {
            if let Err(error) = task.await
                && !error.is_cancelled()
            {
                tracing::error!(%error, "a task of this node had failed");
            }
        }
        match &engine.keeper {
            Some(keeper) => keeper.close().await,
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Fleet for Peers {
    async fn lease(&self, key: &Key, request: LeaseRequest) -> Result<LeaseAnswer, Error> {
        let (id, LeaseRequest { ttl, wait, newer_than, .. }) = (KeyId::from(key), request);
        let outcome =
            self.run(Operation::Get, |op| Event::Lease { op, key: id, ttl, wait, newer_than }).await?;
        match outcome {
            Outcome::Found(bytes) => match self.read(key, bytes)? {
                Some(entry) => Ok(LeaseAnswer::Found(entry)),
                None => Err(failed(Failure::Busy, Operation::Get)),
            },
            Outcome::Granted { token, .. } => Ok(LeaseAnswer::Granted(LeaseToken::from_u64(token))),
            Outcome::Failed(failure) => Err(failed(failure, Operation::Get)),
            Outcome::Absent | Outcome::Stored(_) => Err(failed(Failure::Busy, Operation::Get)),
        }
    }

    fn release(&self, key: &Key, token: LeaseToken) {
        self.0.engine.tell(Event::Release { key: KeyId::from(key), token: token.as_u64() });
    }

    fn watch(&self, watcher: Weak<dyn RemovalWatcher>) {
        self.0.engine.watch_removals(watcher);
    }
}

impl Inner {
    fn stop(&self) -> Vec<JoinHandle<()>> {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(JoinHandle::abort);
        self.engine.stop();
        tasks
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("name", &self.0.name)
            .field("role", &role_name(self.0.engine.setup.role))
            .finish_non_exhaustive()
    }
}

fn closed(operation: Operation) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "this node is closed")
        .with_backend(crate::BACKEND)
        .with_temporary(false)
}

fn failed(failure: Failure, operation: Operation) -> Error {
    let (kind, message, help) = match failure {
        Failure::Unreachable => (
            ErrorKind::Unavailable,
            "no peer is connected",
            "check CACHE_BOOTSTRAP_PEERS and that an anchor listens there; `peercache peers` shows each address and what hinders it",
        ),
        Failure::Timeout => (ErrorKind::Timeout, "no peer answered in time", ""),
        Failure::Busy => (ErrorKind::RateLimited, "the peers that could answer have too much to do", ""),
        Failure::Refused => (
            ErrorKind::Denied,
            "this node may not write",
            "its secret is read-only, or the peers have another one",
        ),
        Failure::Overloaded => (ErrorKind::Unavailable, "too many operations wait already", ""),
    };
    let error = Error::new(kind, operation, message).with_backend(crate::BACKEND);
    if help.is_empty() { error } else { error.with_help(help) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_says_what_it_is() {
        let text = |failure| failed(failure, Operation::Put).to_string();
        insta::assert_snapshot!(text(Failure::Unreachable), @"peers: put failed (unavailable): no peer is connected; check CACHE_BOOTSTRAP_PEERS and that an anchor listens there; `peercache peers` shows each address and what hinders it");
        insta::assert_snapshot!(text(Failure::Timeout), @"peers: put failed (timeout): no peer answered in time");
        insta::assert_snapshot!(text(Failure::Busy), @"peers: put failed (rate limited): the peers that could answer have too much to do");
        insta::assert_snapshot!(text(Failure::Refused), @"peers: put failed (denied): this node may not write; its secret is read-only, or the peers have another one");
        insta::assert_snapshot!(text(Failure::Overloaded), @"peers: put failed (unavailable): too many operations wait already");
        assert!(failed(Failure::Overloaded, Operation::Put).is_retryable());
        assert!(!failed(Failure::Refused, Operation::Put).is_retryable());
    }
}
