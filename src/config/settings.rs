//! The one table of settings.
//!
//! A row is everything that there is to say about a setting: its text for users, its kind with
//! bounds, its variables with their aliases, its default. Parsing, the keys of the file, the
//! methods of [`ConfigBuilder`], `peercache config`, the command's help and completions, the texts
//! of errors and `docs/reference/settings.md` come from it. To add a setting, add a row and rewrite
//! the document (`UPDATE=1 cargo test --test config reference`).

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use peercache_api::MAX_LIFETIME;

use super::backends::BackendName;
use super::builder::ConfigBuilder;
use super::error::ConfigError;
use super::kind::{
    Addresses, AnyKind, Backends, Bytes, FileOf, Ip, Kind, NodeSync, Path, PeerIds, Port, Role, Seconds,
    Secret, Secrets, Sockets, Switch, Text, Url, Wait, Waits,
};
use super::peers::NodeRole;
use super::source::Sources;
use super::value::{Given, Origin, Raw, Set};

/// What there is to say about a setting.
pub(super) struct Row {
    pub(super) key: &'static str,
    /// The variable, then its aliases.
    pub(super) variables: &'static [&'static str],
    pub(super) kind: &'static dyn AnyKind,
    pub(super) default: Option<&'static str>,
    /// What happens where it is not set, if it has no default.
    pub(super) unset: &'static str,
    pub(super) group: Group,
    pub(super) help: &'static str,
}

/// What a setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Group {
    /// The chain and the local tiers.
    Cache,
    /// Secrets.
    Secrets,
    /// The peers tier.
    Peers,
    /// The Redis tier.
    Redis,
    /// The IPFS tier.
    Ipfs,
    /// The S3 tier.
    S3,
    /// The Storacha tier.
    Storacha,
    /// `peercache serve`, and commands that ask it.
    Server,
}

impl Group {
    /// The heading of the reference.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Cache => "The cache",
            Self::Secrets => "Secrets",
            Self::Peers => "Peers",
            Self::Redis => "Redis and Valkey",
            Self::Ipfs => "IPFS",
            Self::S3 => "S3",
            Self::Storacha => "Storacha",
            Self::Server => "The server and GitHub",
        }
    }
}

