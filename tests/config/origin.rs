//! Which source wins, and that every value says where it came from.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use insta::assert_snapshot;
use peercache::config::{BackendName, ConfigBuilder};
use peercache::config::{NodeRole, Setting};

const SECRETS: [&str; 4] = [
    "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug",
    "pc-readonly-1-7tBscmJ9uWR8O7Ftom88QiW5TsDCTuJ8fAJ9xzfGvNH_ZpbqxPJOR9UsZXxb1DO8IF5gWsWXGDCGb91FHWQruG5bSRM",
    "the-hidden-secret",
    "another-hidden-secret",
];

const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

/// A setting, with a value for each source.
struct Row {
    name: &'static str,
    code: fn(ConfigBuilder) -> ConfigBuilder,
    variables: &'static [&'static str],
    environment: &'static str,
    file: &'static str,
    /// As shown: from code, environment, file, default.
    shown: [&'static str; 4],
}

const ROWS: [Row; 54] = [
    Row {
        name: "backend",
        code: |builder| builder.backend([BackendName::Disk, BackendName::Memory]),
        variables: &["CACHE_BACKEND", "CACHE_BACKENDS"],
        environment: "disk",
        file: "'memory'",
        shown: ["disk,memory", "disk", "memory", "memory,disk"],
    },
    Row {
        name: "dir",
        code: |builder| builder.dir("/code"),
        variables: &["CACHE_DIR", "IPFS_ACCELERATE_CACHE_DIR"],
        environment: "/environment",
        file: "'/file'",
        shown: ["/code", "/environment", "/file", "not set"],
    },
    Row {
        name: "memory_bytes",
        code: |builder| builder.memory_bytes(2 << 20),
        variables: &["CACHE_MEMORY_BYTES"],
        environment: "3 MB",
        file: "4194304",
        shown: ["2MiB", "3000000", "4MiB", "64MiB"],
    },
    Row {
        name: "disk_bytes",
        code: |builder| builder.disk_bytes(1 << 40),
        variables: &["CACHE_DISK_BYTES"],
        environment: "20m",
        file: "'30000k'",
        shown: ["1024GiB", "20MiB", "30000KiB", "1GiB"],
    },
    Row {
        name: "default_ttl",
        code: |builder| builder.default_ttl(Duration::from_millis(7_900)),
        variables: &["CACHE_DEFAULT_TTL"],
        environment: "8",
        file: "9",
        shown: ["7", "8", "9", "300"],
    },
    Row {
        name: "namespace",
        code: |builder| builder.namespace("code"),
        variables: &["CACHE_NAMESPACE"],
        environment: "environment",
        file: "'file'",
        shown: ["code", "environment", "file", "not set"],
    },
    Row {
        name: "read_timeout",
        code: |builder| builder.read_timeout("2s,s3=1s"),
        variables: &["CACHE_READ_TIMEOUT"],
        environment: "800ms",
        file: "'disk=1m'",
        shown: ["2s,s3=1s", "800ms", "disk=60s", "not set"],
    },
    Row {
        name: "write_timeout",
        code: |builder| builder.write_timeout("1500ms"),
        variables: &["CACHE_WRITE_TIMEOUT"],
        environment: "p2p=3s",
        file: "['s3=1s', '2s']",
        shown: ["1500ms", "libp2p=3s", "2s,s3=1s", "not set"],
    },
    Row {
        name: "read_budget",
        code: |builder| builder.read_budget(Duration::from_millis(1)),
        variables: &["CACHE_READ_BUDGET"],
        environment: "2 s",
        file: "'600s'",
        shown: ["1ms", "2s", "600s", "not set"],
    },
    Row {
        name: "read_only",
        code: |builder| builder.read_only(true),
        variables: &["CACHE_READ_ONLY"],
        environment: "True",
        file: "true",
        shown: ["true", "true", "true", "false"],
    },
    Row {
        name: "secret",
        code: |builder| builder.secret(SECRETS[0]),
        variables: &["CACHE_SECRET", "CACHE_P2P_SHARED_SECRET"],
        environment: SECRETS[1],
        file: "'pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug'",
        shown: [
            "set, key id 4365b5b621b7611a, read and write",
            "set, key id 4365b5b621b7611a, read-only",
            "set, key id 4365b5b621b7611a, read and write",
            "not set",
        ],
    },
    Row {
        name: "secret_old",
        code: |builder| builder.secret(SECRETS[0]).secret_old([SECRETS[1]]),
        variables: &["CACHE_SECRET_OLD"],
        environment: SECRETS[1],
        file: "['pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug']",
        shown: [
            "set, key id 4365b5b621b7611a",
            "set, key id 4365b5b621b7611a",
            "set, key id 4365b5b621b7611a",
            "not set",
        ],
    },
    Row {
        name: "insecure_plaintext",
        code: |builder| builder.insecure_plaintext(true),
        variables: &["CACHE_INSECURE_PLAINTEXT"],
        environment: "TRUE",
        file: "true",
        shown: ["true", "true", "true", "false"],
    },
    Row {
        name: "enable_p2p",
        code: |builder| builder.enable_p2p(false),
        variables: &["CACHE_ENABLE_P2P"],
        environment: "true",
        file: "'false'",
        shown: ["false", "true", "false", "not set"],
    },
    Row {
        name: "listen_port",
        code: |builder| builder.listen_port(0),
        variables: &["CACHE_LISTEN_PORT"],
        environment: "9100",
        file: "9101",
        shown: ["0", "9100", "9101", "not set"],
    },
    Row {
        name: "listen_addr",
        code: |builder| builder.listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        variables: &["CACHE_LISTEN_ADDR"],
        environment: "fd00::5",
        file: "'10.0.0.5'",
        shown: ["127.0.0.1", "fd00::5", "10.0.0.5", "not set"],
    },
    Row {
        name: "bootstrap_peers",
        code: |builder| builder.bootstrap_peers(["/dns4/a/tcp/1", "/ip6/fd00::1/tcp/2"]),
        variables: &["CACHE_BOOTSTRAP_PEERS", "CACHE_P2P_BOOTSTRAP"],
        environment: "/dns4/mcp-server/tcp/9100, ,/ip4/172.17.0.1/tcp/9100",
        file: "['/dns/peers.example.org/tcp/9100']",
        shown: [
            "/dns4/a/tcp/1,/ip6/fd00::1/tcp/2",
            "/dns4/mcp-server/tcp/9100,/ip4/172.17.0.1/tcp/9100",
            "/dns/peers.example.org/tcp/9100",
            "not set",
        ],
    },
    Row {
        name: "role",
        code: |builder| builder.role(NodeRole::Leaf),
        variables: &["CACHE_ROLE"],
        environment: "Leaf",
        file: "'auto'",
        shown: ["leaf", "leaf", "auto", "auto"],
    },
    Row {
        name: "node_name",
        code: |builder| builder.node_name("code"),
        variables: &["CACHE_NODE_NAME"],
        environment: "mcp-server",
        file: "'file'",
        shown: ["code", "mcp-server", "file", "not set"],
    },
    Row {
        name: "identity_file",
        code: |builder| builder.identity_file("/code"),
        variables: &["CACHE_IDENTITY_FILE"],
        environment: "here",
        file: "'/file'",
        shown: ["/code", "here", "/file", "not set"],
    },
    Row {
        name: "announce_addrs",
        code: |builder| builder.announce_addrs(["/ip4/10.0.0.1/tcp/1"]),
        variables: &["CACHE_ANNOUNCE_ADDRS"],
        environment: "/ip4/10.0.0.2/tcp/1",
        file: "'/ip4/10.0.0.3/tcp/1,/ip4/10.0.0.4/tcp/1'",
        shown: [
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/10.0.0.2/tcp/1",
            "/ip4/10.0.0.3/tcp/1,/ip4/10.0.0.4/tcp/1",
            "not set",
        ],
    },
    Row {
        name: "allowed_peers",
        code: |builder| builder.allowed_peers([PEER]),
        variables: &["CACHE_ALLOWED_PEERS"],
        environment: PEER,
        file: "['12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA']",
        shown: [PEER, PEER, PEER, "not set"],
    },
    Row {
        name: "mdns",
        code: |builder| builder.mdns(true),
        variables: &["CACHE_MDNS"],
        environment: "true",
        file: "true",
        shown: ["true", "true", "true", "false"],
    },
    Row {
        name: "peer_dir",
        code: |builder| builder.peer_dir("/code"),
        variables: &["CACHE_PEER_DIR"],
        environment: "/environment",
        file: "'/file'",
        shown: ["/code", "/environment", "/file", "not set"],
    },
    Row {
        name: "peer_bytes",
        code: |builder| builder.peer_bytes(20 << 20),
        variables: &["CACHE_PEER_BYTES"],
        environment: "2G",
        file: "'300MiB'",
        shown: ["20MiB", "2GiB", "300MiB", "256MiB"],
    },
    Row {
        name: "redis_url",
        code: |builder| builder.redis_url("redis://:word@code"),
        variables: &["REDIS_URL", "CACHE_REDIS_URL"],
        environment: "rediss://me:word@env:6380/2",
        file: "'unix:///run/redis.sock'",
        shown: ["redis://…@code", "rediss://…@env:6380/2", "unix:///run/redis.sock", "not set"],
    },
    Row {
        name: "redis_prefix",
        code: |builder| builder.redis_prefix("code:"),
        variables: &["REDIS_PREFIX", "CACHE_REDIS_PREFIX"],
        environment: "env:",
        file: "'file:'",
        shown: ["code:", "env:", "file:", "not set"],
    },
    Row {
        name: "ipfs_api",
        code: |builder| builder.ipfs_api("http://code:5001"),
        variables: &["IPFS_API", "CACHE_IPFS_API"],
        environment: "/ip4/127.0.0.1/tcp/5001",
        file: "'http://file:5001'",
        shown: ["http://code:5001", "/ip4/127.0.0.1/tcp/5001", "http://file:5001", "not set"],
    },
    Row {
        name: "ipfs_api_auth",
        code: |builder| builder.ipfs_api_auth("bearer:code"),
        variables: &["IPFS_API_AUTH"],
        environment: "basic:me:word",
        file: "'bearer:file'",
        shown: ["set", "set", "set", "not set"],
    },
    Row {
        name: "ipfs_prefix",
        code: |builder| builder.ipfs_prefix("/code"),
        variables: &["IPFS_PREFIX"],
        environment: "/env",
        file: "'/file'",
        shown: ["/code", "/env", "/file", "not set"],
    },
    Row {
        name: "ipfs_max_bytes",
        code: |builder| builder.ipfs_max_bytes(16 << 20),
        variables: &["IPFS_MAX_BYTES"],
        environment: "2GiB",
        file: "'20m'",
        shown: ["16MiB", "2GiB", "20MiB", "1GiB"],
    },
    Row {
        name: "ipfs_allow_private",
        code: |builder| builder.ipfs_allow_private(true),
        variables: &["IPFS_ALLOW_PRIVATE"],
        environment: "true",
        file: "true",
        shown: ["true", "true", "true", "false"],
    },
    Row {
        name: "ipfs_sync",
        code: |builder| builder.ipfs_sync(true),
        variables: &["IPFS_SYNC"],
        environment: "PUBSUB",
        file: "'pubsub'",
        shown: ["pubsub", "pubsub", "pubsub", "off"],
    },
    Row {
        name: "s3_bucket",
        code: |builder| builder.s3_bucket("code"),
        variables: &["AWS_S3_BUCKET", "CACHE_S3_BUCKET", "S3_BUCKET"],
        environment: " env ",
        file: "'file'",
        shown: ["code", "env", "file", "not set"],
    },
    Row {
        name: "s3_prefix",
        code: |builder| builder.s3_prefix("ci/code"),
        variables: &["S3_PREFIX"],
        environment: "ci/env",
        file: "'ci/file'",
        shown: ["ci/code", "ci/env", "ci/file", "not set"],
    },
    Row {
        name: "s3_endpoint",
        code: |builder| builder.s3_endpoint("http://code:1"),
        variables: &["AWS_ENDPOINT_URL_S3", "S3_ENDPOINT"],
        environment: "https://me:word@env/p",
        file: "'http://file'",
        shown: ["http://code:1", "https://…@env/p", "http://file", "not set"],
    },
    Row {
        name: "s3_region",
        code: |builder| builder.s3_region("code-1"),
        variables: &["AWS_REGION", "S3_REGION"],
        environment: "env-1",
        file: "'file-1'",
        shown: ["code-1", "env-1", "file-1", "not set"],
    },
    Row {
        name: "s3_path_style",
        code: |builder| builder.s3_path_style(false),
        variables: &["CACHE_S3_PATH_STYLE"],
        environment: "TRUE",
        file: "false",
        shown: ["false", "true", "false", "not set"],
    },
    Row {
        name: "web3_storage_token",
        code: |builder| builder.web3_storage_token("storacha1:code"),
        variables: &["WEB3_STORAGE_TOKEN", "STORACHA_TOKEN", "CACHE_STORACHA_TOKEN"],
        environment: "storacha1:env",
        file: "'storacha1:file'",
        shown: ["set", "set", "set", "not set"],
    },
    Row {
        name: "storacha_service_url",
        code: |builder| builder.storacha_service_url("https://code"),
        variables: &["STORACHA_SERVICE_URL"],
        environment: "https://env",
        file: "'http://file:1/x'",
        shown: ["https://code", "https://env", "http://file:1/x", "not set"],
    },
    Row {
        name: "storacha_service_did",
        code: |builder| builder.storacha_service_did("did:web:code"),
        variables: &["STORACHA_SERVICE_DID"],
        environment: "did:web:env",
        file: "'did:web:file'",
        shown: ["did:web:code", "did:web:env", "did:web:file", "not set"],
    },
    Row {
        name: "storacha_receipts_url",
        code: |builder| builder.storacha_receipts_url("https://code/r/"),
        variables: &["STORACHA_RECEIPTS_URL"],
        environment: "https://env/r/",
        file: "'http://file:1/r/'",
        shown: ["https://code/r/", "https://env/r/", "http://file:1/r/", "not set"],
    },
    Row {
        name: "storacha_preset",
        code: |builder| builder.storacha_preset("code"),
        variables: &["STORACHA_PRESET"],
        environment: "env",
        file: "'file'",
        shown: ["code", "env", "file", "not set"],
    },
    Row {
        name: "storacha_allow_private",
        code: |builder| builder.storacha_allow_private(true),
        variables: &["STORACHA_ALLOW_PRIVATE"],
        environment: "true",
        file: "true",
        shown: ["true", "true", "true", "false"],
    },
    Row {
        name: "http_listen",
        code: |builder| builder.http_listen(["127.0.0.1:1".parse().unwrap()]),
        variables: &["CACHE_HTTP_LISTEN"],
        environment: "127.0.0.1:9180, [::1]:9180",
        file: "['0.0.0.0:80']",
        shown: ["127.0.0.1:1", "127.0.0.1:9180,[::1]:9180", "0.0.0.0:80", "not set"],
    },
    Row {
        name: "socket",
        code: |builder| builder.socket("/code"),
        variables: &["CACHE_SOCKET"],
        environment: "/env",
        file: "'/file'",
        shown: ["/code", "/env", "/file", "not set"],
    },
    Row {
        name: "upstream",
        code: |builder| builder.upstream("http://code"),
        variables: &["CACHE_UPSTREAM"],
        environment: "https://ghe.example.net/api/v3",
        file: "'https://file'",
        shown: ["http://code", "https://ghe.example.net/api/v3", "https://file", "https://api.github.com"],
    },
    Row {
        name: "server_url",
        code: |builder| builder.server_url("http://code"),
        variables: &["CACHE_SERVER_URL"],
        environment: "http://env:9180",
        file: "'http://file'",
        shown: ["http://code", "http://env:9180", "http://file", "not set"],
    },
    Row {
        name: "github_share_public",
        code: |builder| builder.github_share_public(false),
        variables: &["CACHE_GITHUB_SHARE_PUBLIC"],
        environment: "true",
        file: "false",
        shown: ["false", "true", "false", "not set"],
    },
    Row {
        name: "github_public_for",
        code: |builder| builder.github_public_for(Duration::from_secs(0)),
        variables: &["CACHE_GITHUB_PUBLIC_FOR"],
        environment: "5",
        file: "600",
        shown: ["0", "5", "600", "60"],
    },
    Row {
        name: "github_max_stale",
        code: |builder| builder.github_max_stale(Duration::from_secs(0)),
        variables: &["CACHE_GITHUB_MAX_STALE"],
        environment: "60",
        file: "2592000",
        shown: ["0", "60", "2592000", "3600"],
    },
    Row {
        name: "github_policy",
        code: |builder| builder.github_policy("/code"),
        variables: &["CACHE_GITHUB_POLICY"],
        environment: "/env",
        file: "'/file'",
        shown: ["/code", "/env", "/file", "not set"],
    },
    Row {
        name: "github_reserve",
        code: |builder| builder.github_reserve(5),
        variables: &["CACHE_GITHUB_RESERVE"],
        environment: "10",
        file: "90",
        shown: ["5", "10", "90", "0"],
    },
    Row {
        name: "github_pace",
        code: |builder| builder.github_pace(67),
        variables: &["CACHE_GITHUB_PACE"],
        environment: "100",
        file: "10000",
        shown: ["67", "100", "10000", "0"],
    },
];

