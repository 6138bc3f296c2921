//! The servers that are measured, each started before an origin and ended by its process id.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The row that is ours.
pub(crate) const OURS: &str = "peercache";
/// The row without a cache.
pub(crate) const DIRECT: &str = "without";
/// The row whose charged calls are to be beaten.
pub(crate) const RIVAL: &str = "github-api-proxy";

const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The core that servers are to run on, where a bench sets one. Needs `taskset`.
static CORE: std::sync::OnceLock<u16> = std::sync::OnceLock::new();

/// Has every server that is started from here on run on this core alone.
#[allow(dead_code, reason = "only the bench of the hit path shares a core")]
pub(crate) fn run_servers_on(core: u16) {
    // The first caller decides; there is one.
    let _set_before = CORE.set(core);
}

fn command_of(program: &std::path::Path) -> Command {
    let Some(core) = CORE.get() else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// Why nothing can be measured.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What may stand between jobs and origin.
#[derive(Debug)]
pub(crate) enum Contender {
    /// Nothing.
    Direct,
    /// `nginx` with the token in the key, or without it: the latter leaks, and shows that leaks are
    /// seen.
    Nginx { program: PathBuf, token_in_key: bool },
    /// `ghproxy` of prow.
    Ghproxy(PathBuf),
    /// `github-api-proxy`.
    GithubApiProxy(PathBuf),
    /// This project.
    Peercache(PathBuf),
}

/// All that are here. What is not is named, with the variable that tells where it is.
pub(crate) fn all() -> Vec<Contender> {
    let mut all = vec![Contender::Direct];
    match named("PEERCACHE_BENCH_NGINX") {
        Some(program) => {
            all.push(Contender::Nginx { program: program.clone(), token_in_key: false });
            all.push(Contender::Nginx { program, token_in_key: true });
        }
        None => println!("Without nginx: PEERCACHE_BENCH_NGINX names no program."),
    }
    match named("PEERCACHE_BENCH_GHPROXY") {
        Some(program) => all.push(Contender::Ghproxy(program)),
        None => println!("Without ghproxy: PEERCACHE_BENCH_GHPROXY names no program."),
    }
    match named("PEERCACHE_BENCH_GITHUB_API_PROXY") {
        Some(program) => all.push(Contender::GithubApiProxy(program)),
        None => println!("Without github-api-proxy: PEERCACHE_BENCH_GITHUB_API_PROXY names no program."),
    }
    match named("PEERCACHE_BENCH_PEERCACHE") {
        Some(program) => all.push(Contender::Peercache(program)),
        None => println!("Without peercache: PEERCACHE_BENCH_PEERCACHE names no program."),
    }
    all
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
}

/// A server that runs. Its folder goes with it.
#[derive(Debug)]
pub(crate) struct Running {
    address: SocketAddr,
    child: Option<Child>,
    _dir: Option<TempDir>,
}

impl Running {
    /// Where the jobs send their requests.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it as a service manager would.
    pub(crate) async fn stop(mut self) {
        let Some(mut child) = self.child.take() else { return };
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id
            && let Err(error) = rustix::process::kill_process(id, rustix::process::Signal::TERM)
        {
            eprintln!("github: process {id:?} cannot be ended: {error}");
        }
        if tokio::time::timeout(STOP_WITHIN, child.wait()).await.is_err() {
            eprintln!("github: a server did not end within {} s and is killed", STOP_WITHIN.as_secs());
        }
    }
}

impl Contender {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Direct => DIRECT,
            Self::Nginx { token_in_key: true, .. } => "nginx, per token",
            Self::Nginx { token_in_key: false, .. } => "nginx, token not in key",
            Self::Ghproxy(_) => "ghproxy",
            Self::GithubApiProxy(_) => RIVAL,
            Self::Peercache(_) => OURS,
        }
    }

    /// Starts it before the origin at `upstream`.
    pub(crate) async fn start(&self, upstream: &str) -> Result<Running, Failure> {
        let failed = |error: std::io::Error| Failure(format!("{} cannot be started: {error}", self.name()));
        let origin: SocketAddr = upstream
            .trim_start_matches("http://")
            .parse()
            .map_err(|_| Failure(format!("{upstream} is no address of an origin")))?;
        let dir = tempfile::tempdir().map_err(failed)?;
        let mut command = match self {
            Self::Direct => return Ok(Running { address: origin, child: None, _dir: None }),
            Self::Peercache(program) => return peercache(program, upstream, dir).await.map_err(failed),
            _ => self.command(upstream, origin, &dir).map_err(failed)?,
        };
        let address = command.1;
        let child = command.0.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let mut child = child.spawn().map_err(failed)?;
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Err(Failure(format!("{} ended with {status}; its message is above", self.name())));
            }
            if begun.elapsed() > START_WITHIN {
                return Err(Failure(format!("{} does not listen on {address}", self.name())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Running { address, child: Some(child), _dir: Some(dir) })
    }

    fn command(
        &self,
        upstream: &str,
        origin: SocketAddr,
        dir: &TempDir,
    ) -> std::io::Result<(Command, SocketAddr)> {
        let address = free_address()?;
        let listen = address.to_string();
        let command = match self {
            Self::Nginx { program, token_in_key } => {
                let file = dir.path().join("nginx.conf");
                std::fs::write(&file, nginx_conf(dir, address, origin, *token_in_key))?;
                let mut command = command_of(program);
                command.arg("-p").arg(dir.path()).arg("-c").arg(&file).args(["-e", "stderr"]);
                command
            }
            Self::Ghproxy(program) => {
                let mut command = command_of(program);
                command
                    .args(["--upstream", upstream, "--port", &address.port().to_string()])
                    .args(["--metrics-port", &free_address()?.port().to_string()])
                    .args(["--pprof-port", &free_address()?.port().to_string()])
                    .args(["--health-port", &free_address()?.port().to_string()])
                    .stderr(Stdio::null());
                command
            }
            Self::GithubApiProxy(program) => {
                let mut command = command_of(program);
                command.args(["--url", &format!("{upstream}/"), "--listen", &listen, "--cache-memory"]);
                command.args(["--log-level", "error"]);
                command
            }
            Self::Direct | Self::Peercache(_) => return Err(std::io::Error::other("it has no such command")),
        };
        Ok((command, address))
    }
}

