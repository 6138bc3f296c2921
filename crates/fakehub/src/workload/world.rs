//! The repositories of a workload, with everything that its jobs ask for.

use std::time::Duration;

use serde_json::{Value, json};

use super::model::{Change, Options};
use crate::corpus::Corpus;
use crate::exchange::API_HOST;
use crate::generate;
use crate::generate::Place;

/// Repositories of `actions` that `setup-*` reads its manifest from.
const VERSIONS: [&str; 3] = ["python", "go", "node"];
/// The number of the first of them.
const VERSIONS_ID: u64 = 95_000_001;
/// Runs that each own repository has.
pub(super) const RUNS: u64 = 8;
/// Accept of `tool-cache` for a manifest.
pub(super) const RAW: &str = "application/vnd.github.VERSION.raw";
/// Accept of what downloads an asset.
pub(super) const OCTETS: &str = "application/octet-stream";

/// A repository, and what the paths below it name.
pub(super) struct Repository {
    pub(super) place: Place,
    /// The commit at the head of `main`.
    pub(super) head: String,
}

impl Repository {
    /// `owner/name`.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.place.owner, self.place.name)
    }

    /// The number of a run, by any counter.
    pub(super) fn run(&self, counter: u64) -> u64 {
        self.place.id * 1000 + 1 + counter % RUNS
    }

    /// The number of the asset of a tool's latest release.
    pub(super) fn asset(&self) -> u64 {
        self.place.id * 10
    }

    /// What `gh pr checks` asks.
    pub(super) fn checks_query(&self) -> Value {
        json!({
            "query": "query PullRequestByNumber($owner: String!, $repo: String!, $pr_number: Int!) {repository(owner: $owner, name: $repo) {pullRequest(number: $pr_number) {id,number,statusCheckRollup: commits(last: 1) {nodes {commit {statusCheckRollup {contexts(first:100) {nodes {__typename ...on CheckRun {name,status,conclusion,startedAt,completedAt,detailsUrl}},pageInfo{hasNextPage,endCursor}}}}}}}}}",
            "variables": { "owner": self.place.owner, "pr_number": 3, "repo": self.place.name },
        })
    }

    /// What `gh release download` asks first.
    pub(super) fn release_query(&self) -> Value {
        json!({
            "query": "query RepositoryReleaseByTag($owner: String!, $name: String!, $tagName: String!) {repository(owner: $owner, name: $name) {release(tagName: $tagName) {databaseId,isDraft}}}",
            "variables": { "owner": self.place.owner, "name": self.place.name, "tagName": "v6.0.0" },
        })
    }
}

/// All repositories and their exchanges.
pub(super) struct World {
    corpus: Corpus,
    /// Where the jobs' workflows are.
    pub(super) own: Vec<Repository>,
    /// Third-party repositories, the most used first.
    pub(super) tools: Vec<Repository>,
    /// `python`, `go`, `node`: the repository and the blob of its manifest.
    pub(super) versions: Vec<(Place, String)>,
    /// Recorded reads: target and `Accept`.
    pub(super) recorded: Vec<(String, String)>,
}

impl World {
    pub(super) fn new(options: &Options) -> Self {
        let mut corpus = Corpus::generated(options.seed);
        let mut repositories = repositories(&corpus);
        let own_count = repositories.iter().filter(|known| known.place.owner.ends_with("-1")).count();
        let tools = repositories.split_off(own_count);
        let mut own = repositories;
        own.truncate(options.repositories.max(1) as usize);
        let mut world = generate::World::new(options.seed ^ 0x776f_726c_6421);
        for repository in &own {
            fill_own(&mut world, repository);
        }
        for repository in &tools {
            fill_tool(&mut world, repository);
        }
        let versions = VERSIONS.iter().zip(0..).map(|(name, number)| fill_versions(&mut world, name, number));
        let versions = versions.collect();
        corpus.extend(world.into_corpus());
        let recorded = reads(&options.recorded);
        corpus.extend(options.recorded.clone());
        Self { corpus, own, tools, versions, recorded }
    }

    pub(super) fn private(&self, options: &Options) -> Vec<String> {
        self.own.iter().take(options.private as usize).map(Repository::full_name).collect()
    }

