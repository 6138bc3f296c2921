//! One tier of a chain: a backend, its deadlines, its mode and its counters.

use std::sync::Arc;
use std::time::Duration;

use peercache_api::{BackendInfo, CacheBackend, Clock, Entry, Error, ErrorKind, Key, Operation, Scope};

use crate::stats::TierStats;

/// What a tier may be used for. One tier's mode never changes another's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Read and written.
    #[default]
    ReadWrite,
    /// Only read.
    ReadOnly,
    /// Only written: filled for others, never asked.
    WriteOnly,
}

impl Mode {
    /// The name as reports print it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::WriteOnly => "write-only",
        }
    }
}

/// How a chain uses one tier. Unset deadlines follow the backend's scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierOptions {
    /// What the tier may be used for.
    pub mode: Mode,
    /// The longest that a read waits for this tier. Default: 2 s local, 500 ms shared.
    pub read_deadline: Option<Duration>,
    /// The longest that a write waits for this tier. Default: 30 s local, 5 s shared. Generous for
    /// local tiers, because a write that was given up may still take effect.
    pub write_deadline: Option<Duration>,
}

/// How one call to a tier ended.
#[derive(Debug)]
pub(crate) enum Call<T> {
    Done(T),
    Failed(Error),
    TimedOut(Duration),
}

#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) backend: Arc<dyn CacheBackend>,
    pub(crate) mode: Mode,
    pub(crate) read_deadline: Duration,
    pub(crate) write_deadline: Duration,
    pub(crate) stats: TierStats,
}

impl Tier {
    pub(crate) fn new(backend: Arc<dyn CacheBackend>, options: &TierOptions) -> Self {
        let local = backend.info().capabilities.scope == Scope::Local;
        let (read, write) = if local { (2_000, 30_000) } else { (500, 5_000) };
        let mode = match (options.mode, backend.info().capabilities.writable) {
            (Mode::ReadWrite, false) => Mode::ReadOnly,
            (mode, _) => mode,
        };
        Self {
            backend,
            mode,
            read_deadline: options.read_deadline.unwrap_or(Duration::from_millis(read)),
            write_deadline: options.write_deadline.unwrap_or(Duration::from_millis(write)),
            stats: TierStats::new(),
        }
    }

    pub(crate) fn info(&self) -> &BackendInfo {
        self.backend.info()
    }

    pub(crate) fn name(&self) -> &str {
        &self.info().name
    }

    pub(crate) fn is_local(&self) -> bool {
        self.info().capabilities.scope == Scope::Local
    }

    /// Whether a put costs no I/O, so that it need not go to the background.
    pub(crate) fn is_volatile(&self) -> bool {
        self.is_local() && !self.info().capabilities.durable
    }

    pub(crate) fn reads(&self) -> bool {
        self.mode != Mode::WriteOnly
    }

    pub(crate) fn writes(&self) -> bool {
        self.mode != Mode::ReadOnly
    }

    pub(crate) async fn get(&self, key: &Key) -> Call<Option<Entry>> {
        within(self.read_deadline, self.backend.get(key)).await
    }

    /// Writes `entry`. A backend without ordered writes is asked first what it holds, so that an
    /// older entry does not replace a newer one; two writers at once can still race there.
    pub(crate) async fn put(&self, key: &Key, entry: Entry, clock: &dyn Clock) -> Call<()> {
        let ordered = self.info().capabilities.ordered_writes;
        within(self.write_deadline, async {
            if !ordered {
                match self.backend.get(key).await {
                    Ok(Some(stored)) if !entry.supersedes(&stored, clock.now()) => return Ok(()),
                    Ok(_) => {}
                    // What cannot be read must not stand in the way of what replaces it.
                    Err(error) if error.kind() == ErrorKind::Corrupt => {}
                    Err(error) => return Err(error),
                }
            }
            self.backend.put(key, entry).await
        })
        .await
    }

    pub(crate) async fn close(&self) -> Call<()> {
        within(self.write_deadline, self.backend.close()).await
    }
}

async fn within<T>(deadline: Duration, call: impl Future<Output = Result<T, Error>>) -> Call<T> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(value)) => Call::Done(value),
        Ok(Err(error)) => Call::Failed(error),
        Err(_) => Call::TimedOut(deadline),
    }
}

/// The error that stands for a call that took longer than its deadline.
pub(crate) fn timeout_error(tier: &Tier, operation: Operation, deadline: Duration) -> Error {
    Error::new(ErrorKind::Timeout, operation, format!("no answer within {} ms", deadline.as_millis()))
        .with_backend(tier.info().name.clone())
}
