//! Opens the tier: checks what was set, and starts what runs in the background.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use peercache_api::{BackendInfo, Capabilities, Clock, Error, ErrorKind, Operation, SystemClock};

use crate::endpoint::{Authorization, Endpoint};
use crate::ipfs::Ipfs;
use crate::layout::Layout;
use crate::rpc;
use crate::store::{Settings, Store};
use crate::sync::{Seal, Sync};

/// Which client sends the calls to the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IpfsClientKind {
    /// Keeps connections open, and can do https, `Authorization` and trailers. The default: it is
    /// faster, and it alone sees an error that the node reports after it has answered 200.
    #[default]
    KeepAlive,
    /// `ipfs-api-backend-hyper`: a connection for each call. Where https or credentials are set,
    /// the other one serves.
    PerCall,
}

/// Builds an [`Ipfs`].
#[derive(Clone)]
#[must_use = "the tier is made by `open`"]
pub struct IpfsBuilder {
    api: String,
    auth: Option<String>,
    prefix: String,
    client: IpfsClientKind,
    allow_private: bool,
    max_bytes: u64,
    request_timeout: Duration,
    read_only: bool,
    maintenance: bool,
    seal: Option<Seal>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for IpfsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IpfsBuilder")
            .field("prefix", &self.prefix)
            .field("auth", &self.auth.is_some())
            .field("max_bytes", &self.max_bytes)
            .field("sync", &self.seal.is_some())
            .finish_non_exhaustive()
    }
}

impl Ipfs {
    /// Starts with the RPC of a node: a multiaddress as `Addresses.API` writes it, or a URL.
    pub fn builder(api: impl Into<String>) -> IpfsBuilder {
        IpfsBuilder {
            api: api.into(),
            auth: None,
            prefix: "peercache".to_owned(),
            client: IpfsClientKind::default(),
            allow_private: false,
            max_bytes: Ipfs::DEFAULT_MAX_BYTES,
            request_timeout: Ipfs::DEFAULT_REQUEST_TIMEOUT,
            read_only: false,
            maintenance: true,
            seal: None,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

impl IpfsBuilder {
    /// What the node is told to let us in, as its `API.Authorizations` writes it:
    /// `basic:USER:PASSWORD` or `bearer:TOKEN`. Kept in memory and shown nowhere.
    pub fn auth(mut self, auth: impl Into<String>) -> Self {
        self.auth = Some(auth.into());
        self
    }

    /// The folder of MFS that holds everything, at most 128 bytes of letters, digits and `-_./=+@`.
    /// Default: `peercache`. Tiers of one node that are not to share entries have prefixes of their
    /// own.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Which client sends the calls.
    pub fn client(mut self, client: IpfsClientKind) -> Self {
        self.client = client;
        self
    }

    /// Whether private entries may be stored on the node. Default: no. Everybody who can reach a
    /// node of the public network can fetch its blocks by their CID; sealed, they see sizes and
    /// times, and keep what they have fetched.
    pub fn allow_private(mut self, allow: bool) -> Self {
        self.allow_private = allow;
        self
    }

    /// The most bytes that entries may take on the node, folders included; the oldest writes go
    /// first. Default: [`Ipfs::DEFAULT_MAX_BYTES`].
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The longest that a get, put or probe may take, however many calls it needs. Default
    /// [`Ipfs::DEFAULT_REQUEST_TIMEOUT`]; not zero.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Never writes: a put is answered with kind `Denied`, and nothing is sent.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Whether this process removes what has expired or is too much, once in a while. Default: yes.
    /// Of many processes on one node, one does it at a time.
    pub fn maintenance(mut self, on: bool) -> Self {
        self.maintenance = on;
        self
    }

    /// Shares with the tiers of other nodes that have the same prefix and seal: announces what is
    /// written here, and takes over what they announce. The nodes need pubsub and a connection to
    /// each other.
    ///
    /// `seal` makes what seals this tier's entries, around a backend that it is given:
    /// announcements are sealed, signed and verified by the same means. With the crate
    /// `peercache-seal` that is `move |inner| Arc::new(Sealed::new(secret.clone(), inner))`.
    pub fn sync<F>(mut self, seal: F) -> Self
    where
        F: Fn(Arc<dyn peercache_api::CacheBackend>) -> Arc<dyn peercache_api::CacheBackend>
            + Send
            + std::marker::Sync
            + 'static,
    {
        self.seal = Some(Seal::new(seal));
        self
    }

    /// Where the time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the tier. Nothing is sent to the node, so one that is away does no harm. Background
    /// work runs on the tokio runtime of the caller, and ends when the tier is closed or dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an address, credentials or a prefix that cannot be one, a byte
    /// limit below 1 MiB or a deadline of zero. [`Error::context`] names as `variable` the one that
    /// makes the setting.
    pub fn open(self) -> Result<Ipfs, Error> {
        let mistake = |message: &'static str| {
            Error::new(ErrorKind::Config, Operation::Open, message).with_backend("ipfs")
        };
        let endpoint = Endpoint::parse(&self.api)?;
        let authorization = self.auth.as_deref().map(Authorization::parse).transpose()?;
        let layout = Layout::new(&self.prefix)?;
        if self.request_timeout.is_zero() {
            return Err(mistake("the deadline of requests is zero"));
        }
        if self.max_bytes < Ipfs::MIN_MAX_BYTES {
            return Err(mistake("the byte limit is below 1 MiB")
                .with_context("variable", "IPFS_MAX_BYTES")
                .with_context("value", self.max_bytes)
                .with_help("give at least 1048576, better 1073741824"));
        }
        let keep_alive =
            self.client == IpfsClientKind::KeepAlive || endpoint.is_tls() || authorization.is_some();
        // A call that fails on its own leaves time to say why.
        let per_call = self.request_timeout * 4 / 5;
        let node = rpc::open(&endpoint, authorization, keep_alive, per_call)?;
        let all = Capabilities::shared().with_ordered_writes().with_native_expiry().with_durable();
        let all = if self.allow_private { all } else { all.without_private_entries() };
        let capabilities = if self.read_only { all.with_read_only() } else { all };
        let settings = Settings {
            api: endpoint.shown(),
            client: if keep_alive { "keep-alive" } else { "per-call" },
            allow_private: self.allow_private,
            max_bytes: self.max_bytes,
            request_timeout: self.request_timeout,
        };
        let store = Arc::new(Store::new(node, layout, settings, self.clock));
        let sync = match self.seal {
            Some(seal) => Some(Sync::start(&store, seal, !self.read_only)?),
            None => None,
        };
        let maintenance = self.maintenance && !self.read_only;
        Ok(Ipfs::new(BackendInfo::new("ipfs", capabilities), store, sync, maintenance))
    }
}
