//! What a step of a job asks for, as the sources of actions and `gh` have it.

use std::time::Duration;

use super::model::Step;
use super::world::{OCTETS, RAW, Repository, World};
use crate::random::Random;

/// What octokit 3 sends (`@actions/github`, most actions).
const OCTOKIT: &str = "application/vnd.github.v3+json";
/// What newer octokit and REST documentation send.
const GITHUB_JSON: &str = "application/vnd.github+json";
/// What `gh` sends with REST.
const GH: &str = "*/*";
/// What `gh` sends with GraphQL.
const GH_GRAPHQL: &str =
    "application/vnd.github.merge-info-preview+json, application/vnd.github.nebula-preview";

/// A step as a workflow file names it; what is random in it was decided when the workflow was
/// written.
#[derive(Clone, Debug)]
pub(super) enum Use {
    /// `actions/setup-python`, `-go`, `-node`: the tree of the manifest, then its blob.
    Setup(usize),
    /// An action that installs the latest release of a tool; some follow its asset.
    Install { tool: usize, asset: bool },
    /// `gh release download`.
    GhRelease(usize),
    /// `dorny/paths-filter`.
    PathsFilter,
    /// `actions/labeler`.
    Labeler,
    /// `actions/github-script` that looks at the repository, an issue and lists.
    Script,
    /// A comment that is updated: list, then write.
    StickyComment,
    /// `gh run view`.
    RunView,
    /// `gh run watch`: the run and its jobs, every 3 seconds.
    Watch { polls: u32 },
    /// `gh pr checks --watch`: GraphQL, every 10 seconds.
    Checks { polls: u32 },
    /// A commit status is written; some read the combined one after it.
    Status { read: bool },
    /// A changelog: commits, releases, the ref.
    Changelog,
    /// Two pages of issues, the second as `Link` names it.
    Issues,
    /// Recorded reads, from this one on.
    Recorded { first: u64, count: u64 },
}

/// Collects the requests of one job.
pub(super) struct Script<'a> {
    world: &'a World,
    own: &'a Repository,
    /// Which run of the repository the job belongs to.
    run: u64,
    random: Random,
    /// From one step to the next, on average.
    pause_millis: u64,
    steps: Vec<Step>,
}

