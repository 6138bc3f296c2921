//! The names of settings and of backends.

use std::fmt;
use std::str::FromStr;

/// A setting, by its place in documentation and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Backend,
    Dir,
    MemoryBytes,
    DiskBytes,
    DefaultTtl,
    Namespace,
    Secret,
    SecretOld,
    ReadOnly,
    InsecurePlaintext,
    EnableP2p,
    ListenPort,
    BootstrapPeers,
    Role,
    Node,
    IdentityFile,
    AnnounceAddrs,
    AllowedPeers,
    Mdns,
    PeerBytes,
    S3Bucket,
    S3Prefix,
    S3Endpoint,
    S3Region,
    S3PathStyle,
}

impl Name {
    pub(super) const ALL: [Self; 25] = [
        Self::Backend,
        Self::Dir,
        Self::MemoryBytes,
        Self::DiskBytes,
        Self::DefaultTtl,
        Self::Namespace,
        Self::Secret,
        Self::SecretOld,
        Self::ReadOnly,
        Self::InsecurePlaintext,
        Self::EnableP2p,
        Self::ListenPort,
        Self::BootstrapPeers,
        Self::Role,
        Self::Node,
        Self::IdentityFile,
        Self::AnnounceAddrs,
        Self::AllowedPeers,
        Self::Mdns,
        Self::PeerBytes,
        Self::S3Bucket,
        Self::S3Prefix,
        Self::S3Endpoint,
        Self::S3Region,
        Self::S3PathStyle,
    ];

    /// Those that say something about the peers and nothing about other tiers.
    pub(super) const OF_PEERS: [Self; 10] = [
        Self::EnableP2p,
        Self::ListenPort,
        Self::BootstrapPeers,
        Self::Role,
        Self::Node,
        Self::IdentityFile,
        Self::AnnounceAddrs,
        Self::AllowedPeers,
        Self::Mdns,
        Self::PeerBytes,
    ];

    /// The key in the file.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Dir => "dir",
            Self::MemoryBytes => "memory_bytes",
            Self::DiskBytes => "disk_bytes",
            Self::DefaultTtl => "default_ttl",
            Self::Namespace => "namespace",
            Self::Secret => "secret",
            Self::SecretOld => "secret_old",
            Self::ReadOnly => "read_only",
            Self::InsecurePlaintext => "insecure_plaintext",
            Self::EnableP2p => "enable_p2p",
            Self::ListenPort => "listen_port",
            Self::BootstrapPeers => "bootstrap_peers",
            Self::Role => "role",
            Self::Node => "node_name",
            Self::IdentityFile => "identity_file",
            Self::AnnounceAddrs => "announce_addrs",
            Self::AllowedPeers => "allowed_peers",
            Self::Mdns => "mdns",
            Self::PeerBytes => "peer_bytes",
            Self::S3Bucket => "s3_bucket",
            Self::S3Prefix => "s3_prefix",
            Self::S3Endpoint => "s3_endpoint",
            Self::S3Region => "s3_region",
            Self::S3PathStyle => "s3_path_style",
        }
    }

    /// The variables, the one to use first.
    pub(super) const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Backend => &["CACHE_BACKEND", "CACHE_BACKENDS"],
            Self::Dir => &["CACHE_DIR", "IPFS_ACCELERATE_CACHE_DIR"],
            Self::MemoryBytes => &["CACHE_MEMORY_BYTES"],
            Self::DiskBytes => &["CACHE_DISK_BYTES"],
            Self::DefaultTtl => &["CACHE_DEFAULT_TTL"],
            Self::Namespace => &["CACHE_NAMESPACE"],
            Self::Secret => &["CACHE_SECRET", "CACHE_P2P_SHARED_SECRET"],
            Self::SecretOld => &["CACHE_SECRET_OLD"],
            Self::ReadOnly => &["CACHE_READ_ONLY"],
            Self::InsecurePlaintext => &["CACHE_INSECURE_PLAINTEXT"],
            Self::EnableP2p => &["CACHE_ENABLE_P2P"],
            Self::ListenPort => &["CACHE_LISTEN_PORT"],
            Self::BootstrapPeers => &["CACHE_BOOTSTRAP_PEERS", "CACHE_P2P_BOOTSTRAP"],
            Self::Role => &["CACHE_ROLE"],
            Self::Node => &["CACHE_NODE_NAME"],
            Self::IdentityFile => &["CACHE_IDENTITY_FILE"],
            Self::AnnounceAddrs => &["CACHE_ANNOUNCE_ADDRS"],
            Self::AllowedPeers => &["CACHE_ALLOWED_PEERS"],
            Self::Mdns => &["CACHE_MDNS"],
            Self::PeerBytes => &["CACHE_PEER_BYTES"],
            Self::S3Bucket => &["AWS_S3_BUCKET", "CACHE_S3_BUCKET", "S3_BUCKET"],
            Self::S3Prefix => &["S3_PREFIX"],
            Self::S3Endpoint => &["AWS_ENDPOINT_URL_S3", "S3_ENDPOINT"],
            Self::S3Region => &["AWS_REGION", "S3_REGION"],
            Self::S3PathStyle => &["CACHE_S3_PATH_STYLE"],
        }
    }

    /// Whether its value must never be shown.
    pub(super) const fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::SecretOld)
    }

    pub(super) const fn takes_number(self) -> bool {
        matches!(
            self,
            Self::MemoryBytes | Self::DiskBytes | Self::DefaultTtl | Self::ListenPort | Self::PeerBytes
        )
    }

    pub(super) const fn takes_truth(self) -> bool {
        matches!(
            self,
            Self::ReadOnly | Self::InsecurePlaintext | Self::EnableP2p | Self::Mdns | Self::S3PathStyle
        )
    }

    pub(super) const fn takes_list(self) -> bool {
        matches!(
            self,
            Self::Backend | Self::SecretOld | Self::BootstrapPeers | Self::AnnounceAddrs | Self::AllowedPeers
        )
    }

    pub(super) fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.key() == key)
    }
}

