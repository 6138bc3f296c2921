//! The ground truth: what was asked, what was answered, and what it cost.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// How many records are kept in memory. Older ones are dropped there; a log file has them all.
pub const MAX_LOG_RECORDS: usize = 200_000;

/// One answered request. It never holds a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogRecord {
    /// Counted from 1, in the order of the answers.
    pub n: u64,
    /// As sent.
    pub method: String,
    /// The host that was asked for; a host that this origin does not know is `api.github.com`.
    pub host: String,
    /// Path and query; the values of parameters that hold credentials are replaced by `REDACTED`.
    pub url: String,
    /// A keyed hash of the caller's token, the same for one token within one run, or `anonymous`.
    pub token: String,
    /// The rate-limit bucket that the caller shares with others; empty for download hosts.
    pub bucket: String,
    /// `core`, `search`, `code_search` or `graphql`; empty for download hosts.
    pub resource: String,
    /// What was answered.
    pub status: u16,
    /// Whether it cost one of the bucket's requests.
    pub charged: bool,
    /// Whether the request had `If-None-Match` or `If-Modified-Since`.
    pub conditional: bool,
    /// Body bytes sent, after content coding; 0 for `HEAD` and `304`.
    pub bytes: u64,
    /// SHA-256 of the body before content coding. For `HEAD` and `304`: of the body that they stand
    /// for.
    pub sha256: String,
    /// When it was answered, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub at: u64,
}

/// Totals since the start or the last reset; never truncated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary {
    /// Requests answered.
    pub requests: u64,
    /// Those that were charged to a bucket.
    pub charged: u64,
    /// Body bytes sent.
    pub bytes: u64,
    /// Requests by status code.
    pub by_status: BTreeMap<u16, u64>,
    /// Records that could not be written to the log file.
    pub log_errors: u64,
}

#[derive(Default)]
struct State {
    records: VecDeque<LogRecord>,
    summary: Summary,
}

/// Records in memory, totals, and a file if there is one.
pub(crate) struct Log {
    state: Mutex<State>,
    file: Option<Mutex<File>>,
}

impl Log {
    pub(crate) fn new(file: Option<File>) -> Self {
        Self { state: Mutex::default(), file: file.map(Mutex::new) }
    }

    /// Numbers the record and keeps it. It is in the file when this returns.
    pub(crate) fn push(&self, mut record: LogRecord) {
        let mut state = lock(&self.state);
        state.summary.requests += 1;
        state.summary.charged += u64::from(record.charged);
        state.summary.bytes += record.bytes;
        *state.summary.by_status.entry(record.status).or_default() += 1;
        record.n = state.summary.requests;
        if let Some(Err(error)) = self.file.as_ref().map(|file| write_line(&mut lock(file), &record)) {
            if state.summary.log_errors == 0 {
                eprintln!("fakehub: the log file misses records from number {} on: {error}", record.n);
            }
            state.summary.log_errors += 1;
        }
        if state.records.len() >= MAX_LOG_RECORDS {
            state.records.pop_front();
        }
        state.records.push_back(record);
    }

    pub(crate) fn records(&self) -> Vec<LogRecord> {
        lock(&self.state).records.iter().cloned().collect()
    }

    pub(crate) fn summary(&self) -> Summary {
        lock(&self.state).summary.clone()
    }

    /// Forgets records and totals, and empties the file.
    pub(crate) fn reset(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        *state = State::default();
        match &self.file {
            Some(file) => lock(file).set_len(0),
            None => Ok(()),
        }
    }
}

fn write_line(file: &mut File, record: &LogRecord) -> io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    file.write_all(&line)
}

/// The lock, also after a panic elsewhere: these states are consistent between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `target` with the values of query parameters that hold credentials replaced.
pub(crate) fn redacted(target: &str) -> String {
    const SECRET: [&str; 7] =
        ["token", "access_token", "client_secret", "jwt", "sig", "signature", "x-amz-signature"];
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let shown: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if SECRET.contains(&name.to_ascii_lowercase().as_str()) => {
                format!("{name}=REDACTED")
            }
            _ => pair.to_owned(),
        })
        .collect();
    format!("{path}?{}", shown.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_a_query_are_not_logged() {
        assert_eq!(redacted("/o/r?page=2&Token=abc&b"), "/o/r?page=2&Token=REDACTED&b");
        assert_eq!(redacted("/o/r"), "/o/r");
    }
}
