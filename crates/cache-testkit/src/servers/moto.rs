//! moto's server: a second implementation of S3.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;

use super::http::{ask, demand};
use super::part::Program;
use super::process::{Process, free_ports, loopback, persistently};
use super::{BUCKET, Credentials, ServerError};

const PROGRAM: Program = Program {
    name: "moto_server",
    variable: "PEERCACHE_TEST_MOTO",
    install: "run `cargo xtask prepare moto`",
};

/// A moto server of a test's own. It keeps its objects in memory, follows the answers of AWS
/// closely, and **checks no signature**: any credentials are right.
#[derive(Debug)]
pub struct Moto {
    // Held for its end.
    _process: Process,
    port: u16,
}

impl Moto {
    /// Starts it and makes [`Moto::bucket`]. `None`: the program is missing, which was said, and
    /// the test may skip.
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
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        // What it would ask the network for.
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        if let Some(modules) = modules(program) {
            command.env("PYTHONPATH", modules);
        }
        let mut process = Process::start("moto_server", command, dir)?;
        let server = loopback(port);
        process.wait(|| async move { ask(server, Method::GET, "/moto-api/", b"").await.map(|_| ()) }).await?;
        demand(server, Method::PUT, &format!("/{BUCKET}"), b"").await?;
        Ok(Self { _process: process, port })
    }

    /// The bucket that it started with.
    #[must_use]
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// [`Moto::address`] as a URL. Clients must use path style: the bucket is no host name.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Something to sign with, since clients must. It looks at the id only.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials { id: "AKIAIOSFODNN7EXAMPLE", secret: "nobody-looks-at-this" }
    }
}

/// xtask installs into a folder of its own, programs in its `bin/`: Python must be told of it. One
/// that is installed on the system has no package beside `bin/`.
fn modules(program: &Path) -> Option<OsString> {
    let dir: PathBuf = program.parent()?.parent()?.to_owned();
    dir.join("moto").is_dir().then(|| dir.into_os_string())
}