/// The setting `row`, made in these places.
fn setting(row: &Row, code: bool, variable: Option<&str>, file: bool) -> Setting {
    // Former secrets need one to write with.
    let (needs, with_secret) = (row.name == "secret_old", format!("secret = '{}'\n", SECRETS[0]));
    let text = match file {
        true => format!("{}{} = {}\n", if needs { &with_secret } else { "\n" }, row.name, row.file),
        false => String::new(),
    };
    let mut builder = ConfigBuilder::new("peercache").file_text("f.toml", text);
    if code {
        builder = (row.code)(builder);
    }
    let config = builder.read_vars(|name| {
        if needs && name == "CACHE_SECRET" && variable.is_some() {
            return Some(SECRETS[0].to_owned());
        }
        (Some(name) == variable).then(|| row.environment.to_owned())
    });
    let mut settings = config.unwrap().settings().unwrap();
    settings.remove(settings.iter().position(|setting| setting.name == row.name).unwrap())
}

#[test]
fn code_before_environment_before_file_before_default() {
    for row in &ROWS {
        let variable = row.variables[0];
        let [code, environment, file, default] = row.shown.map(|value| format!("{} = {value}", row.name));
        for under in [false, true] {
            let below = under.then_some(variable);
            assert_eq!(setting(row, true, below, under).to_string(), format!("{code} (code)"));
            for variable in row.variables {
                let found = setting(row, false, Some(variable), under);
                assert_eq!(found.to_string(), format!("{environment} (environment {variable})"));
                assert_eq!(found.variable, row.variables[0]);
            }
        }
        assert_eq!(setting(row, false, None, true).to_string(), format!("{file} (file f.toml:2)"));
        assert_eq!(setting(row, false, None, false).to_string(), format!("{default} (default)"));
    }
    let all = ConfigBuilder::new("peercache").read_vars(|_| None).unwrap().settings().unwrap();
    let names: Vec<_> = all.iter().map(|setting| setting.name).collect();
    // A setting that names a file with another's value has a test of its own.
    let of_files = ["secret_file", "web3_storage_token_file"];
    let names: Vec<_> = names[1..].iter().copied().filter(|name| !of_files.contains(name)).collect();
    assert_eq!(names, ROWS.map(|row| row.name), "every setting has its row");
}