    /// How often things change, as measured where they were polled: counters of downloads within
    /// seconds, runs while they are active within a quarter of a minute, issues within minutes,
    /// code within hours.
    pub(super) fn changes(&self, options: &Options) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut add = |url: String, group: u64, seconds: f64| {
            let seconds = seconds / options.change_rate.max(1e-6);
            changes.push(Change { url, seed: options.seed ^ group, mean: Duration::from_secs_f64(seconds) });
        };
        for repository in &self.own {
            let (place, id) = (&repository.place, repository.place.id);
            for counter in 0..RUNS {
                let run = repository.run(counter);
                add(place.api(&format!("/actions/runs/{run}")), run, 20.0);
                add(place.api(&format!("/actions/runs/{run}/jobs")), run, 20.0);
            }
            add(place.api("/actions/runs"), id, 15.0);
            let checks = place.api(&format!("/commits/{}/check-runs", repository.head));
            add(checks, id + 1, 20.0);
            add(format!("/graphql/{}", repository.full_name().to_ascii_lowercase()), id + 1, 20.0);
            for (rest, seconds) in [("/issues/3/comments", 180.0), ("/issues", 180.0), ("/pulls/3", 240.0)] {
                add(place.api(rest), id * 7 + rest.len() as u64, seconds);
            }
            add(format!("/repositories/{id}/issues"), id * 7 + "/issues".len() as u64, 180.0);
            for (rest, seconds) in [("", 900.0), ("/commits", 600.0), ("/git/ref/heads/main", 600.0)] {
                add(place.api(rest), id * 11, seconds);
            }
            add(place.api("/contents/README.md"), id * 13, 7200.0);
        }
        for (repository, rank) in self.tools.iter().zip(1_u32..) {
            let (place, id) = (&repository.place, repository.place.id);
            // A tool that nobody uses is not downloaded either.
            let seconds = 15.0 * f64::from(rank).sqrt();
            for rest in ["/releases/latest", "/releases/tags/v6.0.0", "/releases"] {
                add(place.api(rest), id, seconds);
            }
            add(place.api(""), id * 17, 300.0);
        }
        for (place, _) in &self.versions {
            add(place.api("/git/trees/main"), place.id, 6.0 * 3600.0);
            add(place.api(""), place.id * 3, 600.0);
        }
        changes
    }

    pub(super) fn into_corpus(self) -> Corpus {
        self.corpus
    }
}

/// What the generated corpus has: those of the first organisation come first.
fn repositories(corpus: &Corpus) -> Vec<Repository> {
    let body = |target: &str| {
        let found = corpus.exchanges().iter().find(|exchange| exchange.target == target);
        found.and_then(|exchange| serde_json::from_slice::<Value>(&exchange.body).ok()).unwrap_or_default()
    };
    let mut found = Vec::new();
    for exchange in corpus.exchanges() {
        let Some(rest) = exchange.target.strip_prefix("/repos/") else { continue };
        let Some((owner, name)) = rest.split_once('/').filter(|(_, name)| !name.contains('/')) else {
            continue;
        };
        let place = Place {
            owner: owner.to_owned(),
            name: name.to_owned(),
            id: body(&exchange.target)["id"].as_u64().unwrap_or_default(),
        };
        let head = body(&place.api("/git/ref/heads/main"))["object"]["sha"].as_str().map(str::to_owned);
        found.push(Repository { head: head.unwrap_or_default(), place });
    }
    found
}

