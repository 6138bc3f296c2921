//! Whether this process is a job of GitHub Actions that somebody without write access to the
//! repository may have started. What such a job writes, everybody would read, so by default it
//! writes nothing that outlives it.

use std::fs::File;
use std::io::Read;

use serde::Deserialize;

use super::env::Env;
use super::value::Origin;

/// What is read of the file that describes the event, in bytes. GitHub's payloads have at most 25
/// MB.
const MAX_EVENT_BYTES: u64 = 32 << 20;

/// An event that is not trusted, and the variable that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Untrusted {
    pub(super) origin: Origin,
}

/// The part of an event's payload that says whose code, or whose text, started the job:
/// <https://docs.github.com/en/webhooks/webhook-events-and-payloads>.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Event {
    pull_request: Option<PullRequest>,
    workflow_run: Option<WorkflowRun>,
    issue: Option<Issue>,
    comment: Option<Comment>,
    repository: Option<Repo>,
}

#[derive(Deserialize)]
struct PullRequest {
    head: Side,
    base: Side,
}

#[derive(Deserialize)]
struct Side {
    /// None when the fork was deleted.
    repo: Option<Repo>,
}

#[derive(Deserialize)]
struct WorkflowRun {
    /// The event that started the run which this one follows.
    event: Option<String>,
    head_repository: Option<Repo>,
}

#[derive(Deserialize)]
struct Issue {
    /// There if the issue is a pull request.
    pull_request: Option<serde::de::IgnoredAny>,
    author_association: Option<String>,
}

#[derive(Deserialize)]
struct Comment {
    author_association: Option<String>,
}

#[derive(Deserialize)]
struct Repo {
    full_name: String,
}

/// The event that started this job, if it is one that an outsider can cause. Where the payload
/// cannot be read, that is assumed.
///
/// The events are those for which GitHub itself gives its cache read-only since 2026-06-26, where a
/// fork is behind them: `pull_request` and its reviews, `pull_request_target`, `issue_comment` and
/// `workflow_run`.
pub(super) fn event(env: &Env<'_>) -> Option<Untrusted> {
    const VARIABLES: [&str; 2] = ["GITHUB_EVENT_NAME", "GITHUB_EVENT_PATH"];
    const EVENTS: [&str; 6] = [
        "pull_request",
        "pull_request_review",
        "pull_request_review_comment",
        "pull_request_target",
        "issue_comment",
        "workflow_run",
    ];
    let name = env.one(VARIABLES[0]).filter(|name| EVENTS.contains(&name.as_str()))?;
    let untrusted = |variable| Some(Untrusted { origin: Origin::Environment { variable } });
    match payload(env).as_ref().and_then(|event| is_trusted(&name, event)) {
        Some(true) => None,
        Some(false) => untrusted(VARIABLES[1]),
        None => untrusted(VARIABLES[0]),
    }
}

