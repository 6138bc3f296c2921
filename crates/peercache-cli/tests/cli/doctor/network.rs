//! Networks that let nothing through: a machine in a network namespace of its own, with a cable to
//! a host. Nothing of the network of this machine is touched.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::disk::can_mount;
use super::fault::Mend::{Hand, Script};
use super::fault::Status::Fails;
use super::fault::{Fault, plant_each};
use super::machine::{Machine, SECRET};
use crate::support::{Server, corpus, run, stderr};

const ORIGIN: &str = "http://10.99.0.1:8000";
/// The host has two addresses, so that one can be cut off alone.
const PEER: &str = "/ip4/10.99.0.3/tcp/9100";

/// A network and mount namespace; it ends with the process that holds it.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let script = "ip link set lo up && mount -t sysfs none /sys && echo ready && exec sleep infinity";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--", "setpriv", "--pdeathsig", "KILL", "sh", "-c", script]);
        let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "no network namespace can be made");
        Self(holder)
    }

    /// What starts a program inside.
    fn launcher(&self) -> [String; 4] {
        let id = self.0.id();
        [
            "nsenter".to_owned(),
            format!("--net=/proc/{id}/ns/net"),
            format!("--mount=/proc/{id}/ns/mnt"),
            "--".to_owned(),
        ]
    }

    fn command(&self, program: &str) -> Command {
        let [nsenter, rest @ ..] = self.launcher();
        let mut command = Command::new(nsenter);
        command.args(rest).arg(program).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    /// Runs a shell script inside; it must succeed.
    #[track_caller]
    fn script(&self, script: &str) {
        let mut command = self.command("sh");
        command.args(["-ec", script]);
        let done = run(command, b"");
        assert!(done.status.success(), "{script}: {}", stderr(&done));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host with a member of the fleet and an origin, and the machine at the other end of the cable.
pub(super) struct Cable {
    // Dropped in this order: the servers before their network.
    _servers: [Server; 2],
    host: Namespace,
    machine: Namespace,
    _dir: TempDir,
}

impl Cable {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (host, machine) = (Namespace::new(), Namespace::new());
        let mut link = Command::new("ip");
        link.args(["link", "add", "cable", "netns", &host.0.id().to_string(), "type", "veth"]);
        link.args(["peer", "name", "cable", "netns", &machine.0.id().to_string()]);
        let linked = run(link, b"");
        assert!(linked.status.success(), "{}", stderr(&linked));
        host.script(
            "ip addr add 10.99.0.1/24 dev cable; ip addr add 10.99.0.3/24 dev cable; ip link set cable up",
        );
        machine.script("ip addr add 10.99.0.2/24 dev cable; ip link set cable up");
        machine.script("ip route add default via 10.99.0.1");
        let binary = env!("CARGO_BIN_EXE_peercache");
        let mut member = host.command(binary);
        member.args(["serve", "--listen", "127.0.0.1:9180", "--upstream", ORIGIN]);
        member.env("CACHE_SECRET", SECRET).env("CACHE_LISTEN_PORT", "9100");
        member.env("CACHE_DIR", dir.path().join("member"));
        let mut origin = host.command(binary);
        origin.args(["fakehub", "--listen", "10.99.0.1:8000", "--corpus"]).arg(corpus(dir.path()));
        Self { _servers: [Server::start(member), Server::start(origin)], host, machine, _dir: dir }
    }

    fn machine(&mut self) -> Machine {
        let mut machine = Machine::with(&[
            ("CACHE_SECRET", SECRET),
            ("CACHE_BOOTSTRAP_PEERS", PEER),
            ("CACHE_UPSTREAM", ORIGIN),
        ]);
        let launcher = self.machine.launcher();
        machine.launch_by(&launcher.iter().map(String::as_str).collect::<Vec<_>>());
        machine
    }
}

pub(super) const FAULTS: &[Fault<Cable>] = &[
    Fault {
        name: "the cable is out",
        check: "network",
        status: Fails,
        found: "no other machine that was asked answers",
        remedy: "connect this machine or container to a network",
        plant: |_, cable| cable.machine.script("ip link set cable down"),
        mend: Hand(|_, cable| {
            cable.machine.script("ip link set cable up; ip route add default via 10.99.0.1");
        }),
    },
    Fault {
        name: "nothing that goes out is answered",
        check: "network",
        status: Fails,
        found: "no other machine that was asked answers",
        remedy: "let its firewall pass what goes out",
        plant: |_, cable| cable.host.script("ip rule add from 10.99.0.0/24 pref 1 blackhole"),
        mend: Hand(|_, cable| cable.host.script("ip rule del pref 1")),
    },
    Fault {
        name: "a firewall before the peer",
        check: "peers",
        status: Fails,
        found: "/ip4/10.99.0.3/tcp/9100: no answer within 3 s",
        remedy: "open that port in the firewall between the two",
        plant: |_, cable| cable.host.script("ip rule add from 10.99.0.3 pref 1 blackhole"),
        mend: Hand(|_, cable| cable.host.script("ip rule del pref 1")),
    },
    Fault {
        name: "no route to the peer",
        check: "peers",
        status: Fails,
        found: "/ip4/10.99.0.3/tcp/9100",
        remedy: "look at the routes between the two",
        plant: |_, cable| cable.machine.script("ip route add unreachable 10.99.0.3"),
        mend: Hand(|_, cable| cable.machine.script("ip route del unreachable 10.99.0.3")),
    },
    Fault {
        name: "a name server that does not answer",
        check: "peers",
        status: Fails,
        found: "the name mcp-server",
        remedy: "",
        plant: |machine, cable| {
            let file = machine.file("resolv.conf", "nameserver 10.99.0.9\n", 0o644);
            cable.machine.script(&format!("mount --bind '{file}' /etc/resolv.conf"));
            machine.set("CACHE_BOOTSTRAP_PEERS", "/dns4/mcp-server/tcp/9100");
        },
        mend: Hand(|machine, cable| {
            cable.machine.script("umount /etc/resolv.conf");
            machine.set("CACHE_BOOTSTRAP_PEERS", PEER);
        }),
    },
    Fault {
        name: "the container's own loopback instead of its host's",
        check: "peers",
        status: Fails,
        found: "a loopback address is the container itself and not its host",
        remedy: "export CACHE_BOOTSTRAP_PEERS=/ip4/10.99.0.1/tcp/9100",
        plant: |machine, _| {
            machine.set("KUBERNETES_SERVICE_HOST", "10.0.0.1");
            machine.set("CACHE_BOOTSTRAP_PEERS", "/ip4/127.0.0.1/tcp/9100");
        },
        mend: Script,
    },
];

#[test]
fn networks_that_let_nothing_through_are_named_and_mended() {
    if can_mount() {
        plant_each(&mut Cable::new(), Cable::machine, FAULTS);
    }
}
