//! Where both systems run: how a node of each is started, and who dials whom.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use peercache_seal::Secret;
use tempfile::TempDir;

use crate::node;
use crate::process::{Node, Trouble};

/// Names a checkout of the original.
const ORIGINAL: &str = "PEERCACHE_BENCH_ORIGINAL";
/// Names `libp2p/__init__.py` in a folder with everything that the original imports.
const LIBRARIES: &str = "PEERCACHE_BENCH_PY_LIBP2P";
/// The file that has the original's cache.
const CACHE: &str = "ipfs_accelerate_py/github_cli/cache.py";
/// Settings of the original and of GitHub's clients, which must not come from whoever runs the
/// bench.
const SETTINGS: [&str; 5] = ["CACHE_", "IPFS_", "STORAGE_", "GH_", "GITHUB_"];
/// A value is a part of so many bytes, text that no compression makes much shorter.
const PAYLOAD: usize = 4 << 20;
const START: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(20);
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Ours,
    Original,
}

impl System {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "peercache",
            Self::Original => "the original",
        }
    }
}

/// One node that is dialled and one that dials it.
pub(crate) struct Pair {
    pub(crate) listener: Node,
    pub(crate) dialler: Node,
}

pub(crate) struct Lab {
    dir: TempDir,
    checkout: PathBuf,
    libraries: PathBuf,
    secret: String,
    started: usize,
}

impl Lab {
    pub(crate) fn open() -> Result<Self, Trouble> {
        let named = |variable: &str, command: &str| {
            let path = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
            path.ok_or_else(|| format!("{variable} is not set; run `{command}`, which sets it"))
        };
        let checkout = named(ORIGINAL, "cargo xtask bench original --original PATH")?;
        if !checkout.join(CACHE).is_file() {
            return Err(format!("{} has no {CACHE}; name a checkout of the original", checkout.display()));
        }
        let marker = named(LIBRARIES, "cargo xtask bench original --original PATH")?;
        // The variable names `libp2p/__init__.py` in the folder that belongs in PYTHONPATH.
        let libraries = marker.ancestors().nth(2).map(Path::to_owned);
        let libraries = libraries
            .ok_or_else(|| format!("{LIBRARIES}={} is in no folder of libraries", marker.display()))?;
        let dir = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let secret = Secret::generate().map_err(|error| error.to_string())?.to_text().to_string();
        let lab = Self { dir, checkout, libraries, secret, started: 0 };
        std::fs::write(lab.payload(), random_text()?).map_err(|error| format!("no payload: {error}"))?;
        Ok(lab)
    }

    /// Which version of the original this is, where git knows.
    pub(crate) fn commit(&self) -> String {
        let git = Command::new("git").arg("-C").arg(&self.checkout).args(["rev-parse", "HEAD"]).output();
        let commit = git.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        commit.map_or("unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
    }

    fn payload(&self) -> PathBuf {
        self.dir.path().join("payload")
    }

    /// A node that dials `bootstrap`, or that others are to dial.
    pub(crate) fn node(&mut self, system: System, bootstrap: Option<&str>) -> Result<Node, Trouble> {
        let mut command = match system {
            System::Ours => self.ours()?,
            System::Original => self.original(),
        };
        command.arg(free_port()?.to_string()).arg(self.payload()).args(bootstrap);
        self.started += 1;
        let log = self.dir.path().join(format!("node-{}.log", self.started));
        let mut node = Node::start(system.name(), &mut command, log, START)?;
        if bootstrap.is_some() {
            let began = Instant::now();
            while node.peers(ANSWER)? == 0 {
                if began.elapsed() > CONNECT {
                    return Err(node.trouble(&format!("was not connected within {CONNECT:?}")));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(node)
    }

    pub(crate) fn pair(&mut self, system: System) -> Result<Pair, Trouble> {
        let listener = self.node(system, None)?;
        let dialler = self.node(system, Some(&listener.address))?;
        Ok(Pair { listener, dialler })
    }

    fn ours(&self) -> Result<Command, Trouble> {
        let this = std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
        let mut command = Command::new(this);
        command.arg("--node").env(node::SECRET, &self.secret);
        Ok(command)
    }

    fn original(&self) -> Command {
        let mut command = Command::new("python3");
        for (name, _) in std::env::vars_os() {
            if SETTINGS.iter().any(|start| name.to_string_lossy().starts_with(start)) {
                command.env_remove(name);
            }
        }
        // In a whole checkout the cache finds a second place to store entries, which is not what is
        // compared.
        command.env("IPFS_KIT_DISABLE", "1").env("STORAGE_FORCE_LOCAL", "1");
        command.env("CACHE_P2P_SHARED_SECRET", &self.secret);
        // The checkout is the user's and stays as it is.
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONPATH", &self.libraries);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/original/driver.py")).arg(&self.checkout);
        command
    }
}

fn free_port() -> Result<u16, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

fn random_text() -> Result<Vec<u8>, Trouble> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = vec![0; PAYLOAD];
    getrandom::fill(&mut text).map_err(|error| format!("no random bytes: {error}"))?;
    text.iter_mut().for_each(|byte| *byte = LETTERS[usize::from(*byte % 64)]);
    Ok(text)
}
