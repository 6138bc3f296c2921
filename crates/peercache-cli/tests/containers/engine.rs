//! A private Docker engine: its network, processes and mounts are in namespaces of their own, so
//! nothing of this machine is touched, and one kill ends the daemon with every container.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::command::{Daemon, LIMIT, Output, eventually, run, run_within};
use crate::namespace::Namespace;
use crate::tools::Tools;

const PREFIX: &str = "peercache-engine-";
/// Names are looked up and addresses given out inside the engine's own namespace: these collide
/// with nobody's.
const BRIDGE: &str = "172.30.0.1/24";
/// The host's address on the engine's default bridge.
pub(crate) const GATEWAY: &str = "172.30.0.1";
const IMAGE: &str = "peercache-under-test";

/// A running engine with the image of the binary under test.
#[derive(Debug)]
pub(crate) struct Engine {
    // Dropped in this order: the daemon before its network.
    daemon: Daemon,
    host: Rc<Namespace>,
    tools: Tools,
    cgroup: String,
    dir: TempDir,
    _lock: File,
    networks: AtomicU8,
}

impl Engine {
    /// Starts one and builds the image from `binary`, which has to need no shared library.
    pub(crate) fn start(dockerd: &Path, binary: &Path) -> Rc<Self> {
        let tools = Tools::new(Some(dockerd));
        sweep();
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
        let lock = File::create(lock_of(dir.path())).unwrap();
        lock.try_lock().unwrap();
        let host = Namespace::new(&tools, dir.path(), "host");
        let cgroup = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let daemon = Daemon::start(
            &daemon_command(&host, dockerd, dir.path(), &cgroup),
            &dir.path().join("dockerd.log"),
        );
        let mut engine = Self { daemon, host, tools, cgroup, dir, _lock: lock, networks: AtomicU8::new(0) };
        eventually("the Docker engine", LIMIT, || {
            if let Some(status) = engine.daemon.ended() {
                panic!("dockerd ended with {status}:\n{}", engine.daemon.log());
            }
            let output = run(engine.client(&["version"]), b"");
            if output.status.success() { Ok(()) } else { Err(output.stderr) }
        });
        engine.build(binary);
        Rc::new(engine)
    }

    fn build(&self, binary: &Path) {
        let context = self.dir.path().join("context");
        fs::create_dir(&context).unwrap();
        fs::copy(binary, context.join("peercache")).unwrap();
        let recipe = "FROM scratch\nCOPY peercache /peercache\nENTRYPOINT [\"/peercache\"]\n";
        fs::write(context.join("Dockerfile"), recipe).unwrap();
        self.docker(&["build", "--quiet", "--tag", IMAGE, context.to_str().unwrap()]);
        fs::remove_dir_all(&context).unwrap();
    }

    /// The network that host processes and containers with `--network host` share.
    pub(crate) fn host(&self) -> &Rc<Namespace> {
        &self.host
    }

    /// A folder that vanishes with the engine.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The client with these arguments.
    pub(crate) fn client(&self, args: &[&str]) -> Command {
        let mut command = self.tools.command("docker");
        command.args(args).env("DOCKER_HOST", format!("unix://{}", self.dir.path().join("d.sock").display()));
        // The builder that needs no plugin.
        command.env("DOCKER_BUILDKIT", "0").env("DOCKER_CONFIG", self.dir.path().join("client"));
        command
    }

    /// Runs the client; it must succeed. What it printed.
    #[track_caller]
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        run(self.client(args), b"").ok(&format!("docker {}", args.join(" "))).text()
    }

    /// A user-defined network, in which containers have names. Returns its own name; the host's
    /// address on it is its first.
    pub(crate) fn network(&self) -> String {
        let number = self.networks.fetch_add(1, Ordering::Relaxed) + 1;
        let (name, gateway) = (format!("network-{number}"), format!("172.31.{number}.1"));
        let subnet = format!("172.31.{number}.0/24");
        self.docker(&["network", "create", "--subnet", &subnet, "--gateway", &gateway, &name]);
        name
    }

    /// Starts a container that runs `peercache ARGS`, with options of `docker run`.
    pub(crate) fn container(self: &Rc<Self>, name: &str, options: &[&str], args: &[&str]) -> Container {
        let fixed = ["run", "--detach", "--name", name, "--hostname", name];
        self.docker(&[&fixed[..], options, &[IMAGE], args].concat());
        Container { engine: Rc::clone(self), name: name.to_owned() }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The daemon is the first process of its process namespace: with it, every container ends,
        // and when the parent has seen its end, the last of them is gone.
        if let Some(first) = only_child(self.daemon.id()) {
            // It may have ended already.
            let _ = rustix::process::kill_process(first, rustix::process::Signal::KILL);
            self.daemon.ends_within(Duration::from_secs(20));
        }
        self.daemon.kill();
        remove_cgroups(&self.cgroup);
    }
}

