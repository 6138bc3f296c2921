//! What a run came to: counted by the origin where it concerns calls, judged by it where it
//! concerns answers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::answered::Answered;
use super::model::FOREIGN_BUCKET;
use crate::handle::FakeHubHandle;
use crate::judge::Verdict;

/// How late an answer may still be when its rule is to ask each time: it was under way, or joined
/// one that was.
const UNDER_WAY: Duration = Duration::from_millis(1500);
/// The lifetime that GitHub gives its answers.
const MINUTE: Duration = Duration::from_secs(60);
/// The lifetime of GraphQL answers.
const GRAPHQL: Duration = Duration::from_secs(5);
/// Examples that are kept of what should not happen.
const MAX_EXAMPLES: usize = 5;

/// How old an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// State of runs, jobs, checks, statuses, deployments, refs and events: asked for each time.
    Live,
    /// GraphQL: 5 seconds.
    Graphql,
    /// Everything else: 60 seconds.
    Minute,
}

impl Rule {
    /// The rule of a target.
    #[must_use]
    pub fn of(target: &str) -> Self {
        let path = target.split('?').next().unwrap_or(target);
        if path == "/graphql" {
            return Self::Graphql;
        }
        const LIVE: [&str; 9] = [
            "/actions/runs",
            "/actions/jobs",
            "/check-runs",
            "/check-suites",
            "/status",
            "/statuses",
            "/deployments",
            "/git/ref",
            "/events",
        ];
        let live = LIVE.iter().any(|part| {
            path.match_indices(part).any(|(at, _)| {
                let rest = &path[at + part.len()..];
                rest.is_empty() || rest.starts_with('/') || rest == "s" || rest.starts_with("s/")
            })
        });
        if live { Self::Live } else { Self::Minute }
    }

    /// How long after it was last right an answer may be given, what was under way included.
    #[must_use]
    pub const fn bound(self) -> Duration {
        match self {
            Self::Live => UNDER_WAY,
            Self::Graphql => GRAPHQL.saturating_add(UNDER_WAY),
            Self::Minute => MINUTE.saturating_add(UNDER_WAY),
        }
    }
}

/// What reached the origin for one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteCount {
    /// Requests.
    pub upstream: u64,
    /// Of those, the ones that were charged.
    pub charged: u64,
}

/// The counts of a run.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Requests that the jobs made.
    pub requests: u64,
    /// Requests with a job's token that reached the origin, whoever made them.
    pub upstream: u64,
    /// Of those, the ones that were charged to a rate limit.
    pub charged: u64,
    /// Of those, the ones answered `304`.
    pub not_modified: u64,
    /// Requests that foreign tokens made. They are in none of the counts above.
    pub foreign: u64,
    /// Leaks to foreign tokens; they are among the `leaks`, too.
    pub foreign_leaks: u64,
    /// Requests with a job's token that reached the origin, by route.
    pub routes: BTreeMap<String, RouteCount>,
    /// What the jobs' answers say about how they came about (`Cache-Status`), by route.
    pub outcomes: BTreeMap<(String, String), u64>,
    /// Answers that their token should never have got, and those got longer after access was lost
    /// than [`Rule::bound`] allows.
    pub leaks: u64,
    /// Answers given within the bound after access was lost.
    pub lost_within_rule: u64,
    /// Answers older than the strictest rule allows: [`Rule`].
    pub stale_beyond_rule: u64,
    /// Answers older than a minute, whatever their route.
    pub stale_beyond_minute: u64,
    /// Answers that had changed when they were asked for, within the rule or not.
    pub stale: u64,
    /// The oldest answer.
    pub oldest: Duration,
    /// Errors that the origin would not have given.
    pub wrong_errors: u64,
    /// Bodies that the origin never had.
    pub corrupt: u64,
    /// Requests without an answer, and jobs that broke.
    pub failed: u64,
    /// Answers with status 500 and above.
    pub server_errors: u64,
    /// A few of what should not happen, in words.
    pub examples: Vec<String>,
    took: Vec<Duration>,
}

impl Tally {
    /// Counts one answer.
    pub fn add(&mut self, answered: Answered) {
        if answered.foreign {
            self.foreign += 1;
        } else {
            self.requests += 1;
            self.took.push(answered.took);
            if let Some(status) = &answered.cache_status {
                let route = route_of(answered.step.method, &answered.step.target);
                *self.outcomes.entry((route, outcome(status))).or_default() += 1;
            }
        }
        let leaks = self.leaks;
        let bound = Rule::of(&answered.step.target).bound();
        let target = &answered.step.target;
        if let Some(error) = &answered.error {
            self.failed += 1;
            self.example(format!("no answer: {error}"));
        }
        self.server_errors += u64::from(answered.status.is_some_and(|status| status >= 500));
        match answered.verdict {
            Verdict::Leak => {
                self.leaks += 1;
                self.example(format!("leak: {target}"));
            }
            Verdict::AccessLost { millis } => {
                if Duration::from_millis(millis) > bound {
                    self.leaks += 1;
                    self.example(format!("leak: {target}, {millis} ms after access was lost"));
                } else {
                    self.lost_within_rule += 1;
                }
            }
            Verdict::Stale { millis } => {
                let age = Duration::from_millis(millis);
                self.stale += 1;
                self.oldest = self.oldest.max(age);
                self.stale_beyond_minute += u64::from(age > Rule::Minute.bound());
                if age > bound {
                    self.stale_beyond_rule += 1;
                    self.example(format!("stale: {target}, {millis} ms"));
                }
            }
            Verdict::WrongError => {
                self.wrong_errors += 1;
                self.example(format!("wrong error: {target}, {:?}", answered.status));
            }
            Verdict::Corrupt => {
                self.corrupt += 1;
                self.example(format!("corrupt: {target}"));
            }
            Verdict::Current | Verdict::Other => {}
        }
        if answered.foreign {
            self.foreign_leaks += self.leaks - leaks;
        }
    }

