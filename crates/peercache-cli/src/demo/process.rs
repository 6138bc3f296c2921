//! A `peercache` of our own, run as a separate process and ended when the demo ends.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::exit::Failure;

const START_WITHIN: Duration = Duration::from_secs(20);
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// A running child process that listens on a URL.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    url: String,
    said: String,
}

/// Settings of whoever runs the demo are not the demo's: neither his cache's nor those that a job
/// of GitHub Actions has.
fn is_a_setting(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        name.starts_with("CACHE_") || name.starts_with("GITHUB_EVENT_") || name == "IPFS_ACCELERATE_CACHE_DIR"
    })
}

impl Process {
    /// Starts this same program with `args` and waits until it says where it listens.
    pub(crate) async fn start(args: &[&str], env: &[(&str, &OsStr)]) -> Result<Self, Failure> {
        let name = args.iter().find(|arg| !arg.starts_with('-')).copied().unwrap_or_default().to_owned();
        let program = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("cannot find this program's own file: {error}")))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_a_setting(name)) {
            command.env_remove(name);
        }
        let mut child = command
            .args(args)
            .env("CACHE_CONFIG", "none")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::failed(format!("cannot start `peercache {name}`: {error}")))?;
        let read = match child.stdout.take() {
            Some(stdout) => tokio::time::timeout(START_WITHIN, read_url(stdout)).await.ok().flatten(),
            None => None,
        };
        match read {
            Some((url, said)) => Ok(Self { name, child, url, said }),
            None => Err(Failure::failed(format!(
                "`peercache {name}` did not start within {} s; its own message is above",
                START_WITHIN.as_secs()
            ))),
        }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The line in which it said so.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// Ends it with SIGTERM, as a service manager would, and waits for it.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        let pid =
            self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|error| {
                Failure::failed(format!("cannot stop `peercache {}`: {error}", self.name))
            })?;
        }
        match tokio::time::timeout(STOP_WITHIN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::failed(format!("`peercache {}` ended with {status}", self.name))),
            Ok(Err(error)) => {
                Err(Failure::failed(format!("cannot wait for `peercache {}`: {error}", self.name)))
            }
            Err(_) => Err(Failure::failed(format!(
                "`peercache {}` did not stop within {} s of SIGTERM",
                self.name,
                STOP_WITHIN.as_secs()
            ))),
        }
    }
}

/// The URL in the first line that has one, text or JSON, and that line.
async fn read_url(stdout: tokio::process::ChildStdout) -> Option<(String, String)> {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(url) = line.split([' ', '"']).find(|word| word.starts_with("http://")) {
            let url = url.to_owned();
            // Keep reading, so that the child never blocks on a full pipe.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some((url, line));
        }
    }
    None
}
