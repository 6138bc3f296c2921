//! The backend itself, and its builder.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use peercache_api::{
    BackendInfo, CacheBackend, Clock, Entry, Error, ErrorKind, Fleet, Key, Operation, SystemClock,
};
use peercache_blob::BlobBackend;

use crate::fleet::Coordination;
use crate::keys::Keys;
use crate::link::{Link, Listener, MAX_CALLS};
use crate::report::RedisReport;
use crate::server::Server;
use crate::url::Address;

/// Redis or Valkey as a tier: one server, a cluster, or a primary that Sentinel watches.
///
/// - **Keys.** One string per entry, `PREFIX:{DIGEST}`, which holds one envelope and has a time to
///   live.
/// - **Commands.** A lookup is one `GET`. A put is one `EVALSHA` of a script that compares versions
///   and stores the newer; a server that does not know the script is sent it once.
/// - **Fleet.** Leases are keys beside the blobs (`SET NX PX` with a token), so a fleet loads a
///   missing entry once. Removals are published with their tombstone, so that every member forgets
///   at once.
/// - **Connection.** One for all calls, made when it is first needed, replaced when it is lost or
///   has answered nothing for two seconds. Attempts to connect back off from 100 ms to 5 s, and
///   calls in between fail at once.
/// - **Time.** A call ends within [`RedisBuilder::request_timeout`], whatever the server does.
/// - **Memory.** At most 256 calls run at once, each with at most two envelopes.
///
/// Needs a tokio runtime with timers and I/O, and Redis 6 or later or Valkey. Cheap to open:
/// nothing is sent until the first call or until somebody watches removals.
pub struct Redis {
    fleet: Arc<Coordination>,
}

/// Builds a [`Redis`].
#[derive(Clone)]
#[must_use = "the tier is made by `open`"]
pub struct RedisBuilder {
    url: String,
    prefix: String,
    request_timeout: Duration,
    read_only: bool,
    root_certificate: Option<Vec<u8>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for RedisBuilder {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBuilder")
            .field("prefix", &self.prefix)
            .field("request_timeout", &self.request_timeout)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl RedisBuilder {
    /// The start of every key and channel: 1 to 128 letters, digits, `-`, `_`, `.`, `:` or `/`.
    /// Default `peercache`. Tiers of one server that are not to share entries need different
    /// prefixes.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The longest that a get, put, lease or probe may take. Default
    /// [`Redis::DEFAULT_REQUEST_TIMEOUT`]; not zero. Waiting for a lease is not limited by it.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Never writes: a put and a lease are answered with kind `Denied`, and nothing is sent.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// The certificate, in PEM, of the authority that has signed the server's. Default: the
    /// system's authorities, or those of the file that `SSL_CERT_FILE` names.
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificate = Some(pem.into());
        self
    }

    /// The source of time for expiry. The server's own clock removes what has expired.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the tier. Nothing is sent, so a server that is away does no harm.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a URL or a prefix that cannot be used, or a timeout of zero.
    /// [`Error::context`] names as `variable` the setting at fault. [`ErrorKind::Unavailable`] when
    /// the operating system gives no randomness.
    pub fn open(self) -> Result<Redis, Error> {
        let address = Address::parse(&self.url)?;
        let keys = Keys::new(&self.prefix)?;
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|error| {
            Error::new(ErrorKind::Unavailable, Operation::Open, "the operating system gave no random bytes")
                .with_backend("redis")
                .with_source(error)
        })?;
        let link = Link::new(address, self.root_certificate, vec![keys.removals(), keys.leases()]);
        let blobs = BlobBackend::builder(Server::new(Arc::clone(&link), keys, id))
            .request_timeout(self.request_timeout)
            .max_concurrent(MAX_CALLS)
            .read_only(self.read_only)
            .clock(Arc::clone(&self.clock))
            .build()?;
        let fleet = Coordination::new(blobs, self.clock);
        let listener: Weak<dyn Listener> = Arc::downgrade(&(Arc::clone(&fleet) as Arc<dyn Listener>));
        link.listen(listener);
        Ok(Redis { fleet })
    }
}

impl Redis {
    /// How long an operation may take unless told otherwise.
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

    /// Starts with the URL of the server or servers:
    ///
    /// - `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` for TLS;
    /// - `unix:///PATH[?db=DATABASE&user=USER&pass=PASSWORD]`;
    /// - `redis://HOST,HOST,HOST` or `redis+cluster://HOST` for a cluster;
    /// - `redis+sentinel://HOST[,HOST]/PRIMARY[/DATABASE]`.
    ///
    /// `valkey` may stand for `redis` in each scheme.
    pub fn builder(url: impl Into<String>) -> RedisBuilder {
        RedisBuilder {
            url: url.into(),
            prefix: Keys::DEFAULT_PREFIX.to_owned(),
            request_timeout: Self::DEFAULT_REQUEST_TIMEOUT,
            read_only: false,
            root_certificate: None,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// What the tier has done since it was opened.
    #[must_use]
    pub fn report(&self) -> RedisReport {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let blobs = self.fleet.blobs.report();
        let (link, fleet) = (&self.fleet.blobs.store().link, &self.fleet.counters);
        RedisReport {
            servers: link.address().to_string(),
            prefix: self.fleet.blobs.store().keys.prefix().to_owned(),
            commands: read(&link.counters.commands),
            connections: read(&link.counters.connections),
            failed_connections: read(&link.counters.failed_connections),
            stalled_connections: read(&link.counters.stalled),
            retries: read(&link.counters.retries),
            subscribed: link.is_subscribed(),
            removals_heard: read(&fleet.notices),
            bad_messages: read(&fleet.bad_notices),
            leases_granted: read(&fleet.granted),
            leases_found: read(&fleet.found),
            leases_timed_out: read(&fleet.timed_out),
            bytes_in: blobs.bytes_in,
            bytes_out: blobs.bytes_out,
            lost_writes: blobs.conflicts,
            corrupt: blobs.corrupt,
            timeouts: blobs.timeouts,
            writable: blobs.writable,
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.fleet.blobs.store();
        f.debug_struct("Redis")
            .field("servers", server.link.address())
            .field("prefix", &server.keys.prefix())
            .finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl CacheBackend for Redis {
    fn info(&self) -> &BackendInfo {
        self.fleet.blobs.info()
    }

    // Written out, so that the future of the inner tier is not put into another one on the heap.
    fn get<'this, 'key, 'call>(&'this self, key: &'key Key) -> BoxFuture<'call, Result<Option<Entry>, Error>>
    where
        'this: 'call,
        'key: 'call,
        Self: 'call,
    {
        self.fleet.blobs.get(key)
    }

    fn put<'this, 'key, 'call>(
        &'this self,
        key: &'key Key,
        entry: Entry,
    ) -> BoxFuture<'call, Result<(), Error>>
    where
        'this: 'call,
        'key: 'call,
        Self: 'call,
    {
        self.fleet.blobs.put(key, entry)
    }

    async fn probe(&self) -> Result<(), Error> {
        self.fleet.blobs.probe().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.fleet.blobs.close().await
    }

    fn fleet(&self) -> Option<&dyn Fleet> {
        Some(&*self.fleet)
    }
}
