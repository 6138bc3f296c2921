//! The scripts of the GitHub Action (`action.yml`), run as a runner runs them.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::serve::storable_target;
use crate::support::{Server, corpus, get, run, stderr};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A job of a runner: its folders and files, and `peercache` in its search path.
struct Job {
    dir: TempDir,
    port: u16,
    upstream: String,
}

impl Job {
    fn new(upstream: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_peercache"), dir.path().join("bin/peercache")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { dir, port, upstream: upstream.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Runs one script of the action, with `more` variables.
    fn script(&self, name: &str, more: &[(&str, &str)]) -> Output {
        let search = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(Path::new(ROOT).join("deploy/action").join(name));
        command
            .env_clear()
            .env("PATH", format!("{}:{search}", self.path("bin").display()))
            .env("GITHUB_ACTION_PATH", ROOT)
            .env("RUNNER_TEMP", self.dir.path())
            .env("GITHUB_OUTPUT", self.path("output"))
            .env("GITHUB_ENV", self.path("env"))
            .env("GITHUB_PATH", self.path("path"))
            .env("GITHUB_STEP_SUMMARY", self.path("summary"))
            .env("PEERCACHE_PORT", self.port.to_string())
            .env("PEERCACHE_GH", "true")
            .env("CACHE_DIR", self.path("cache"))
            .env("CACHE_UPSTREAM", &self.upstream)
            .envs(more.iter().copied());
        run(command, b"")
    }

    fn server(&self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(self.text("peercache/pid").trim().parse().ok()?)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(server) = self.server() {
            // It may have ended already.
            let _ = rustix::process::kill_process(server, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn job_is_answered_from_the_cache_and_reports_what_it_saved() {
    let scratch = tempfile::tempdir().unwrap();
    let corpus = corpus(scratch.path());
    let target = storable_target(&corpus);
    let (origin, _log) = Server::fakehub(&corpus);
    let job = Job::new(&origin.url);
    let installed = job.script("install.sh", &[]);
    assert!(installed.status.success(), "{}", stderr(&installed));
    // An input that was not given is an empty variable.
    let started = job.script("start.sh", &[("CACHE_SECRET", "")]);
    assert!(started.status.success(), "{}", stderr(&started));
    let url = format!("http://127.0.0.1:{}", job.port);
    let socket = job.path("peercache/peercache.sock");
    assert_eq!(job.text("output"), format!("url={url}\nsocket={}\n", socket.display()));
    assert_eq!(job.text("env"), format!("GH_CONFIG_DIR={}\n", job.path("peercache/gh").display()));
    let gh = job.text("peercache/gh/config.yml");
    assert!(gh.contains(&format!("http_unix_socket: {}", socket.display())), "{gh}");

    for _ in 0..2 {
        assert_eq!(get(&format!("{url}{target}"), &[]).0, 200);
    }
    let reported = job.script("report.sh", &[]);
    assert!(reported.status.success(), "{}", stderr(&reported));
    let summary = job.text("summary");
    assert!(summary.contains("### peercache") && summary.contains("saved 1 of 2 (50 %)"), "{summary}");
    assert!(TcpStream::connect(("127.0.0.1", job.port)).is_err(), "the server goes on after the report");
}

#[test]
fn job_goes_on_with_a_warning_when_the_server_cannot_start() {
    let job = Job::new("http://127.0.0.1:9");
    let started = job.script("start.sh", &[("CACHE_SECRET", "too short")]);
    let printed = String::from_utf8_lossy(&started.stdout).into_owned();
    assert!(started.status.success() && printed.contains("::warning::peercache did not start"), "{printed}");
    assert_eq!((job.text("output"), job.text("env")), (String::new(), String::new()));
    let reported = job.script("report.sh", &[]);
    let printed = String::from_utf8_lossy(&reported.stdout).into_owned();
    assert!(
        reported.status.success() && printed.contains("::warning::peercache does not answer"),
        "{printed}"
    );
}
