//! A store in memory: conditions as a test asks for them, a log, and faults on demand.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use peercache_api::{Error, ErrorKind, Operation, envelope};

use crate::{Blob, BlobStore, BlobStoreInfo, Condition, Conditions, Newer, Revision, Written};

/// What the store does with its next request instead of serving it.
#[derive(Clone, Debug)]
pub(super) enum Next {
    ReadOnly,
    Hang,
    Fail(Error),
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) blobs: HashMap<String, Bytes>,
    pub(super) honoured: Conditions,
    pub(super) last_ttl: Option<Duration>,
    log: Vec<String>,
    next: VecDeque<Next>,
}

/// Handles to the same blobs.
#[derive(Clone, Debug)]
pub(super) struct Store {
    info: BlobStoreInfo,
    state: Arc<Mutex<State>>,
}

impl Store {
    pub(super) fn new(conditions: Conditions) -> Self {
        let honoured = match conditions {
            Conditions::Detect => Conditions::Revisions,
            declared => declared,
        };
        let state =
            State { blobs: HashMap::new(), honoured, last_ttl: None, log: Vec::new(), next: VecDeque::new() };
        Self {
            info: BlobStoreInfo::shared("memory").with_conditions(conditions).with_native_ttl(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    pub(super) fn with_max_value_bytes(mut self, bytes: usize) -> Self {
        self.info = self.info.with_max_value_bytes(bytes);
        self
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn next(&self, next: Next) {
        self.state().next.push_back(next);
    }

    /// The requests since the last call, in short.
    pub(super) fn take_log(&self) -> String {
        std::mem::take(&mut self.state().log).join(", ")
    }

    async fn fault(&self) -> Option<Next> {
        // As everything that crosses a network, it is not answered at once.
        tokio::task::yield_now().await;
        let next = self.state().next.pop_front();
        if matches!(next, Some(Next::Hang)) {
            std::future::pending::<()>().await;
        }
        next
    }
}

fn revision(bytes: &Bytes) -> Revision {
    // Any function of the content will do.
    let hash = bytes
        .iter()
        .fold(bytes.len() as u64, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    Revision::new(format!("{hash:016x}"))
}

/// As a script in a server does it: by the header alone.
fn is_newer(newer: Newer, held: &Bytes, bytes: &Bytes) -> bool {
    const DIGEST: std::ops::Range<usize> = 64..96;
    let same_key = held.get(DIGEST) == bytes.get(DIGEST);
    match envelope::peek_version(held) {
        Ok(version) if same_key => version < newer.version || version.wall > newer.latest,
        _ => true,
    }
}

#[async_trait]
impl BlobStore for Store {
    fn info(&self) -> &BlobStoreInfo {
        &self.info
    }

    async fn read(&self, name: &str) -> Result<Option<Blob>, Error> {
        let fault = self.fault().await;
        let mut state = self.state();
        state.log.push("read".to_owned());
        if let Some(Next::Fail(error)) = fault {
            return Err(error);
        }
        let found = state.blobs.get(name);
        Ok(found.map(|bytes| Blob::new(bytes.clone()).with_revision(Some(revision(bytes)))))
    }

    async fn write(
        &self,
        name: &str,
        bytes: Bytes,
        condition: Condition,
        ttl: Option<Duration>,
    ) -> Result<Written, Error> {
        let fault = self.fault().await;
        let mut state = self.state();
        let held = state.blobs.get(name).cloned();
        let honoured = state.honoured;
        let by_revision = honoured != Conditions::None;
        let (shown, holds) = match &condition {
            Condition::Always => ("", true),
            Condition::IfAbsent => ("(absent)", !by_revision || held.is_none()),
            Condition::IfRevision(wanted) => {
                ("(revision)", !by_revision || held.as_ref().map(revision).as_ref() == Some(wanted))
            }
            Condition::IfNewer(newer) => {
                ("(newer)", held.as_ref().is_none_or(|held| is_newer(*newer, held, &bytes)))
            }
        };
        let written = match (fault, holds) {
            (Some(Next::Fail(error)), _) => return Err(error),
            (Some(Next::ReadOnly), _) => {
                Written::ReadOnly(Error::new(ErrorKind::Denied, Operation::Put, "this user may not write"))
            }
            (_, false) => Written::Conflict,
            (_, true) => {
                let stored = revision(&bytes);
                state.blobs.insert(name.to_owned(), bytes);
                state.last_ttl = ttl;
                Written::Stored(Some(stored))
            }
        };
        let ended = match &written {
            Written::Stored(_) => "stored",
            Written::Conflict => "conflict",
            Written::Unsupported => "unsupported",
            Written::ReadOnly(_) => "read-only",
        };
        state.log.push(format!("write{shown} {ended}"));
        Ok(written)
    }

    async fn probe(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}