/// Makes the names, the rows, the values and the builder's methods.
macro_rules! settings {
    ($(
        $(#[doc = $help:literal])+
        $variant:ident $field:ident: $kind:ident $(= $default:literal)? {
            kind: $make:expr,
            variables: [$($variable:literal),+ $(,)?],
            group: $group:ident,
            unset: $unset:literal $(,)?
        }
    )+) => {
        /// A setting, by its place in the reference.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Name { $($variant),+ }

        impl Name {
            /// In the order of the reference.
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        static ROWS: &[Row] = &[$(Row {
            key: stringify!($field),
            variables: &[$($variable),+],
            kind: &$make,
            default: settings!(@default $($default)?),
            unset: $unset,
            group: Group::$group,
            help: concat!($($help, "\n"),+),
        }),+];

        /// Every setting's value.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) struct Values {
            $(pub(super) $field: settings!(@value $kind $($default)?)),+
        }

        impl Values {
            /// Reads each setting from where it is given.
            pub(super) fn read(sources: &Sources<'_>) -> Result<Self, ConfigError> {
                Ok(Self { $($field: settings!(@read sources, $variant, $make, $($default)?)),+ })
            }

            /// Each setting with its value as it may be shown.
            pub(super) fn shown(&self) -> Vec<(Name, Option<String>, &Origin)> {
                vec![$((
                    Name::$variant,
                    settings!(@show $make, &self.$field.value, $($default)?),
                    &self.$field.origin,
                )),+]
            }
        }

        impl ConfigBuilder {
            $(
                $(#[doc = $help])+
                pub fn $field(self, value: settings!(@code $kind)) -> Self {
                    self.with(Name::$variant, $kind::given(value))
                }
            )+
        }
    };

    (@default) => { None };
    (@default $default:literal) => { Some($default) };
    (@value $kind:ident) => { Set<Option<<$kind as Kind>::Value>> };
    (@value $kind:ident $default:literal) => { Set<<$kind as Kind>::Value> };
    (@read $sources:ident, $variant:ident, $make:expr,) => { optional($sources, Name::$variant, &$make)? };
    (@read $sources:ident, $variant:ident, $make:expr, $default:literal) => {
        with_default($sources, Name::$variant, &$make, $default)?
    };
    (@show $make:expr, $value:expr,) => { $value.as_ref().and_then(|value| $make.show(value)) };
    (@show $make:expr, $value:expr, $default:literal) => { $make.show($value) };

    // What code gives for each kind.
    (@code Backends) => { impl IntoIterator<Item = BackendName> };
    (@code Path) => { impl Into<PathBuf> };
    (@code FileOf) => { impl Into<PathBuf> };
    (@code Bytes) => { u64 };
    (@code Seconds) => { Duration };
    (@code Wait) => { Duration };
    (@code Waits) => { impl Into<String> };
    (@code Text) => { impl Into<String> };
    (@code Url) => { impl Into<String> };
    (@code Secret) => { impl Into<String> };
    (@code Secrets) => { impl IntoIterator<Item = impl Into<String>> };
    (@code Switch) => { bool };
    (@code NodeSync) => { bool };
    (@code Port) => { u16 };
    (@code Ip) => { IpAddr };
    (@code Sockets) => { impl IntoIterator<Item = SocketAddr> };
    (@code Addresses) => { impl IntoIterator<Item = impl Into<String>> };
    (@code PeerIds) => { impl IntoIterator<Item = impl Into<String>> };
    (@code Role) => { NodeRole };
}

const MIB: u64 = 1 << 20;
const TEXT: Text = Text { what: "a text of at most 1024 bytes", most: 1024 };

settings! {
    /// The tiers in reading order, or `auto` for every tier of this build whose settings are given,
    /// or `none` for a cache that stores nothing. A list without `memory` and `disk` gets both in
    /// front.
    Backend backend: Backends = "auto" {
        kind: Backends,
        variables: ["CACHE_BACKEND", "CACHE_BACKENDS"],
        group: Cache,
        unset: "",
    }

    /// Directory of the disk tier and of the journal of writes that wait for shared tiers.
    Dir dir: Path {
        kind: Path,
        variables: ["CACHE_DIR", "IPFS_ACCELERATE_CACHE_DIR"],
        group: Cache,
        unset: "`$XDG_CACHE_HOME/peercache`, else `~/.cache/peercache`; for a program that uses the library, \
                `APPLICATION/peercache` there",
    }

    /// The most bytes that the memory tier holds.
    MemoryBytes memory_bytes: Bytes = "64MiB" {
        kind: Bytes { least: MIB },
        variables: ["CACHE_MEMORY_BYTES"],
        group: Cache,
        unset: "",
    }

    /// The most bytes that the disk tier holds. The journal may have another 64 MiB for each
    /// process.
    DiskBytes disk_bytes: Bytes = "1GiB" {
        kind: Bytes { least: 16 * MIB },
        variables: ["CACHE_DISK_BYTES"],
        group: Cache,
        unset: "",
    }

    /// How long a value is fresh where nothing else is said, in whole seconds.
    DefaultTtl default_ttl: Seconds = "300" {
        kind: Seconds { what: "a time to live", least: 1, most: MAX_LIFETIME.as_secs() },
        variables: ["CACHE_DEFAULT_TTL"],
        group: Cache,
        unset: "",
    }

    /// Keeps projects apart that share stores.
    Namespace namespace: Text {
        kind: Text { what: "a name as text", most: 128 },
        variables: ["CACHE_NAMESPACE"],
        group: Cache,
        unset: "none; a program that uses the library always has its application name in it",
    }

    /// The longest that a read waits for a tier.
    ReadTimeout read_timeout: Waits {
        kind: Waits,
        variables: ["CACHE_READ_TIMEOUT"],
        group: Cache,
        unset: "2s for a local tier, 500ms for a shared one; 5s in a command",
    }

    /// The longest that a write waits for a tier.
    WriteTimeout write_timeout: Waits {
        kind: Waits,
        variables: ["CACHE_WRITE_TIMEOUT"],
        group: Cache,
        unset: "30s for a local tier, 5s for a shared one",
    }

    /// The longest that a read waits for all tiers together.
    ReadBudget read_budget: Wait {
        kind: Wait,
        variables: ["CACHE_READ_BUDGET"],
        group: Cache,
        unset: "1s where a tier is shared, else as long as the tiers' own deadlines",
    }

    /// Whether tiers that are shared with other machines are never written.
    ReadOnly read_only: Switch = "false" {
        kind: Switch,
        variables: ["CACHE_READ_ONLY"],
        group: Cache,
        unset: "`true` in a GitHub Actions job that an untrusted event started, see below",
    }

    /// Seals what is stored on disk and what goes to shared tiers. Everybody with it is one fleet.
    Secret secret: Secret {
        kind: Secret { accepted: "give the secret as text, as `peercache keygen` prints it" },
        variables: ["CACHE_SECRET", "CACHE_P2P_SHARED_SECRET"],
        group: Secrets,
        unset: "entries are stored in clear, on this machine only",
    }

    /// A file that holds the secret, such as one that an engine mounts. Nobody but this user and
    /// root may be able to write it.
    SecretFile secret_file: FileOf {
        kind: FileOf(Name::Secret),
        variables: ["CACHE_SECRET_FILE"],
        group: Secrets,
        unset: "none",
    }

    /// Former secrets that are still read, separated by commas.
    SecretOld secret_old: Secrets {
        kind: Secrets { most: MAX_OLD_SECRETS },
        variables: ["CACHE_SECRET_OLD"],
        group: Secrets,
        unset: "none",
    }

    /// Whether shared tiers are used without a secret, in clear: whoever reaches a port of the
    /// peers, or may write the store, reads and changes everything.
    InsecurePlaintext insecure_plaintext: Switch = "false" {
        kind: Switch,
        variables: ["CACHE_INSECURE_PLAINTEXT"],
        group: Secrets,
        unset: "",
    }

    /// Whether `auto` has the peers tier; `false` wins over every other setting.
    EnableP2p enable_p2p: Switch {
        kind: Switch,
        variables: ["CACHE_ENABLE_P2P"],
        group: Peers,
        unset: "`true` where a port or bootstrap peers are given",
    }

    /// The TCP port on which other nodes reach this one.
    ListenPort listen_port: Port {
        kind: Port,
        variables: ["CACHE_LISTEN_PORT"],
        group: Peers,
        unset: "none; 9100 for an anchor",
    }

    /// The address of this machine on which other nodes reach this one.
    ListenAddr listen_addr: Ip {
        kind: Ip,
        variables: ["CACHE_LISTEN_ADDR"],
        group: Peers,
        unset: "all addresses, IPv4 and IPv6",
    }

    /// Nodes to connect with. They are dialled for as long as the process runs.
    BootstrapPeers bootstrap_peers: Addresses {
        kind: Addresses,
        variables: ["CACHE_BOOTSTRAP_PEERS", "CACHE_P2P_BOOTSTRAP"],
        group: Peers,
        unset: "none",
    }

    /// What this node is for others: an anchor can be dialled and stores for others, a leaf only
    /// dials out.
    Role role: Role = "auto" {
        kind: Role,
        variables: ["CACHE_ROLE"],
        group: Peers,
        unset: "an anchor where the port is fixed, else a leaf",
    }

    /// Derives the node's identity from the secret and this name. No two nodes of a fleet may have
    /// one name.
    NodeName node_name: Text {
        kind: Text { what: "a name of 1 to 255 bytes as text", most: 255 },
        variables: ["CACHE_NODE_NAME"],
        group: Peers,
        unset: "another identity at each start",
    }

    /// Keeps the node's identity in this file, which is made if there is none.
    IdentityFile identity_file: Path {
        kind: Path,
        variables: ["CACHE_IDENTITY_FILE"],
        group: Peers,
        unset: "another identity at each start",
    }

    /// Where others should dial this node.
    AnnounceAddrs announce_addrs: Addresses {
        kind: Addresses,
        variables: ["CACHE_ANNOUNCE_ADDRS"],
        group: Peers,
        unset: "the addresses of this machine",
    }

    /// The peers that are accepted; every other is refused, also with the secret.
    AllowedPeers allowed_peers: PeerIds {
        kind: PeerIds,
        variables: ["CACHE_ALLOWED_PEERS"],
        group: Peers,
        unset: "everybody with the secret",
    }

    /// Whether peers are looked for in the local network by multicast DNS (IPv4).
    Mdns mdns: Switch = "false" {
        kind: Switch,
        variables: ["CACHE_MDNS"],
        group: Peers,
        unset: "",
    }

    /// The most bytes that this node holds for itself and other peers.
    PeerBytes peer_bytes: Bytes = "256MiB" {
        kind: Bytes { least: 16 * MIB },
        variables: ["CACHE_PEER_BYTES"],
        group: Peers,
        unset: "",
    }

    /// Where Redis or Valkey is. A user and a password in it are never shown.
    RedisUrl redis_url: Url {
        kind: Url {
            schemes: &[
                "redis",
                "rediss",
                "unix",
                "redis+cluster",
                "rediss+cluster",
                "redis+sentinel",
                "rediss+sentinel",
                "valkey",
                "valkeys",
            ],
            example: "redis://127.0.0.1:6379, rediss://user:password@host:6380 or unix:///run/redis.sock; a \
                      cluster is redis://host,host, Sentinel redis+sentinel://host/primary",
            with_user: true,
        },
        variables: ["REDIS_URL", "CACHE_REDIS_URL"],
        group: Redis,
        unset: "no Redis tier",
    }

    /// What the names of all its keys begin with.
    RedisPrefix redis_prefix: Text {
        kind: TEXT,
        variables: ["REDIS_PREFIX", "CACHE_REDIS_PREFIX"],
        group: Redis,
        unset: "`peercache`",
    }

    /// The API of a Kubo node, as an address or a URL.
    IpfsApi ipfs_api: Text {
        kind: Text {
            what: "the address of a Kubo node's API, such as /ip4/127.0.0.1/tcp/5001 or http://127.0.0.1:5001",
            most: 1024,
        },
        variables: ["IPFS_API", "CACHE_IPFS_API"],
        group: Ipfs,
        unset: "no IPFS tier",
    }

    /// What the API asks for: `bearer:TOKEN` or `basic:USER:PASSWORD`.
    IpfsApiAuth ipfs_api_auth: Secret {
        kind: Secret { accepted: "give bearer:TOKEN or basic:USER:PASSWORD" },
        variables: ["IPFS_API_AUTH"],
        group: Ipfs,
        unset: "none",
    }

    /// The folder of the node's MFS that holds the entries.
    IpfsPrefix ipfs_prefix: Text {
        kind: TEXT,
        variables: ["IPFS_PREFIX"],
        group: Ipfs,
        unset: "`peercache`",
    }

    /// The most bytes that this cache keeps on the node.
    IpfsMaxBytes ipfs_max_bytes: Bytes = "1GiB" {
        kind: Bytes { least: 16 * MIB },
        variables: ["IPFS_MAX_BYTES"],
        group: Ipfs,
        unset: "",
    }

    /// Whether private entries are stored there too. Only where no stranger can reach the node.
    IpfsAllowPrivate ipfs_allow_private: Switch = "false" {
        kind: Switch,
        variables: ["IPFS_ALLOW_PRIVATE"],
        group: Ipfs,
        unset: "",
    }

    /// Whether nodes announce to each other what they store: by the pubsub of the nodes, or not.
    IpfsSync ipfs_sync: NodeSync = "off" {
        kind: NodeSync,
        variables: ["IPFS_SYNC"],
        group: Ipfs,
        unset: "",
    }

    /// The bucket of the S3 tier.
    S3Bucket s3_bucket: Text {
        kind: Text { what: "the name of a bucket, without s3:// or a path", most: 1024 },
        variables: ["AWS_S3_BUCKET", "CACHE_S3_BUCKET", "S3_BUCKET"],
        group: S3,
        unset: "no S3 tier",
    }

    /// What the names of all its objects begin with.
    S3Prefix s3_prefix: Text {
        kind: Text { what: "what objects' names begin with, such as ci", most: 1024 },
        variables: ["S3_PREFIX"],
        group: S3,
        unset: "none",
    }

    /// The URL of the store, if it is not AWS.
    S3Endpoint s3_endpoint: Text {
        kind: Text { what: "a URL such as https://s3.example.net", most: 2048 },
        variables: ["AWS_ENDPOINT_URL_S3", "S3_ENDPOINT"],
        group: S3,
        unset: "as the AWS SDK finds it",
    }

    /// The bucket's region.
    S3Region s3_region: Text {
        kind: Text { what: "a region such as eu-central-1", most: 128 },
        variables: ["AWS_REGION", "S3_REGION"],
        group: S3,
        unset: "as the AWS SDK finds it; `us-east-1` with an endpoint",
    }

    /// Whether the bucket is named in the path of a request rather than in the host.
    S3PathStyle s3_path_style: Switch {
        kind: Switch,
        variables: ["CACHE_S3_PATH_STYLE"],
        group: S3,
        unset: "`true` with an endpoint",
    }

    /// The token of a space: `storacha1:…`, as `peercache storacha token` builds it.
    Web3StorageToken web3_storage_token: Secret {
        kind: Secret { accepted: "give the token of a space, which begins with storacha1:" },
        variables: ["WEB3_STORAGE_TOKEN", "STORACHA_TOKEN", "CACHE_STORACHA_TOKEN"],
        group: Storacha,
        unset: "no Storacha tier",
    }

    /// A file that holds the token.
    Web3StorageTokenFile web3_storage_token_file: FileOf {
        kind: FileOf(Name::Web3StorageToken),
        variables: ["WEB3_STORAGE_TOKEN_FILE"],
        group: Storacha,
        unset: "none",
    }

    /// The service that stores.
    StorachaServiceUrl storacha_service_url: Url {
        kind: Url { schemes: &["http", "https"], example: "https://up.storage.example", with_user: false },
        variables: ["STORACHA_SERVICE_URL"],
        group: Storacha,
        unset: "as the token or the preset says",
    }

    /// The service's identity.
    StorachaServiceDid storacha_service_did: Text {
        kind: Text { what: "a DID such as did:web:up.storage.example", most: 1024 },
        variables: ["STORACHA_SERVICE_DID"],
        group: Storacha,
        unset: "as the token or the preset says",
    }

    /// Where the service's receipts are fetched.
    StorachaReceiptsUrl storacha_receipts_url: Url {
        kind: Url { schemes: &["http", "https"], example: "https://up.storage.example/receipt/", with_user: false },
        variables: ["STORACHA_RECEIPTS_URL"],
        group: Storacha,
        unset: "the service's URL with `/receipt/` behind it",
    }

    /// A service that this release knows, by name.
    StorachaPreset storacha_preset: Text {
        kind: Text { what: "the name of a preset", most: 64 },
        variables: ["STORACHA_PRESET"],
        group: Storacha,
        unset: "none",
    }

    /// Whether answers that a token was needed for are stored there too.
    StorachaAllowPrivate storacha_allow_private: Switch = "false" {
        kind: Switch,
        variables: ["STORACHA_ALLOW_PRIVATE"],
        group: Storacha,
        unset: "",
    }

    /// Where `peercache serve` listens for HTTP.
    HttpListen http_listen: Sockets {
        kind: Sockets,
        variables: ["CACHE_HTTP_LISTEN"],
        group: Server,
        unset: "`127.0.0.1:9180`, unless a socket is given",
    }

    /// The Unix socket on which `peercache serve` listens, and which `stats`, `peers` and `explain
    /// --url` ask.
    Socket socket: Path {
        kind: Path,
        variables: ["CACHE_SOCKET"],
        group: Server,
        unset: "none",
    }

    /// The API that `peercache serve` caches.
    Upstream upstream: Url = "https://api.github.com" {
        kind: Url { schemes: &["http", "https"], example: "https://api.github.com", with_user: false },
        variables: ["CACHE_UPSTREAM"],
        group: Server,
        unset: "",
    }

    /// The running `peercache serve` that `stats`, `peers` and `explain --url` ask.
    ServerUrl server_url: Url {
        kind: Url { schemes: &["http"], example: "http://127.0.0.1:9180", with_user: false },
        variables: ["CACHE_SERVER_URL"],
        group: Server,
        unset: "`http://127.0.0.1:9180`, unless a socket is given",
    }

    /// Whether answers about repositories that are proven public are shared between tokens.
    GithubSharePublic github_share_public: Switch {
        kind: Switch,
        variables: ["CACHE_GITHUB_SHARE_PUBLIC"],
        group: Server,
        unset: "`true` where the upstream is api.github.com",
    }

    /// How old an answer may be that is given while GitHub fails or the quota is spent, in whole
    /// seconds.
    GithubMaxStale github_max_stale: Seconds = "3600" {
        kind: Seconds { what: "an age", least: 0, most: MAX_LIFETIME.as_secs() },
        variables: ["CACHE_GITHUB_MAX_STALE"],
        group: Server,
        unset: "",
    }

    /// A TOML file with freshness by route, above the built-in table.
    GithubPolicy github_policy: Path {
        kind: Path,
        variables: ["CACHE_GITHUB_POLICY"],
        group: Server,
        unset: "the built-in table",
    }
}

/// The most former secrets.
#[cfg(feature = "seal")]
const MAX_OLD_SECRETS: usize = peercache_seal::MAX_OLD_SECRETS;
#[cfg(not(feature = "seal"))]
const MAX_OLD_SECRETS: usize = 4;

impl Name {
    pub(super) fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The key in the file.
    pub(super) fn key(self) -> &'static str {
        self.row().key
    }

    /// The variables, the one to use first.
    pub(super) fn variables(self) -> &'static [&'static str] {
        self.row().variables
    }

    /// Whether its value must never be shown.
    pub(super) fn is_secret(self) -> bool {
        self.row().kind.is_secret()
    }

    /// The setting that names a file with the value of this one.
    pub(super) fn file(self) -> Option<Self> {
        Self::ALL.iter().copied().find(|name| name.row().kind.file_of() == Some(self))
    }

    pub(super) fn from_key(key: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|name| name.key() == key)
    }

    /// The settings that say something about the peers and nothing about other tiers.
    pub(super) fn of_peers() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|name| name.row().group == Group::Peers)
    }
}