    pub(super) fn broken_job(&mut self, error: &str) {
        self.failed += 1;
        self.example(format!("a job broke: {error}"));
    }

    fn example(&mut self, text: String) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(text);
        }
    }

    /// Takes the origin's counts, when all answers are counted.
    pub fn close(&mut self, hub: &FakeHubHandle) {
        for record in hub.log().into_iter().filter(|record| record.bucket != FOREIGN_BUCKET) {
            self.upstream += 1;
            self.charged += u64::from(record.charged);
            self.not_modified += u64::from(record.status == 304);
            let route = self.routes.entry(route_of(&record.method, &record.url)).or_default();
            route.upstream += 1;
            route.charged += u64::from(record.charged);
        }
        self.took.sort_unstable();
    }

    /// The time within which `percent` of the requests were answered.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.took.len().saturating_sub(1);
        self.took.get(last * percent.min(100) / 100).copied().unwrap_or_default()
    }

    /// The share of `direct`'s charged calls that were not charged here.
    #[must_use]
    pub fn charged_saved(&self, direct: &Self) -> f64 {
        1.0 - share(self.charged, direct.charged)
    }

    /// The share of the jobs' requests that nobody sent to the origin.
    #[must_use]
    pub fn not_sent(&self) -> f64 {
        1.0 - share(self.upstream, self.requests)
    }
}

/// What the last member of a `Cache-Status` says, without the lifetime and the cache's name.
fn outcome(cache_status: &str) -> String {
    let last = cache_status.rsplit(", ").next().unwrap_or(cache_status);
    let parts = last.split("; ").skip(1).filter(|part| !part.starts_with("ttl="));
    parts.collect::<Vec<_>>().join("; ")
}

/// The route of a request: its path without owner, repository, numbers and hashes.
fn route_of(method: &str, url: &str) -> String {
    let path = url.split('?').next().unwrap_or(url);
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.first() {
        Some(&"repos") if segments.len() > 2 => drop(segments.splice(0..3, ["repos", "*"])),
        Some(&"repositories") if segments.len() > 1 => drop(segments.splice(0..2, ["repos", "*"])),
        _ => {}
    }
    for segment in &mut segments {
        let hash = segment.len() == 40 && segment.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hash || segment.bytes().all(|byte| byte.is_ascii_digit()) {
            *segment = "*";
        }
    }
    format!("{method} /{}", segments.join("/"))
}

#[allow(clippy::cast_precision_loss, reason = "counts of one run are far below 2^53")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_no_lifetimes() {
        for (status, text) in [
            ("peercache; hit; ttl=57; detail=public", "hit; detail=public"),
            ("other; hit, peercache; fwd=stale; fwd-status=304", "fwd=stale; fwd-status=304"),
            ("peercache", ""),
        ] {
            assert_eq!(outcome(status), text);
        }
    }

    #[test]
    fn routes_have_no_names_numbers_and_hashes() {
        let sha = "a".repeat(40);
        for (url, route) in [
            ("/repos/o/r?x=1", "GET /repos/*"),
            ("/repositories/7/issues?page=2", "GET /repos/*/issues"),
            (&format!("/repos/o/r/git/blobs/{sha}"), "GET /repos/*/git/blobs/*"),
            ("/repos/o/r/actions/runs/9/jobs", "GET /repos/*/actions/runs/*/jobs"),
            ("/graphql", "GET /graphql"),
        ] {
            assert_eq!(route_of("GET", url), route);
        }
    }

    #[test]
    fn state_that_clients_wait_for_is_live_and_the_rest_is_not() {
        for live in [
            "/repos/o/r/actions/runs?status=queued",
            "/repos/o/r/actions/runs/7/jobs",
            "/repos/o/r/commits/abc/check-runs",
            "/repos/o/r/commits/abc/status",
            "/repos/o/r/statuses/abc",
            "/repos/o/r/git/ref/heads/main",
            "/repos/o/r/git/refs",
        ] {
            assert_eq!(Rule::of(live), Rule::Live, "{live}");
        }
        for other in ["/repos/o/r", "/repos/o/r/releases/latest", "/repos/o/r/contents/status.md"] {
            assert_eq!(Rule::of(other), Rule::Minute, "{other}");
        }
        assert_eq!(Rule::of("/graphql"), Rule::Graphql);
    }
}
