//! What the demo measures.

use serde::Serialize;

/// What the demo measured.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    pub(super) traffic: String,
    pub(super) seed: u64,
    pub(super) jobs: u32,
    pub(super) repositories: u32,
    pub(super) private_repositories: u32,
    pub(super) without: Side,
    pub(super) per_token: Side,
    pub(super) with: Side,
    /// Processes of runners, one for each job and one for the poller, besides the anchor.
    pub(super) runners: usize,
    /// Of those, the ones that were connected with a peer when their job was done.
    pub(super) connected_runners: usize,
    /// Answers that a runner made of what another machine had put.
    pub(super) peer_hits: usize,
}

/// One run of all jobs, as the origin counted it.
#[derive(Debug, Serialize)]
pub(super) struct Side {
    pub(super) requests: u64,
    pub(super) calls: u64,
    pub(super) charged: u64,
    pub(super) not_modified: u64,
    /// Share of the charged calls of the jobs without a cache that went away.
    pub(super) charged_saved: f64,
    /// Share of the jobs' requests that never reached the origin.
    pub(super) not_sent: f64,
    /// Bodies that the origin would not have given that token at that time.
    pub(super) leaks: u64,
    pub(super) too_old: u64,
    /// Errors that the origin would not have given, bodies that it never had, requests without an
    /// answer.
    pub(super) wrong: u64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}
