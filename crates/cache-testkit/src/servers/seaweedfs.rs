//! SeaweedFS: one process that is master, volume server, filer and S3 gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::{Method, StatusCode};

use super::http::{ask, demand};
use super::part::Program;
use super::process::{Process, free_ports, loopback, persistently};
use super::{BUCKET, Credentials, ServerError};

const PROGRAM: Program = Program {
    name: "weed",
    variable: "PEERCACHE_TEST_SEAWEEDFS",
    install: "run `cargo xtask prepare seaweedfs`",
};

const WRITER: Credentials = Credentials { id: "peercache-writer", secret: "a-secret-of-tests-only" };
const RENEWED: Credentials = Credentials { id: "peercache-renewed", secret: "a-new-secret-of-tests" };
const READER: Credentials = Credentials { id: "peercache-reader", secret: "another-secret-of-tests" };

/// A SeaweedFS server of a test's own: it checks signatures, and knows a writer and a reader.
///
/// It takes about 170 MB of memory and some seconds to start. Several may run side by side.
#[derive(Debug)]
pub struct SeaweedFs {
    process: Process,
    program: PathBuf,
    ports: Ports,
}

/// Each of its four servers has a port for HTTP and one for gRPC. All are named: its defaults are
/// fixed numbers.
#[derive(Clone, Copy, Debug)]
struct Ports {
    master: [u16; 2],
    volume: [u16; 2],
    filer: [u16; 2],
    s3: [u16; 2],
}

impl SeaweedFs {
    /// Starts it and makes [`SeaweedFs::bucket`], ready for writes.
    ///
    /// `None`: the program is missing, which was said, and the test may skip.
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
        std::fs::create_dir(dir.path().join("data")).map_err(ServerError::io("no data folder"))?;
        std::fs::write(dir.path().join("s3.json"), identities())
            .map_err(ServerError::io("the identities cannot be written"))?;
        let [a, b, c, d, e, f, g, h] = free_ports()?;
        let ports = Ports { master: [a, b], volume: [c, d], filer: [e, f], s3: [g, h] };
        let process = Process::start("weed", command(program, dir.path(), ports), dir)?;
        let mut server = Self { process, program: program.to_owned(), ports };
        server.ready().await?;
        Ok(server)
    }

    async fn ready(&mut self) -> Result<(), ServerError> {
        let (filer, s3) = (loopback(self.ports.filer[0]), loopback(self.ports.s3[0]));
        self.process
            .wait(|| async move {
                // Any answer will do: without a signature it is a refusal.
                ask(s3, Method::GET, "/", b"").await?;
                make_bucket(filer, BUCKET).await
            })
            .await
    }

    /// Makes another bucket, ready for writes. Names have at least three letters; one that exists
    /// stays.
    ///
    /// # Errors
    ///
    /// [`ServerError::Refused`] or that it is not reached.
    pub async fn make_bucket(&self, name: &str) -> Result<(), ServerError> {
        make_bucket(loopback(self.ports.filer[0]), name).await
    }

    /// The bucket that it started with.
    #[must_use]
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// Where its S3 gateway listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        loopback(self.ports.s3[0])
    }

    /// [`SeaweedFs::address`] as a URL. Clients must use path style: the bucket is no host name.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Who may do everything.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        WRITER
    }

    /// The same one by another key, as after a login that gave a new one.
    #[must_use]
    pub fn renewed_credentials(&self) -> Credentials {
        RENEWED
    }

    /// Who may read and list, and not write.
    #[must_use]
    pub fn read_only_credentials(&self) -> Credentials {
        READER
    }

    /// The process id of the server.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it as a crash does; its port refuses from now on.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`SeaweedFs::kill`], on the same ports and with the objects that it
    /// had.
    ///
    /// # Errors
    ///
    /// As for [`SeaweedFs::start`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        let command = command(&self.program, self.process.dir(), self.ports);
        self.process.restart(command)?;
        self.ready().await
    }
}

/// A bucket is a folder of the filer. Writing one object lets it make the volumes now, not in a
/// test's first write.
async fn make_bucket(filer: SocketAddr, name: &str) -> Result<(), ServerError> {
    let path = format!("/buckets/{name}/");
    let made = ask(filer, Method::POST, &path, b"").await?;
    // It stays from before a restart, or a start that was tried again.
    if !made.is_success() && made != StatusCode::CONFLICT {
        return Err(ServerError::Refused { method: Method::POST, path, status: made.as_u16() });
    }
    let object = format!("/buckets/{name}/warm-up");
    demand(filer, Method::PUT, &object, &[7; 4096]).await?;
    demand(filer, Method::DELETE, &object, b"").await
}

fn identities() -> String {
    let key = |Credentials { id, secret }| format!(r#"{{"accessKey":"{id}","secretKey":"{secret}"}}"#);
    format!(
        r#"{{"identities":[
{{"name":"writer","credentials":[{},{}],"actions":["Admin","Read","Write","List","Tagging"]}},
{{"name":"reader","credentials":[{}],"actions":["Read","List"]}}
]}}"#,
        key(WRITER),
        key(RENEWED),
        key(READER)
    )
}

fn command(program: &Path, dir: &Path, ports: Ports) -> Command {
    let mut command = Command::new(program);
    command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=127.0.0.1"]);
    command.arg(format!("-dir={}", dir.join("data").display()));
    command.args(["-filer", "-s3", "-master.telemetry=false"]);
    let servers =
        [("master", ports.master), ("volume", ports.volume), ("filer", ports.filer), ("s3", ports.s3)];
    for (name, [http, grpc]) in servers {
        command.args([format!("-{name}.port={http}"), format!("-{name}.port.grpc={grpc}")]);
    }
    // They would take fixed ports, so that a second instance could not start.
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
    for name in ["filer", "s3"] {
        command.arg(format!("-{name}.localSocket={}", dir.join(format!("{name}.sock")).display()));
    }
    command.arg(format!("-s3.config={}", dir.join("s3.json").display()));
    // Volumes are of 64 MiB, since its default asks the disk for room that tests do not need.
    // Its default refuses to write once less than 1 % of the disk is free, which on a large disk is
    // gigabytes.
    command.args(["-master.volumeSizeLimitMB=64", "-volume.max=40", "-volume.minFreeSpace=256MiB"]);
    command
}