/// A backend as `CACHE_BACKEND` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendName {
    /// `memory`
    Memory,
    /// `disk`
    Disk,
    /// `libp2p`, also `p2p`
    Libp2p,
    /// `ipfs`, also `kubo`
    Ipfs,
    /// `s3`
    S3,
    /// `storacha`, also `web3storage`
    Storacha,
}

impl BackendName {
    /// The canonical name, which is also the cargo feature's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Libp2p => "libp2p",
            Self::Ipfs => "ipfs",
            Self::S3 => "s3",
            Self::Storacha => "storacha",
        }
    }

    /// Whether this build can open it.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::Memory => cfg!(feature = "memory"),
            Self::Disk => cfg!(feature = "disk"),
            Self::Libp2p => cfg!(feature = "libp2p"),
            Self::S3 => cfg!(feature = "s3"),
            Self::Ipfs | Self::Storacha => false,
        }
    }

    /// Whether this release has it at all, behind its cargo feature.
    pub(super) const fn is_released(self) -> bool {
        matches!(self, Self::Memory | Self::Disk | Self::Libp2p | Self::S3)
    }

    /// Those of this build, in the order in which `auto` reads them.
    pub(super) fn built() -> Vec<Self> {
        [Self::Memory, Self::Disk, Self::Libp2p, Self::S3]
            .into_iter()
            .filter(|name| name.is_built())
            .collect()
    }

    /// The local ones of this build, in reading order.
    pub(super) fn local() -> Vec<Self> {
        [Self::Memory, Self::Disk].into_iter().filter(|name| name.is_built()).collect()
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BackendName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Ok(match name {
            "memory" => Self::Memory,
            "disk" => Self::Disk,
            "libp2p" | "p2p" => Self::Libp2p,
            "ipfs" | "kubo" => Self::Ipfs,
            "s3" => Self::S3,
            "storacha" | "web3storage" => Self::Storacha,
            _ => return Err(()),
        })
    }
}