fn payload(env: &Env<'_>) -> Option<Event> {
    let file = File::open(env.one("GITHUB_EVENT_PATH")?).ok()?;
    let mut text = Vec::new();
    file.take(MAX_EVENT_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Whether the event comes from the repository itself; `None` where the payload does not say.
fn is_trusted(name: &str, event: &Event) -> Option<bool> {
    let own = event.repository.as_ref().map(|repo| repo.full_name.as_str());
    match name {
        "workflow_run" => {
            let run = event.workflow_run.as_ref()?;
            let head = run.head_repository.as_ref().map(|repo| repo.full_name.as_str());
            // What an untrusted event of the own repository started is followed here too.
            let comment = run.event.as_deref() == Some("issue_comment");
            Some(own? == head.unwrap_or_default() && !comment)
        }
        "issue_comment" => {
            let association = event.comment.as_ref()?.author_association.as_deref()?;
            let issue = event.issue.as_ref()?;
            // Anybody can write a comment; only members of the repository are trusted, and not
            // below a stranger's pull request, whose code such jobs check out.
            let author = issue.author_association.as_deref().is_some_and(is_member);
            Some(is_member(association) && (issue.pull_request.is_none() || author))
        }
        _ => {
            let pull = event.pull_request.as_ref()?;
            let name = |side: &Side| side.repo.as_ref().map(|repo| repo.full_name.clone());
            Some(name(&pull.head).is_some_and(|head| Some(head) == name(&pull.base)))
        }
    }
}

fn is_member(association: &str) -> bool {
    matches!(association, "OWNER" | "MEMBER" | "COLLABORATOR")
}

#[cfg(test)]
mod tests {
    use crate::Config;

    fn origin(vars: &[(&str, &str)]) -> Result<(bool, String), String> {
        let get =
            |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let config = Config::from_vars("peercache", get).map_err(|error| error.to_string())?;
        let read_only = &config.values.read_only;
        Ok((read_only.value, read_only.origin.to_string()))
    }

    fn of_event(event: &str, name: &str) -> (bool, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("event.json");
        std::fs::write(&path, event).unwrap();
        origin(&[("GITHUB_EVENT_NAME", name), ("GITHUB_EVENT_PATH", path.to_str().unwrap())]).unwrap()
    }

    fn pull_request(head: &str) -> String {
        format!(
            r#"{{"pull_request":{{"number":7,"head":{{"repo":{head}}},"base":{{"repo":{{"full_name":"a/b"}}}}}}}}"#
        )
    }

    fn default() -> (bool, String) {
        (false, "default".to_owned())
    }

    fn from_event() -> (bool, String) {
        (true, "environment GITHUB_EVENT_PATH".to_owned())
    }

    #[test]
    fn job_of_a_fork_is_read_only() {
        let (own, fork) = (pull_request(r#"{"full_name":"a/b"}"#), pull_request(r#"{"full_name":"x/b"}"#));
        for event in
            ["pull_request", "pull_request_review", "pull_request_review_comment", "pull_request_target"]
        {
            assert_eq!(of_event(&own, event), default(), "{event}");
            assert_eq!(of_event(&fork, event), from_event(), "{event}");
            assert_eq!(of_event(&pull_request("null"), event), from_event(), "{event}: a deleted fork");
        }
        assert_eq!(of_event(&fork, "push"), default());
        assert_eq!(of_event("not JSON", "pull_request"), (true, "environment GITHUB_EVENT_NAME".to_owned()));
        let unread = [("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_EVENT_PATH", "/does/not/exist")];
        assert!(origin(&unread).unwrap().0);
    }

    #[test]
    fn run_that_follows_a_fork_is_read_only() {
        let run = |event: &str, head: &str| {
            let head = format!(r#"{{"full_name":"{head}"}}"#);
            let run = format!(r#"{{"event":"{event}","head_repository":{head}}}"#);
            format!(r#"{{"workflow_run":{run},"repository":{{"full_name":"a/b"}}}}"#)
        };
        assert_eq!(of_event(&run("push", "a/b"), "workflow_run"), default());
        assert_eq!(of_event(&run("pull_request", "x/b"), "workflow_run"), from_event());
        assert_eq!(of_event(&run("issue_comment", "a/b"), "workflow_run"), from_event());
        assert!(of_event("{}", "workflow_run").0);
    }

    #[test]
    fn comment_of_an_outsider_is_read_only() {
        let comment = |who: &str, issue: &str| {
            format!(r#"{{"comment":{{"author_association":"{who}"}},"issue":{issue}}}"#)
        };
        let (issue, of_stranger) = ("{}", r#"{"pull_request":{},"author_association":"NONE"}"#);
        let of_member = r#"{"pull_request":{},"author_association":"MEMBER"}"#;
        assert_eq!(of_event(&comment("OWNER", issue), "issue_comment"), default());
        assert_eq!(of_event(&comment("COLLABORATOR", of_member), "issue_comment"), default());
        assert_eq!(of_event(&comment("CONTRIBUTOR", issue), "issue_comment"), from_event());
        assert_eq!(of_event(&comment("OWNER", of_stranger), "issue_comment"), from_event());
        assert!(of_event("{}", "issue_comment").0);
    }

    #[test]
    fn given_value_counts_more_than_the_event() {
        let fork = [("GITHUB_EVENT_NAME", "pull_request"), ("CACHE_READ_ONLY", "False")];
        assert_eq!(origin(&fork), Ok((false, "environment CACHE_READ_ONLY".to_owned())));
        assert_eq!(origin(&[("CACHE_READ_ONLY", "true")]).map(|(value, _)| value), Ok(true));
        let error = origin(&[("CACHE_READ_ONLY", "maybe")]).unwrap_err();
        assert_eq!(error, "CACHE_READ_ONLY=\"maybe\": this is neither true nor false; give true or false");
    }
}
