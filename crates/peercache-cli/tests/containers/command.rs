//! Running programs with a deadline, and long-lived ones that never outlive the test.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything may take that is expected to work: generous, since two slow cores share many
/// processes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What a program that has ended left behind.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output as text, without the line's end.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Itself, if it ended with 0; the test fails with what it said if not.
    #[track_caller]
    pub(crate) fn ok(self, what: &str) -> Self {
        assert!(self.status.success(), "{what}: {}: {} {}", self.status, self.text(), self.stderr);
        self
    }
}

/// Runs `command` to its end with `input` on standard input. Past `limit` it is killed and the test
/// fails.
#[track_caller]
pub(crate) fn run_within(mut command: Command, input: &[u8], limit: Duration) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = shown(&command);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("`{shown}` cannot be started: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A program that does not read its input closes the pipe; that is its right.
        let _ = stdin.write_all(&input);
    });
    let stdout = drain(child.stdout.take().unwrap());
    let stderr = drain(child.stderr.take().unwrap());
    let status = wait_within(&mut child, limit);
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    writer.join().unwrap();
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let stderr = String::from_utf8_lossy(&stderr).trim_end().to_owned();
    let status = status.unwrap_or_else(|| panic!("`{shown}` did not end within {limit:?}: {stderr}"));
    Output { status, stdout, stderr }
}

/// As [`run_within`], for what is expected to end soon.
#[track_caller]
pub(crate) fn run(command: Command, input: &[u8]) -> Output {
    run_within(command, input, LIMIT)
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error still helps to understand the test's failure.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn wait_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if started.elapsed() > limit {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Asks `ready` until it has an answer. Past `limit` the test fails with what was seen last.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ready() {
            Ok(value) => return value,
            Err(last) => assert!(started.elapsed() < limit, "{what}: not within {limit:?}: {last}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A process that runs until it is dropped or killed, and writes to a file. The kernel ends it when
/// the thread that started it ends, however that happens.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, with both its outputs in the file `log`.
    pub(crate) fn start(command: &Command, log: &Path) -> Self {
        let output = File::create(log).unwrap();
        let mut leashed = leashed(command);
        leashed.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = leashed
            .spawn()
            .unwrap_or_else(|error| panic!("`{}` cannot be started: {error}", shown(&leashed)));
        Self { child, log: log.to_owned() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends SIGKILL and waits.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for it to end by itself.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> bool {
        wait_within(&mut self.child, limit).is_some()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The same command, ended by the kernel when the thread that starts it ends: also when the whole
/// test is killed. Its environment is what was set for it, nothing of ours.
pub(crate) fn leashed(command: &Command) -> Command {
    let mut leashed = Command::new("setpriv");
    leashed.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => leashed.env(name, value),
            None => leashed.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        leashed.current_dir(dir);
    }
    leashed
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
