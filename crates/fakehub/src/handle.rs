//! Starting a fakehub in a test or a program, and holding it.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use peercache_api::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::corpus::Corpus;
use crate::error::FakeHubError;
use crate::etag::EtagMode;
use crate::limits::Limits;
use crate::log::{Log, LogRecord, Summary};
use crate::replay::Replay;
use crate::server::{State, serve};
use crate::token::RunKey;

/// A GitHub-like origin.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FakeHub;

impl FakeHub {
    /// An origin that serves `corpus`, on a free loopback port unless told otherwise.
    #[must_use]
    pub fn builder(corpus: Corpus) -> FakeHubBuilder {
        FakeHubBuilder {
            corpus,
            etag: EtagMode::default(),
            buckets: Vec::new(),
            unlimited: false,
            private: Vec::new(),
            denied: Vec::new(),
            log_file: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            control: false,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// The settings of a fakehub.
pub struct FakeHubBuilder {
    corpus: Corpus,
    etag: EtagMode,
    buckets: Vec<(String, String, Option<u64>)>,
    unlimited: bool,
    private: Vec<(String, Vec<String>)>,
    denied: Vec<String>,
    log_file: Option<PathBuf>,
    listen: SocketAddr,
    control: bool,
    clock: Arc<dyn Clock>,
}

impl FakeHubBuilder {
    /// How entity tags are made.
    #[must_use]
    pub const fn etag(mut self, mode: EtagMode) -> Self {
        self.etag = mode;
        self
    }

    /// Counts and charges as ever, but refuses nobody when a limit is reached: for runs whose answers
    /// must not depend on how many there were.
    pub fn unlimited(mut self, unlimited: bool) -> Self {
        self.unlimited = unlimited;
        self
    }

    /// Puts a token into a bucket that it shares with every token of the same bucket name. `limit`: core
    /// requests per hour; `None` is what another token of the bucket was given, or 5000.
    #[must_use]
    pub fn bucket(mut self, token: impl Into<String>, name: impl Into<String>, limit: Option<u64>) -> Self {
        self.buckets.push((token.into(), name.into(), limit));
        self
    }

    /// Makes `OWNER/REPO` private: who has none of `tokens` gets `404` for everything below it. Repeated
    /// calls add tokens.
    #[must_use]
    pub fn private<T: Into<String>>(mut self, repository: &str, tokens: impl IntoIterator<Item = T>) -> Self {
        let tokens = tokens.into_iter().map(Into::into).collect();
        self.private.push((repository.trim_matches('/').to_ascii_lowercase(), tokens));
        self
    }

    /// A token that gets `401 Bad credentials`.
    #[must_use]
    pub fn deny(mut self, token: impl Into<String>) -> Self {
        self.denied.push(token.into());
        self
    }

    /// Writes the log as JSON lines into a new file; an existing one is emptied.
    #[must_use]
    pub fn log_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.log_file = Some(path.into());
        self
    }

    /// Where to listen. Default: a free port on 127.0.0.1.
    #[must_use]
    pub const fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen = addr;
        self
    }

    /// Enables `/_fakehub/…`, for tests in another process. Whoever can connect can use it.
    #[must_use]
    pub const fn control(mut self, enabled: bool) -> Self {
        self.control = enabled;
        self
    }

    /// Where the time of dates and rate-limit windows comes from.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Listens and serves in a task of the current tokio runtime.
    ///
    /// # Errors
    /// [`FakeHubError`] when the settings contradict each other, the log cannot be written or the address
    /// cannot be listened on.
    pub async fn start(self) -> Result<FakeHubHandle, FakeHubError> {
        for (repository, _) in &self.private {
            if repository.split('/').filter(|part| !part.is_empty()).count() != 2 {
                return Err(FakeHubError::Config(format!(
                    "private repository {repository:?}: OWNER/REPO is expected, as octo-org-1/api"
                )));
            }
        }
        let limits = Limits::new(self.buckets, self.clock.clone())?;
        let limits = if self.unlimited { limits.unlimited() } else { limits };
        let log = match self.log_file {
            None => Log::new(None),
            Some(path) => {
                // Appending, so that a reset that empties the file leaves no hole.
                let emptied = std::fs::write(&path, b"");
                let file = emptied.and_then(|()| OpenOptions::new().append(true).open(&path));
                Log::new(Some(file.map_err(|source| FakeHubError::Output { path, source })?))
            }
        };
        let key = RunKey::random().map_err(|error| FakeHubError::System {
            what: "no random bytes from the system",
            source: io::Error::other(error),
        })?;
        let fail = |source| FakeHubError::Listen { addr: self.listen.to_string(), source };
        let listener = TcpListener::bind(self.listen).await.map_err(fail)?;
        let addr = listener.local_addr().map_err(fail)?;
        let state = Arc::new(State {
            replay: Replay::new(self.corpus),
            limits,
            log,
            control: Control::default(),
            clock: self.clock,
            key,
            etag: self.etag,
            private: self.private,
            denied: self.denied,
            control_enabled: self.control,
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, state.clone(), stop.clone()));
        Ok(FakeHubHandle { addr, state, stop, task: Some(task) })
    }
}

impl fmt::Debug for FakeHubBuilder {
    /// Without tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeHubBuilder")
            .field("exchanges", &self.corpus.exchanges().len())
            .field("etag", &self.etag)
            .field("listen", &self.listen)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

/// A running fakehub. It stops when this is dropped.
pub struct FakeHubHandle {
    addr: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl FakeHubHandle {
    /// The address that it listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The last [`MAX_LOG_RECORDS`](crate::MAX_LOG_RECORDS) records. A request is in it before its answer is sent.
    #[must_use]
    pub fn log(&self) -> Vec<LogRecord> {
        self.state.log.records()
    }

    /// The totals since the start or the last reset.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.state.log.summary()
    }

    /// Starts log and totals anew, and empties the log file.
    ///
    /// # Errors
    /// The file's own.
    pub fn reset_log(&self) -> io::Result<()> {
        self.state.log.reset()
    }

    /// The next `count` requests get `status`, with `Retry-After` if given (seconds or an HTTP-date).
    ///
    /// # Errors
    /// [`FakeHubError::Config`] when the status is not one of 200 to 599 or the value is no header value.
    pub fn fail_next(&self, status: u16, count: u64, retry_after: Option<&str>) -> Result<(), FakeHubError> {
        self.state.control.fail_next(status, count, retry_after).map_err(FakeHubError::Config)
    }

    /// The next `count` answers wait for `delay`.
    pub fn delay_next(&self, delay: Duration, count: u64) {
        self.state.control.delay_next(delay, count);
    }

    /// The next `count` answers with a body break off in its middle.
    pub fn truncate_next(&self, count: u64) {
        self.state.control.truncate_next(count);
    }

    /// Changes the resource at `url` (absolute, or an API path with its query) in all its variants, and with
    /// it `ETag` and `Last-Modified`. Returns how often it has been changed.
    ///
    /// # Errors
    /// [`FakeHubError::Config`] when `url` is no URL, or [`MAX_TOUCHED`](crate::MAX_TOUCHED) have been touched.
    pub fn touch(&self, url: &str) -> Result<u64, FakeHubError> {
        self.state.control.touch(url, self.state.clock.now().as_millis()).map_err(FakeHubError::Config)
    }

    /// Stops listening and waits, a few seconds at most, for answers that are being sent.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // Its only other end is a panic, which the runtime has reported.
            drop(task.await);
        }
    }
}

impl Drop for FakeHubHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for FakeHubHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeHubHandle").field("addr", &self.addr).finish_non_exhaustive()
    }
}
