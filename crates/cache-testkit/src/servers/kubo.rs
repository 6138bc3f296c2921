//! Kubo: an IPFS node, alone or in a private swarm.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::ServerError;
use super::http::ask;
use super::part::Program;
use super::process::{Process, free_ports, loopback, persistently};

const PROGRAM: Program = Program {
    name: "ipfs",
    variable: "PEERCACHE_TEST_KUBO",
    install: "run `cargo xtask prepare kubo`, which needs Go",
};

/// How a [`Kubo`] is set up. The default: offline, no pubsub, no collection by itself, nobody asked
/// for credentials.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct KuboOptions {
    /// Whether it may connect to other nodes, and they to it. Nodes with the same swarm key form a
    /// private network; each start of a test has a key of its own, which [`KuboOptions::swarm`]
    /// makes.
    pub swarm_key: Option<[u8; 32]>,
    /// Whether it passes on messages of topics.
    pub pubsub: bool,
    /// The limit of its repository (`"60MB"`), and then it also collects by itself when that is
    /// nearly reached, looking every so often (`"1s"`).
    pub collect: Option<(&'static str, &'static str)>,
    /// What `API.Authorizations` lets in: `basic:USER:PASSWORD` or `bearer:TOKEN`. Empty:
    /// everybody.
    pub authorization: Option<&'static str>,
}

impl KuboOptions {
    /// A node of a private swarm, with pubsub.
    #[must_use]
    pub fn swarm(key: [u8; 32]) -> Self {
        Self { swarm_key: Some(key), pubsub: true, ..Self::default() }
    }

    /// As this one, with a limit of the repository at which it collects by itself.
    #[must_use]
    pub fn collecting(self, storage_max: &'static str, every: &'static str) -> Self {
        Self { collect: Some((storage_max, every)), ..self }
    }

    /// As this one, letting in only who sends this.
    #[must_use]
    pub fn authorized_by(self, authorization: &'static str) -> Self {
        Self { authorization: Some(authorization), ..self }
    }
}

/// A Kubo node of a test's own: version 0.43.1 with go-libp2p 0.50.0, as `cargo xtask prepare kubo`
/// builds it.
///
/// It takes about 60 MB of memory and half a second to start. Its ports are on the loopback
/// interface and stay the same when it is restarted.
#[derive(Debug)]
pub struct Kubo {
    process: Process,
    program: PathBuf,
    options: KuboOptions,
    api: u16,
    gateway: u16,
    swarm: u16,
}

impl Kubo {
    /// Starts a node. `None`: the program is missing, which was said, and the test may skip.
    ///
    /// # Errors
    ///
    /// [`ServerError::Missing`] where skipping is forbidden, [`ServerError::Start`] with the end of
    /// its log when it does not answer, and what the machine denies: files, ports, processes.
    pub async fn start(options: KuboOptions) -> Result<Option<Self>, ServerError> {
        let Some(program) = PROGRAM.find()? else { return Ok(None) };
        persistently(|| Self::start_once(&program, options.clone())).await.map(Some)
    }

    async fn start_once(program: &Path, options: KuboOptions) -> Result<Self, ServerError> {
        let dir = tempfile::tempdir().map_err(ServerError::io("no temporary folder"))?;
        let [api, gateway, swarm] = free_ports()?;
        initialise(program, dir.path(), &options, [api, gateway, swarm])?;
        let process = Process::start("ipfs", command(program, dir.path(), &options), dir)?;
        let mut node = Self { process, program: program.to_owned(), options, api, gateway, swarm };
        node.ready().await?;
        Ok(node)
    }

    async fn ready(&mut self) -> Result<(), ServerError> {
        let api = self.address();
        self.process
            .wait(|| async move {
                match ask(api, Method::POST, "/api/v0/version", b"").await? {
                    // One that asks for credentials is there too.
                    StatusCode::OK | StatusCode::FORBIDDEN => Ok(()),
                    status => Err(ServerError::Refused {
                        method: Method::POST,
                        path: "/api/v0/version".to_owned(),
                        status: status.as_u16(),
                    }),
                }
            })
            .await
    }