/// A value that need not be given.
fn optional<K: Kind>(
    sources: &Sources<'_>,
    name: Name,
    kind: &K,
) -> Result<Set<Option<K::Value>>, ConfigError> {
    let Some(raw) = sources.get(name)? else { return Ok(Set::default(None)) };
    if kind.blank_is_unset() && raw.given.is_blank() {
        return Ok(Set { value: None, origin: raw.origin });
    }
    let value = Some(kind.parse(&raw, sources.env)?);
    Ok(Set { value, origin: raw.origin })
}

/// A value that has a default.
fn with_default<K: Kind>(
    sources: &Sources<'_>,
    name: Name,
    kind: &K,
    default: &str,
) -> Result<Set<K::Value>, ConfigError> {
    let default = || Raw { name, given: Given::Text(default.to_owned()), origin: Origin::Default };
    let raw = sources.get(name)?.unwrap_or_else(default);
    let value = kind.parse(&raw, sources.env)?;
    Ok(Set { value, origin: raw.origin })
}

/// What `name` takes, as the remedy of a value that is of no use.
pub(super) fn accepted(name: Name) -> String {
    name.row().kind.accepted(name.row().default)
}

/// What `CACHE_BACKEND` takes in this build.
pub(super) fn accepted_backends() -> String {
    let names: Vec<_> = BackendName::built().into_iter().map(BackendName::as_str).collect();
    format!("a comma-separated list of {}, or `auto`, or `none`", names.join(", "))
}

