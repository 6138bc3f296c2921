//! What a write changes is asked for again by everybody, and what it cannot change is not.

use bytes::Bytes;
use http::Response;

use crate::support::{HIT, Origin, Rig};

const A: (&str, &str) = ("authorization", "token a");
const B: (&str, &str) = ("authorization", "token b");

/// Writes, and documented addresses of what they change.
const CHANGED: [(&str, &[&str]); 30] = [
    (
        "PATCH /repos/o/r/git/refs/heads/main",
        &[
            "git/ref/heads/main",
            "git/refs/heads/main",
            "git/matching-refs/heads/main",
            "branches/main",
            "commits/main",
            "branches",
            "commits",
        ],
    ),
    ("DELETE /repos/o/r/git/refs/heads/gone", &["git/ref/heads/gone", "branches/gone"]),
    (
        "PUT /repos/o/r/contents/guide/a.md",
        &[
            "contents/guide/a.md",
            "contents/guide",
            "contents/",
            "contents/guide/a.md?ref=main",
            "commits?path=guide/a.md",
            "git/trees/main",
            "readme",
            "pulls/7/files",
            "pulls/7/commits",
            "pulls/7",
            "",
        ],
    ),
    (
        "POST /repos/o/r/issues/7/labels",
        &["issues/7/labels", "issues/7", "issues", "pulls/7", "pulls", "labels", "commits/abc/pulls"],
    ),
    ("DELETE /repos/o/r/issues/7/assignees", &["issues/7", "issues?assignee=x", "pulls/7", "pulls"]),
    ("PUT /repos/o/r/issues/7/lock", &["issues/7", "issues", "pulls/7"]),
    (
        "DELETE /repos/o/r/issues/comments/5",
        &["issues/comments/5", "issues/comments", "issues/7/comments", "issues/7", "issues", "pulls/7"],
    ),
    ("PATCH /repos/o/r/issues/comments/6", &["issues/7/comments", "issues/7/timeline"]),
    (
        "POST /repos/o/r/issues/7/comments",
        &[
            "issues/7/comments",
            "issues/comments",
            "issues/7",
            "issues?sort=updated",
            "pulls",
            "pulls/7",
            "events",
            "issues/7/timeline",
            "commits/abc/pulls",
        ],
    ),
    ("POST /repositories/1/issues/7/comments", &["issues/7/comments", "issues/7"]),
    (
        "POST /repos/o/r/issues/comments/6/reactions",
        &["issues/comments/6", "issues/comments/6/reactions", "issues/7/comments"],
    ),
    (
        "POST /repos/o/r/pulls/7/comments",
        &["pulls/7/comments", "pulls/comments", "pulls/7", "issues/7", "pulls"],
    ),
    ("POST /repos/o/r/pulls/7/comments/4/replies", &["pulls/7/comments", "pulls/7"]),
    ("DELETE /repos/o/r/pulls/comments/4", &["pulls/comments/4", "pulls/7/comments", "pulls/7"]),
    (
        "POST /repos/o/r/pulls/7/reviews",
        &["pulls/7/reviews", "pulls/7/comments", "pulls/7", "issues/7/timeline"],
    ),
    (
        "POST /repos/o/r/pulls/7/requested_reviewers",
        &["pulls/7/requested_reviewers", "pulls/7", "pulls", "issues/7/events"],
    ),
    (
        "PATCH /repos/o/r/pulls/7",
        &["pulls/7", "pulls", "issues/7", "issues", "pulls/7/files", "pulls/7/commits", "compare/a...b", ""],
    ),
    (
        "PUT /repos/o/r/pulls/7/merge",
        &[
            "pulls/7",
            "pulls",
            "issues/7",
            "commits",
            "branches/main",
            "contents/a",
            "git/trees/main",
            "releases/latest",
            "",
        ],
    ),
    (
        "POST /repos/o/r/statuses/abc",
        &["commits/abc/status", "commits/abc/statuses", "statuses/abc", "pulls/7"],
    ),
    ("POST /repos/o/r/check-runs", &["commits/abc/check-runs", "commits/abc/check-suites", "pulls/7"]),
    ("PATCH /repos/o/r/check-runs/4", &["check-runs/4", "commits/abc/check-runs", "pulls/7"]),
    (
        "POST /repos/o/r/actions/workflows/1/dispatches",
        &["actions/runs", "actions/workflows/1/runs", "actions/workflows"],
    ),
    (
        "POST /repos/o/r/actions/runs/9/rerun",
        &["actions/runs/9", "actions/runs/9/jobs", "actions/runs", "commits/abc/check-runs", "pulls/7"],
    ),
    (
        "POST /repos/o/r/releases",
        &["releases", "releases/latest", "releases/tags/v1", "tags", "git/ref/tags/v1"],
    ),
    ("PATCH /repos/o/r/releases/3", &["releases/latest", "releases/tags/v1", "releases/3"]),
    ("DELETE /repos/o/r", &["", "issues", "contents/guide/a.md", "pulls/7", "releases", "labels"]),
    (
        "PATCH /repos/o/r/issues/7",
        &["issues/7", "issues/7/events", "issues/7/timeline", "issues/7/labels", "milestones", "pulls/7", ""],
    ),
    ("POST /repos/o/r/issues", &["issues", "issues/8", "milestones/1", "", "labels"]),
    ("POST /repos/o/r/labels", &["labels", "labels/x", "issues", "issues/7"]),
    (
        "POST /repos/o/r/some-new-endpoint",
        &["", "issues", "pulls/7", "contents/a", "labels", "releases", "commits/abc/status"],
    ),
];

