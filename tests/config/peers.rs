//! The settings of the peers: when they count, what they open, and what their mistakes say.

use insta::assert_snapshot;
use peercache::config::ConfigBuilder;
use peercache::config::NodeRole;
use peercache::seal::Secret;
use peercache::{Config, Key, Ttl};

use crate::read;

fn complaint(vars: &[(&str, &str)]) -> String {
    let text = read(vars).unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn tiers(vars: &[(&str, &str)]) -> String {
    let config = read(vars).unwrap();
    config.backends().iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",")
}

#[test]
fn auto_takes_them_where_their_settings_are_present() {
    let (on, off) = (("CACHE_ENABLE_P2P", "true"), ("CACHE_ENABLE_P2P", "false"));
    let (port, peer) = (("CACHE_LISTEN_PORT", "9100"), ("CACHE_P2P_BOOTSTRAP", "/dns4/host/tcp/9100"));
    assert_eq!(tiers(&[]), "memory,disk");
    for present in [on, port, peer, ("CACHE_LISTEN_PORT", "0")] {
        assert_eq!(tiers(&[present]), "memory,disk,libp2p", "{present:?}");
        assert_eq!(tiers(&[present, ("CACHE_BACKEND", "auto")]), "memory,disk,libp2p");
        assert_eq!(tiers(&[present, ("CACHE_BACKEND", "disk")]), "disk", "a list is a list");
    }
    assert_eq!(tiers(&[off, port, peer]), "memory,disk");
    assert_eq!(tiers(&[("CACHE_BACKEND", "p2p")]), "memory,disk,libp2p");
    assert_eq!(tiers(&[("CACHE_BACKEND", "libp2p,memory")]), "libp2p,memory");
    assert_eq!(tiers(&[on, ("CACHE_BACKEND", "none")]), "");
}

#[test]
fn what_has_no_effect_is_said() {
    let warned = |vars: &[(&str, &str)]| read(vars).unwrap().warnings().join("\n");
    assert_snapshot!(warned(&[("CACHE_ROLE", "leaf")]), @"CACHE_ROLE is set, but this chain has no peers: set CACHE_ENABLE_P2P=true, and where CACHE_BACKEND is a list, add `libp2p` to it");
    assert_snapshot!(warned(&[("CACHE_BACKEND", "disk"), ("CACHE_P2P_BOOTSTRAP", "/dns4/h/tcp/1"), ("CACHE_MDNS", "true")]), @"CACHE_P2P_BOOTSTRAP, CACHE_MDNS are set, but this chain has no peers: set CACHE_ENABLE_P2P=true, and where CACHE_BACKEND is a list, add `libp2p` to it");
    assert_eq!(warned(&[("CACHE_ENABLE_P2P", "true"), ("CACHE_ROLE", "leaf")]), "");
    assert_eq!(warned(&[("CACHE_ENABLE_P2P", "false"), ("CACHE_ROLE", "leaf")]), "", "that is meant so");
    assert_eq!(warned(&[("CACHE_MDNS", "false")]), "");
}

#[test]
fn an_anchor_that_names_no_port_has_the_usual_one() {
    let port = |vars: &[(&str, &str)]| {
        let settings = read(vars).unwrap().settings().unwrap();
        settings.into_iter().find(|setting| setting.name == "listen_port").unwrap().value
    };
    assert_eq!(port(&[("CACHE_ROLE", "anchor")]), "9100");
    assert_eq!(port(&[("CACHE_ROLE", "anchor"), ("CACHE_LISTEN_PORT", "0")]), "0");
    assert_eq!(port(&[("CACHE_ROLE", "leaf")]), "not set");
    let in_code = ConfigBuilder::new("peercache").role(NodeRole::Anchor).read_vars(|_| None).unwrap();
    assert!(in_code.settings().unwrap().iter().any(|setting| setting.to_string() == "role = anchor (code)"));
}

