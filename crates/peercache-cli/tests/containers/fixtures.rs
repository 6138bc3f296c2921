//! The fixtures themselves, proven with nothing but `serve`, `stats`, `get` and `put`.

use std::path::Path;
use std::rc::Rc;

use crate::command::{LIMIT, Output, eventually};
use crate::engine::{Container, Engine, GATEWAY};
use crate::means::Means;
use crate::namespace::Namespace;
use crate::nat::{self, Nat};
use crate::node::{Node, Place, Process};

const PORT: &str = "9180";

fn ask(node: &dyn Node, host: &str) -> Output {
    node.step(&["stats", "--url", &format!("http://{host}:{PORT}")], b"")
}

/// Whether the server at `host` answers the node; a server takes a moment to start.
fn reaches(node: &dyn Node, host: &str) {
    eventually(&format!("{} reaches {host}", node.name()), LIMIT, || {
        let output = ask(node, host);
        if output.status.success() { Ok(()) } else { Err(output.stderr) }
    });
}

fn process(name: &str, namespace: &Rc<Namespace>, binary: &Path, dir: &Path) -> Process {
    let settings = vec![("CACHE_DIR".to_owned(), dir.join(name).to_str().unwrap().to_owned())];
    let place = Place { namespace: Rc::clone(namespace), binary: binary.to_owned(), settings };
    Process::start(name, place, vec![], &["serve", "--listen", &format!("0.0.0.0:{PORT}")], dir)
}

fn container(engine: &Rc<Engine>, name: &str, options: &[&str]) -> Container {
    // A name, and the address of a published port, are no addresses of the container: it has to be
    // told of them.
    let listen = format!("0.0.0.0:{PORT}");
    let serve = ["serve", "--listen", &listen, "--host", "mcp-server", "--host", GATEWAY];
    engine.container(name, &[&["--env", "CACHE_DIR=/cache"], options].concat(), &serve)
}

#[test]
fn containers_reach_what_they_should_in_every_kind_of_network() {
    let Some(Means::Engine { dockerd, binary }) = Means::for_containers() else { return };
    let engine = Engine::start(&dockerd, &binary);
    let host = process("on-host", engine.host(), &binary, engine.dir());

    // The default bridge, dialling out only; host and container see each other.
    let dials_out = container(&engine, "dials-out", &[]);
    reaches(&dials_out, GATEWAY);
    reaches(&host, &dials_out.address("bridge"));
    // Published: the container is reached by the host's address.
    container(&engine, "published", &["--publish", "9181:9180"]);
    let published = format!("http://{GATEWAY}:9181");
    eventually("the published port", LIMIT, || {
        let output = dials_out.step(&["stats", "--url", &published], b"");
        if output.status.success() { Ok(()) } else { Err(output.stderr) }
    });
    // The host's network: the host's loopback is the container's.
    let shares = engine.container(
        "shares",
        &["--network", "host", "--env", "CACHE_DIR=/cache"],
        &["serve", "--listen", "127.0.0.1:9182"],
    );
    reaches(&shares, "127.0.0.1");

    // A network with names, and one of its members unplugged and plugged in again.
    let network = engine.network();
    let named = container(&engine, "named", &["--network", &network, "--network-alias", "mcp-server"]);
    let other = container(&engine, "other", &["--network", &network]);
    reaches(&other, "mcp-server");
    reaches(&other, "172.31.1.1");
    let address = named.address(&network);
    assert!(address.starts_with("172.31."), "{address}");
    named.disconnect(&network);
    assert_eq!(named.address(&network), "");
    named.connect(&network, &["--alias", "mcp-server"]);
    reaches(&other, "mcp-server");
}

#[test]
fn containers_share_a_volume_and_end_when_killed() {
    let Some(Means::Engine { dockerd, binary }) = Means::for_containers() else { return };
    let engine = Engine::start(&dockerd, &binary);
    let volume = ["--volume", "shared:/cache"];
    let (first, second) = (container(&engine, "first", &volume), container(&engine, "second", &volume));
    first.step(&["put", "key"], b"value").ok("put");
    assert_eq!(second.step(&["get", "key"], b"").ok("get").stdout, b"value");
    assert_eq!(second.step(&["get", "other"], b"").code(), Some(1));
    eventually("the first line", LIMIT, || {
        let log = first.logs();
        if log.contains("listening on http://0.0.0.0:9180") { Ok(()) } else { Err(log) }
    });
    first.kill();
    let output = first.step(&["get", "key"], b"");
    assert!(output.stderr.contains("is not running"), "{}", output.stderr);
    assert_eq!(second.step(&["get", "key"], b"").ok("get").stdout, b"value");
}

#[test]
fn an_engine_leaves_nothing_behind() {
    let Some(Means::Engine { dockerd, binary }) = Means::for_containers() else { return };
    let engine = Engine::start(&dockerd, &binary);
    let dir = engine.dir().to_owned();
    let mark = dir.file_name().unwrap().to_str().unwrap().to_owned();
    let container = container(&engine, "left", &[]);
    assert!(!processes_with(&mark).is_empty());
    assert!(groups_with(&mark) > 0, "the containers are in a control group of the engine's name");
    drop(container);
    drop(engine);
    assert_eq!(processes_with(&mark), Vec::<String>::new());
    assert_eq!(groups_with(&mark), 0);
    assert!(!dir.exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&mark), "{mounts}");
}

fn processes_with(mark: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    // A process may end while we look.
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(mark))
        .collect()
}

fn groups_with(mark: &str) -> usize {
    let root = Path::new("/sys/fs/cgroup");
    let trees = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    trees.chain([root.to_owned()]).filter(|tree| tree.join(mark).is_dir()).count()
}

#[test]
fn runners_behind_address_translation_reach_the_host_and_nobody_else() {
    let Some((tools, binary)) = Means::for_namespaces() else { return };
    let dir = tempfile::tempdir().unwrap();
    let nat = Nat::new(&tools, dir.path(), 2);
    let _host = process("host", nat.host(), &binary, dir.path());
    let first = process("first", nat.runner(0), &binary, dir.path());
    let second = process("second", nat.runner(1), &binary, dir.path());
    reaches(&first, nat::HOST);
    reaches(&second, nat::HOST);
    reaches(&first, "127.0.0.1");
    assert_ne!(knock(nat.runner(0), "192.168.77.6"), Knock::Open, "a runner reaches another runner");
    assert_ne!(knock(nat.host(), "192.168.77.2"), Knock::Open, "the host reaches a runner");

    // Dropped, not refused: who asks hears nothing.
    nat.cut(0);
    assert_eq!(knock(nat.runner(0), nat::HOST), Knock::Silent);
    reaches(&second, nat::HOST);
    nat.heal(0);
    reaches(&first, nat::HOST);
    nat.cut_host();
    assert_eq!(knock(nat.runner(1), nat::HOST), Knock::Silent);
    nat.heal_host();
    reaches(&second, nat::HOST);
}

#[derive(Debug, PartialEq)]
enum Knock {
    Open,
    Refused,
    Silent,
}

/// What an attempt to connect from the namespace to the server at `host` meets.
fn knock(from: &Namespace, host: &str) -> Knock {
    // Enough for an answer on one machine, and not for a connection whose packets are dropped.
    let probe = format!("timeout 2 bash -c ': > /dev/tcp/{host}/{PORT}' 2> /dev/null && echo 0 || echo $?");
    match from.script(&probe).text().as_str() {
        "0" => Knock::Open,
        "124" => Knock::Silent,
        _ => Knock::Refused,
    }
}
