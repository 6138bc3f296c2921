//! A server's process: started on ports that were free, awaited, and ended by its id.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::ServerError;

/// The longest that a server may take to answer: machines with two busy cores took twelve seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);
/// Times that a start is tried: a port that was free may be taken by another process.
const ATTEMPTS: usize = 3;
/// How much of its log an error shows, in bytes.
const LOG_END: usize = 2000;

/// A running server. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    program: &'static str,
    // Removed after the process has ended: fields are dropped after `Drop::drop`.
    dir: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    /// Starts `command` with its files in `dir`, where it also logs.
    pub(super) fn start(
        program: &'static str,
        command: Command,
        dir: tempfile::TempDir,
    ) -> Result<Self, ServerError> {
        Ok(Self { child: spawn(program, command, dir.path())?, program, dir })
    }

    /// Waits until `ready` is; an error of it means not yet.
    pub(super) async fn wait<F, Fut>(&mut self, mut ready: F) -> Result<(), ServerError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<(), ServerError>>,
    {
        let began = Instant::now();
        loop {
            let ended = self.child.try_wait().map_err(ServerError::io(self.program))?;
            let pending = match ready().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if let Some(status) = ended {
                return Err(self.failed(format!("it ended with {status}")));
            }
            if began.elapsed() > PATIENCE {
                return Err(self.failed(format!("no answer in {} s ({pending})", PATIENCE.as_secs())));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn failed(&self, why: String) -> ServerError {
        let log = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        let end = log.get(log.len().saturating_sub(LOG_END)..).unwrap_or_default();
        ServerError::Start { program: self.program, why, log: String::from_utf8_lossy(end).into_owned() }
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its folder.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends it as a crash does. Again is no mistake.
    pub(super) fn kill(&mut self) {
        // Both fail only for a process that has ended, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Starts `command` in the same folder, with what the killed process left there.
    pub(super) fn restart(&mut self, command: Command) -> Result<(), ServerError> {
        self.kill();
        self.child = spawn(self.program, command, self.dir.path())?;
        Ok(())
    }
}

/// Starts `command` in `dir`, where it adds to its log.
fn spawn(program: &'static str, mut command: Command, dir: &Path) -> Result<Child, ServerError> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log"));
    let log = log.map_err(ServerError::io("the log cannot be opened"))?;
    let errors = log.try_clone().map_err(ServerError::io("the log cannot be opened"))?;
    let command = command.current_dir(dir).stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().map_err(ServerError::io(program))
}

/// Starts a server by `start`, on other ports again where it ended.
pub(super) async fn persistently<T, Fut>(start: impl Fn() -> Fut) -> Result<T, ServerError>
where
    Fut: Future<Output = Result<T, ServerError>>,
{
    let mut attempt = 1;
    loop {
        match start().await {
            Err(ServerError::Start { .. }) if attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

/// `N` loopback ports that were free just now, each another. Whoever takes one before the server
/// does makes it end, and it is started again on others.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N], ServerError> {
    let error = ServerError::io;
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(error("no loopback port is free"))?;
        *port = listener.local_addr().map_err(error("a port has no number"))?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A port of this machine.
pub(super) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
