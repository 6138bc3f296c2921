//! The one table of settings.
//!
//! A row is everything that there is to say about a setting: its text for users, its kind with
//! bounds, its variables with their aliases, its default. Names, parsing, the keys of the file, the
//! methods of [`ConfigBuilder`](super::ConfigBuilder), `peercache config`, the command's help and
//! completions, the texts of errors and `docs/reference/settings.md` come from it. To add a
//! setting, add a row and rewrite the document (`UPDATE=1 cargo test --test config reference`).
//!
//! The table is a macro that gives its rows to another one, so that each file makes of them what
//! belongs there: `name.rs` the names, `row.rs` what is said about each, `values.rs` the values,
//! `builder.rs` the methods.

/// A mebibyte.
pub(super) const MIB: u64 = 1 << 20;

/// The most former secrets.
#[cfg(feature = "seal")]
pub(super) const MAX_OLD_SECRETS: usize = peercache_seal::MAX_OLD_SECRETS;
#[cfg(not(feature = "seal"))]
pub(super) const MAX_OLD_SECRETS: usize = 4;

/// Calls the macro `$expand` with the table.
macro_rules! settings {
    ($expand:ident) => { $expand! {
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

    /// Where an anchor keeps what it holds for itself and other peers, so that a restart loses
    /// nothing. At most `CACHE_PEER_BYTES`.
    PeerDir peer_dir: Path {
        kind: Path,
        variables: ["CACHE_PEER_DIR"],
        group: Peers,
        unset: "`peers` in `CACHE_DIR`",
    }

    /// The most bytes that this node holds for itself and other peers: in memory, and an anchor as
    /// much on disk.
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
        kind: Text::SHORT,
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
        kind: Text::SHORT,
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

    /// For how long after GitHub said that a repository is public, what is fetched from it counts
    /// as public, in whole seconds.
    GithubPublicFor github_public_for: Seconds = "60" {
        kind: Seconds { what: "a time", least: 0, most: 600 },
        variables: ["CACHE_GITHUB_PUBLIC_FOR"],
        group: Server,
        unset: "",
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

    /// How many hundredths of each rate limit are kept for requests that say `Priority: u=0`.
    GithubReserve github_reserve: Whole = "0" {
        kind: Whole { what: "a part in percent", unit: "percent", most: 90 },
        variables: ["CACHE_GITHUB_RESERVE"],
        group: Server,
        unset: "",
    }

    /// The least time between two requests to GitHub of one token, those with `Priority: u=0` left
    /// out. With one, a token that meets a secondary limit also pauses.
    GithubPace github_pace: Whole = "0" {
        kind: Whole { what: "a time in milliseconds", unit: "milliseconds", most: 10_000 },
        variables: ["CACHE_GITHUB_PACE"],
        group: Server,
        unset: "",
    }

    } };
}
pub(super) use settings;
