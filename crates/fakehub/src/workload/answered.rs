//! One request of a job and its answer.

use std::time::Duration;

use super::client::ClientError;
use super::model::Step;
use crate::judge::Verdict;

/// One request and what came of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered {
    /// The request.
    pub step: Step,
    /// What came back; `None` when nothing did.
    pub status: Option<u16>,
    /// Why nothing came back.
    pub error: Option<ClientError>,
    /// What the origin says to the answer.
    pub verdict: Verdict,
    /// From the request to the end of the answer.
    pub took: Duration,
    /// `Cache-Status` of the answer.
    pub cache_status: Option<String>,
    /// Whether a foreign token asked.
    pub foreign: bool,
}