#[test]
fn the_places_are_data_too() {
    let config = ConfigBuilder::new("peercache")
        .namespace("n")
        .file_text("f.toml", "default_ttl = 5")
        .read_vars(|name| (name == "CACHE_DIR").then(|| "/d".to_owned()))
        .unwrap();
    let settings = config.settings().unwrap();
    let json = |name: &str| {
        let setting = settings.iter().find(|setting| setting.name == name).unwrap();
        serde_json::to_string(setting).unwrap()
    };
    assert_snapshot!(json("namespace"), @r#"{"name":"namespace","variable":"CACHE_NAMESPACE","value":"n","origin":{"from":"code"}}"#);
    assert_snapshot!(json("dir"), @r#"{"name":"dir","variable":"CACHE_DIR","value":"/d","origin":{"from":"environment","variable":"CACHE_DIR"}}"#);
    assert_snapshot!(json("default_ttl"), @r#"{"name":"default_ttl","variable":"CACHE_DEFAULT_TTL","value":"5","origin":{"from":"file","path":"f.toml","line":1}}"#);
    assert_snapshot!(json("backend"), @r#"{"name":"backend","variable":"CACHE_BACKEND","value":"memory,disk","origin":{"from":"default"}}"#);
}

#[test]
fn mistakes_in_code_say_so() {
    let complaint = |builder: ConfigBuilder| builder.read_vars(|_| None).unwrap_err().to_string();
    let builder = || ConfigBuilder::new("peercache");
    assert_snapshot!(complaint(builder().memory_bytes(5)), @"memory_bytes = 5, set in code: this is too small, the least is 1MiB; give a whole number of bytes, or one with a unit such as 64MiB");
    assert_snapshot!(complaint(builder().default_ttl(Duration::from_millis(999))), @"default_ttl = 0, set in code: this is not a time to live; give whole seconds from 1 to 2592000");
    assert_snapshot!(complaint(builder().secret_old(["the-hidden-secret"])), @"secret_old, set in code: there are former secrets, and no secret to write with; give that one as CACHE_SECRET");
    let blank = builder().secret(" ").read_vars(|_| None).unwrap().settings().unwrap_err();
    assert_snapshot!(blank, @"secret, set in code: the secret is empty; make a secret with `peercache keygen`");
}

#[test]
fn what_code_leaves_empty_is_meant_so() {
    let vars = |name: &str| {
        let other =
            ["CACHE_BACKEND", "CACHE_DIR", "CACHE_NAMESPACE", "CACHE_SECRET", "CACHE_BOOTSTRAP_PEERS"];
        other.contains(&name).then(|| "disk".to_owned())
    };
    let config = ConfigBuilder::new("peercache")
        .without_file()
        .backend([])
        .namespace("")
        .dir("/d")
        .memory_bytes(1 << 20);
    let config = config.disk_bytes(1 << 30).default_ttl(Duration::from_secs(1)).secret(SECRETS[0]);
    let config =
        config.secret_old([""; 0]).read_only(false).bootstrap_peers([""; 0]).read_vars(vars).unwrap();
    assert!(config.backends().is_empty() && config.dir().is_none());
    let settings = config.settings().unwrap();
    assert_eq!(settings[0].to_string(), "config = none (code)");
    assert_eq!(settings[6].to_string(), "namespace = not set (code)");
    assert!(settings.iter().any(|setting| setting.to_string() == "secret_old = not set (code)"));
}

#[test]
fn secrets_are_never_shown() {
    let [full, read_only, passphrase, another] = SECRETS;
    let builder = ConfigBuilder::new("peercache")
        .secret(full)
        .secret_old([read_only, another])
        .file_text("f", passphrase);
    let mut shown = format!("{builder:?}");
    let toml = format!("secret = '{full}'\nsecret_old = '{read_only},{passphrase}'");
    let config = ConfigBuilder::new("peercache").file_text("f", toml).read_vars(|_| None).unwrap();
    for config in [config, ConfigBuilder::new("peercache").secret(passphrase).read_vars(|_| None).unwrap()] {
        shown += &format!("{config:?}");
        shown += &format!("{:?}", config.settings().unwrap());
        shown += &format!("{config:?} {:?}", config.keyring().unwrap());
    }
    for text in SECRETS {
        assert!(!shown.contains(&text[text.len() - 12..]), "{shown}");
    }
}
