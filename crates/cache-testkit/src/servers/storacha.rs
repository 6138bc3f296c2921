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
