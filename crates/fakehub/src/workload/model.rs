//! What a workload is made of: options, jobs and their steps, tokens, and what changes.

use std::time::Duration;

use crate::access::TokenKind;
use crate::corpus::Corpus;

/// The bucket of foreign tokens: what is charged to it is not the fleet's.
pub(super) const FOREIGN_BUCKET: &str = "foreign";

/// What a workload is made by. `Options::default()` is 40 jobs with a token each, over 40 seconds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Decides everything that is random.
    pub seed: u64,
    /// Jobs besides the poller.
    pub jobs: u32,
    /// Jobs of one workflow run.
    pub matrix: u32,
    /// Own repositories, at most 8.
    pub repositories: u32,
    /// Of those, the private ones.
    pub private: u32,
    /// The exponent of Zipf's law by which tools are chosen.
    pub zipf: f64,
    /// How long the fleet runs.
    pub duration: Duration,
    /// Factor on every rate of change.
    pub change_rate: f64,
    /// `Job`: a new token for each job. Otherwise one token for all.
    pub tokens: TokenKind,
    /// Recorded exchanges whose reads are mixed in; may be empty.
    pub recorded: Corpus,
    /// Tokens that may see no private repository and keep asking for what is in them.
    pub foreign: u32,
    /// The chance that a read of one step is made by another step of the same job, too: several
    /// actions of a job look at the same pull request, tool or manifest.
    pub repeats: f64,
    /// Whether clients accept compressed answers. Some caches cannot derive an entity tag from
    /// those.
    pub gzip: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 2026,
            jobs: 40,
            matrix: 4,
            repositories: 4,
            private: 2,
            zipf: 1.0,
            duration: Duration::from_secs(40),
            change_rate: 1.0,
            tokens: TokenKind::Job,
            recorded: Corpus::default(),
            foreign: 3,
            repeats: 0.4,
            gzip: false,
        }
    }
}

/// One request of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Wait for this long before it.
    pub pause: Duration,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// The client's `Accept`.
    pub accept: String,
    /// What is sent; empty for `GET`.
    pub body: String,
    /// `token` or `bearer`, before the token: clients of one job differ in it.
    pub scheme: &'static str,
}

/// One job: its token, and what it asks for one after another.
#[derive(Clone)]
pub struct Job {
    /// When it starts.
    pub start: Duration,
    /// Its token, in clear.
    pub token: String,
    /// Its requests.
    pub steps: Vec<Step>,
    /// Whether it asks for what its token may not see, and its requests are not to be counted as
    /// the fleet's.
    pub foreign: bool,
    /// Whether its clients accept compressed answers.
    pub gzip: bool,
}

impl std::fmt::Debug for Job {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("start", &self.start).field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// A token, its kind and the private repositories that it may see.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) token: String,
    pub(super) kind: TokenKind,
    pub(super) bucket: (String, u64),
    pub(super) repositories: Vec<String>,
}

/// A resource that changes by itself.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) url: String,
    pub(super) seed: u64,
    pub(super) mean: Duration,
}
