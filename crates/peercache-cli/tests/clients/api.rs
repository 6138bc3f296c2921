//! Clients of the API: a job of each, twice. Both see the same world as without a cache, follow
//! pages through the base URL, see their own writes, and what did not change is not asked for
//! again.

use std::path::Path;
use std::process::Command;

use crate::origin::Origin;
use crate::server::{Server, part};

/// What a job prints that is the `number`th to comment.
fn printed(client: &str, number: usize) -> String {
    format!(
        "repository o/r\nissues 1 2 3 4 5\ncreated from {client}\ncomments {number}\nabsent 404 Not Found\n"
    )
}

/// Runs the job twice through one server.
#[track_caller]
fn second_job_asks_for_nothing_that_did_not_change(client: &str, job: impl Fn(&Server) -> Command) {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::start());
    let server = Server::start(dir.path(), &origin.url);
    let mut logs = Vec::new();
    for number in 1..=2 {
        let output = job(&server).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out} {err}");
        let rest =
            out.strip_prefix(&printed(client, number)).unwrap_or_else(|| panic!("job {number}: {out} {err}"));
        assert!(rest.is_empty() || rest == "viewer octocat\n", "{rest}");
        logs.push(origin.take_log());
    }
    let read = |log: &[String], status: &str| {
        log.iter().filter(|line| line.starts_with("GET /repo") && line.ends_with(status)).count()
    };
    // The repository, three pages, the comments.
    assert_eq!(read(&logs[0], " 200"), 5, "{:?}", logs[0]);
    // A comment leaves the repository itself as it is. Pages of issues are confirmed, since the
    // comment may have changed their order; the comments did change.
    assert!(!logs[1].iter().any(|line| line.starts_with("GET /repos/o/r 2")), "{:?}", logs[1]);
    assert_eq!((read(&logs[1], " 304"), read(&logs[1], " 200")), (3, 1), "{:?}", logs[1]);
}

#[test]
fn go_github_follows_pages_and_sees_its_writes() {
    let Some(program) = part("PEERCACHE_TEST_GO_GITHUB", None, "go-github") else { return };
    second_job_asks_for_nothing_that_did_not_change("go-github", |server| {
        let mut command = Command::new(&program);
        command.args([server.url.as_str(), "o/r"]).env_clear().env("GITHUB_TOKEN", "ghs_one");
        command
    });
}

/// The steps that go-github makes, too, with a client of octokit in `api`.
const STEPS: &str = r#"
const at = { owner: "o", repo: "r" };
console.log("repository", (await api.rest.repos.get(at)).data.full_name);
const issues = await api.paginate(api.rest.issues.listForRepo, { ...at, per_page: 2 });
console.log("issues", issues.map((issue) => issue.number).join(" "));
const made = await api.rest.issues.createComment({ ...at, issue_number: 1, body: "from " + client });
console.log("created", made.data.body);
console.log("comments", (await api.rest.issues.listComments({ ...at, issue_number: 1 })).data.length);
try {
  await api.rest.repos.get({ owner: "o", repo: "absent" });
} catch (error) {
  console.log("absent", error.status, error.response.data.message);
}
console.log("viewer", (await api.graphql("query { viewer { login } }")).viewer.login);
"#;

fn node(packages: &Path, server: &Server, script: &str) -> Command {
    let mut command = Command::new("node");
    command
        .args(["--input-type=module", "-e", &format!("{script}{STEPS}")])
        // Packages are looked for from here.
        .current_dir(packages)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GITHUB_API_URL", &server.url)
        .env("GITHUB_GRAPHQL_URL", format!("{}/graphql", server.url));
    command
}

#[test]
fn octokit_rest_follows_pages_and_sees_its_writes() {
    let Some(package) = part("PEERCACHE_TEST_OCTOKIT", None, "octokit") else { return };
    let packages = package.ancestors().nth(4).unwrap();
    let script = r#"
import { Octokit } from "@octokit/rest";
const client = "octokit";
const api = new Octokit({ baseUrl: process.env.GITHUB_API_URL, auth: "ghs_one", log: { debug() {}, info() {}, warn() {}, error() {} } });
"#;
    second_job_asks_for_nothing_that_did_not_change("octokit", |server| node(packages, server, script));
}

#[test]
fn actions_github_follows_pages_and_sees_its_writes() {
    let Some(package) = part("PEERCACHE_TEST_OCTOKIT", None, "octokit") else { return };
    let packages = package.ancestors().nth(4).unwrap();
    // As an action has it: the address is the runner's variable.
    let script = r#"
import * as github from "@actions/github";
const client = "actions";
const api = github.getOctokit("ghs_one", { log: { debug() {}, info() {}, warn() {}, error() {} } });
"#;
    second_job_asks_for_nothing_that_did_not_change("actions", |server| node(packages, server, script));
}
