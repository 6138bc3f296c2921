//! The connection: made when it is needed, shared by all calls, replaced when it is lost.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion, PushInfo,
    PushKind, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode, Value,
};
use tokio::time::Instant;

use crate::url::{Address, Node, Servers};

/// How many calls run at once over the one connection.
pub(crate) const MAX_CALLS: usize = 256;
/// The longest that making a connection may take, name lookup and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After a connection that could not be made, the next attempt waits this long, then twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// A connection that has answered nothing for so long, although it was asked, is replaced. A
/// caller's own deadline is usually shorter, so calls that were given up count.
const STALLED: Duration = Duration::from_secs(2);

/// A connection that many calls share.
#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    async fn run(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            // As `query_async` does it, without its conversion.
            Self::Single(connection) => connection.req_packed_command(command).await?.extract_error(),
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    async fn subscribe(&mut self, channels: &[String]) -> RedisResult<()> {
        match self {
            Self::Single(connection) => connection.subscribe(channels).await,
            Self::Cluster(connection) => connection.subscribe(channels).await,
        }
    }
}

/// Receives what the server sends without being asked.
pub(crate) trait Listener: Send + Sync {
    /// A message on one of the channels. Called by the connection's own task: must not block.
    fn message(&self, channel: &[u8], payload: Vec<u8>);
}

type Attempt = Shared<BoxFuture<'static, Result<(), RedisError>>>;

#[derive(Default)]
struct State {
    /// The connection and its number.
    current: Option<(u64, Connection)>,
    /// The number of the last connection.
    last: u64,
    attempt: Option<Attempt>,
    /// Why the last attempt failed, and until when none is made.
    failed: Option<(RedisError, Instant)>,
    backoff: Duration,
}

/// Counters of one link.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commands: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) failed_connections: AtomicU64,
    pub(crate) stalled: AtomicU64,
    pub(crate) retries: AtomicU64,
}

/// The way to the servers.
pub(crate) struct Link {
    address: Address,
    tls: Option<TlsCertificates>,
    channels: Vec<String>,
    listener: Mutex<Option<Weak<dyn Listener>>>,
    state: Mutex<State>,
    opened: Instant,
    /// When the oldest call began that nothing has answered since: milliseconds after `opened`, and
    /// zero where there is none. Without a lock, since every call writes it.
    unanswered: AtomicU64,
    /// Whether the channels of the current connection are subscribed.
    subscribed: AtomicBool,
    closed: AtomicBool,
    pub(crate) counters: Counters,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A command is sent at once: waiting for an acknowledgement would cost up to 40 ms.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Link {
    pub(crate) fn new(
        address: Address,
        root_certificate: Option<Vec<u8>>,
        channels: Vec<String>,
    ) -> Arc<Self> {
        let tls = root_certificate.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        Arc::new(Self {
            address,
            tls,
            channels,
            listener: Mutex::new(None),
            state: Mutex::default(),
            opened: Instant::now(),
            unanswered: AtomicU64::new(0),
            subscribed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            counters: Counters::default(),
        })
    }

    /// The servers, without a login.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether messages arrive at the moment.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.subscribed.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages go to `listener` from now on. The connection is kept then, also while nobody calls.
    pub(crate) fn listen(self: &Arc<Self>, listener: Weak<dyn Listener>) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
        self.keep_connected();
    }

    /// Connects in the background, again and again until it succeeds. Without a runtime nothing is
    /// done: the first call connects.
    fn keep_connected(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let link = Arc::downgrade(self);
        runtime.spawn(async move {
            loop {
                let Some(this) = link.upgrade().filter(|link| !link.closed.load(Ordering::Acquire)) else {
                    return;
                };
                match this.connection(false).await {
                    Ok(_) => return,
                    Err(_) => {
                        let until = this.state().failed.as_ref().map(|(_, until)| *until);
                        drop(this);
                        let soon = Instant::now() + FIRST_BACKOFF;
                        tokio::time::sleep_until(until.unwrap_or(soon).max(soon)).await;
                    }
                }
            }
        });
    }

    /// Sends a command and returns the answer. When the connection turns out to be lost, once more
    /// over a new one: every command of ours may be repeated. `probe`: do not wait until the next
    /// attempt to connect is due.
    pub(crate) async fn call(self: &Arc<Self>, command: &Cmd, probe: bool) -> Result<Value, RedisError> {
        // What is rare is on the heap, so that every call is small.
        // A statement of its own: the lock is not held while anything is waited for.
        let usable = self.usable(&mut self.state());
        let (number, connection) = match usable {
            Some(usable) => usable,
            None => Box::pin(self.connection(probe)).await?,
        };
        match self.ask(number, connection, command).await {
            Err(error) if error.is_connection_dropped() => Box::pin(self.call_again(command)).await,
            answer => answer,
        }
    }

