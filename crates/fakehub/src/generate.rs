//! Invented traffic in the shapes and sizes of recorded GitHub traffic, the same for the same seed.
//!
//! Of recorded `GET` bodies half are below about 3 KB, nine of ten below about 20 KB, and a few
//! have several hundred. The mix of routes here is chosen so that the same holds; a test checks it.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::corpus::Corpus;
use crate::exchange::{API_HOST, Exchange};
use crate::random::Random;

const ORGANISATIONS: u64 = 4;
const REPOSITORIES_EACH: u64 = 8;
const ISSUES_PER_PAGE: u64 = 5;
const WORDS: [&str; 24] = [
    "cache", "runner", "branch", "merge", "queue", "token", "build", "release", "matrix", "artifact",
    "deploy", "linter", "parser", "socket", "proxy", "retry", "shard", "index", "worker", "signal", "buffer",
    "schema", "render", "bundle",
];

impl Corpus {
    /// Invented traffic: organisations, repositories, issues in pages with `Link`, releases,
    /// contents, commits, refs, trees, workflow runs, GraphQL, redirects, and writes that change
    /// what is read. Everything in it is made up, and depends on `seed` alone.
    #[must_use]
    pub fn generated(seed: u64) -> Self {
        let mut world = World::new(seed);
        for organisation in 1..=ORGANISATIONS {
            let owner = format!("octo-org-{organisation}");
            world.organisation(&owner, organisation);
            for number in 1..=REPOSITORIES_EACH {
                let name = format!("{}-{}", world.word(), number);
                let id = 90_000_000 + organisation * 1000 + number;
                let place = Place { owner: owner.clone(), name, id };
                world.repository(&place);
                world.issues(&place);
                world.code(&place, organisation == 1 && number == 1);
                world.releases(&place);
                world.actions(&place);
                world.story(&place);
            }
        }
        Self::new(world.exchanges)
    }
}

pub(crate) struct Place {
    pub(crate) owner: String,
    pub(crate) name: String,
    pub(crate) id: u64,
}

impl Place {
    pub(crate) fn api(&self, rest: &str) -> String {
        format!("/repos/{}/{}{rest}", self.owner, self.name)
    }
}

/// Makes exchanges up, one after another.
pub(crate) struct World {
    random: Random,
    exchanges: Vec<Exchange>,
}