/// A port that was free a moment ago.
fn free_address() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Fresh for a minute, as GitHub says; one request at a time for a key; revalidated.
fn nginx_conf(dir: &TempDir, listen: SocketAddr, origin: SocketAddr, token_in_key: bool) -> String {
    let dir = dir.path().display();
    let token = if token_in_key { "$http_authorization" } else { "" };
    format!(
        "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  proxy_cache_path {dir}/cache keys_zone=github:16m max_size=512m inactive=10m use_temp_path=off;
  large_client_header_buffers 8 16k;
  upstream origin {{ server {origin}; keepalive 32; }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host api.github.com;
      proxy_cache github; proxy_cache_lock on; proxy_cache_revalidate on; proxy_cache_valid 200 60s;
      proxy_ignore_headers Cache-Control Expires Vary;
      proxy_cache_key \"$request_method $request_uri $http_accept $http_accept_encoding {token}\";
    }}
  }}
}}
"
    )
}

async fn peercache(program: &Path, upstream: &str, dir: TempDir) -> std::io::Result<Running> {
    let mut command = command_of(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CACHE_") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(["--json", "serve", "--listen", "127.0.0.1:0", "--upstream", upstream])
        .env("CACHE_CONFIG", "none")
        .env("CACHE_BACKEND", "memory,disk")
        .env("CACHE_DIR", dir.path())
        // The origin is none of GitHub's hosts, so sharing of public answers is asked for.
        .env("CACHE_GITHUB_SHARE_PUBLIC", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| std::io::Error::other("it has no standard output"))?;
    let mut lines = BufReader::new(stdout).lines();
    let address = tokio::time::timeout(START_WITHIN, async {
        while let Some(line) = lines.next_line().await? {
            let url = line.split(['"', ' ']).find_map(|word| word.strip_prefix("http://"));
            if let Some(address) = url.and_then(|url| url.parse().ok()) {
                return Ok(address);
            }
        }
        Err(std::io::Error::other("it ended before it listened; its message is above"))
    })
    .await
    .map_err(std::io::Error::other)??;
    // It is read to its end, so that it never waits for us.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(Running { address, child: Some(child), _dir: Some(dir) })
}
