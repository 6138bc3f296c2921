//! Whether this process writes for others: not if it was told so, nor by default in a job of a fork.

use std::fs::File;
use std::io::Read;

use serde::Deserialize;

use super::env::Env;
use super::error::ConfigError;
use super::names::Name;
use super::source::{Origin, Set, Sources};
use super::values::truth;

/// What is read of the file that describes the event, in bytes. GitHub's payloads have at most 25 MB.
const MAX_EVENT_BYTES: u64 = 32 << 20;

/// The part of a `pull_request` event that says whose code runs:
/// <https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request>.
#[derive(Deserialize)]
struct Event {
    pull_request: PullRequest,
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
struct Repo {
    full_name: String,
}

pub(super) fn read_only(sources: &Sources<'_>) -> Result<Set<bool>, ConfigError> {
    let Some(raw) = sources.get(Name::ReadOnly) else { return Ok(by_event(sources.env)) };
    Ok(Set { value: truth(&raw)?, origin: raw.origin })
}

/// Whether this is a job of GitHub Actions for a pull request from another repository. Where the event
/// cannot be read that is assumed: what a stranger's code writes, everybody would read.
///
/// `pull_request_target` runs the code of the repository itself, so it is not meant.
fn by_event(env: &Env<'_>) -> Set<bool> {
    const EVENTS: [&str; 3] = ["pull_request", "pull_request_review", "pull_request_review_comment"];
    if !env.one("GITHUB_EVENT_NAME").is_some_and(|name| EVENTS.contains(&name.as_str())) {
        return Set::default(false);
    }
    let file = env.one("GITHUB_EVENT_PATH").and_then(|path| File::open(path).ok());
    let mut text = Vec::new();
    let read = file.and_then(|file| file.take(MAX_EVENT_BYTES).read_to_end(&mut text).ok());
    let event = read.and_then(|_| serde_json::from_slice::<Event>(&text).ok());
    match event.map(|event| event.pull_request) {
        Some(PullRequest { head: Side { repo: Some(head) }, base: Side { repo: Some(base) } })
            if head.full_name == base.full_name =>
        {
            Set::default(false)
        }
        Some(_) => Set { value: true, origin: Origin::Environment { variable: "GITHUB_EVENT_PATH" } },
        None => Set { value: true, origin: Origin::Environment { variable: "GITHUB_EVENT_NAME" } },
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    fn origin(vars: &[(&str, &str)]) -> Result<(bool, String), String> {
        let get =
            |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let config = Config::from_vars(get).map_err(|error| error.to_string())?;
        Ok((config.read_only.value, config.read_only.origin.to_string()))
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

    #[test]
    fn a_job_of_a_fork_does_not_write_for_others() {
        let (own, fork) = (pull_request(r#"{"full_name":"a/b"}"#), pull_request(r#"{"full_name":"x/b"}"#));
        let default = (false, "default".to_owned());
        assert_eq!(of_event(&own, "pull_request"), default);
        let from_event = (true, "environment GITHUB_EVENT_PATH".to_owned());
        assert_eq!(of_event(&fork, "pull_request"), from_event);
        assert_eq!(of_event(&pull_request("null"), "pull_request_review"), from_event, "a deleted fork");
        assert_eq!(of_event(&fork, "pull_request_target"), default);
        assert_eq!(of_event(&fork, "push"), default);
        assert_eq!(of_event("not JSON", "pull_request"), (true, "environment GITHUB_EVENT_NAME".to_owned()));
        let unread = [("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_EVENT_PATH", "/does/not/exist")];
        assert!(origin(&unread).unwrap().0);
    }

    #[test]
    fn what_is_said_counts_more_than_the_event() {
        let fork = [("GITHUB_EVENT_NAME", "pull_request"), ("CACHE_READ_ONLY", "False")];
        assert_eq!(origin(&fork), Ok((false, "environment CACHE_READ_ONLY".to_owned())));
        assert_eq!(origin(&[("CACHE_READ_ONLY", "true")]).map(|(value, _)| value), Ok(true));
        let error = origin(&[("CACHE_READ_ONLY", "maybe")]).unwrap_err();
        assert_eq!(error, "CACHE_READ_ONLY=\"maybe\": this is neither yes nor no; give true or false");
    }
}