impl World {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), exchanges: Vec::new() }
    }

    pub(crate) fn into_corpus(self) -> Corpus {
        Corpus::new(self.exchanges)
    }

    fn next(&mut self) -> u64 {
        self.random.next()
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn word(&mut self) -> &'static str {
        let index = usize::try_from(self.below(WORDS.len() as u64)).unwrap_or_default();
        WORDS[index]
    }

    pub(crate) fn text(&mut self, words: u64) -> String {
        (0..words).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn sha(&mut self) -> String {
        format!("{:016x}{:016x}{:08x}", self.next(), self.next(), self.next() >> 32)
    }

    fn date(&mut self) -> String {
        let (month, day, hour) = (1 + self.below(12), 1 + self.below(28), self.below(24));
        format!("2026-{month:02}-{day:02}T{hour:02}:{:02}:{:02}Z", self.below(60), self.below(60))
    }

    pub(crate) fn get(&mut self, target: &str, body: &Value, extra: &[(&str, String)]) {
        self.record("GET", target, None, 200, body, extra);
    }

    pub(crate) fn record(
        &mut self,
        method: &str,
        target: &str,
        sent: Option<&Value>,
        status: u16,
        body: &Value,
        extra: &[(&str, String)],
    ) {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let mut headers = vec![
            pair("Server", "github.com"),
            pair("Date", "Mon, 01 Jun 2026 00:00:00 GMT"),
            pair("Content-Type", "application/json; charset=utf-8"),
            pair("Content-Length", &body.len().to_string()),
        ];
        let reads = method == "GET" && status == 200;
        if reads {
            headers.push(pair("Cache-Control", "private, max-age=60, s-maxage=60"));
            headers.push(pair("Vary", "Accept, Authorization, Cookie, X-GitHub-OTP"));
            headers.push(pair("ETag", &format!("W/\"{}{}\"", self.sha(), &self.sha()[..24])));
        }
        headers.extend(extra.iter().map(|(name, value)| pair(name, value)));
        for (name, value) in [
            ("X-OAuth-Scopes", "repo"),
            ("X-GitHub-Media-Type", "github.v3; format=json"),
            ("X-GitHub-Api-Version-Selected", "2022-11-28"),
            ("X-RateLimit-Limit", "5000"),
            ("X-RateLimit-Remaining", "4999"),
            ("X-RateLimit-Reset", "1780275600"),
            ("X-RateLimit-Used", "1"),
            ("X-RateLimit-Resource", "core"),
            ("Access-Control-Allow-Origin", "*"),
            ("Strict-Transport-Security", "max-age=31536000; includeSubdomains; preload"),
            ("X-Content-Type-Options", "nosniff"),
            ("Vary", "Accept-Encoding, Accept, X-Requested-With"),
        ] {
            headers.push(pair(name, value));
        }
        let id = self.next();
        headers.push(pair("X-GitHub-Request-Id", &format!("{:04X}:{:X}", id >> 48, id & 0xffff_ffff)));
        self.exchanges.push(Exchange {
            scenario: None,
            method: method.to_owned(),
            host: API_HOST.to_owned(),
            target: target.to_owned(),
            request_headers: vec![pair("Accept", "application/vnd.github+json"), pair("Host", API_HOST)],
            request_body: sent.map(|value| Bytes::from(value.to_string())),
            status,
            headers,
            body,
        });
    }

    fn organisation(&mut self, owner: &str, id: u64) {
        let body = json!({
            "login": owner, "id": 70_000_000 + id, "url": format!("https://api.github.com/orgs/{owner}"),
            "repos_url": format!("https://api.github.com/orgs/{owner}/repos"),
            "description": self.text(8), "type": "Organization", "public_repos": REPOSITORIES_EACH,
            "created_at": self.date(), "updated_at": self.date(),
        });
        self.get(&format!("/orgs/{owner}"), &body, &[]);
        let user = self.user(&format!("{owner}-bot"));
        self.get(&format!("/users/{owner}-bot"), &user, &[]);
    }

    pub(crate) fn user(&mut self, login: &str) -> Value {
        let base = format!("https://api.github.com/users/{login}");
        json!({
            "login": login, "id": 60_000_000 + self.below(1_000_000), "avatar_url": format!("{base}/avatar"),
            "gravatar_id": "", "url": base, "html_url": format!("https://github.com/{login}"),
            "followers_url": format!("{base}/followers"), "following_url": format!("{base}/following{{/other_user}}"),
            "gists_url": format!("{base}/gists{{/gist_id}}"), "starred_url": format!("{base}/starred{{/owner}}{{/repo}}"),
            "subscriptions_url": format!("{base}/subscriptions"), "organizations_url": format!("{base}/orgs"),
            "repos_url": format!("{base}/repos"), "events_url": format!("{base}/events{{/privacy}}"),
            "received_events_url": format!("{base}/received_events"), "type": "User", "site_admin": false,
        })
    }

    pub(crate) fn repository(&mut self, place: &Place) {
        let url = format!("https://api.github.com{}", place.api(""));
        let mut body = json!({
            "id": place.id, "name": place.name, "full_name": format!("{}/{}", place.owner, place.name),
            "private": false, "owner": self.user(&place.owner), "description": self.text(9), "fork": false, "url": url,
        });
        for link in [
            "forks",
            "keys",
            "collaborators",
            "teams",
            "hooks",
            "issue_events",
            "events",
            "assignees",
            "branches",
            "tags",
            "blobs",
            "git_tags",
            "git_refs",
            "trees",
            "statuses",
            "languages",
            "stargazers",
            "contributors",
            "subscribers",
            "commits",
            "git_commits",
            "comments",
            "contents",
            "compare",
            "merges",
            "archive",
            "downloads",
            "issues",
            "pulls",
            "milestones",
            "notifications",
            "labels",
            "releases",
            "deployments",
        ] {
            body[format!("{link}_url")] = json!(format!("{url}/{link}{{/id}}"));
        }
        body["stargazers_count"] = json!(self.below(5000));
        body["default_branch"] = json!("main");
        body["updated_at"] = json!(self.date());
        let modified = [("Last-Modified", "Sun, 31 May 2026 08:00:00 GMT".to_owned())];
        self.get(&place.api(""), &body, &modified);
        let languages = json!({ "Rust": self.below(900_000), "Shell": self.below(9000) });
        self.get(&place.api("/languages"), &languages, &[]);
    }

    fn issue(&mut self, place: &Place, number: u64, words: u64) -> Value {
        let url = format!("https://api.github.com{}", place.api(&format!("/issues/{number}")));
        json!({
            "url": url, "id": place.id * 100 + number, "number": number, "title": self.text(6),
            "labels_url": format!("{url}/labels{{/name}}"), "comments_url": format!("{url}/comments"),
            "events_url": format!("{url}/events"), "user": self.user(&format!("octo-user-{}", number % 7)),
            "labels": [], "state": "open", "locked": false, "comments": self.below(20),
            "created_at": self.date(), "updated_at": self.date(), "body": self.text(words),
        })
    }

    fn issues(&mut self, place: &Place) {
        let pages = 2 + self.below(2);
        let page = |n: u64| {
            format!(
                "https://api.github.com/repositories/{}/issues?per_page={ISSUES_PER_PAGE}&page={n}",
                place.id
            )
        };
        for number in 1..=pages {
            let list: Vec<Value> = (0..ISSUES_PER_PAGE)
                .map(|offset| {
                    let words = 10 + self.below(90);
                    self.issue(place, number * ISSUES_PER_PAGE + offset, words)
                })
                .collect();
            let mut links = Vec::new();
            if number > 1 {
                links.push(format!("<{}>; rel=\"prev\"", page(number - 1)));
            }
            if number < pages {
                links.push(format!("<{}>; rel=\"next\"", page(number + 1)));
                links.push(format!("<{}>; rel=\"last\"", page(pages)));
            }
            if number > 1 {
                links.push(format!("<{}>; rel=\"first\"", page(1)));
            }
            let target = match number {
                1 => place.api(&format!("/issues?per_page={ISSUES_PER_PAGE}")),
                // GitHub continues a list under the repository's number.
                _ => page(number).split_off("https://api.github.com".len()),
            };
            self.get(&target, &json!(list), &[("Link", links.join(", "))]);
        }
        let one = self.issue(place, 1, 180);
        self.get(&place.api("/issues/1"), &one, &[]);
        self.get(&place.api("/issues/1/comments"), &json!([]), &[]);
        let pull = self.issue(place, 3, 300);
        self.get(&place.api("/pulls/3"), &pull, &[]);
        self.get(&place.api("/pulls?state=closed"), &json!([]), &[]);
        let files: Vec<Value> = (0..4 + self.below(30))
            .map(|_| {
                json!({
                    "sha": self.sha(), "filename": format!("src/{}.rs", self.word()), "status": "modified",
                    "additions": self.below(90), "deletions": self.below(90), "patch": self.text(80),
                })
            })
            .collect();
        self.get(&place.api("/pulls/3/files"), &json!(files), &[]);
        let people: Vec<Value> =
            (0..3 + self.below(3)).map(|n| self.user(&format!("octo-user-{n}"))).collect();
        self.get(&place.api("/contributors"), &json!(people), &[]);
        let users: Vec<Value> = (0..2).map(|n| self.user(&format!("octo-user-{n}"))).collect();
        self.get(&place.api("/assignees"), &json!(users), &[]);
    }

    fn code(&mut self, place: &Place, large: bool) {
        let head = self.sha();
        let branch = json!({ "name": "main", "commit": { "sha": head, "url": place.api("/commits/main") }, "protected": true });
        self.get(&place.api("/branches"), &json!([branch]), &[]);
        let reference = json!({
            "ref": "refs/heads/main", "node_id": self.sha(),
            "url": format!("https://api.github.com{}", place.api("/git/refs/heads/main")),
            "object": { "sha": head, "type": "commit", "url": format!("https://api.github.com{}", place.api(&format!("/git/commits/{head}"))) },
        });
        self.get(&place.api("/git/ref/heads/main"), &reference, &[("X-Poll-Interval", "300".to_owned())]);
        let commits: Vec<Value> = (0..6).map(|_| self.commit(place)).collect();
        self.get(&place.api("/commits"), &json!(commits), &[]);
        let commit = self.commit(place);
        self.get(&place.api(&format!("/commits/{head}")), &commit, &[]);
        let readme = json!({
            "name": "README.md", "path": "README.md", "sha": self.sha(), "size": 900, "type": "file",
            "encoding": "base64", "content": self.filler(1200),
        });
        self.get(&place.api("/contents/README.md"), &readme, &[]);
        let entries = if large { 2600 } else { 4 + self.below(90) };
        let tree: Vec<Value> = (0..entries)
            .map(|n| {
                let path = format!("src/{}/{}-{n}.rs", self.word(), self.word());
                json!({ "path": path, "mode": "100644", "type": "blob", "sha": self.sha(), "size": self.below(60_000) })
            })
            .collect();
        let body = json!({ "sha": head, "tree": tree, "truncated": false });
        self.get(&place.api(&format!("/git/trees/{head}?recursive=1")), &body, &[]);
    }

    pub(crate) fn filler(&mut self, bytes: usize) -> String {
        let mut text = String::new();
        while text.len() < bytes {
            text.push_str(&self.sha());
        }
        text
    }

    pub(crate) fn commit(&mut self, place: &Place) -> Value {
        let sha = self.sha();
        let url = format!("https://api.github.com{}", place.api(&format!("/commits/{sha}")));
        let author =
            json!({ "name": "Octo User", "email": "octo-user@users.noreply.example", "date": self.date() });
        json!({
            "sha": sha, "node_id": self.sha(), "url": url, "comments_url": format!("{url}/comments"),
            "commit": { "author": author, "committer": author, "message": self.text(12), "tree": { "sha": self.sha() }, "comment_count": 0 },
            "author": self.user("octo-user-1"), "parents": [{ "sha": self.sha() }],
        })
    }

    pub(crate) fn release(&mut self, place: &Place, number: u64) -> Value {
        let assets: Vec<Value> = (0..3)
            .map(|asset| {
                json!({
                    "id": place.id * 10 + asset, "name": format!("{}-{asset}.tar.gz", place.name), "state": "uploaded",
                    "size": self.below(9_000_000), "download_count": self.below(90_000), "uploader": self.user("octo-user-2"),
                    "browser_download_url": format!("https://github.com/{}/{}/releases/download/v{number}.0.0/{asset}", place.owner, place.name),
                })
            })
            .collect();
        json!({
            "id": place.id * 10 + number, "tag_name": format!("v{number}.0.0"), "name": format!("Version {number}"),
            "draft": false, "prerelease": false, "author": self.user("octo-user-2"), "assets": assets,
            "created_at": self.date(), "published_at": self.date(), "body": self.text(60),
        })
    }

    fn releases(&mut self, place: &Place) {
        let list: Vec<Value> = (1..=6).rev().map(|number| self.release(place, number)).collect();
        let modified = [("Last-Modified", "Sat, 30 May 2026 10:00:00 GMT".to_owned())];
        self.get(&place.api("/releases/latest"), &list[0], &modified);
        self.get(&place.api("/releases"), &json!(list), &modified);
        let location = format!(
            "https://codeload.github.com/{}/{}/legacy.tar.gz/refs/heads/main",
            place.owner, place.name
        );
        self.record("GET", &place.api("/tarball/main"), None, 302, &Value::Null, &[("Location", location)]);
    }

    fn actions(&mut self, place: &Place) {
        let runs: Vec<Value> = (1..=8)
            .map(|number| {
                json!({
                    "id": place.id * 1000 + number, "name": "ci", "head_branch": "main", "head_sha": self.sha(),
                    "run_number": number, "event": "push", "status": "completed", "conclusion": "success",
                    "actor": self.user("octo-user-3"), "head_commit": self.commit(place), "created_at": self.date(),
                })
            })
            .collect();
        self.get(&place.api("/actions/runs"), &json!({ "total_count": 8, "workflow_runs": runs }), &[]);
        let jobs =
            json!({ "total_count": 1, "jobs": [{ "id": place.id, "status": "completed", "steps": [] }] });
        self.get(&place.api(&format!("/actions/runs/{}/jobs", place.id * 1000 + 1)), &jobs, &[]);
        let query = json!({
            "query": "query($owner: String!, $name: String!) { repository(owner: $owner, name: $name) { id isPrivate } }",
            "variables": { "owner": place.owner, "name": place.name },
        });
        let body = json!({ "data": { "repository": { "id": self.sha(), "isPrivate": false } } });
        self.record("POST", "/graphql", Some(&query), 200, &body, &[]);
    }

    /// List, create, list again: what is read changes with the write.
    fn story(&mut self, place: &Place) {
        let label = |name: &str, colour: u64| json!({ "id": place.id + colour, "name": name, "color": format!("{colour:06x}"), "default": false });
        let (bug, made) = (label("bug", 0xd73a4a), label("flaky", 0x00ff00));
        self.get(&place.api("/labels"), &json!([bug]), &[]);
        let sent = json!({ "name": "flaky", "color": "00ff00" });
        let location = [("Location", format!("https://api.github.com{}", place.api("/labels/flaky")))];
        self.record("POST", &place.api("/labels"), Some(&sent), 201, &made, &location);
        self.get(&place.api("/labels"), &json!([bug, made]), &[]);
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(Corpus::generated(1), Corpus::generated(1));
        assert_ne!(Corpus::generated(1), Corpus::generated(2));
    }

    #[test]
    fn sizes_are_those_of_recorded_traffic() {
        for seed in [1, 7, 42] {
            let corpus = Corpus::generated(seed);
            let mut sizes: Vec<usize> = corpus
                .exchanges()
                .iter()
                .filter(|exchange| exchange.method == "GET" && exchange.status == 200)
                .map(|exchange| exchange.body.len())
                .collect();
            sizes.sort_unstable();
            let (p50, p90) = (sizes[sizes.len() / 2], sizes[sizes.len() * 9 / 10]);
            assert!((2000..4500).contains(&p50), "p50 {p50}");
            assert!((12_000..28_000).contains(&p90), "p90 {p90}");
            assert!((300_000..900_000).contains(sizes.last().unwrap()), "max {:?}", sizes.last());
        }
    }
}
