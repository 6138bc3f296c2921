//! The ledger says what the origin's own log says.

use std::collections::BTreeMap;

use http::HeaderValue;
use peercache_fakehub::{EtagMode, LogRecord, SecondaryLimits};
use peercache_github::{Booked, LedgerReport, TokenHasher};

use crate::github::{A, B, C, GitHub};
use crate::support::hub;

/// Requests that the origin answered, and those that it charged.
type Sums = BTreeMap<String, (u64, u64)>;

fn add(sums: &mut Sums, name: String, requests: u64, charged: u64) {
    let sum = sums.entry(name).or_default();
    *sum = (sum.0 + requests, sum.1 + charged);
}

fn answered<'a>(rows: impl Iterator<Item = (&'a String, &'a Booked)>) -> Sums {
    rows.map(|(name, booked)| (name.clone(), (booked.sent - booked.unanswered, booked.charged)))
        .filter(|(_, sums)| *sums != (0, 0))
        .collect()
}

/// The class of a path that this test asks for.
fn class(record: &LogRecord) -> String {
    let path = record.url.split('?').next().unwrap();
    let in_repository = match path.split('/').nth(1) {
        Some("repos") => path.splitn(5, '/').nth(4),
        Some("repositories") => path.splitn(4, '/').nth(3),
        _ => return path.to_owned(),
    };
    match in_repository.map(|rest| rest.split('/').next().unwrap()) {
        None => "/repos/{owner}/{repo}".to_owned(),
        Some(open @ ("issues" | "labels")) => format!("/repos/{{owner}}/{{repo}}/{open}/**"),
        Some(part) => format!("/repos/{{owner}}/{{repo}}/{part}"),
    }
}

/// A run with every sort of call, and what the origin saw of each client's.
struct Run {
    github: GitHub,
    clients: Sums,
    seen: (u64, u64),
}

impl Run {
    /// Sends a call as a client and books to it what the origin counted meanwhile.
    async fn call(&mut self, client: &str, token: &str, method: &str, path: &str, body: &str) {
        let authorization = format!("Bearer {token}");
        let mut headers = vec![("x-peercache-client", client)];
        if client.is_empty() {
            headers.clear();
        }
        if !token.is_empty() {
            headers.push(("authorization", &authorization));
        }
        self.github.rig.send(method, path, &headers, body).await;
        self.github.rig.proxy.settle().await;
        let summary = self.github.hub.summary();
        let name = match (client, token) {
            ("", "") => "anonymous".to_owned(),
            ("", token) => short_id(token),
            (client, _) => client.to_owned(),
        };
        let now = (summary.requests, summary.charged);
        add(&mut self.clients, name, now.0 - self.seen.0, now.1 - self.seen.1);
        self.seen = now;
    }
}

/// What the ledger calls a token.
fn short_id(token: &str) -> String {
    let value = HeaderValue::from_str(&format!("token {token}")).unwrap();
    TokenHasher::new([7; 32]).id(Some(&value)).as_str()[..12].to_owned()
}

async fn run() -> Run {
    let mut limits = SecondaryLimits::documented();
    limits.points_per_minute = 40;
    let github = GitHub::with(
        EtagMode::Observed,
        |hub| hub.secondary(limits),
        |proxy| proxy.share_public(true),
        false,
    )
    .await;
    let mut run = Run { github, clients: Sums::new(), seen: (0, 0) };
    let (languages, issues) = (run.github.path("/languages"), run.github.path("/issues"));
    let (root, labels) = (run.github.path(""), run.github.path("/labels"));
    for (client, token) in [("deploy", A), ("lint", B), ("", C), ("", "")] {
        for path in [&languages, &labels, &root, &languages] {
            run.call(client, token, "GET", path, "").await;
        }
        run.call(client, token, "HEAD", &root, "").await;
        run.call(client, token, "GET", "/rate_limit", "").await;
        run.call(client, token, "GET", &run.github.path("/absent"), "").await;
    }
    // Old grants are confirmed, free of charge with a token.
    run.github.rig.pass(61);
    for (client, token) in [("deploy", A), ("lint", B), ("", "")] {
        run.call(client, token, "GET", &languages, "").await;
    }
    // A write, and what is asked for again after it.
    run.call("deploy", A, "POST", &issues, "{\"title\":\"x\"}").await;
    run.call("lint", B, "GET", &languages, "").await;
    run.call("deploy", A, "POST", "/graphql", "{\"query\":\"{viewer{login}}\"}").await;
    // Failures that GitHub counts, and some that it does not.
    run.github.hub.fail_next(502, 1, None).unwrap();
    run.call("lint", B, "GET", &labels, "").await;
    run.github.hub.outage(Some(peercache_fakehub::Outage::Status(503)));
    run.call("lint", B, "GET", &run.github.path("/branches"), "").await;
    run.github.hub.outage(None);
    // The points of a minute are spent: reads and writes are refused, and not counted.
    let before = run.github.hub.summary().by_status.get(&403).copied().unwrap_or_default();
    for n in 0..30 {
        run.call("deploy", A, "GET", &run.github.path(&format!("/absent/{n}")), "").await;
    }
    for _ in 0..12 {
        run.call("", C, "POST", &issues, "{\"title\":\"x\"}").await;
    }
    let refused = run.github.hub.summary().by_status[&403];
    assert!(refused >= before + 2, "{before} {refused}");
    run
}