/// `dockerd` as the first process of a process namespace, with mounts that nobody else sees.
fn daemon_command(host: &Namespace, dockerd: &Path, dir: &Path, cgroup: &str) -> Command {
    let mut command = host.command("unshare");
    command.args(["--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--"]).arg(dockerd);
    command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
    command.arg("--pidfile").arg(dir.join("dockerd.pid")).arg("--config-file").arg(empty_config(dir));
    command.arg("--host").arg(format!("unix://{}", dir.join("d.sock").display()));
    command.args(["--bip", BRIDGE, "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent"]);
    command.arg(format!("/{cgroup}")).args(["--log-level", "warn"]);
    command
}

/// Without it, the daemon would take the settings of this machine's own engine.
fn empty_config(dir: &Path) -> PathBuf {
    let file = dir.join("daemon.json");
    fs::write(&file, "{}").unwrap();
    file
}

fn only_child(parent: u32) -> Option<rustix::process::Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    rustix::process::Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
}

fn lock_of(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// Removes what killed runs left: their processes and mounts are gone with their namespaces, files
/// and cgroups stay.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Without a lock yet, it is being made right now.
        let lock = File::open(lock_of(&entry.path()));
        if !name.starts_with(PREFIX) || !lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            continue;
        }
        remove_cgroups(&name);
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            eprintln!("{} is left over and cannot be removed: {error}", entry.path().display());
        }
    }
}

/// Removes the groups called `name`, one of each controller where the controllers have trees of
/// their own.
fn remove_cgroups(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for group in controllers.chain([root.to_owned()]).map(|tree| tree.join(name)) {
        let give_up = Instant::now() + Duration::from_secs(5);
        while group.is_dir() && !remove_empty(&group) {
            if Instant::now() > give_up {
                eprintln!("{} is left over and not empty", group.display());
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A group goes when its children are gone; its files go with it.
fn remove_empty(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok()
}

/// A container; it ends with its engine. Clones are handles on the same one.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    engine: Rc<Engine>,
    name: String,
}

impl Container {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `peercache ARGS` as another process in the container.
    pub(crate) fn exec_within(&self, args: &[&str], input: &[u8], limit: Duration) -> Output {
        let exec = ["exec", "--interactive", &self.name, "/peercache"];
        run_within(self.engine.client(&[&exec[..], args].concat()), input, limit)
    }

    /// What it wrote to both its outputs.
    pub(crate) fn logs(&self) -> String {
        let output = run(self.engine.client(&["logs", &self.name]), b"").ok("docker logs");
        format!("{}\n{}", output.text(), output.stderr)
    }

    /// Its address in a network; empty while it has none.
    pub(crate) fn address(&self, network: &str) -> String {
        let format = format!(
            "{{{{with index .NetworkSettings.Networks \"{network}\"}}}}{{{{.IPAddress}}}}{{{{end}}}}"
        );
        self.engine.docker(&["inspect", "--format", &format, &self.name])
    }

    pub(crate) fn disconnect(&self, network: &str) {
        self.engine.docker(&["network", "disconnect", network, &self.name]);
    }

    pub(crate) fn connect(&self, network: &str, options: &[&str]) {
        self.engine.docker(&[&["network", "connect"], options, &[network, &self.name]].concat());
    }

    /// Sends SIGKILL to its first process.
    pub(crate) fn kill(&self) {
        self.engine.docker(&["kill", "--signal", "KILL", &self.name]);
    }
}
