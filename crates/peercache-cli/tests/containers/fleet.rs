//! Fleets in the three layouts that users run: an anchor on port 9100, a process on the host, and
//! runners.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tempfile::TempDir;

use crate::engine::{Engine, GATEWAY};
use crate::job::Job;
use crate::means::Means;
use crate::member::{Member, Wire};
use crate::namespace::Namespace;
use crate::nat::{self, Nat};
use crate::node::{Place, Process, Settings};

/// Where anchors listen for peers.
pub(crate) const PEER_PORT: u16 = 9100;
/// Where the first node answers HTTP; the next ones count on, since some share a network.
const FIRST_HTTP_PORT: u16 = 9180;
/// The name of the anchor, for the layout that has names.
const ANCHOR: &str = "mcp-server";
/// The runners of a fleet without an engine.
const STAND_INS: u8 = 4;

/// How the nodes of a fleet reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Containers with `--network host`: everyone is at 127.0.0.1.
    HostNetwork,
    /// Containers on the default bridge, and the anchor on the host, at the gateway's address.
    Bridge,
    /// A network of the user's own, and the anchor in a container called `mcp-server`.
    Names,
}

/// A running anchor, and what is needed to start more nodes around it.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) anchor: Member,
    start: Start,
}

#[derive(Debug)]
struct Start {
    layout: Layout,
    secret: String,
    ground: Ground,
    started: Cell<u16>,
}

#[derive(Debug)]
enum Ground {
    Engine { engine: Rc<Engine>, binary: PathBuf, network: String },
    Namespaces { nat: Nat, binary: PathBuf, runners: Cell<u8>, dir: TempDir },
}

impl Fleet {
    /// Starts the anchor of a fleet.
    pub(crate) fn new(layout: Layout, means: Means) -> Self {
        let ground = Ground::new(layout, means);
        let secret = ground.on_host(vec![]).step(&["keygen"], b"").ok("keygen").text();
        let start = Start { layout, secret, ground, started: Cell::new(0) };
        let anchor = start.anchor();
        Self { anchor, start }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.start.layout
    }

    /// A job that uses the library, behind address translation, and how to cut it off.
    pub(crate) fn job(&self, name: &str) -> (Job, Wire) {
        let (place, wire) = self.start.stand_in(name);
        (Job::start(&place.namespace, &place.settings), wire)
    }

    /// A runner that only dials out.
    pub(crate) fn runner(&self, name: &str) -> Member {
        self.start.runner(name, &[], vec![])
    }

    /// A runner that listens too, on a port that is published where containers have such.
    pub(crate) fn published(&self, name: &str) -> Member {
        let port = ("CACHE_LISTEN_PORT".to_owned(), "9101".to_owned());
        self.start.runner(name, &["--publish", "9101:9101"], vec![port])
    }

    /// A process on the host that only dials out.
    pub(crate) fn on_host(&self, name: &str) -> Member {
        let dials = match &self.start.ground {
            // The host reaches containers by their address, not by their name.
            Ground::Engine { network, .. } if self.start.layout == Layout::Names => {
                format!("/ip4/{}/tcp/{PEER_PORT}", self.anchor.address(network))
            }
            _ => format!("/ip4/127.0.0.1/tcp/{PEER_PORT}"),
        };
        self.start.process(name, &dials, vec![])
    }
}

impl Ground {
    fn new(layout: Layout, means: Means) -> Self {
        match means {
            Means::Engine { dockerd, binary } => {
                let engine = Engine::start(&dockerd, &binary);
                let network = match layout {
                    Layout::HostNetwork => "host".to_owned(),
                    Layout::Bridge => "bridge".to_owned(),
                    Layout::Names => engine.network(),
                };
                Self::Engine { engine, binary, network }
            }
            Means::Namespaces { tools, binary } => {
                let dir = tempfile::tempdir().unwrap();
                let nat = Nat::new(&tools, dir.path(), STAND_INS);
                Self::Namespaces { nat, binary, runners: Cell::new(0), dir }
            }
        }
    }

    fn host(&self) -> &Rc<Namespace> {
        match self {
            Self::Engine { engine, .. } => engine.host(),
            Self::Namespaces { nat, .. } => nat.host(),
        }
    }

    fn dir(&self) -> &Path {
        match self {
            Self::Engine { engine, .. } => engine.dir(),
            Self::Namespaces { dir, .. } => dir.path(),
        }
    }

    fn on_host(&self, settings: Settings) -> Place {
        let (Self::Engine { binary, .. } | Self::Namespaces { binary, .. }) = self;
        Place { namespace: Rc::clone(self.host()), binary: binary.clone(), settings }
    }
}

