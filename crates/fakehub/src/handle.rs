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
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, TokenKind};
use crate::changes::Changes;
use crate::control::{Control, Outage};
use crate::corpus::Corpus;
use crate::error::FakeHubError;
use crate::etag::EtagMode;
use crate::exchange::API_HOST;
use crate::judge::{Observation, Verdict};
use crate::limits::Limits;
use crate::log::{Log, LogRecord, Summary};
use crate::replay::Replay;
use crate::secondary::{Secondary, SecondaryLimits};
use crate::server::{State, serve};
use crate::token::{Caller, RunKey};

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
            tokens: Vec::new(),
            processes: Vec::new(),
            secondary: None,
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
    tokens: Vec<(String, TokenKind, Vec<String>)>,
    processes: Vec<(String, u64, Duration)>,
    secondary: Option<SecondaryLimits>,
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

    /// Counts and charges as ever, but refuses nobody when a limit is reached, and says that one
    /// request is left: for runs whose answers must not depend on how many there were.
    pub fn unlimited(mut self, unlimited: bool) -> Self {
        self.unlimited = unlimited;
        self
    }

    /// Puts a token into a bucket that it shares with every token of the same bucket name. `limit`:
    /// core requests per hour; `None` is what another token of the bucket was given, or 5000.
    #[must_use]
    pub fn bucket(mut self, token: impl Into<String>, name: impl Into<String>, limit: Option<u64>) -> Self {
        self.buckets.push((token.into(), name.into(), limit));
        self
    }

    /// Makes `OWNER/REPO` private: who has none of `tokens` gets `404` for everything below it.
    /// Repeated calls add tokens.
    #[must_use]
    pub fn private<T: Into<String>>(mut self, repository: &str, tokens: impl IntoIterator<Item = T>) -> Self {
        let tokens = tokens.into_iter().map(Into::into).collect();
        self.private.push((repository.trim_matches('/').to_ascii_lowercase(), tokens));
        self
    }

    /// Makes a token of a kind known, which sees these private repositories (`OWNER/REPO`). As soon
    /// as one is known, bodies and headers depend on the caller as GitHub's do: `permissions` and
    /// `private` of repositories, `Cache-Control`, `Vary`; and a write changes its resource and
    /// what holds it.
    #[must_use]
    pub fn token<T: Into<String>>(
        mut self,
        token: impl Into<String>,
        kind: TokenKind,
        repositories: impl IntoIterator<Item = T>,
    ) -> Self {
        self.tokens.push((token.into(), kind, repositories.into_iter().map(Into::into).collect()));
        self
    }

    /// Lets the resource at `url` (an API path; without a query it stands for all queries) change
    /// at random from the start on, every `mean` on average. Resources with the same seed change
    /// together.
    #[must_use]
    pub fn changes(mut self, url: impl Into<String>, seed: u64, mean: Duration) -> Self {
        self.processes.push((url.into(), seed, mean));
        self
    }

    /// Secondary rate limits. Default: none.
    #[must_use]
    pub const fn secondary(mut self, limits: SecondaryLimits) -> Self {
        self.secondary = Some(limits);
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
    /// [`FakeHubError`] when the settings contradict each other, the log cannot be written or the
    /// address cannot be listened on.
    pub async fn start(self) -> Result<FakeHubHandle, FakeHubError> {
        for (repository, _) in &self.private {
            if repository.split('/').filter(|part| !part.is_empty()).count() != 2 {
                return Err(FakeHubError::Config(format!(
                    "private repository {repository:?}: OWNER/REPO is expected, as octo-org-1/api"
                )));
            }
        }
        let access = Access::default();
        let changes = Changes::default();
        let now = self.clock.now().as_millis();
        let known = || {
            for (repository, tokens) in self.private {
                access.set_private(&repository, true, 0)?;
                tokens.into_iter().try_for_each(|token| access.add_reader(&repository, token))?;
            }
            for (token, kind, repositories) in self.tokens {
                access.add_token(&token, kind, repositories)?;
            }
            for token in self.denied {
                access.revoke(&token, 0)?;
            }
            self.processes.iter().try_for_each(|(url, seed, mean)| {
                let mean = u64::try_from(mean.as_millis()).unwrap_or(u64::MAX / 4).max(1);
                changes.run(API_HOST, url, *seed, mean, now)
            })
        };
        known().map_err(FakeHubError::Config)?;
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
            access,
            changes,
            secondary: self.secondary.map(Secondary::new),
            outage: watch::Sender::new(None),
            control_enabled: self.control,
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, addr, state.clone(), stop.clone()));
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

    /// The last [`MAX_LOG_RECORDS`](crate::MAX_LOG_RECORDS) records. A request is in it before its
    /// answer is sent.
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

    /// The next `count` requests get `status`, with `Retry-After` if given (seconds or an
    /// HTTP-date).
    ///
    /// # Errors
    /// [`FakeHubError::Config`] when the status is not one of 200 to 599 or the value is no header
    /// value.
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

    /// Changes the resource at `url` (absolute, or an API path with its query) in all its variants,
    /// and with it `ETag` and `Last-Modified`. Returns how often it has been changed.
    ///
    /// # Errors
    /// [`FakeHubError::Config`] when `url` is no URL, or [`MAX_TOUCHED`](crate::MAX_TOUCHED) have
    /// been touched.
    pub fn touch(&self, url: &str) -> Result<u64, FakeHubError> {
        self.state.touch(url).map_err(FakeHubError::Config)
    }

    /// The origin's time, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.state.clock.now().as_millis()
    }

    /// The name under which a token is logged.
    #[must_use]
    pub fn token_id(&self, token: &str) -> String {
        Caller::with_token(token, &self.state.key).id().to_owned()
    }

    /// Makes a token known while running, as [`FakeHubBuilder::token`] does before.
    ///
    /// # Errors
    /// [`FakeHubError::Config`] when [`MAX_KNOWN`](crate::MAX_KNOWN) are known.
    pub fn add_token<T: Into<String>>(
        &self,
        token: &str,
        kind: TokenKind,
        repositories: impl IntoIterator<Item = T>,
    ) -> Result<(), FakeHubError> {
        let repositories = repositories.into_iter().map(Into::into);
        self.state.access.add_token(token, kind, repositories).map_err(FakeHubError::Config)
    }

    /// From now on the token is answered `401 Bad credentials`.
    ///
    /// # Errors
    /// As [`FakeHubHandle::add_token`].
    pub fn revoke(&self, token: &str) -> Result<(), FakeHubError> {
        self.state.access.revoke(token, self.now()).map_err(FakeHubError::Config)
    }

    /// From now on `OWNER/REPO` is private, or public.
    ///
    /// # Errors
    /// As [`FakeHubHandle::add_token`].
    pub fn set_private(&self, repository: &str, private: bool) -> Result<(), FakeHubError> {
        self.state.access.set_private(repository, private, self.now()).map_err(FakeHubError::Config)
    }

    /// From now on what lies below `/repos/OLD` (as `OWNER/REPO`) redirects to `/repositories/ID`.
    ///
    /// # Errors
    /// As [`FakeHubHandle::add_token`].
    pub fn rename(&self, old: &str, id: u64) -> Result<(), FakeHubError> {
        self.state.access.rename(old, id).map_err(FakeHubError::Config)
    }

    /// The origin is gone in this way until `None` brings it back.
    pub fn outage(&self, outage: Option<Outage>) {
        self.state.outage.send_replace(outage);
    }

    /// Whether an answer that a client got, from whomever, was one that this origin would have
    /// given that token at that time.
    #[must_use]
    pub fn judge(&self, seen: &Observation<'_>) -> Verdict {
        self.state.judge(seen)
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