    async fn call_again(self: &Arc<Self>, command: &Cmd) -> Result<Value, RedisError> {
        add_one(&self.counters.retries);
        let (number, connection) = self.connection(true).await?;
        self.ask(number, connection, command).await
    }

    async fn ask(
        self: &Arc<Self>,
        number: u64,
        mut connection: Connection,
        command: &Cmd,
    ) -> Result<Value, RedisError> {
        add_one(&self.counters.commands);
        if self.unanswered.load(Ordering::Relaxed) == 0 {
            self.unanswered.store(self.milliseconds(), Ordering::Relaxed);
        }
        let answer = connection.run(command).await;
        match &answer {
            Err(error) if error.is_io_error() || error.is_unrecoverable_error() => self.discard(number),
            _ => self.unanswered.store(0, Ordering::Relaxed),
        }
        answer
    }

    /// The time since the link was made, and never zero.
    fn milliseconds(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Whether the connection has answered nothing for too long, although it was asked.
    fn is_stalled(&self) -> bool {
        match self.unanswered.load(Ordering::Relaxed) {
            0 => false,
            since => u128::from(self.milliseconds().saturating_sub(since)) > STALLED.as_millis(),
        }
    }

    /// Lets go of the connection with this number, if it is still the current one.
    pub(crate) fn discard(&self, number: u64) {
        let mut state = self.state();
        if state.current.as_ref().is_some_and(|(current, _)| *current == number) {
            state.current = None;
            self.unanswered.store(0, Ordering::Relaxed);
            self.subscribed.store(false, Ordering::Release);
        }
    }

    /// Lets go of whatever connection there is: the server is not the right one any more.
    pub(crate) fn discard_current(&self) {
        let number = self.state().current.as_ref().map(|(number, _)| *number);
        if let Some(number) = number {
            self.discard(number);
        }
    }

    /// The connection, if there is one that answers. One that is stalled is let go.
    fn usable(&self, state: &mut State) -> Option<(u64, Connection)> {
        if state.current.is_some() && self.is_stalled() {
            add_one(&self.counters.stalled);
            state.current = None;
            self.unanswered.store(0, Ordering::Relaxed);
            self.subscribed.store(false, Ordering::Release);
        }
        state.current.clone()
    }

    /// The connection, made if need be.
    async fn connection(self: &Arc<Self>, now: bool) -> Result<(u64, Connection), RedisError> {
        loop {
            let attempt = {
                let mut state = self.state();
                if let Some(usable) = self.usable(&mut state) {
                    return Ok(usable);
                }
                if let Some(attempt) = &state.attempt {
                    attempt.clone()
                } else {
                    if let Some((error, until)) = &state.failed
                        && !now
                        && Instant::now() < *until
                    {
                        return Err(error.clone());
                    }
                    let attempt = self.begin_attempt(&mut state);
                    state.attempt = Some(attempt.clone());
                    attempt
                }
            };
            attempt.await?;
        }
    }

    /// An attempt to connect that goes on if its first caller goes away, and is shared by all.
    fn begin_attempt(self: &Arc<Self>, state: &mut State) -> Attempt {
        state.last += 1;
        let (this, number) = (Arc::clone(self), state.last);
        let task = tokio::spawn(async move {
            let made = match tokio::time::timeout(CONNECT_TIMEOUT, this.connect(number)).await {
                Ok(made) => made,
                Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
            };
            this.note(number, made)
        });
        async move {
            task.await.unwrap_or_else(|_| {
                Err(std::io::Error::other("connecting was interrupted: the runtime is shutting down").into())
            })
        }
        .boxed()
        .shared()
    }

    fn note(self: &Arc<Self>, number: u64, made: RedisResult<Connection>) -> Result<(), RedisError> {
        let mut state = self.state();
        state.attempt = None;
        self.unanswered.store(0, Ordering::Relaxed);
        match made {
            Ok(_) if self.closed.load(Ordering::Acquire) => {
                Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into())
            }
            Ok(connection) => {
                add_one(&self.counters.connections);
                state.current = Some((number, connection.clone()));
                state.failed = None;
                state.backoff = Duration::ZERO;
                drop(state);
                self.subscribe(number, connection);
                Ok(())
            }
            Err(error) => {
                add_one(&self.counters.failed_connections);
                state.backoff = (state.backoff * 2).clamp(FIRST_BACKOFF, MAX_BACKOFF);
                state.failed = Some((error.clone(), Instant::now() + state.backoff));
                Err(error)
            }
        }
    }