#[tokio::test]
async fn sums_by_client_token_and_route_are_those_of_the_origins_log() {
    let run = run().await;
    let LedgerReport { total, clients, routes, tokens, .. } = run.github.rig.proxy.stats().ledger;
    let (hub, summary) = (&run.github.hub, run.github.hub.summary());
    assert_eq!((total.sent - total.unanswered, total.charged), (summary.requests, summary.charged));
    assert!(summary.charged + 10 < summary.requests, "304s and refusals are part of it: {summary:?}");
    assert!(total.saved > 0 && total.unserved > 0, "{total:?}");

    assert_eq!(answered(clients.iter().map(|row| (&row.client, &row.booked))), run.clients);

    let mut by_token = Sums::new();
    let mut by_route = Sums::new();
    let known: BTreeMap<String, &str> = [A, B, C].map(|token| (hub.token_id(token), token)).into();
    for record in hub.log() {
        let name = known.get(&record.token).map_or(record.token.clone(), |token| short_id(token));
        add(&mut by_token, name, 1, record.charged.into());
        let class = match class(&record) {
            absent if absent.ends_with("/absent") => "/repos/{owner}/{repo}/**".to_owned(),
            class => class,
        };
        add(&mut by_route, class, 1, record.charged.into());
    }
    assert_eq!(answered(tokens.iter().map(|row| (&row.token, &row.booked))), by_token);
    assert_eq!(answered(routes.iter().map(|row| (&row.route, &row.booked))), by_route);

    for rows in [
        clients.iter().map(|row| row.booked).collect::<Vec<_>>(),
        tokens.iter().map(|row| row.booked).collect(),
        routes.iter().map(|row| row.booked).collect(),
        clients.iter().flat_map(|row| &row.routes).map(|row| row.booked).collect(),
    ] {
        let asked: u64 = rows.iter().map(|row| row.asked).sum();
        let saved: i64 = rows.iter().map(|row| row.saved).sum();
        assert_eq!((asked, saved), (total.asked, total.saved));
    }
}

#[tokio::test]
async fn label_is_not_sent_upstream_and_a_bad_one_is_refused() {
    let (_, origin, rig) = hub().await;
    rig.get("/x", &[("x-peercache-client", "CI / build (3.12)")]).await;
    rig.send("POST", "/x", &[("x-peercache-client", "CI / build (3.12)")], "{}").await;
    assert!(origin.seen().iter().all(|seen| seen.header("x-peercache-client").is_none()));
    let refused = rig.get("/x", &[("x-peercache-client", "ghs_secret")]).await;
    refused.expect(400, "peercache; detail=bad-client");
    assert!(!String::from_utf8_lossy(&refused.body).contains("ghs_secret"));
    let ledger = rig.proxy.stats().ledger;
    assert_eq!((ledger.total.asked, ledger.clients.len()), (2, 1));
    assert_eq!(ledger.clients[0].client, "CI / build (3.12)");
}

#[tokio::test]
async fn label_of_the_server_is_used_where_a_client_gives_none() {
    let (_, origin, _) = hub().await;
    let rig = crate::support::Rig::with(&origin.url(), |proxy| proxy.default_client("Build\u{fc}/test"));
    rig.get("/x", &[("authorization", "token a")]).await;
    rig.get("/x", &[("authorization", "token a"), ("x-peercache-client", "lint")]).await;
    let clients = rig.proxy.stats().ledger.clients;
    let names: Vec<_> = clients.iter().map(|row| (row.client.as_str(), row.booked.charged)).collect();
    assert_eq!(names, [("Build_/test", 1), ("lint", 0)]);
}

#[tokio::test]
async fn request_without_an_answer_is_sent_and_not_charged() {
    let (_, origin, _) = hub().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rig = crate::support::Rig::with(&format!("http://{gone}"), |proxy| proxy);
    rig.get("/x", &[]).await.expect(502, "peercache; fwd=uri-miss; detail=upstream-unreachable");
    let stats = rig.proxy.stats();
    let total = stats.ledger.total;
    assert_eq!((total.asked, total.charged, total.unserved, total.saved), (1, 0, 1, 0));
    assert_eq!(total.sent, total.unanswered);
    assert_eq!(stats.saved.saved, 0, "a failure saves nothing");
    assert_eq!(origin.count(), 0);
}
