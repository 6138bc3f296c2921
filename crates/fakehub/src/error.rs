//! What can go wrong before the first request: an unreadable corpus, settings that contradict each
//! other, an address that cannot be bound.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A corpus that cannot be read. The text names the place, the value and what is expected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// A file or directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The reader failed.
    #[error("cannot read the corpus after line {line}: {source}")]
    Read {
        /// The last line that was read whole, counted from 1.
        line: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// A line is not an exchange.
    #[error("{}line {line}: {message}", place(file.as_ref()))]
    Line {
        /// The file, when the corpus came from one.
        file: Option<PathBuf>,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it, and what is expected.
        message: String,
    },
    /// An unpacked `@octokit/fixtures` package is not what it should be.
    #[error("{}: {message}", path.display())]
    Fixture {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, and what is expected.
        message: String,
    },
}

fn place(file: Option<&PathBuf>) -> String {
    file.map(|path| format!("{}, ", path.display())).unwrap_or_default()
}

impl CorpusError {
    /// The same error with the file that it was found in.
    pub(crate) fn in_file(self, path: PathBuf) -> Self {
        match self {
            Self::Line { line, message, .. } => Self::Line { file: Some(path), line, message },
            Self::Read { source, .. } => Self::Io { path, source },
            other => other,
        }
    }
}

/// A fakehub that cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FakeHubError {
    /// The corpus cannot be read.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A setting is wrong or contradicts another.
    #[error("{0}")]
    Config(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}; choose another --listen address, port 0 picks a free one")]
    Listen {
        /// The address as given.
        addr: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something that the system owes us failed: randomness, signals or standard output.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}
