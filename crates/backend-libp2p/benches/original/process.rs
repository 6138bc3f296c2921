//! A node in a process of its own: what is said to it, what it answers and when, and its end.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Answers that nobody has read yet. Each question has one.
const ANSWERS: usize = 64;
/// How many of the last bytes of a log are shown.
const LOG_TAIL: usize = 4000;

/// What ends the bench.
pub(crate) type Trouble = String;

/// A process that ends with this. When the bench is killed its input ends, and it ends after the
/// line that it obeys.
pub(crate) struct Node {
    system: &'static str,
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<(Instant, String)>,
    log: PathBuf,
    /// Where it can be dialled.
    pub(crate) address: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Node {
    /// Starts a node of `system` and waits until it says where it is. What it writes as errors goes
    /// to `log`.
    pub(crate) fn start(
        system: &'static str,
        command: &mut Command,
        log: PathBuf,
        limit: Duration,
    ) -> Result<Self, Trouble> {
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).spawn().map_err(|error| {
                format!("{system}: {:?} cannot be started: {error}", command.get_program())
            })?;
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = sync_channel(ANSWERS);
        // Ends with the process, whose output ends then.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let mut node = Self { system, child, stdin, answers, log, address: String::new() };
        node.address = node.answer("at", limit)?.1;
        Ok(node)
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<(), Trouble> {
        writeln!(self.stdin, "{line}")
            .map_err(|error| self.trouble(&format!("cannot be told `{line}`: {error}")))
    }

    /// The next answer, which begins with `word`: when it came, and what follows the word.
    pub(crate) fn answer(&self, word: &str, limit: Duration) -> Result<(Instant, String), Trouble> {
        let (when, line) = self.answers.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => self.trouble(&format!("gave no answer within {limit:?}")),
            RecvTimeoutError::Disconnected => self.trouble("ended"),
        })?;
        match line.strip_prefix(word).map(str::trim) {
            Some(rest) => Ok((when, rest.to_owned())),
            None => Err(self.trouble(&format!("answered `{line}`, and `{word}` was expected"))),
        }
    }

    /// How many others it is connected with.
    pub(crate) fn peers(&mut self, limit: Duration) -> Result<usize, Trouble> {
        self.say("peers")?;
        let (_, count) = self.answer("peers", limit)?;
        count.parse().map_err(|_| self.trouble(&format!("counts {count} peers")))
    }

    /// What happened, and the end of its log.
    pub(crate) fn trouble(&self, what: &str) -> Trouble {
        let log = std::fs::read(&self.log).unwrap_or_else(|error| error.to_string().into_bytes());
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL)..]).into_owned();
        format!("a node of {} {what}; the end of its log:\n{tail}", self.system)
    }
}