#[test]
fn mistakes() {
    assert_snapshot!(complaint(&[("CACHE_ENABLE_P2P", "yes")]), @r#"CACHE_ENABLE_P2P="yes": this is neither true nor false; give true or false"#);
    assert_snapshot!(complaint(&[("CACHE_ENABLE_P2P", "false"), ("CACHE_BACKEND", "memory,libp2p")]), @r#"CACHE_BACKEND="memory,libp2p": the list asks for `libp2p`, and CACHE_ENABLE_P2P="false" switches it off; leave `libp2p` out of the list, or set CACHE_ENABLE_P2P=true"#);
    assert_snapshot!(complaint(&[("CACHE_ROLE", "server")]), @r#"CACHE_ROLE="server": there is no such role; give anchor, leaf or auto"#);
    for bad in ["65536", "-1", "http", "9100/tcp"] {
        let text = complaint(&[("CACHE_LISTEN_PORT", bad)]);
        assert_eq!(
            text,
            format!(
                "CACHE_LISTEN_PORT={bad:?}: this is not a port; give a port from 1 to 65535, or 0 for any that is free"
            )
        );
    }
    assert_snapshot!(complaint(&[("CACHE_BOOTSTRAP_PEERS", "172.17.0.1:9100,/dns4/host/tcp/9100,/ip4/10.0.0.1/udp/1/quic-v1")]), @r#"CACHE_BOOTSTRAP_PEERS="172.17.0.1:9100,/dns4/host/tcp/9100,/ip4/10.0.0.1/udp/1/quic-v1": not usable: "172.17.0.1:9100" (this is no address of a peer), "/ip4/10.0.0.1/udp/1/quic-v1" (this kind of address is not used here); write /ip4/172.17.0.1/tcp/9100, /ip6/fd00::1/tcp/9100, /dns4/mcp-server/tcp/9100, /dns6/HOST/tcp/9100 or /dns/HOST/tcp/9100, each with or without /p2p/ID at its end"#);
    assert_snapshot!(complaint(&[("CACHE_P2P_BOOTSTRAP", "/ip4/169.254.169.254/tcp/80")]), @r#"CACHE_P2P_BOOTSTRAP="/ip4/169.254.169.254/tcp/80": not usable: "/ip4/169.254.169.254/tcp/80" (nobody can be dialled at this address); write /ip4/172.17.0.1/tcp/9100, /ip6/fd00::1/tcp/9100, /dns4/mcp-server/tcp/9100, /dns6/HOST/tcp/9100 or /dns/HOST/tcp/9100, each with or without /p2p/ID at its end"#);
    assert_snapshot!(complaint(&[("CACHE_ANNOUNCE_ADDRS", "host")]), @r#"CACHE_ANNOUNCE_ADDRS="host": not usable: "host" (this is no address of a peer); write /ip4/172.17.0.1/tcp/9100, /ip6/fd00::1/tcp/9100, /dns4/mcp-server/tcp/9100, /dns6/HOST/tcp/9100 or /dns/HOST/tcp/9100, each with or without /p2p/ID at its end"#);
    assert_snapshot!(complaint(&[("CACHE_ALLOWED_PEERS", "host")]), @r#"CACHE_ALLOWED_PEERS="host": not usable: "host" (this is no peer id); a peer id begins with 12D3Koo; `peercache id` prints a node's own"#);
    assert_snapshot!(complaint(&[("CACHE_NODE_NAME", "a"), ("CACHE_IDENTITY_FILE", "/b")]), @r#"CACHE_NODE_NAME="a": a node has one identity, and CACHE_IDENTITY_FILE="/b" gives it another; leave one of the two out"#);
    assert!(
        complaint(&[("CACHE_NODE_NAME", &"n".repeat(256))]).contains("it has 256 bytes, the most is 255")
    );
    assert_snapshot!(complaint(&[("CACHE_PEER_BYTES", "1MiB")]), @r#"CACHE_PEER_BYTES="1MiB": this is too small, the least is 16MiB; give a whole number of bytes, or one with a unit such as 256MiB"#);
    assert_snapshot!(complaint(&[("CACHE_MDNS", "1")]), @r#"CACHE_MDNS="1": this is neither true nor false; give true or false"#);
    assert_snapshot!(complaint(&[("CACHE_INSECURE_PLAINTEXT", "sure")]), @r#"CACHE_INSECURE_PLAINTEXT="sure": this is neither true nor false; give true or false"#);
}

#[test]
fn mistakes_in_the_file() {
    let complaint = |toml: &str| {
        ConfigBuilder::new("peercache").file_text("f.toml", toml).read_vars(|_| None).unwrap_err().to_string()
    };
    assert_snapshot!(complaint("listen_port = 70000"), @"f.toml:1: listen_port = 70000: this is not a port; give a port from 1 to 65535, or 0 for any that is free");
    assert_snapshot!(complaint("bootstrap_peers = ['/dns4/h/tcp/1', 'nonsense']"), @r#"f.toml:1: bootstrap_peers = "/dns4/h/tcp/1,nonsense": not usable: "nonsense" (this is no address of a peer); write /ip4/172.17.0.1/tcp/9100, /ip6/fd00::1/tcp/9100, /dns4/mcp-server/tcp/9100, /dns6/HOST/tcp/9100 or /dns/HOST/tcp/9100, each with or without /p2p/ID at its end"#);
    assert_snapshot!(complaint("bootstrap_peers = 9100"), @"f.toml:1: bootstrap_peers = 9100: this is a number; give addresses such as /ip4/172.17.0.1/tcp/9100 or /dns4/mcp-server/tcp/9100");
    assert_snapshot!(complaint("identity_file = 'key'"), @r#"f.toml:1: identity_file = "key": a path in a file must not depend on where the process is started; give an absolute path, or one that begins with ~/"#);
    assert_snapshot!(complaint("role = true"), @"f.toml:1: role = true: this is a truth value; give anchor, leaf or auto");
    assert_snapshot!(complaint("backend = 'libp2p'\nenable_p2p = false"), @r#"f.toml:1: backend = "libp2p": the list asks for `libp2p`, and f.toml:2: enable_p2p = "false" switches it off; leave `libp2p` out of the list, or set CACHE_ENABLE_P2P=true"#);
}

/// Settings of a node on this machine alone, on a port of its own.
fn open_vars<'a>(secret: &'a str, dir: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![("CACHE_SECRET", secret), ("CACHE_DIR", dir), ("CACHE_LISTEN_PORT", "0"), ("CACHE_ROLE", "anchor")]
}

#[tokio::test]
async fn without_a_secret_nothing_is_shared_unless_that_is_asked_for() {
    let vars = [("CACHE_BACKEND", "memory,libp2p"), ("CACHE_ENABLE_P2P", "true")];
    let error = read(&vars).unwrap().open().await.unwrap_err();
    assert_snapshot!(error, @"CACHE_SECRET: peers share entries with other machines, and there is no secret to seal them with; make one with `peercache keygen` and give it to every machine as CACHE_SECRET, or set CACHE_BACKEND=memory,disk to do without peers (CACHE_INSECURE_PLAINTEXT=true shares in clear, with whoever can reach the port)");
    let plain = [vars[0], ("CACHE_INSECURE_PLAINTEXT", "true")];
    let cache = read(&plain).unwrap().open().await.unwrap();
    let names: Vec<_> = cache.report().chain.tiers.iter().map(|tier| tier.name.clone()).collect();
    assert_eq!(names, ["memory", "peers"]);
    cache.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_is_what_opens() {
    let dir = tempfile::tempdir().unwrap();
    let secret = Secret::generate().unwrap().to_text();
    let cache = read(&open_vars(&secret, dir.path().to_str().unwrap())).unwrap().open().await.unwrap();
    let report = cache.report();
    let tiers: Vec<_> = report.chain.tiers.iter().map(|tier| (tier.name.as_str(), tier.scope)).collect();
    assert_eq!(tiers, [("memory", "local"), ("sealed(disk)", "local"), ("sealed(peers)", "shared")]);
    assert!(report.chain.journal.unwrap().sealed, "what waits for peers is journalled");
    let peers = cache.peers().unwrap().clone();
    assert_eq!(report.backends["peers"]["role"], "anchor");
    assert_eq!(report.backends["peers"]["name"], peers.name().to_string());
    cache.close().await.unwrap();
    assert!(peers.name().to_string().starts_with("12D3Koo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_shot_process_neither_takes_the_port_nor_the_name_of_the_server() {
    let (server_dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = Secret::generate().unwrap().to_text();
    // Bound and dropped: free just now.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let vars = |dir: &std::path::Path| {
        let dir = dir.to_str().unwrap().to_owned();
        let (secret, port) = (secret.to_string(), port.clone());
        move |name: &str| match name {
            "CACHE_SECRET" => Some(secret.clone()),
            "CACHE_DIR" => Some(dir.clone()),
            "CACHE_LISTEN_PORT" => Some(port.clone()),
            "CACHE_NODE_NAME" => Some("host".to_owned()),
            _ => None,
        }
    };
    let server = Config::from_vars("peercache", vars(server_dir.path())).unwrap().open().await.unwrap();
    let same = Config::from_vars("peercache", vars(other_dir.path())).unwrap();
    let taken = same.open().await.unwrap_err().to_string();
    assert_eq!(
        taken.replace(&port, "PORT"),
        "CACHE_LISTEN_PORT=PORT: peers: open failed (configuration): the port is in use by another process \
         [port=PORT, address=0.0.0.0]: Address already in use (os error 98); stop that process, set \
         CACHE_LISTEN_PORT to another port, or 0 for any"
    );

    let once = same.clone().one_shot().open().await.unwrap();
    let report = once.peers().unwrap().report();
    assert_eq!((report.role, report.connected, report.addresses.len()), ("leaf", 1, 0));
    assert_ne!(report.name, server.peers().unwrap().name());
    assert_eq!(report.members[0].name, server.peers().unwrap().name());
    assert_eq!(same.node().await.unwrap().name, Some(server.peers().unwrap().name()));
    let key = Key::new("k").unwrap();
    let outcome = once.put(&key, "v", Ttl::from_secs(60)).await.unwrap();
    assert!(
        outcome.tiers.iter().any(|tier| tier.tier == "sealed(peers)" && tier.put.to_string() == "stored")
    );
    once.close().await.unwrap();
    assert_eq!(server.get::<String>(&key).await.as_deref(), Some("v"), "the server has it");
    server.close().await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let secret = Secret::generate().unwrap().to_text();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let peer = format!("/ip4/127.0.0.1/tcp/{port}");
    let vars = [
        ("CACHE_SECRET", secret.as_str()),
        ("CACHE_DIR", dir.path().to_str().unwrap()),
        ("CACHE_BOOTSTRAP_PEERS", &peer),
    ];
    let cache = read(&vars).unwrap().one_shot().open().await.unwrap();
    let key = Key::new("k").unwrap();
    assert!(cache.put(&key, "v", Ttl::from_secs(60)).await.unwrap().is_durable(), "the disk has it");
    assert_eq!(cache.get::<String>(&key).await.as_deref(), Some("v"));
    assert_eq!(cache.report().backends["peers"]["bootstrap"][0]["connected"], false);
    cache.close().await.unwrap();
}

#[tokio::test]
async fn an_identity_that_is_no_good() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("identity");
    std::fs::write(&file, "hello").unwrap();
    let secret = Secret::generate().unwrap().to_text();
    let path = file.to_str().unwrap();
    let vars =
        [("CACHE_SECRET", secret.as_str()), ("CACHE_ENABLE_P2P", "true"), ("CACHE_IDENTITY_FILE", path)];
    let error = read(&vars).unwrap().node().await.unwrap_err();
    assert_eq!(error.variable(), "CACHE_IDENTITY_FILE");
    let text = error.to_string().replace(dir.path().to_str().unwrap(), "DIR");
    assert!(
        text.starts_with(r#"CACHE_IDENTITY_FILE="DIR/identity": peers: open failed (configuration): "#),
        "{text}"
    );
}

#[tokio::test]
async fn who_a_node_will_be() {
    let secret = "pc-secret-1-KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKirrM9Ug";
    let node = async |more: &[(&str, &str)]| {
        let vars: Vec<_> = [("CACHE_SECRET", secret)].iter().chain(more).copied().collect();
        read(&vars).unwrap().node().await.unwrap()
    };
    let nobody = node(&[("CACHE_LISTEN_PORT", "9100")]).await;
    assert_eq!((nobody.name, nobody.role, nobody.addresses.len()), (None, "anchor", 0));
    let name = ("CACHE_NODE_NAME", "mcp-server");
    let leaf = node(&[name]).await;
    assert_eq!((leaf.role, leaf.listen_port, leaf.addresses.len()), ("leaf", None, 0));
    let announced =
        node(&[name, ("CACHE_LISTEN_PORT", "0"), ("CACHE_ANNOUNCE_ADDRS", "/dns4/mcp-server/tcp/9100")])
            .await;
    assert_snapshot!(announced.addresses.join("\n"), @"/dns4/mcp-server/tcp/9100/p2p/12D3KooWH91j1HVNF66M9kPvV2tvt4jrkLba6itSzTuQmJqQJz94");
    let found = node(&[name, ("CACHE_LISTEN_PORT", "9123")]).await;
    let suffix = format!("/tcp/9123/p2p/{}", found.name.unwrap());
    assert!(
        !found.addresses.is_empty() && found.addresses.iter().all(|address| address.ends_with(&suffix)),
        "{found:?}"
    );
}