impl Start {
    /// What every node is told, `dials` being the address of the anchor.
    fn settings(&self, dials: &str, dir: &str) -> Settings {
        [
            ("CACHE_BACKEND", "libp2p"),
            ("CACHE_SECRET", &self.secret),
            ("CACHE_BOOTSTRAP_PEERS", dials),
            ("CACHE_DIR", dir),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    fn bootstrap(&self) -> String {
        match (self.layout, &self.ground) {
            (Layout::Names, _) => format!("/dns4/{ANCHOR}/tcp/{PEER_PORT}"),
            (Layout::HostNetwork, _) => format!("/ip4/127.0.0.1/tcp/{PEER_PORT}"),
            (Layout::Bridge, Ground::Engine { .. }) => format!("/ip4/{GATEWAY}/tcp/{PEER_PORT}"),
            (Layout::Bridge, Ground::Namespaces { .. }) => format!("/ip4/{}/tcp/{PEER_PORT}", nat::HOST),
        }
    }

    fn http(&self) -> (String, String) {
        let port = FIRST_HTTP_PORT + self.started.replace(self.started.get() + 1);
        (format!("0.0.0.0:{port}"), format!("http://127.0.0.1:{port}"))
    }

    fn anchor(&self) -> Member {
        let only_serve =
            [("CACHE_LISTEN_PORT", PEER_PORT.to_string()), ("CACHE_NODE_NAME", ANCHOR.to_owned())]
                .map(|(name, value)| (name.to_owned(), value));
        // Steps beside the anchor are nodes of their own, which dial it.
        let itself = format!("/ip4/127.0.0.1/tcp/{PEER_PORT}");
        match &self.ground {
            Ground::Engine { network, .. } if self.layout == Layout::Names => {
                self.container(ANCHOR, network, &itself, &[], only_serve.into())
            }
            _ => self.process(ANCHOR, &itself, only_serve.into()),
        }
    }

    fn runner(&self, name: &str, options: &[&str], only_serve: Settings) -> Member {
        let dials = self.bootstrap();
        match &self.ground {
            Ground::Engine { network, .. } => self.container(name, network, &dials, options, only_serve),
            Ground::Namespaces { .. } if self.layout == Layout::HostNetwork => {
                self.process(name, &dials, only_serve)
            }
            Ground::Namespaces { dir, .. } => {
                let (place, wire) = self.stand_in(name);
                let (listen, url) = self.http();
                let process =
                    Process::start(name, place, only_serve, &["serve", "--listen", &listen], dir.path());
                Member::ready(Box::new(process), url, wire)
            }
        }
    }

    /// A namespace behind address translation that no node has yet.
    fn stand_in(&self, name: &str) -> (Place, Wire) {
        let Ground::Namespaces { nat, binary, runners, dir } = &self.ground else {
            panic!("a stand-in is for where there is no engine")
        };
        let number = runners.replace(runners.get() + 1);
        let namespace = Rc::clone(nat.runner(number));
        let hosts = dir.path().join("hosts");
        std::fs::write(&hosts, format!("127.0.0.1 localhost\n{} {ANCHOR}\n", nat::HOST)).unwrap();
        namespace.script(&format!("mount --bind {} /etc/hosts", hosts.display()));
        let cache = dir.path().join(format!("{name}.cache"));
        let settings = self.settings(&self.bootstrap(), cache.to_str().unwrap());
        let place = Place { namespace, binary: binary.clone(), settings };
        (place, Wire::Runner(Rc::clone(nat.router()), number))
    }

    fn process(&self, name: &str, dials: &str, only_serve: Settings) -> Member {
        let (listen, url) = self.http();
        let dir = self.ground.dir();
        let place =
            self.ground.on_host(self.settings(dials, dir.join(format!("{name}.cache")).to_str().unwrap()));
        let process = Process::start(name, place, only_serve, &["serve", "--listen", &listen], dir);
        Member::ready(Box::new(process), url, Wire::Port(Rc::clone(self.ground.host())))
    }

    fn container(
        &self,
        name: &str,
        network: &str,
        dials: &str,
        options: &[&str],
        only_serve: Settings,
    ) -> Member {
        let Ground::Engine { engine, .. } = &self.ground else { panic!("containers need an engine") };
        let (listen, url) = self.http();
        let settings = self.settings(dials, "/cache");
        let mut all: Vec<String> = vec!["--network".into(), network.into()];
        all.extend(options.iter().map(ToString::to_string));
        for (name, value) in settings.into_iter().chain(only_serve) {
            all.extend(["--env".into(), format!("{name}={value}")]);
        }
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let container = engine.container(name, &all, &["serve", "--listen", &listen]);
        let wire = if self.layout == Layout::HostNetwork {
            Wire::Port(Rc::clone(engine.host()))
        } else {
            Wire::Network(container.clone(), network.to_owned())
        };
        Member::ready(Box::new(container), url, wire)
    }
}