    /// Where its RPC listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        loopback(self.api)
    }

    /// [`Kubo::address`] as `IPFS_API` takes it.
    #[must_use]
    pub fn api(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.api)
    }

    /// Where its gateway listens, which is not its RPC.
    #[must_use]
    pub fn gateway(&self) -> SocketAddr {
        loopback(self.gateway)
    }

    /// Where other nodes reach it, without its peer id.
    #[must_use]
    pub fn swarm_address(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.swarm)
    }

    /// The folder of its repository.
    #[must_use]
    pub fn repository(&self) -> PathBuf {
        self.process.dir().join("repo")
    }

    /// The program, for the commands of its own that a test runs with `IPFS_PATH` set to
    /// [`Kubo::repository`].
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it as a crash does; its ports refuse from now on.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Kubo::kill`], on the same ports and with the repository that it had.
    ///
    /// # Errors
    ///
    /// As for [`Kubo::start`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        let command = command(&self.program, self.process.dir(), &self.options);
        self.process.restart(command)?;
        self.ready().await
    }
}

fn initialise(
    program: &Path,
    dir: &Path,
    options: &KuboOptions,
    [api, gateway, swarm]: [u16; 3],
) -> Result<(), ServerError> {
    let repository = dir.join("repo");
    let made = Command::new(program)
        .args(["init", "--profile=test", "--empty-repo"])
        .env("IPFS_PATH", &repository)
        .env("IPFS_TELEMETRY", "off")
        .stdin(Stdio::null())
        .output()
        .map_err(ServerError::io("ipfs init"))?;
    if !made.status.success() {
        return Err(ServerError::Start {
            program: "ipfs",
            why: format!("`ipfs init` ended with {}", made.status),
            log: String::from_utf8_lossy(&made.stderr).into_owned(),
        });
    }
    let file = repository.join("config");
    let text = std::fs::read(&file).map_err(ServerError::io("the node's configuration"))?;
    let mut config: Value = serde_json::from_slice(&text).map_err(|error| ServerError::Io {
        what: "the node's configuration",
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
    })?;
    let tcp = |port: u16| format!("/ip4/127.0.0.1/tcp/{port}");
    config["Addresses"]["API"] = json!(tcp(api));
    config["Addresses"]["Gateway"] = json!(tcp(gateway));
    config["Addresses"]["Swarm"] = json!([tcp(swarm)]);
    config["Routing"] = json!({ "Type": "none" });
    config["Version"] = json!({ "SwarmCheckEnabled": false });
    if let Some((storage_max, every)) = options.collect {
        config["Datastore"]["StorageMax"] = json!(storage_max);
        config["Datastore"]["GCPeriod"] = json!(every);
    }
    if let Some(secret) = options.authorization {
        config["API"]["Authorizations"] =
            json!({ "test": { "AuthSecret": secret, "AllowedPaths": ["/api/v0"] } });
    }
    std::fs::write(&file, config.to_string()).map_err(ServerError::io("the node's configuration"))?;
    if let Some(key) = options.swarm_key {
        let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(repository.join("swarm.key"), format!("/key/swarm/psk/1.0.0/\n/base16/\n{digits}\n"))
            .map_err(ServerError::io("the swarm key"))?;
    }
    Ok(())
}

fn command(program: &Path, dir: &Path, options: &KuboOptions) -> Command {
    let mut command = Command::new(program);
    command.arg("daemon").env("IPFS_PATH", dir.join("repo")).env("IPFS_TELEMETRY", "off");
    if options.swarm_key.is_none() {
        command.arg("--offline");
    } else {
        // Without it, a node would rather end than join the public network by mistake.
        command.env("LIBP2P_FORCE_PNET", "1");
    }
    if options.pubsub {
        command.arg("--enable-pubsub-experiment");
    }
    if options.collect.is_some() {
        command.arg("--enable-gc");
    }
    command
}