/// What a size is, with the setting's default for an example.
pub(super) fn accepted_bytes(default: Option<&str>) -> String {
    let example = default.unwrap_or("64MiB");
    format!("give a whole number of bytes, or one with a unit such as {example}")
}

/// The line of `Cargo.toml` that switches `feature` on.
pub(super) fn cargo_line(version: &str, feature: &str) -> String {
    format!("peercache = {{ version = \"{version}\", features = [\"{feature}\"] }}")
}

/// The name among `known` that `name` was probably meant to be: at most two letters differ, or its
/// words stand in another order.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let words = |name: &str| {
        let mut words: Vec<_> = name.split('_').map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    let most = if name.len() < 10 { 1 } else { 2 };
    let distance = |known: &str| match words(known) == words(name) {
        true => 1,
        false => distance(name, known),
    };
    known
        .into_iter()
        .map(|known| (distance(known), known))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|near| near.1)
}

/// How many letters have to be changed, added, left out or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<_>, Vec<_>) = (one.bytes().collect(), other.bytes().collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<_>>()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

/// What the table says about a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingInfo {
    /// Its key in the file.
    pub key: &'static str,
    /// Its variable, then the variable's aliases.
    pub variables: &'static [&'static str],
    /// What it is about.
    pub group: Group,
    /// What it does.
    pub help: String,
    /// The kind of its value, with unit and bounds.
    pub kind: String,
    /// The default, or what happens where it is not set.
    pub default: String,
    /// Whether its value is never shown.
    pub secret: bool,
}