/// Writes, and what they leave as it is.
const KEPT: [(&str, &[&str]); 8] = [
    (
        "POST /repos/o/r/issues/7/comments",
        &["contents/a", "git/trees/main", "commits", "releases/latest", "labels", "pulls/7/files", ""],
    ),
    ("PATCH /repos/o/r/issues/comments/6", &["contents/a", "branches", "tags", ""]),
    ("POST /repos/o/r/pulls/7/comments/4/replies", &["contents/a", "pulls/7/files", "releases"]),
    (
        "POST /repos/o/r/statuses/abc",
        &[
            "issues",
            "issues/7/comments",
            "pulls",
            "pulls/7/files",
            "contents/a",
            "commits",
            "releases/latest",
            "",
        ],
    ),
    ("POST /repos/o/r/check-runs", &["issues", "pulls", "contents/a", ""]),
    ("POST /repos/o/r/issues/7/labels", &["contents/a", "commits", "releases/latest", "pulls/7/files"]),
    ("POST /repos/o/r/actions/runs/9/rerun", &["issues", "contents/a", "releases/latest"]),
    ("POST /repos/o/other/git/refs", &["", "issues", "contents/a", "git/trees/main"]),
];

/// An origin of which each write changes everything, and a proxy.
async fn rig() -> (Origin, Rig) {
    let written = std::sync::atomic::AtomicU64::new(0);
    let origin = Origin::start(move |seen| {
        use std::sync::atomic::Ordering::SeqCst;
        let response = Response::builder();
        if seen.method != "GET" {
            let version = 1 + written.fetch_add(1, SeqCst);
            let made = match seen.target.as_str() {
                "/repos/o/r/issues/7/comments" => "https://api.github.com/repos/o/r/issues/comments/9",
                "/repos/o/r/check-runs" => "https://api.github.com/repos/o/r/check-runs/9",
                _ => "https://elsewhere.test/",
            };
            return response
                .status(201)
                .header("location", made)
                .body(Bytes::from(version.to_string()))
                .unwrap();
        }
        let live = ["/status", "/check-", "/actions/runs", "/events", "/timeline", "/git/ref"];
        let body = match seen.target.as_str() {
            "/repos/o/r" => {
                let version = written.load(SeqCst);
                format!(r#"{{"id":1,"full_name":"o/r","private":true,"version":{version}}}"#)
            }
            _ => written.load(SeqCst).to_string(),
        };
        response
            .header("etag", format!("W/\"{}\"", written.load(SeqCst)))
            .header(
                "cache-control",
                if live.iter().any(|one| seen.target.contains(one)) { "max-age=0" } else { "max-age=60" },
            )
            .body(Bytes::from(body))
            .unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    // The number of the repository is known from its own answer.
    rig.get("/repos/o/r", &[A]).await;
    (origin, rig)
}

fn address(rest: &str) -> String {
    if rest.is_empty() { "/repos/o/r".to_owned() } else { format!("/repos/o/r/{rest}") }
}

fn split(write: &str) -> (&str, &str) {
    write.split_once(' ').unwrap()
}

#[tokio::test]
async fn what_a_write_changes_is_new_for_every_token_at_once() {
    let (_, rig) = rig().await;
    let mut pairs = 0;
    for (write, reads) in CHANGED {
        for rest in reads {
            for token in [A, B] {
                rig.get(&address(rest), &[token]).await;
            }
        }
        let (method, target) = split(write);
        let version = rig.send(method, target, &[A], "{}").await.body;
        let version = std::str::from_utf8(&version).unwrap();
        for rest in reads {
            for token in [A, B] {
                let got = rig.get(&address(rest), &[token]).await;
                let body = std::str::from_utf8(&got.body).unwrap();
                let is_new = body == version || body.contains(&format!("\"version\":{version}}}"));
                assert!(is_new, "{write}, then {rest}: {body} of {version}, {}", got.cache_status());
            }
            pairs += 1;
        }
    }
    assert!(pairs > 130, "{pairs}");
}

#[tokio::test]
async fn what_a_write_cannot_change_stays_a_hit_for_every_token() {
    let (origin, rig) = rig().await;
    for (write, reads) in KEPT {
        rig.pass(61);
        for rest in reads {
            for token in [A, B] {
                rig.get(&address(rest), &[token]).await;
            }
        }
        let (method, target) = split(write);
        rig.send(method, target, &[A], "{}").await;
        let before = origin.count();
        for rest in reads {
            for token in [A, B] {
                let got = rig.get(&address(rest), &[token]).await;
                assert_eq!(got.cache_status(), HIT, "{write}, then {rest}");
            }
        }
        assert_eq!(origin.count(), before, "{write}");
    }
}

#[tokio::test]
async fn invalidation_by_hand_makes_every_area_doubtful() {
    let (origin, rig) = rig().await;
    let reads = ["", "issues", "pulls/7", "contents/a", "labels", "releases/latest"];
    for rest in reads {
        rig.get(&address(rest), &[A]).await;
    }
    assert!(rig.proxy.invalidate_repository("o/r").await);
    let before = origin.count();
    for rest in reads {
        rig.get(&address(rest), &[A]).await;
    }
    assert_eq!(origin.count(), before + reads.len());
}
