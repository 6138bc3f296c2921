//! The upload service of Storacha, from its npm packages.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;

use super::ServerError;
use super::http::{ask, demand};
use super::part::Program;
use super::process::{Process, free_ports, loopback, persistently};

const PROGRAM: Program = Program {
    name: "storacha",
    variable: "PEERCACHE_TEST_STORACHA",
    install: "run `cargo xtask prepare storacha`, which needs Node.js",
};

/// An upload service of a test's own, version 2.8.4 of `@storacha/upload-api`. It keeps everything
/// in memory; its storage nodes listen on loopback too.
#[derive(Debug)]
pub struct StorachaService {
    process: Process,
    program: PathBuf,
    port: u16,
}

/// A space, and an agent that may use it; what the official command line prints.
#[derive(Clone)]
#[non_exhaustive]
pub struct StorachaSpace {
    /// The agent's private key: `Mg…`.
    pub key: String,
    /// The delegation of the space to the agent, in base64.
    pub proof: String,
    /// The space's DID.
    pub did: String,
}

impl std::fmt::Debug for StorachaSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorachaSpace").field("did", &self.did).finish_non_exhaustive()
    }
}

impl StorachaService {
    /// Starts it. `None`: it is missing, which was said, and the test may skip.
    ///
    /// # Errors
    ///
    /// [`ServerError::Missing`] where skipping is forbidden, [`ServerError::Start`] with the end of
    /// its log when it does not answer, and what the machine denies: files, ports, processes.
    pub async fn start() -> Result<Option<Self>, ServerError> {
        let Some(program) = PROGRAM.find()? else { return Ok(None) };
        persistently(|| Self::start_once(&program)).await.map(Some)
    }

    async fn start_once(program: &Path) -> Result<Self, ServerError> {
        let dir = tempfile::tempdir().map_err(ServerError::io("no temporary folder"))?;
        let [port] = free_ports()?;
        let mut command = Command::new("node");
        command.arg(program).env("PORT", port.to_string());
        let mut process = Process::start("storacha", command, dir)?;
        let server = loopback(port);
        process.wait(|| async move { ask(server, Method::GET, "/version", b"").await.map(drop) }).await?;
        Ok(Self { process, program: program.to_owned(), port })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// [`StorachaService::address`] as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its DID, a `did:web`; its key is at `/version`.
    #[must_use]
    pub fn did(&self) -> &'static str {
        "did:web:test.up.storacha.network"
    }

    /// The folder with the npm packages, the official client among them.
    #[must_use]
    pub fn packages(&self) -> &Path {
        self.program.parent().unwrap_or(Path::new("."))
    }

    /// Makes a space that may store, an agent, and a delegation of the space to the agent, with the
    /// official packages.
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] where the packages do not make them, and what the server answers.
    pub async fn space(&self) -> Result<StorachaSpace, ServerError> {
        let space = self.space_without_provider()?;
        self.provision(&space.did).await?;
        Ok(space)
    }

    /// As [`StorachaService::space`], for a space that nobody pays for.
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] where the packages do not make it.
    pub fn space_without_provider(&self) -> Result<StorachaSpace, ServerError> {
        let failed = |why: String| ServerError::Io {
            what: "the official packages make no space",
            source: std::io::Error::other(why),
        };
        let made = Command::new("node")
            .args(["--input-type=module", "-e", include_str!("storacha_space.mjs")])
            .current_dir(self.packages())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if !made.status.success() {
            return Err(failed(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
        let made: serde_json::Value =
            serde_json::from_slice(&made.stdout).map_err(|error| failed(error.to_string()))?;
        let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
        Ok(StorachaSpace { key: text("key"), proof: text("proof"), did: text("space") })
    }

    /// Binds a space to the provider, so that it may store.
    ///
    /// # Errors
    ///
    /// What the server answers.
    pub async fn provision(&self, space: &str) -> Result<(), ServerError> {
        let body = format!(r#"{{"space":"{space}","account":"did:mailto:example.org:test"}}"#);
        demand(self.address(), Method::POST, "/test/provision", body).await
    }

    /// Whether it takes writes; switched off, it answers as a service that has disabled them.
    ///
    /// # Errors
    ///
    /// What the server answers.
    pub async fn take_writes(&self, on: bool) -> Result<(), ServerError> {
        demand(self.address(), Method::POST, "/test/writes", if on { "on" } else { "off" }).await
    }

    /// Ends it as a crash does; its port refuses from now on, and what it held is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