    /// Subscribes beside the first commands: they do not wait for it.
    fn subscribe(self: &Arc<Self>, number: u64, mut connection: Connection) {
        if self.listener().is_none() {
            return;
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            match connection.subscribe(&this.channels).await {
                Ok(()) => {
                    let state = this.state();
                    if state.current.as_ref().is_some_and(|(current, _)| *current == number) {
                        this.subscribed.store(true, Ordering::Release);
                    }
                }
                Err(error) => tracing::warn!(
                    server = %this.address,
                    "removals made on other machines are not heard of, and leases end later: the server \
                     refuses SUBSCRIBE ({error}); allow the user the channels of REDIS_PREFIX"
                ),
            }
        });
    }

    fn listener(&self) -> Option<Arc<dyn Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Weak::upgrade)
    }

    fn pushed(self: &Arc<Self>, number: u64, push: PushInfo) {
        match push.kind {
            PushKind::Message => {
                let mut data = push.data.into_iter();
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload)), Some(listener)) =
                    (data.next(), data.next(), self.listener())
                {
                    listener.message(&channel, payload);
                }
            }
            // Within a cluster one node of several: its client replaces the connection by itself.
            PushKind::Disconnection if !matches!(self.address.servers, Servers::Cluster(_)) => {
                self.discard(number);
                if self.listener().is_some() && !self.closed.load(Ordering::Acquire) {
                    self.keep_connected();
                }
            }
            _ => {}
        }
    }

    /// Ends the connection and makes no other one.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.discard_current();
    }

    async fn connect(self: &Arc<Self>, number: u64) -> RedisResult<Connection> {
        let link = Arc::downgrade(self);
        let pushed = move |push: PushInfo| -> Result<(), ()> {
            if let Some(link) = link.upgrade() {
                link.pushed(number, push);
            }
            Ok(())
        };
        let config = || {
            AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                // Our callers have deadlines, and a stalled connection is replaced.
                .set_response_timeout(None)
                // Each call that runs has room: with less, calls wait for each other to be sent.
                .set_pipeline_buffer_size(MAX_CALLS)
                .set_push_sender(pushed.clone())
        };
        match &self.address.servers {
            Servers::Single(node) => {
                let info = self.place(node).into_connection_info()?;
                let info = info.set_redis_settings(self.login()).set_tcp_settings(tcp_settings());
                let client = match &self.tls {
                    Some(tls) if self.address.tls => Client::build_with_tls(info, tls.clone())?,
                    _ => Client::open(info)?,
                };
                let connection = client.get_multiplexed_async_connection_with_config(&config()).await?;
                Ok(Connection::Single(connection))
            }
            Servers::Sentinel { nodes, primary } => {
                let nodes = nodes.iter().map(|node| self.place(node));
                let mut builder = SentinelClientBuilder::new(nodes, primary, SentinelServerType::Master)?
                    .set_client_to_redis_protocol(ProtocolVersion::RESP3)
                    .set_client_to_redis_db(self.address.database)
                    .set_client_to_redis_tcp_settings(tcp_settings());
                if let Some(user) = &self.address.user {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = &self.address.password {
                    builder = builder.set_client_to_redis_password(password);
                }
                if self.address.tls {
                    builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
                    builder = builder.set_client_to_sentinel_tls_mode(TlsMode::Secure);
                    if let Some(tls) = &self.tls {
                        builder = builder.set_client_to_redis_certificates(tls.clone());
                        builder = builder.set_client_to_sentinel_certificates(tls.clone());
                    }
                }
                let mut client = builder.build()?;
                Ok(Connection::Single(client.get_async_connection_with_config(&config()).await?))
            }
            Servers::Cluster(nodes) => {
                let mut infos = Vec::with_capacity(nodes.len());
                for node in nodes {
                    infos.push(self.place(node).into_connection_info()?.set_redis_settings(self.login()));
                }
                let mut builder = ClusterClientBuilder::new(infos)
                    .use_protocol(ProtocolVersion::RESP3)
                    .tcp_settings(tcp_settings())
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(STALLED)
                    .retries(4)
                    .push_sender(pushed);
                if self.address.tls {
                    builder = builder.tls(TlsMode::Secure);
                    if let Some(tls) = &self.tls {
                        builder = builder.certs(tls.clone());
                    }
                }
                Ok(Connection::Cluster(builder.build()?.get_async_connection().await?))
            }
        }
    }

    fn place(&self, node: &Node) -> ConnectionAddr {
        match node {
            Node::Unix(path) => ConnectionAddr::Unix(path.clone()),
            Node::Tcp(host, port) if self.address.tls => {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            }
            Node::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
        }
    }

    fn login(&self) -> RedisConnectionInfo {
        let mut login =
            RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_db(self.address.database);
        if let Some(user) = &self.address.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.address.password {
            login = login.set_password(password);
        }
        login
    }
}