impl<'a> Script<'a> {
    pub(super) const fn new(
        world: &'a World,
        own: &'a Repository,
        run: u64,
        random: Random,
        pause_millis: u64,
    ) -> Self {
        Self { world, own, run, random, pause_millis, steps: Vec::new() }
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    fn step(&mut self, pause: u64, method: &'static str, target: String, accept: &str, body: String) {
        // gh and tool-cache say `token`; octokit says `bearer` to a token of three parts.
        let scheme = if matches!(accept, GH | GH_GRAPHQL | RAW) { "token" } else { "bearer" };
        let pause = Duration::from_millis(pause);
        self.steps.push(Step { pause, method, target, accept: accept.to_owned(), body, scheme });
    }

    /// A request soon after the one before: steps of CI jobs follow their calls up at once.
    fn get(&mut self, target: String, accept: &str) {
        let pause = 20 + self.random.below(60);
        self.step(pause, "GET", target, accept, String::new());
    }

    /// Lets time pass before the next request, as between two steps of a job.
    fn between_steps(&mut self, before: usize) {
        let pause = Duration::from_millis(self.random.interval(self.pause_millis).min(6 * self.pause_millis));
        if let Some(first) = self.steps.get_mut(before) {
            first.pause += pause;
        }
    }

    pub(super) fn run(&mut self, step: &Use) {
        let before = self.steps.len();
        self.requests(step);
        self.between_steps(before);
    }

    fn requests(&mut self, step: &Use) {
        let (own, world) = (self.own, self.world);
        let api = |rest: &str| own.place.api(rest);
        match *step {
            Use::Setup(language) => {
                if let Some((place, blob)) = world.versions.get(language % world.versions.len().max(1)) {
                    self.get(place.api("/git/trees/main"), GH);
                    self.get(place.api(&format!("/git/blobs/{blob}")), RAW);
                }
            }
            Use::Install { tool, asset } => {
                if let Some(tool) = world.tools.get(tool) {
                    self.get(tool.place.api("/releases/latest"), OCTOKIT);
                    if asset {
                        self.get(tool.place.api(&format!("/releases/assets/{}", tool.asset())), OCTETS);
                    }
                }
            }
            Use::GhRelease(tool) => {
                if let Some(tool) = world.tools.get(tool) {
                    self.step(
                        50,
                        "POST",
                        "/graphql".to_owned(),
                        GH_GRAPHQL,
                        tool.release_query().to_string(),
                    );
                    self.get(tool.place.api("/releases/tags/v6.0.0"), GH);
                    self.get(tool.place.api(&format!("/releases/assets/{}", tool.asset())), OCTETS);
                }
            }
            Use::PathsFilter => self.get(api("/pulls/3/files"), OCTOKIT),
            Use::Labeler => {
                self.get(api("/pulls/3"), OCTOKIT);
                self.get(api("/pulls/3/files"), OCTOKIT);
                self.get(api(&format!("/contents/.github/labeler.yml?ref={}", own.head)), OCTOKIT);
            }
            Use::Script => {
                self.get(api(""), GITHUB_JSON);
                self.get(api("/issues/1"), GITHUB_JSON);
                self.get(api("/issues/1/comments"), GITHUB_JSON);
                self.get(api("/pulls?state=closed"), GITHUB_JSON);
            }
            Use::StickyComment => {
                self.get(api("/issues/3/comments?per_page=100"), OCTOKIT);
                let text = r#"{"body":"coverage: 91 %"}"#.to_owned();
                self.step(80, "POST", api("/issues/3/comments"), OCTOKIT, text);
            }
            Use::RunView => {
                let run = own.run(self.run);
                self.get(api(&format!("/actions/runs/{run}")), GH);
                self.get(api(&format!("/actions/runs/{run}/jobs")), GH);
            }
            Use::Watch { polls } => {
                let run = own.run(self.run);
                for poll in 0..polls {
                    let pause = if poll == 0 { 0 } else { 3000 };
                    self.step(pause, "GET", api(&format!("/actions/runs/{run}")), GH, String::new());
                    self.get(api(&format!("/actions/runs/{run}/jobs")), GH);
                }
            }
            Use::Checks { polls } => {
                for poll in 0..polls {
                    let pause = if poll == 0 { 0 } else { 10_000 };
                    self.step(
                        pause,
                        "POST",
                        "/graphql".to_owned(),
                        GH_GRAPHQL,
                        own.checks_query().to_string(),
                    );
                }
            }
            Use::Status { read } => {
                let text = r#"{"state":"success","context":"ci/lint"}"#.to_owned();
                self.step(50, "POST", api(&format!("/statuses/{}", own.head)), OCTOKIT, text);
                if read {
                    self.get(api(&format!("/commits/{}/status", own.head)), OCTOKIT);
                }
            }
            Use::Changelog => {
                self.get(api("/git/ref/heads/main"), GITHUB_JSON);
                self.get(api("/commits"), GITHUB_JSON);
                self.get(api("/releases/latest"), GITHUB_JSON);
                self.get(api("/labels"), GITHUB_JSON);
            }
            Use::Issues => {
                self.get(api("/issues?per_page=5"), GITHUB_JSON);
                self.get(format!("/repositories/{}/issues?per_page=5&page=2", own.place.id), GITHUB_JSON);
            }
            Use::Recorded { first, count } => {
                let reads = world.recorded.len() as u64;
                for number in (first..first + count).take_while(|_| reads > 0) {
                    let index = usize::try_from(number % reads).unwrap_or_default();
                    let (target, accept) = &world.recorded[index];
                    self.get(target.clone(), accept);
                }
            }
        }
    }

    /// What an autoscaler asks in each of its rounds.
    pub(super) fn poll(&mut self, pause: u64) {
        let own = self.own;
        let queued = own.place.api("/actions/runs?status=queued&per_page=100");
        self.step(pause, "GET", queued, GITHUB_JSON, String::new());
    }

    /// A read of something that nobody else reads.
    pub(super) fn rare(&mut self, repository: &Repository, rest: &str) {
        self.get(repository.place.api(rest), GITHUB_JSON);
    }
}
