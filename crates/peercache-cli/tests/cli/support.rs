//! Starting the binary, and ending what was started also when a test fails.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::part::missing;

/// `peercache` with an environment that holds nothing but what a test puts there.
pub(crate) fn peercache(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peercache"));
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Runs `peercache` on the cache directory `dir`, with `input` on standard input.
pub(crate) fn run_in(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut command = peercache(args);
    command.env("CACHE_DIR", dir);
    run(command, input)
}

/// Runs `command` to its end, with `input` on standard input.
pub(crate) fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A child that does not read its input closes the pipe; that is its right.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Standard error without the line's end.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

/// A server process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// What it printed up to the line with its URL.
    pub(crate) printed: Vec<String>,
    scratch: Option<TempDir>,
}

impl Server {
    /// Starts `command` and waits for the line that names its URL.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = Vec::new();
        let url = loop {
            let line = lines.next().expect("the server ended before it listened").unwrap();
            printed.push(line.clone());
            let is_url = |word: &&str| word.starts_with("http://") || word.starts_with("https://");
            if let Some(url) = line.split_whitespace().find(is_url) {
                break url.to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url, printed, scratch: None }
    }

    /// The GitHub-like origin, serving `corpus`. Returns its log's path too.
    pub(crate) fn fakehub(corpus: &Path) -> (Self, PathBuf) {
        Self::fakehub_with(corpus, &[])
    }

    pub(crate) fn fakehub_with(corpus: &Path, more: &[&str]) -> (Self, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("log.jsonl");
        let mut command = peercache(&["fakehub", "--etag", "observed", "--listen", "127.0.0.1:0"]);
        command.arg("--corpus").arg(corpus).arg("--log").arg(&log).args(more);
        let mut server = Self::start(command);
        server.scratch = Some(scratch);
        (server, log)
    }

    /// `peercache serve` on a free port, with the cache directory `dir`.
    pub(crate) fn serve(dir: &Path, upstream: &str, more: &[&dyn AsRef<OsStr>]) -> Self {
        let mut command = peercache(&["serve", "--listen", "127.0.0.1:0", "--upstream", upstream]);
        command.args(more.iter().map(|arg| arg.as_ref())).env("CACHE_DIR", dir);
        Self::start(command)
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL and waits.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and waits, at most 20 s; the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.signal_term();
        let give_up = Instant::now() + Duration::from_secs(20);
        while Instant::now() < give_up {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not end within 20 s of SIGTERM");
    }

    pub(crate) fn signal_term(&self) {
        let pid = rustix::process::Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line of the origin's log.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct LogLine {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) status: u16,
    pub(crate) charged: bool,
}

pub(crate) fn read_log(path: &Path) -> Vec<LogLine> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A part that the test needs from outside, from the environment or `fallback`; see [`missing`].
pub(crate) fn part(
    variable: &str,
    fallback: impl FnOnce() -> Option<PathBuf>,
    install: &str,
) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from).or_else(fallback);
    if found.is_none() {
        missing(&format!("{variable} is not set"), install);
    }
    found
}

/// The recorded corpus, or where there is none a generated one in `scratch`.
pub(crate) fn corpus(scratch: &Path) -> PathBuf {
    let install = "run `cargo xtask prepare corpus`; generated traffic stands in";
    part("PEERCACHE_TEST_CORPUS", || None, install).unwrap_or_else(|| {
        let path = scratch.join("generated.jsonl");
        peercache_fakehub::Corpus::generated(1).write(std::fs::File::create(&path).unwrap()).unwrap();
        path
    })
}

/// Status, headers as text, and body of a plain GET; one connection.
pub(crate) fn get(url: &str, headers: &[(&str, &str)]) -> (u16, String, Vec<u8>) {
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = std::net::TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut request = format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole header");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head[9..12].parse().unwrap();
    let body = answer.split_off(end + 4);
    let body =
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunk(&body) } else { body };
    (status, head, body)
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk size");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}

/// The value of a header in a head as [`get`] returns it.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}