/// Every setting that there is, in the order of the reference.
#[must_use]
pub fn known_settings() -> Vec<SettingInfo> {
    let info = |name: &Name| {
        let row = name.row();
        let default = match (row.default, row.unset) {
            (Some(default), "") => format!("`{default}`"),
            (Some(default), unset) => format!("`{default}`; {unset}"),
            (None, unset) => unset.to_owned(),
        };
        SettingInfo {
            key: row.key,
            variables: row.variables,
            group: row.group,
            help: row.help.split_whitespace().collect::<Vec<_>>().join(" "),
            kind: row.kind.described(),
            default,
            secret: row.kind.is_secret(),
        }
    };
    Name::ALL.iter().map(info).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_are_accepted() {
        let mut variables: Vec<_> = ROWS.iter().flat_map(|row| row.variables).collect();
        let count = variables.len();
        variables.sort_unstable();
        variables.dedup();
        assert_eq!(variables.len(), count);
        assert_eq!(ROWS.len(), Name::ALL.len());
        for name in Name::ALL {
            assert_eq!(Name::from_key(name.key()), Some(*name));
            assert!(name.row().default.is_some() || !name.row().unset.is_empty(), "{}", name.key());
        }
    }

    #[test]
    fn nearest_misspelt_name_is_found() {
        let known = ["CACHE_DIR", "CACHE_DISK_BYTES", "CACHE_ENABLE_P2P", "CACHE_BOOTSTRAP_PEERS"];
        let near = |name| nearest(name, known);
        assert_eq!(near("CACHE_DIRS"), Some("CACHE_DIR"));
        assert_eq!(near("CACHE_BOOTSTRAP_PERS"), Some("CACHE_BOOTSTRAP_PEERS"));
        assert_eq!(near("CACHE_BOOTSTRAP_PEER"), Some("CACHE_BOOTSTRAP_PEERS"));
        assert_eq!(near("CACHE_P2P_ENABLE"), Some("CACHE_ENABLE_P2P"));
        assert_eq!(near("CACHE_DKSI_BYTES"), Some("CACHE_DISK_BYTES"));
        assert_eq!(near("CACHE_DRIVER"), None, "another program's");
    }

    #[test]
    fn distance_counts_a_swap_once() {
        assert_eq!(distance("abcd", "abdc"), 1);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
