//! GraphQL: queries from the cache for a moment, everything else passed through.

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;

use crate::support::{Got, Origin, Rig, Seen};

const QUERY: &str = r#"{"query":"query Q($n:Int){x(n:$n)}","variables":{"n":1}}"#;
const STORED: &str = "peercache; fwd=uri-miss; fwd-status=200; stored";
const A: (&str, &str) = ("authorization", "token a");
const B: (&str, &str) = ("authorization", "token b");

/// An origin that numbers its answers.
async fn numbered(errors: bool) -> (Origin, Rig) {
    let count = std::sync::atomic::AtomicU64::new(0);
    let origin = Origin::start(move |_: &Seen| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let errors = if errors { r#","errors":[{"message":"x"}]"# } else { "" };
        let body = format!(r#"{{"data":{{"number":{number}}}{errors}}}"#);
        Response::builder()
            .header("content-type", "application/json; charset=utf-8")
            .header("cache-control", "no-cache")
            .header("x-ratelimit-limit", "5000")
            .header("x-ratelimit-remaining", (4999 - number).to_string())
            .header("x-ratelimit-reset", "1800003600")
            .header("x-ratelimit-resource", "graphql")
            .body(Bytes::from(body))
            .unwrap()
    })
    .await;
    let rig = Rig::new(&origin.url());
    (origin, rig)
}

async fn ask(rig: &Rig, headers: &[(&str, &str)], body: &str) -> Got {
    let length = body.len().to_string();
    let mut all = vec![("content-type", "application/json"), ("content-length", &*length)];
    all.extend_from_slice(headers);
    rig.send("POST", "/graphql", &all, body).await
}

#[tokio::test]
async fn query_is_answered_for_five_seconds_to_its_token_alone() {
    let (origin, rig) = numbered(false).await;
    let first = ask(&rig, &[A], QUERY).await;
    first.expect(200, STORED);
    rig.pass(4);
    let spelled = "{\"variables\": {\"n\": 1}, \"query\": \"query Q($n:Int){x(n:$n)}\"}";
    let hit = ask(&rig, &[A], spelled).await;
    hit.expect(200, "peercache; hit; ttl=1; detail=graphql");
    assert_eq!((&hit.body, hit.header("age")), (&first.body, Some("4")));
    assert_eq!(origin.count(), 1);
    ask(&rig, &[B], QUERY).await.expect(200, STORED);
    ask(&rig, &[A], &QUERY.replace(":1}", ":2}")).await.expect(200, STORED);
    ask(&rig, &[A, ("graphql-features", "x")], QUERY).await.expect(200, STORED);
    rig.pass(1);
    let again = ask(&rig, &[A], QUERY).await;
    again.expect(200, "peercache; fwd=stale; fwd-status=200; stored");
    assert_ne!(again.body, first.body);
}

#[tokio::test]
async fn what_is_sent_is_what_is_keyed() {
    let (origin, rig) = numbered(false).await;
    let client = [A, ("user-agent", "gh"), ("x-forwarded-host", "evil"), ("x-peercache-client", "ci")];
    ask(&rig, &client, "{\"variables\": {\"b\":1,\"a\":2}, \"query\": \"{x}\"}").await;
    let seen = origin.last();
    assert_eq!(seen.body, r#"{"query":"{x}","variables":{"a":2,"b":1}}"#);
    assert_eq!(seen.header("content-length"), Some(seen.body.len().to_string().as_str()));
    for absent in ["x-forwarded-host", "x-peercache-client", "cookie"] {
        assert_eq!(seen.header(absent), None, "{absent}");
    }
    assert!(seen.header("user-agent").unwrap().starts_with("peercache/"));
}

#[tokio::test]
async fn any_write_of_the_token_drops_its_answers() {
    let (origin, rig) = numbered(false).await;
    let writes: [(&str, &str, &str); 3] = [
        ("PATCH", "/repos/o/r/issues/1", "{}"),
        ("POST", "/graphql", r#"{"query":"mutation{a}"}"#),
        ("POST", "/graphql", "no JSON"),
    ];
    for (method, path, body) in writes {
        ask(&rig, &[A], QUERY).await;
        ask(&rig, &[B], QUERY).await;
        ask(&rig, &[A], QUERY).await.expect(200, "peercache; hit; ttl=5; detail=graphql");
        let length = body.len().to_string();
        let write = rig.send(method, path, &[A, ("content-length", &length)], body).await;
        write.expect(200, "peercache; fwd=method; fwd-status=200");
        assert_eq!(origin.last().body, body, "byte by byte");
        ask(&rig, &[A], QUERY).await.expect(200, STORED);
        ask(&rig, &[B], QUERY).await.expect(200, "peercache; hit; ttl=5; detail=graphql");
        rig.pass(60);
    }
}

#[tokio::test]
async fn query_that_was_on_its_way_during_a_write_is_not_kept() {
    let (origin, rig) = numbered(false).await;
    origin.hold();
    let query = ask(&rig, &[A], QUERY);
    let write = async {
        origin.arrived(1).await;
        let writing = rig.send("PATCH", "/repos/o/r/issues/1", &[A], "{}");
        let released = async {
            origin.arrived(2).await;
            origin.release();
        };
        tokio::join!(writing, released).0
    };
    tokio::join!(query, write);
    let before = origin.count();
    ask(&rig, &[A], QUERY).await.expect(200, STORED);
    assert_eq!(origin.count(), before + 1);
}

#[tokio::test]
async fn answer_with_errors_is_passed_on_and_never_kept() {
    let (origin, rig) = numbered(true).await;
    for count in 1..=3 {
        ask(&rig, &[A], QUERY).await.expect(200, "peercache; fwd=uri-miss; fwd-status=200");
        assert_eq!(origin.count(), count);
    }
}

#[tokio::test]
async fn same_query_at_the_same_time_is_asked_once_for_each_token() {
    let (origin, rig) = numbered(false).await;
    origin.hold();
    let tokens = [A, B];
    let asking = join_all((0..40).map(|n| {
        let (rig, token) = (&rig, tokens[n % 2]);
        async move { ask(rig, &[token], QUERY).await }
    }));
    let release = async {
        // Each of the others has joined by then: all are polled before the origin is looked at.
        origin.arrived(2).await;
        origin.release();
    };
    let (answers, ()) = tokio::join!(asking, release);
    assert!(answers.iter().all(|got| got.status == 200));
    assert_eq!(origin.count(), 2);
    let bodies = |n: usize| answers.iter().skip(n).step_by(2).map(|got| got.body.clone()).collect::<Vec<_>>();
    assert!(bodies(0).windows(2).all(|pair| pair[0] == pair[1]));
    assert_ne!(bodies(0)[0], bodies(1)[0]);
    assert_eq!(rig.stats().coalesced, 38);
}

#[tokio::test]
async fn what_is_no_small_plain_query_is_passed_through() {
    let (origin, rig) = numbered(false).await;
    let large = format!(r#"{{"query":"{{x}}","variables":{{"a":"{}"}}}}"#, "x".repeat(256 * 1024));
    ask(&rig, &[A], &large).await.expect(200, "peercache; fwd=method; fwd-status=200; detail=large");
    assert_eq!(origin.last().body.len(), large.len());
    for (header, detail) in [
        (("cookie", "a=b"), "cookie"),
        (("x-github-otp", "1"), "otp"),
        (("cache-control", "no-store"), "no-store"),
        (("content-encoding", "gzip"), "encoding"),
    ] {
        for _ in 0..2 {
            let expected = format!("peercache; fwd=method; fwd-status=200; detail={detail}");
            ask(&rig, &[A, header], QUERY).await.expect(200, &expected);
        }
    }
    let limit = r#"{"query":"{rateLimit{remaining}}"}"#;
    ask(&rig, &[A], limit).await.expect(200, "peercache; fwd=method; fwd-status=200; detail=rate-limit");
    let before = origin.count();
    ask(&rig, &[A], QUERY).await.expect(200, STORED);
    let insists = ask(&rig, &[A, ("cache-control", "no-cache")], QUERY).await;
    insists.expect(200, "peercache; fwd=request; fwd-status=200; stored");
    assert_eq!(origin.count(), before + 2);
    let only = ask(&rig, &[B, ("cache-control", "only-if-cached")], QUERY).await;
    only.expect(504, "peercache; detail=only-if-cached");
}

#[tokio::test]
async fn latest_answer_is_served_while_the_origin_is_gone() {
    use crate::github::{A, GitHub};
    let github = GitHub::start(false).await;
    let (owner, name) = github.name.split_once('/').unwrap();
    let query = serde_json::json!({
        "query": "query($owner: String!, $name: String!) { repository(owner: $owner, name: $name) { id isPrivate } }",
        "variables": { "owner": owner, "name": name },
    })
    .to_string();
    let authorization = format!("token {A}");
    let token = ("authorization", authorization.as_str());
    ask(&github.rig, &[token], &query).await.expect(200, STORED);
    github.rig.pass(600);
    github.hub.outage(Some(peercache_fakehub::Outage::Status(503)));
    let stale = ask(&github.rig, &[token], &query).await;
    stale.expect(200, "peercache; fwd=stale; fwd-status=503; detail=upstream-error");
    github.rig.pass(3001);
    assert_eq!(ask(&github.rig, &[token], &query).await.status, 503);
}