fn fill_own(world: &mut generate::World, repository: &Repository) {
    let (place, head) = (&repository.place, &repository.head);
    let comment = |world: &mut generate::World, id: u64| {
        json!({
            "id": id, "url": format!("https://api.github.com{}", place.api(&format!("/issues/comments/{id}"))),
            "user": world.user("octo-user-2"), "body": world.text(60), "author_association": "MEMBER",
        })
    };
    let comments: Vec<Value> = (0..3).map(|n| comment(world, place.id * 10 + n)).collect();
    world.get(&place.api("/issues/3/comments?per_page=100"), &json!(comments), &[]);
    let made = comment(world, place.id * 10 + 9);
    world.record("POST", &place.api("/issues/3/comments"), None, 201, &made, &[]);
    let status =
        json!({ "id": place.id, "state": "success", "context": "ci/lint", "description": world.text(5) });
    world.record("POST", &place.api(&format!("/statuses/{head}")), None, 201, &status, &[]);
    let combined = json!({ "state": "success", "sha": head, "total_count": 1, "statuses": [status] });
    world.get(&place.api(&format!("/commits/{head}/status")), &combined, &[]);
    let checks: Vec<Value> = (0..9)
        .map(|n| json!({ "id": place.id * 100 + n, "name": world.text(2), "status": "in_progress", "head_sha": head, "output": { "summary": world.text(40) } }))
        .collect();
    let checks = json!({ "total_count": checks.len(), "check_runs": checks });
    world.get(&place.api(&format!("/commits/{head}/check-runs")), &checks, &[]);
    for counter in 0..RUNS {
        let run = repository.run(counter);
        let body = json!({
            "id": run, "name": "ci", "head_sha": head, "status": "in_progress", "conclusion": null,
            "actor": world.user("octo-user-3"), "head_commit": world.commit(place), "run_attempt": 1,
        });
        world.get(&place.api(&format!("/actions/runs/{run}")), &body, &[]);
        let jobs: Vec<Value> = (0..4)
            .map(|n| json!({ "id": run * 10 + n, "run_id": run, "name": world.text(2), "status": "in_progress", "steps": [{ "name": world.text(3), "status": "queued" }] }))
            .collect();
        // The generated corpus has those of the first run.
        if counter > 0 {
            let jobs = json!({ "total_count": jobs.len(), "jobs": jobs });
            world.get(&place.api(&format!("/actions/runs/{run}/jobs")), &jobs, &[]);
        }
    }
    let queued = json!({ "total_count": 0, "workflow_runs": [] });
    world.get(&place.api("/actions/runs?status=queued&per_page=100"), &queued, &[]);
    let labeler = json!({ "name": "labeler.yml", "path": ".github/labeler.yml", "type": "file", "encoding": "base64", "content": world.filler(700) });
    world.get(&place.api(&format!("/contents/.github/labeler.yml?ref={head}")), &labeler, &[]);
    let contexts: Vec<Value> = (0..9)
        .map(|_| json!({ "__typename": "CheckRun", "name": world.text(2), "status": "IN_PROGRESS", "conclusion": "" }))
        .collect();
    let rollup =
        json!({ "contexts": { "nodes": contexts, "pageInfo": { "hasNextPage": false, "endCursor": "x" } } });
    let answer = json!({ "data": { "repository": { "pullRequest": { "id": world.sha(), "number": 3, "statusCheckRollup": {
        "nodes": [{ "commit": { "statusCheckRollup": rollup } }] } } } } });
    world.record("POST", "/graphql", Some(&repository.checks_query()), 200, &answer, &[]);
}

fn fill_tool(world: &mut generate::World, repository: &Repository) {
    let place = &repository.place;
    let release = world.release(place, 6);
    world.get(&place.api("/releases/tags/v6.0.0"), &release, &[]);
    let id = repository.asset();
    let location = format!(
        "https://release-assets.githubusercontent.com/github-production-release-asset/{}/{id}?sig={}",
        place.id,
        world.sha()
    );
    world.record(
        "GET",
        &place.api(&format!("/releases/assets/{id}")),
        None,
        302,
        &Value::Null,
        &[("Location", location)],
    );
    let answer = json!({ "data": { "repository": { "release": { "databaseId": place.id * 10 + 6, "isDraft": false } } } });
    world.record("POST", "/graphql", Some(&repository.release_query()), 200, &answer, &[]);
}

fn fill_versions(world: &mut generate::World, language: &str, number: u64) -> (Place, String) {
    let place =
        Place { owner: "actions".to_owned(), name: format!("{language}-versions"), id: VERSIONS_ID + number };
    world.repository(&place);
    let blob = world.sha();
    let url = format!("https://{API_HOST}{}", place.api(&format!("/git/blobs/{blob}")));
    let tree = json!({
        "sha": world.sha(), "truncated": false,
        "tree": [{ "path": "versions-manifest.json", "mode": "100644", "type": "blob", "sha": blob, "size": 96_000, "url": url }],
    });
    world.get(&place.api("/git/trees/main"), &tree, &[]);
    let manifest: Vec<Value> = (0..400)
        .map(|n| json!({ "version": format!("3.{}.{}", n / 20, n % 20), "stable": true, "release_url": world.text(3), "files": [
            { "filename": world.text(2), "arch": "x64", "platform": "linux", "download_url": world.filler(80) }] }))
        .collect();
    world.get(&place.api(&format!("/git/blobs/{blob}")), &json!(manifest), &[]);
    (place, blob)
}

/// The different successful reads of a recording, those that a write comes before left out: they
/// tell a story.
fn reads(recorded: &Corpus) -> Vec<(String, String)> {
    let mut reads: Vec<(String, String)> = Vec::new();
    let mut written: Vec<Option<&str>> = Vec::new();
    for exchange in recorded.exchanges() {
        if exchange.method != "GET" {
            written.push(exchange.scenario.as_deref());
            continue;
        }
        let read = (exchange.target.clone(), exchange.request_header("accept").unwrap_or("*/*").to_owned());
        let first = exchange.scenario.is_none() || !written.contains(&exchange.scenario.as_deref());
        let usable = exchange.host == API_HOST && exchange.status == 200 && first;
        if usable && !reads.iter().any(|(target, _)| *target == read.0) {
            reads.push(read);
        }
    }
    reads
}
